//! One row: the user's value and the metadata that the engine keeps before it, in one allocation.
//!
//! Trees store thin pointers to rows without their type; one leaf entry is one word, and from any
//! index it is one step to the row. The primary tree of a table owns each of its rows once; the
//! other trees borrow the pointer. Users borrow `&Row<T>` from the version they read, and make a
//! counted handle, [`SharedRow`], only of what must outlive it.
//!
//! # Invariants
//!
//! 1. A row never changes once it is in a table; an update makes a new row. (Its count of handles
//!    does.)
//! 2. `created <= modified`, and both are revisions of commits that wrote this primary key.
//! 3. A [`RowPtr`] that a live node or a retired item holds points at a live row: the engine owns
//!    one of the row's handles until no version that is alive can reach it (`reclaim.rs`).
//! 4. A `&Row<T>` always points into an allocation made by [`NewRow::new`]: rows are never moved
//!    out of it and never made elsewhere. So a handle can be made of any borrowed row.
//! 5. `entries` is the number of entries of the row in the indexes of its table. The statement that
//!    takes a row out checks that it takes out as many, so that no index keeps a pointer to it,
//!    whatever the user's index functions say.

use std::any::TypeId;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;

use super::arena::LINE_BYTES;
use super::handle::{AnyRow, KeptRow, SharedRow};
use super::node::{prefetch, prefetch_far};
use crate::limits::ROW_HANDLES_MAX;
use crate::revision::Revision;
use crate::sync::unmodelled::{AtomicU32, Ordering};

/// Most lines of a row that are fetched before it is freed.
const ROW_LINES_FETCHED: usize = 8;

/// When a row was created and last modified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowMeta {
    pub(crate) created: Revision,
    pub(crate) modified: Revision,
}

/// What must be known of a row without its type.
#[derive(Debug)]
pub(crate) struct RowKind {
    type_id: TypeId,
    /// The size of a row in bytes.
    bytes: usize,
    /// Cache lines that a row fills at most.
    lines: usize,
    /// Drops the value and gives the memory back.
    ///
    /// To be called once, with the pointer of a row of this kind, when nobody uses it any more.
    free: unsafe fn(RowPtr),
}

impl RowKind {
    /// The kind of rows with values of `T`.
    pub(crate) fn of<T: 'static>() -> &'static Self {
        const {
            let bytes = size_of::<Row<T>>();
            let lines = bytes.div_ceil(LINE_BYTES);
            &Self { type_id: TypeId::of::<T>(), bytes, lines, free: free::<T> }
        }
    }

    /// The size of a row in bytes, without what its value owns elsewhere.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether rows of this kind have values of `T`.
    pub(crate) fn is<T: 'static>(&self) -> bool {
        self.type_id == TypeId::of::<T>()
    }
}

/// The kind decides by the type, not by the address: a constant may have several.
impl PartialEq for RowKind {
    fn eq(&self, other: &Self) -> bool {
        self.type_id == other.type_id
    }
}

/// What stands before the value of every row.
#[repr(C)]
struct Header {
    handles: AtomicU32,
    /// See invariant 5.
    entries: u32,
    kind: &'static RowKind,
    /// The stamp of the transaction that put the row into its table.
    birth: u64,
    meta: RowMeta,
}

/// A row of the table `T`: derefs to the value, and knows when it was created and modified.
///
/// Reads hand out `&Row<T>` borrowed from the snapshot, which costs no reference count;
/// [`share`](Row::share) makes an owned handle that outlives the snapshot.
///
/// ```
/// # use fsmdb::{Db, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64, name: String }
/// # let db = Db::builder().table::<Node>().build()?;
/// # let mut txn = db.write();
/// txn.insert(Node { id: 1, name: "alpha".into() })?;
/// let revision = txn.commit();
///
/// let snap = db.read();
/// let row = snap.table::<Node>().get(&1_u64).unwrap();
/// assert_eq!(row.name, "alpha");
/// assert_eq!(row.created(), revision);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct Row<T> {
    header: Header,
    value: T,
}

impl<T> Row<T> {
    /// The revision that created this row: the insert after which it has always existed.
    #[must_use]
    pub fn created(&self) -> Revision {
        self.header.meta.created
    }

    /// The revision that last wrote this row.
    #[must_use]
    pub fn modified(&self) -> Revision {
        self.header.meta.modified
    }

