//! Where the nodes of the trees live: blocks of size classes in chunks of their own.
//!
//! A chunk serves blocks of one size. Its free blocks are listed in its own first bytes, away
//! from the blocks themselves, because a freed node is cold and a link in it would be a cache miss
//! on the way out and another on the way in. A chunk without a live block goes back to the
//! allocator at once, but for a few that wait for the next use; so a table that shrinks gives its
//! memory back.
//!
//! A branch lives short and gives all its nodes back at once. Its arena cuts blocks of all sizes
//! from the same few chunks, one behind the other, so that a branch with ten writes needs one
//! chunk and not one for each size. All branches of a store share a place for one chunk, where one
//! that is dropped leaves its first and the next finds it: allocators take their time over a block
//! of that size.
//!
//! Under the cfg `fsmdb_node_malloc` every node is an allocation of its own, so that the address
//! sanitizer sees any use of a freed node.
//!
//! # Invariants
//!
//! 1. A block is either in the free list of its chunk or given out, never both.
//! 2. The address of a block, rounded down to a multiple of [`CHUNK_BYTES`], is that of its chunk.
//! 3. A chunk is in `partial` of its class exactly if it has a free block.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::Arc;

use super::node::prefetch;
use crate::limits::{ARENA_SPARE_CHUNKS, ARENA_SPARE_RATIO};
use crate::sync::unmodelled::{AtomicPtr, Ordering};

/// The unit of block sizes and their alignment: a cache line.
pub(super) const LINE_BYTES: usize = 64;

/// Size and alignment of a chunk.
const CHUNK_BYTES: usize = 64 * 1024;

/// Blocks of more lines than this are allocations of their own: a chunk would hold too few.
const CLASS_LINES_MAX: usize = 128;

/// What stands at the start of a chunk, before the stack of free block numbers.
#[repr(C)]
struct Chunk {
    /// Lines of each block.
    lines: u32,
    blocks: u32,
    /// Length of the stack of free block numbers that follows this header.
    free: u32,
    /// Position in `partial` of the class, meaningful while `free > 0`.
    position: u32,
    /// Bytes before the first block.
    start: u32,
    /// Position in the list of all chunks.
    number: u32,
}

const CHUNK_LAYOUT: Layout = match Layout::from_size_align(CHUNK_BYTES, CHUNK_BYTES) {
    Ok(layout) => layout,
    Err(_) => panic!("the size is a power of two"),
};

/// Gives out and takes back blocks of memory for nodes. Owned by one writer at a time.
#[derive(Debug)]
pub(super) struct Arena {
    /// The chunks of each class that have a free block; the last is used next.
    partial: Vec<Vec<NonNull<Chunk>>>,
    /// Chunks without a live block, for any class.
    spare: Vec<NonNull<Chunk>>,
    /// Blocks given out.
    live: usize,
    /// All chunks, the spare ones included.
    chunks: Vec<NonNull<Chunk>>,
    /// The blocks that are allocations of their own, with their lines.
    alone: BTreeMap<NonNull<u8>, usize>,
    /// Where the blocks of a branch come from.
    strip: Option<Strip>,
}

/// Memory that is cut into blocks from the beginning to the end.
#[derive(Debug)]
struct Strip {
    spare: Arc<Spare>,
    chunks: Vec<NonNull<u8>>,
    /// Bytes of the last chunk that are left.
    left: usize,
    /// Blocks that were taken back, by their lines.
    free: BTreeMap<usize, Vec<NonNull<u8>>>,
}

/// A chunk of a branch: no address is rounded down to it.
const STRIP_LAYOUT: Layout = match Layout::from_size_align(CHUNK_BYTES, LINE_BYTES) {
    Ok(layout) => layout,
    Err(_) => panic!("the alignment is a power of two"),
};

/// The place for one chunk that no branch uses; null while there is none.
#[derive(Debug, Default)]
pub(super) struct Spare {
    chunk: AtomicPtr<u8>,
}

impl Spare {
    /// Takes the chunk out, if there is one.
    fn take(&self) -> Option<NonNull<u8>> {
        NonNull::new(self.chunk.swap(std::ptr::null_mut(), Ordering::Acquire))
    }

    /// Leaves a chunk that nobody uses any more for the next; gives back what was there.
    fn leave(&self, chunk: NonNull<u8>) -> Option<NonNull<u8>> {
        NonNull::new(self.chunk.swap(chunk.as_ptr(), Ordering::AcqRel))
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        if let Some(chunk) = self.take() {
            // SAFETY: `leave` was given a chunk of a strip, and it was taken out just now.
            unsafe { dealloc(chunk.as_ptr(), STRIP_LAYOUT) };
        }
    }
}

