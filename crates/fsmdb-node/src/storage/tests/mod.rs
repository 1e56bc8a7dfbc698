//! What the storage of a node promises.

mod changes;
mod damage;
mod directory;
pub(super) mod disk;
mod failing;
mod log;
mod recovery;
mod samples;
mod scrubbing;
mod snapshots;
mod torn;