    /// The user's value.
    #[must_use]
    pub fn value(&self) -> &T {
        &self.value
    }

    /// An owned handle on the same row. Costs one reference count, copies nothing.
    #[must_use]
    pub fn share(&self) -> SharedRow<T> {
        // Invariant 4: the reference points at an allocation that handles may hold. The last of
        // them frees it, which a pointer made of a shared reference may not; so it is made of the
        // address, whose provenance `NewRow::new` has exposed.
        let address = std::ptr::with_exposed_provenance_mut(std::ptr::from_ref(self).addr());
        // SAFETY: a reference is not null.
        let pointer = RowPtr(unsafe { NonNull::new_unchecked(address) });
        SharedRow::new(pointer)
    }
}

impl<T> Deref for Row<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Row<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row")
            .field("created", &self.created().0)
            .field("modified", &self.modified().0)
            .field("value", &self.value)
            .finish()
    }
}

/// Two rows are equal when value and metadata are.
impl<T: PartialEq> PartialEq for Row<T> {
    fn eq(&self, other: &Self) -> bool {
        self.header.meta == other.header.meta && self.value == other.value
    }
}

/// A thin pointer to a row of unknown type; see invariant 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub(crate) struct RowPtr(NonNull<Header>);

// SAFETY: rows are `Send + Sync` (`NewRow::new` demands it), and who may free one is invariant 3.
unsafe impl Send for RowPtr {}
// SAFETY: as above.
unsafe impl Sync for RowPtr {}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header").field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl RowPtr {
    #[inline(always)]
    fn header<'a>(self) -> &'a Header {
        // SAFETY: invariant 3.
        unsafe { self.0.as_ref() }
    }

    /// The pointer without its type.
    pub(super) fn address(self) -> NonNull<()> {
        self.0.cast()
    }

    /// The row at an [`address`](RowPtr::address).
    pub(super) fn from_address(address: NonNull<()>) -> Self {
        Self(address.cast())
    }

    /// The size of the row, without what its value owns elsewhere.
    pub(super) fn bytes(self) -> usize {
        self.header().kind.bytes
    }

    pub(super) fn birth(self) -> u64 {
        self.header().birth
    }

    /// Asks the processor to fetch the row's header and what stands right behind it.
    #[inline(always)]
    pub(super) fn prefetch(self) {
        prefetch(self.line(0));
        prefetch(self.line(1));
    }

    /// As [`prefetch`](RowPtr::prefetch), for a row that will be read in a while.
    #[inline(always)]
    pub(super) fn prefetch_far(self) {
        prefetch_far(self.line(0));
        prefetch_far(self.line(1));
    }

    /// Asks the processor to fetch a row that will be freed: allocators keep lists in freed
    /// blocks, and give the block that was freed last to the next row of its size.
    pub(super) fn prefetch_free(self) {
        for line in 0..=self.header().kind.lines.min(ROW_LINES_FETCHED) {
            prefetch(self.line(line));
        }
    }

    fn line(self, line: usize) -> *const u8 {
        self.0.as_ptr().cast_const().cast::<u8>().wrapping_add(line * LINE_BYTES)
    }

    pub(super) fn retain(self) {
        let before = self.header().handles.fetch_add(1, Ordering::Relaxed);
        if before > ROW_HANDLES_MAX {
            // Another 2^31 handles, leaked, and the count would wrap and the row be freed early.
            std::process::abort();
        }
    }

    /// Whether there is one handle, which can then be given on: nobody is left who could make
    /// another of it.
    pub(super) fn is_alone(self) -> bool {
        self.header().handles.load(Ordering::Acquire) == 1
    }

    /// Gives up one handle; the last one frees the row, which runs the user's `Drop`.
    ///
    /// # Safety
    ///
    /// The caller owns a handle, which it no longer uses.
    pub(super) unsafe fn release(self) {
        let header = self.header();
        // The only handle left cannot be shared by anybody else meanwhile, so it needs no
        // read-modify-write. The load synchronises with the releases of the other handles.
        let is_last = header.handles.load(Ordering::Acquire) == 1
            || header.handles.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last {
            let free = header.kind.free;
            // SAFETY: of its own kind, and nobody holds the row any more.
            unsafe { free(self) };
        }
    }

    /// The row, for as long as the caller's version keeps it (invariant 3).
    #[inline(always)]
    pub(super) fn borrow<'v>(self) -> RowRef<'v> {
        RowRef { pointer: self, marker: PhantomData }
    }

    /// The row as one of `T`.
    ///
    /// # Safety
    ///
    /// The row is of this type and lives for `'v`.
    #[inline(always)]
    pub(super) unsafe fn typed<'v, T>(self) -> &'v Row<T> {
        // SAFETY: the caller's word.
        unsafe { self.0.cast().as_ref() }
    }
}

