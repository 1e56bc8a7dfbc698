//! One table's state: its rows and its indexes, kept together.
//!
//! `state.rs` holds the state and its check, `statement.rs` changes it, `reader.rs` and `index.rs`
//! are the typed views that users read through, `rows.rs` their iterator. `reading.rs` notes what a
//! watched reader is asked, as values of `question.rs`. `removals.rs` remembers what was taken out,
//! `digests.rs` adds up what is there.
//!
//! # Invariants
//!
//! 1. Every index equals what recomputing it from the rows gives: for a unique index one entry
//!    `value`, for a non-unique one an entry `value ++ primary key`, for each distinct value of
//!    each row. [`TableState::check`] proves it.
//! 2. No value of a unique index has two rows.
//! 3. A statement computes everything that user code can spoil before its first change, so that a
//!    refusal or a panic leaves the state as it was.
//! 4. `modified` never decreases, also across deletes; nor does that of any stretch of keys.
//! 5. A digest that is kept is the sum of the digests of the rows. [`TableState::check`] proves it.

mod bulk;
mod check;
mod digests;
mod entries;
mod index;
mod lookup;
mod question;
mod reader;
mod reading;
mod removals;
mod rows;
mod state;
mod statement;

pub(crate) use bulk::KeyedRows;
pub(crate) use entries::{Planner, is_in_index};
pub use index::IndexReader;
pub(crate) use lookup::longest_prefix;
pub(crate) use question::{Aspect, Edge, Extent, Question, Span, TreeId};
pub use reader::TableReader;
pub(crate) use reading::{ReadLog, Reading};
pub(crate) use removals::{Floors, Removals, TreeNumber, number_of};
pub use rows::Rows;
pub(crate) use state::{TableState, as_bytes};
pub(crate) use statement::Mode;