impl Strip {
    fn alloc(&mut self, lines: usize) -> NonNull<u8> {
        if let Some(block) = self.free.get_mut(&lines).and_then(Vec::pop) {
            return block;
        }
        let bytes = lines * LINE_BYTES;
        if self.left < bytes {
            let chunk = self.spare.take().unwrap_or_else(|| {
                // SAFETY: the layout has a size.
                let memory = unsafe { alloc(STRIP_LAYOUT) };
                NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(STRIP_LAYOUT))
            });
            self.chunks.push(chunk);
            self.left = CHUNK_BYTES;
        }
        let chunk = self.chunks.last().expect("there is room in it");
        let offset = CHUNK_BYTES - self.left;
        self.left -= bytes;
        // SAFETY: the block lies within the chunk, behind all that were cut from it before.
        unsafe { chunk.add(offset) }
    }
}

impl Drop for Strip {
    fn drop(&mut self) {
        let mut chunks = self.chunks.drain(..);
        let left = chunks.next().and_then(|first| self.spare.leave(first));
        for chunk in chunks.chain(left) {
            // SAFETY: the chunk came from `alloc` with this layout.
            unsafe { dealloc(chunk.as_ptr(), STRIP_LAYOUT) };
        }
    }
}

// SAFETY: the arena owns its chunks, and no thread holds a pointer to their headers or free lists
// but through the arena itself (invariant 1).
unsafe impl Send for Arena {}

impl Arena {
    pub(super) fn new() -> Self {
        let partial = (0..=CLASS_LINES_MAX).map(|_| Vec::new()).collect();
        Self::with(partial, None)
    }

    /// The arena of a branch.
    pub(super) fn of_branch(spare: Arc<Spare>) -> Self {
        let (chunks, free) = (Vec::new(), BTreeMap::new());
        Self::with(Vec::new(), Some(Strip { spare, chunks, left: 0, free }))
    }

    fn with(partial: Vec<Vec<NonNull<Chunk>>>, strip: Option<Strip>) -> Self {
        let (spare, chunks, alone) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { partial, spare, live: 0, chunks, alone, strip }
    }

    /// The number of blocks given out.
    #[cfg(test)]
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// The bytes of all chunks held, used or not, and of the blocks that stand alone.
    pub(super) fn held_bytes(&self) -> usize {
        let strip = self.strip.as_ref().map_or(0, |strip| strip.chunks.len());
        let alone = self.alone.values().sum::<usize>() * LINE_BYTES;
        (self.chunks.len() + strip) * CHUNK_BYTES + alone
    }

    /// A block of `lines` cache lines, aligned to one; its content is undefined.
    pub(super) fn alloc(&mut self, lines: usize) -> NonNull<u8> {
        self.live += 1;
        if lines > CLASS_LINES_MAX || cfg!(fsmdb_node_malloc) {
            let block = alloc_alone(lines);
            self.alone.insert(block, lines);
            return block;
        }
        if let Some(strip) = &mut self.strip {
            return strip.alloc(lines);
        }
        let chunk = match self.partial[lines].last() {
            Some(chunk) => *chunk,
            None => self.add_chunk(lines),
        };
        // SAFETY: a chunk in `partial` is held and has a free block (invariant 3), so the header
        // is ours to change, and the number on top of its stack is that of a block inside it.
        unsafe {
            let header = chunk.as_ptr();
            (*header).free -= 1;
            let free = (*header).free;
            let number = usize::from(*stack(chunk).add(free as usize));
            if free == 0 {
                self.partial[lines].pop();
            }
            let offset = (*header).start as usize + number * lines * LINE_BYTES;
            chunk.cast::<u8>().add(offset)
        }
    }

    /// Takes back a block of `lines` cache lines that [`alloc`](Arena::alloc) gave out.
    ///
    /// # Safety
    ///
    /// The block came from this arena with the same size and nobody uses it any more.
    pub(super) unsafe fn free(&mut self, block: NonNull<u8>, lines: usize) {
        self.live -= 1;
        if lines > CLASS_LINES_MAX || cfg!(fsmdb_node_malloc) {
            self.alone.remove(&block);
            // SAFETY: the caller's word; such a block is an allocation of its own.
            unsafe { dealloc(block.as_ptr(), layout_alone(lines)) };
            return;
        }
        if let Some(strip) = &mut self.strip {
            strip.free.entry(lines).or_default().push(block);
            return;
        }
        // SAFETY: the block is inside a chunk that we hold (invariant 2), whose stack has room for
        // the number of every block of it (invariant 1).
        unsafe {
            let offset = block.as_ptr() as usize % CHUNK_BYTES;
            let chunk = block.sub(offset).cast::<Chunk>();
            let header = chunk.as_ptr();
            debug_assert_eq!((*header).lines as usize, lines, "invariant 1");
            let number = (offset - (*header).start as usize) / (lines * LINE_BYTES);
            let free = (*header).free;
            *stack(chunk).add(free as usize) = number as u16;
            (*header).free = free + 1;
            if free == 0 {
                (*header).position = self.partial[lines].len() as u32;
                self.partial[lines].push(chunk);
            }
            if (*header).free == (*header).blocks {
                self.retire_chunk(chunk, lines);
            }
        }
    }