/// Drops the row and gives its memory back.
///
/// # Safety
///
/// As [`RowKind::free`] says.
unsafe fn free<T>(row: RowPtr) {
    // SAFETY: the allocation was made by `NewRow::new` of a `Row<T>`.
    drop(unsafe { Box::from_raw(row.0.cast::<Row<T>>().as_ptr()) });
}

/// A row of unknown type, borrowed from a version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowRef<'v> {
    pointer: RowPtr,
    marker: PhantomData<&'v ()>,
}

impl<'v> RowRef<'v> {
    pub(crate) fn meta(self) -> RowMeta {
        self.pointer.header().meta
    }

    /// The row as one of `T`.
    ///
    /// # Panics
    ///
    /// When the row is of another type, which a table's schema excludes.
    pub(crate) fn typed<T: 'static>(self) -> &'v Row<T> {
        let is_of_type = self.pointer.header().kind.is::<T>();
        assert!(is_of_type, "every row of a table is of the table's type");
        // SAFETY: of this type, as was just asked, and alive for `'v`.
        unsafe { self.pointer.typed() }
    }

    /// An owned handle on the row.
    pub(crate) fn share(self) -> AnyRow {
        AnyRow::new(self.pointer)
    }

    /// The row for use within the running transaction, which keeps every row that it has met.
    pub(crate) fn keep(self) -> KeptRow {
        KeptRow::new(self.pointer)
    }

    /// Whether both are the same row, not only an equal one.
    pub(crate) fn is(self, other: RowRef<'_>) -> bool {
        self.pointer == other.pointer
    }

    pub(super) fn pointer(self) -> RowPtr {
        self.pointer
    }

    /// The number of entries of the row in the indexes of its table.
    pub(super) fn entries(self) -> usize {
        self.pointer.header().entries as usize
    }
}

/// A row that is in no table yet.
#[derive(Debug)]
pub(crate) struct NewRow(RowPtr);

impl NewRow {
    /// Allocates the row.
    pub(crate) fn new<T: Send + Sync + 'static>(meta: RowMeta, value: T) -> Self {
        let (handles, kind) = (AtomicU32::new(1), RowKind::of::<T>());
        let header = Header { handles, entries: 0, kind, birth: 0, meta };
        let row = Box::into_raw(Box::new(Row { header, value }));
        row.expose_provenance();
        // SAFETY: a box is not null.
        Self(RowPtr(unsafe { NonNull::new_unchecked(row) }.cast()))
    }

    pub(crate) fn borrow(&self) -> RowRef<'_> {
        self.0.borrow()
    }

    pub(super) fn kind(&self) -> &'static RowKind {
        self.0.header().kind
    }

    /// The row with other metadata.
    pub(crate) fn with_meta(mut self, meta: RowMeta) -> Self {
        // SAFETY: a new row has one owner and no borrower, so its header may be written.
        unsafe { self.0.0.as_mut() }.meta = meta;
        self
    }

    /// A row that was in a table, of a branch that has ended: nothing leads to it any more, and the
    /// one handle on it is given to this.
    pub(super) fn again(row: RowPtr) -> Self {
        Self(row)
    }

    /// Makes the row one of a table: the engine owns it from now on.
    pub(super) fn settle(self, birth: u64, entries: usize) -> RowPtr {
        let mut pointer = ManuallyDrop::new(self).0;
        // SAFETY: a new row has one owner and no borrower, so its header may be written.
        let header = unsafe { pointer.0.as_mut() };
        header.birth = birth;
        header.entries = entries as u32;
        pointer
    }
}

impl Drop for NewRow {
    fn drop(&mut self) {
        // SAFETY: the only handle is given up here.
        unsafe { self.0.release() };
    }
}
