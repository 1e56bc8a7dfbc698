//! The snapshot file: the whole database as checksummed frames of MessagePack rows.
//!
//! ```text
//! prelude   8 bytes "fsmdbSNP", u32 format version
//! frame     u32 payload length, u8 kind, u32 checksum, payload
//! file      prelude, header frame, the frames of each table by name: rows by key, then tombstones
//!           from the oldest on; end frame
//! ```
//!
//! A frame of a table is its position, a count, and as many records with their lengths, each u32.
//! The record of a row is MessagePack, that of a tombstone u64 revision, u32 tree, key. Only a
//! table that asks for tombstones has them; of another nothing is written that says what it has
//! removed.
//!
//! All fixed integers are little-endian. `frame.rs` reads and writes frames, `format.rs` says what
//! is in them, `reader.rs` walks a file and holds it to its own header, `save.rs`, `load.rs` and
//! `inspect.rs` are the three uses.
//!
//! # Invariants
//!
//! 1. Every table of the schema is in the file, in the order of names; its rows are in key order.
//!    Equal states of equal schemas give equal bytes.
//! 2. The checksum of a frame covers its length, its kind, its payload and the checksum before it,
//!    so a frame that is damaged, dropped, repeated or moved is detected.
//! 3. No byte is given to a decoder before the checksum of its frame was verified, and nothing is
//!    allocated by a length or count alone: memory follows the bytes that were really read.
//! 4. Loading builds a new root aside: it gives the whole database or an error, never a part.
//! 5. What the writer refuses (size, depth) is what the reader would refuse.

mod batch;
mod codec;
mod crew;
mod decode;
mod error;
mod file;
mod format;
mod frame;
mod inspect;
mod load;
mod loading;
pub mod offline;
mod options;
mod reader;
mod records;
mod save;
#[cfg(fuzzing)]
pub mod seal;

pub use codec::EncryptionKey;
pub use error::SnapshotError;
pub(crate) use file::{open, replace};
pub use format::{Base, Progress, Summary, TableSummary};
pub use inspect::{inspect, inspect_with};
pub(crate) use load::{Delta, DeltaTable, load, load_delta};
pub use options::{LoadOptions, SaveOptions};
pub(crate) use save::{Since, save};
