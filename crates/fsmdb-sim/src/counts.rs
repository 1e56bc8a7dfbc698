//! How much happened, so that a run in which nothing happened cannot pass for a good one.

use std::fmt;
use std::ops::AddAssign;

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $field:ident = $name:literal,)*) => {
        /// What happened in a run, or in many.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counts {
            $($(#[doc = $doc])+ pub $field: u64,)*
        }

        impl AddAssign for Counts {
            fn add_assign(&mut self, other: Self) {
                $(self.$field += other.$field;)*
            }
        }

        impl fmt::Display for Counts {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(writeln!(f, "  {:<32} {:>12}", $name, self.$field)?;)*
                Ok(())
            }
        }
    };
}

counts! {
    /// Events given to cores.
    steps = "steps of cores",
    /// Messages sent.
    messages = "messages sent",
    /// Messages lost.
    lost = "messages lost",
    /// Terms with a leader.
    elections = "elections won",
    /// Power losses of one replica.
    crashes = "crashes",
    /// Cuts of the network.
    partitions = "partitions",
    /// Processes that stood still, and clocks that jumped.
    clock_jumps = "pauses and clock jumps",
    /// Batches that the logs wrote.
    batches = "batches written",
    /// Entries applied, by all replicas together.
    entries = "entries applied",
    /// Commands acknowledged.
    acknowledged = "commands acknowledged",
    /// Commands that a client sent again.
    retries = "commands sent again",
    /// Outcomes that were unknown.
    unknown = "outcomes unknown",
    /// Linearizable reads answered and checked.
    reads = "linearizable reads checked",
    /// Stale reads answered and checked.
    stale_reads = "stale reads checked",
    /// Whole snapshot files built.
    snapshots = "whole snapshots built",
    /// Incremental snapshot files built.
    links = "incremental snapshots built",
    /// Snapshots installed.
    installs = "snapshots installed",
    /// Snapshots refused by their receivers.
    refused_snapshots = "damaged snapshots refused",
    /// Snapshots that did not arrive.
    lost_snapshots = "snapshots lost",
    /// Starts from a snapshot.
    starts = "starts from a snapshot",
    /// Starts from an older snapshot, because the newest was damaged.
    older_starts = "starts from the older one",
    /// Changes of members applied.
    changes = "changes of members",
    /// Leaders asked to hand over.
    transfers = "transfers asked for",
    /// Watches that were woken.
    wakes = "watches woken",
    /// Items of feeds.
    feed_items = "items of feeds",
    /// Restores that feeds told of.
    feed_resets = "restores in feeds",
    /// Feeds that went on at another replica from their bookmark.
    feeds_resumed = "feeds resumed elsewhere",
    /// Feeds that could not, because what they had missed was gone there.
    feeds_anew = "feeds begun anew elsewhere",
    /// Replicas asked to erase what was before an entry.
    erasures = "erasures asked for",
    /// Replicas that have done so.
    erased = "erasures done",
    /// Snapshot files that went away or were damaged under a running replica.
    files_lost = "snapshot files lost",
    /// Those of them that were found when they were to be sent.
    files_missed = "lost files found when sent",
    /// Power losses around the writes of an install.
    install_crashes = "crashes at an install",
}
