//! The snapshot file: the whole database, or what has changed since an older version, as
//! checksummed frames of MessagePack rows with their keys.
//!
//! ```text
//! prelude   8 bytes "fsmdbSNP", u32 format version
//! chunk     u32 length, u8 kind and flags, u32 checksum, payload
//! frame     one or more chunks of one kind
//! file      prelude, header frame, the frames of each table by name: deletes, rows by key,
//!           tombstones from the oldest on, table end; sections by name; end frame
//! ```
//!
//! A frame of a table is its position, a count, and as many records with their lengths, each u32;
//! `records.rs` says what they are. Only an incremental file has deletes, and only a table that
//! asks for tombstones has them; of another nothing is written that says what it has removed. The
//! end of a table has its totals and the digest of its rows, the end frame the hash of all before
//! it. Each chunk may be compressed and encrypted by itself.
//!
//! All fixed integers are little-endian. `docs/snapshot-format.md` has the layout byte for byte.
//! `frame.rs` reads and writes chunks and frames, `codec.rs` compresses and encrypts chunks,
//! `format.rs` and `records.rs` say what is in frames, `reader.rs` walks a file and holds it to its
//! own header. `save.rs`, `load.rs` and `inspect.rs` are the three uses; `crew.rs` has the threads
//! that encode batches of rows (`batch.rs`) and decode them (`decode.rs`), `loading.rs` what has
//! come of a file so far, `file.rs` puts files in place.
//!
//! # Invariants
//!
//! 1. Every table of the schema is in the file, in the order of names; its rows are in key order.
//!    Equal states of equal schemas give equal bytes, whatever the number of threads.
//! 2. The checksum of a chunk covers its length, its kind, its payload as stored and the checksum
//!    before it, so a chunk that is damaged, dropped, repeated or moved is detected.
//! 3. No byte is given to a decoder before the checksum of its chunk was verified, and nothing is
//!    allocated by a length or count alone: memory follows the bytes that were really read.
//! 4. Loading builds a new root aside: it gives the whole database or an error, never a part.
//! 5. What the writer refuses (size, depth, names and numbers in the header) is what the reader
//!    would refuse; nothing is written of a state that it refuses for its header.
//! 6. A file of format 2 is taken only if its end has the hash of all before it, and if the rows of
//!    each table of the schema have the digest that its end says: those of the file, or what an
//!    incremental file makes of its base. The exception is a link of a chain that replaces or
//!    deletes rows of a table whose rows are encoded here in another way than in the files.
//! 7. Tables that are carried are verified as those that are inspected, by one implementation, and
//!    what is carried is counted before it is kept.
//! 8. A section that nobody here knows is carried into the files that are saved from the state. A
//!    table that the schema does not have is an error, or is carried if the caller asks for it.

mod batch;
mod codec;
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
pub(crate) use load::{Delta, DeltaTable, Ground, load, load_delta};
pub use options::{LoadOptions, SaveOptions};
pub(crate) use save::{Since, save};