    /// Asks the processor to fetch what [`free`](Arena::free) will write for `block`.
    pub(super) fn prefetch_free(block: NonNull<u8>) {
        let chunk = block.as_ptr().wrapping_sub(block.as_ptr() as usize % CHUNK_BYTES);
        prefetch(chunk);
        prefetch(chunk.wrapping_add(LINE_BYTES));
    }

    fn add_chunk(&mut self, lines: usize) -> NonNull<Chunk> {
        let chunk = self.spare.pop().unwrap_or_else(|| {
            // SAFETY: the layout has a size.
            let memory = unsafe { alloc(CHUNK_LAYOUT) };
            let chunk: NonNull<Chunk> =
                NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(CHUNK_LAYOUT)).cast();
            // SAFETY: the chunk is new, so its header may be written.
            unsafe { (&raw mut (*chunk.as_ptr()).number).write(self.chunks.len() as u32) };
            self.chunks.push(chunk);
            chunk
        });
        let block = lines * LINE_BYTES;
        // The header, two bytes of stack for each block, and the blocks.
        let blocks = (CHUNK_BYTES - size_of::<Chunk>() - LINE_BYTES) / (block + 2);
        let start = (size_of::<Chunk>() + 2 * blocks).next_multiple_of(LINE_BYTES);
        debug_assert!(start + blocks * block <= CHUNK_BYTES);
        let position = self.partial[lines].len() as u32;
        // SAFETY: the chunk is held and unused, so all of it may be written; the stack ends before
        // `start`.
        unsafe {
            let blocks = blocks as u32;
            let (lines, start, number) = (lines as u32, start as u32, (*chunk.as_ptr()).number);
            chunk.write(Chunk { lines, blocks, free: blocks, position, start, number });
            for number in 0..blocks {
                *stack(chunk).add(number as usize) = (blocks - 1 - number) as u16;
            }
        }
        self.partial[lines].push(chunk);
        chunk
    }

    /// Takes a chunk whose blocks are all free out of its class.
    fn retire_chunk(&mut self, chunk: NonNull<Chunk>, lines: usize) {
        let partial = &mut self.partial[lines];
        // SAFETY: the chunks in `partial` are held, their headers ours to change.
        unsafe {
            let position = (*chunk.as_ptr()).position as usize;
            partial.swap_remove(position);
            if let Some(moved) = partial.get(position) {
                (*moved.as_ptr()).position = position as u32;
            }
        }
        let spare_max = ARENA_SPARE_CHUNKS.max(self.chunks.len() / ARENA_SPARE_RATIO);
        if self.spare.len() < spare_max {
            self.spare.push(chunk);
        } else {
            self.release(chunk);
        }
    }

    fn release(&mut self, chunk: NonNull<Chunk>) {
        // SAFETY: the chunks in the list are held, their headers ours to change; this one came
        // from `alloc` with this layout and has no live block.
        unsafe {
            let number = (*chunk.as_ptr()).number as usize;
            self.chunks.swap_remove(number);
            if let Some(moved) = self.chunks.get(number) {
                (*moved.as_ptr()).number = number as u32;
            }
            dealloc(chunk.as_ptr().cast(), CHUNK_LAYOUT);
        }
    }
}

impl Drop for Arena {
    /// Gives all memory back, whatever is live in it: the owner drops the arena only when nobody
    /// can reach a node any more.
    fn drop(&mut self) {
        for chunk in std::mem::take(&mut self.chunks) {
            // SAFETY: the chunk came from `alloc` with this layout.
            unsafe { dealloc(chunk.as_ptr().cast(), CHUNK_LAYOUT) };
        }
        for (block, lines) in std::mem::take(&mut self.alone) {
            // SAFETY: the block came from `alloc` with this layout.
            unsafe { dealloc(block.as_ptr(), layout_alone(lines)) };
        }
    }
}

/// The stack of free block numbers of a chunk.
///
/// # Safety
///
/// `chunk` is held.
unsafe fn stack(chunk: NonNull<Chunk>) -> *mut u16 {
    // SAFETY: the stack follows the header inside the chunk.
    unsafe { chunk.as_ptr().add(1).cast() }
}

fn layout_alone(lines: usize) -> Layout {
    Layout::from_size_align(lines * LINE_BYTES, LINE_BYTES).expect("a node is far below the limit")
}

fn alloc_alone(lines: usize) -> NonNull<u8> {
    let layout = layout_alone(lines);
    // SAFETY: the layout has a size.
    let memory = unsafe { alloc(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}
