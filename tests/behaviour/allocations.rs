//! An allocator that remembers the largest single allocation of each thread, and the most that it
//! has held at a time, to show that no length in a file is believed before the bytes are there.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Recording;

#[global_allocator]
static ALLOCATOR: Recording = Recording;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
    /// Bytes that this thread has allocated and not freed, and the most of them at a time.
    static LIVE: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn record(bytes: usize) {
    // A thread that is ending has no thread-locals any more; nothing is measured there.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(bytes)));
    change(bytes as isize);
}

fn change(bytes: isize) {
    let _ = LIVE.try_with(|live| {
        let (now, most) = live.get();
        live.set((now + bytes, most.max(now + bytes)));
    });
}

// SAFETY: every call goes to the system allocator as it came; recording allocates nothing.
unsafe impl GlobalAlloc for Recording {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        record(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        change(-(layout.size() as isize));
        // SAFETY: `pointer` came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        record(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // The old block and the new one may both be there for a moment.
        record(bytes);
        change(-(layout.size() as isize));
        // SAFETY: `pointer` came from `System` with this layout.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

/// The size of the largest single allocation that `run` makes on this thread.
pub(crate) fn largest_during<T>(run: impl FnOnce() -> T) -> (T, usize) {
    LARGEST.set(0);
    let value = run();
    (value, LARGEST.get())
}

/// The most bytes that this thread holds at a time during `run`, beyond what it held before.
pub(crate) fn peak_during<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get().0;
    LIVE.set((before, before));
    let value = run();
    (value, (LIVE.get().1 - before) as usize)
}
