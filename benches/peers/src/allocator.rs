//! The allocator of the process: glibc's, mimalloc, or glibc's with a count of every call.
//!
//! One binary serves all three, so that an engine is the same machine code under each. The choice
//! is read from the environment at the first allocation and never changes; after that it costs
//! every engine the same predictable branch.
//!
//! # Invariants
//!
//! 1. The choice is made once, before the first block is handed out, so each block goes back to
//!    the allocator it came from.
//! 2. Counts are of requested bytes; what an allocator adds for itself is not seen.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};

use mimalloc::MiMalloc;

/// The environment variable that chooses: `glibc` (the default), `mimalloc` or `counting`.
pub(crate) const VARIABLE: &str = "FSMDB_PEERS_ALLOCATOR";

const VARIABLE_C: &std::ffi::CStr = c"FSMDB_PEERS_ALLOCATOR";

const UNSET: u8 = 0;
const GLIBC: u8 = 1;
const MIMALLOC: u8 = 2;
const COUNTING: u8 = 3;

static CHOICE: AtomicU8 = AtomicU8::new(UNSET);
static CALLS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static ALLOCATOR: Chosen = Chosen;

/// What was allocated since the process began; all zero unless the process counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) calls: u64,
    pub(crate) bytes: u64,
    /// Requested bytes that are allocated now.
    pub(crate) live: i64,
}

/// The counts as they are now.
pub(crate) fn counts() -> Counts {
    Counts { calls: CALLS.load(Relaxed), bytes: BYTES.load(Relaxed), live: LIVE.load(Relaxed) }
}

/// The name of the allocator of this process.
pub(crate) fn name() -> &'static str {
    match choice() {
        MIMALLOC => "mimalloc",
        COUNTING => "counting",
        _ => "glibc",
    }
}

struct Chosen;

#[inline(always)]
fn choice() -> u8 {
    match CHOICE.load(Relaxed) {
        UNSET => choose(),
        chosen => chosen,
    }
}

#[cold]
fn choose() -> u8 {
    // SAFETY: the name is a C string, and nothing in this process changes its environment.
    let value = unsafe { libc::getenv(VARIABLE_C.as_ptr()) };
    let chosen = if value.is_null() {
        GLIBC
    } else {
        // SAFETY: a value that `getenv` returns has at least its terminating zero byte.
        match unsafe { *value.cast::<u8>() } {
            b'm' => MIMALLOC,
            b'c' => COUNTING,
            _ => GLIBC,
        }
    };
    CHOICE.store(chosen, Relaxed);
    chosen
}

fn count(size: usize) {
    CALLS.fetch_add(1, Relaxed);
    BYTES.fetch_add(size as u64, Relaxed);
    LIVE.fetch_add(size as i64, Relaxed);
}

// SAFETY: every call goes to the one allocator of invariant 1, which keeps the contract.
unsafe impl GlobalAlloc for Chosen {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let chosen = choice();
        if chosen == COUNTING {
            count(layout.size());
        }
        // SAFETY: the caller's promises are handed on unchanged.
        unsafe { if chosen == MIMALLOC { MiMalloc.alloc(layout) } else { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let chosen = choice();
        if chosen == COUNTING {
            LIVE.fetch_sub(layout.size() as i64, Relaxed);
        }
        // SAFETY: the caller's promises are handed on unchanged, to the allocator of the block.
        unsafe {
            if chosen == MIMALLOC {
                MiMalloc.dealloc(block, layout);
            } else {
                System.dealloc(block, layout);
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let chosen = choice();
        if chosen == COUNTING {
            count(layout.size());
        }
        // SAFETY: the caller's promises are handed on unchanged.
        unsafe {
            if chosen == MIMALLOC {
                MiMalloc.alloc_zeroed(layout)
            } else {
                System.alloc_zeroed(layout)
            }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let chosen = choice();
        if chosen == COUNTING {
            LIVE.fetch_sub(layout.size() as i64, Relaxed);
            count(size);
        }
        // SAFETY: the caller's promises are handed on unchanged, to the allocator of the block.
        unsafe {
            if chosen == MIMALLOC {
                MiMalloc.realloc(block, layout, size)
            } else {
                System.realloc(block, layout, size)
            }
        }
    }
}
