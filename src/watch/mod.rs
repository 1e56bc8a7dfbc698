//! Who waits for what, and how a commit finds those that it concerns.
//!
//! A watch asks questions of a version (`crate::table` notes them while a closure reads) and waits
//! until the answers are others. `registry.rs` has the questions by the keys that they are about,
//! so a commit pays for what it changed and for those whom that concerns, and not for who else
//! watches: single keys in `points.rs`, stretches in `spans.rs`. What is found so is only
//! suspected; `answer.rs` compares what both versions say before anybody is woken.
//!
//! # Invariants
//!
//! 1. Whoever waits after reading cannot miss a change in between.
//! 2. A watch wakes when the answer to one of its questions has changed, and only then.
//! 3. Who waits never delays a commit: a commit looks up, takes out, and wakes without waiting.
//! 4. A handle that is dropped leaves nothing behind.

mod answer;
mod askers;
mod change;
mod feed_log;
mod filter;
mod handle;
mod hub;
mod points;
mod registry;
mod spans;

use std::num::NonZeroU8;

pub(crate) use answer::differs;
pub use change::{Change, ChangeKind, Committed};
pub(crate) use feed_log::{FeedLimits, Follower, Taken, What};
pub(crate) use filter::Filter;
pub(crate) use handle::RevisionWait;
pub use handle::{Changed, Wake, Watch};
pub use hub::OldSnapshot;
pub(crate) use hub::{AgeLimit, Erased, Hub, Options, Woken};
pub(crate) use registry::Touched;

use crate::sync::Reason;

/// Why signals are raised.
const CHANGED: Reason = NonZeroU8::MIN;
const CLOSED: Reason = NonZeroU8::new(2).unwrap();
const REACHED: Reason = NonZeroU8::new(3).unwrap();
