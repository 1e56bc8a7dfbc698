//! Bugs that are planted into the shell around the core, the machine, the log and the clients, to
//! prove that the checks find them. None of them is in the library.

use std::fmt;
use std::str::FromStr;

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)*) => {
        /// A planted bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Mutant {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What the command line calls it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What is wrong with it.
            #[must_use]
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)* }
            }
        }
    };
}

mutants! {
    /// The leader answers a command when it is appended, not when it is applied.
    AckBeforeApply = "ack-before-apply",
    /// A batch is answered before it is synced.
    PersistedBeforeSync = "persisted-before-sync",
    /// The vote is forgotten at a restart.
    ForgetVote = "forget-vote",
    /// The commit index is forgotten at a restart.
    ForgetCommit = "forget-commit",
    /// The write that makes a change of members durable is not waited for.
    EagerMembership = "eager-membership",
    /// The first command after a restart is applied twice.
    ApplyTwiceAfterRestart = "apply-twice-after-restart",
    /// Now and then an entry is skipped instead of applied.
    SkipEntry = "skip-entry",
    /// The leader is never told what became of a snapshot that it sent.
    ForgetSnapshotSent = "forget-snapshot-sent",
    /// A leader answers a linearizable read at once, without a round.
    ReadWithoutRound = "read-without-round",
    /// A confirmed read is answered from the version that was current when it was asked.
    ReadFromOldSnapshot = "read-from-old-snapshot",
    /// A follower answers linearizable reads.
    ReadAtFollower = "read-at-follower",
    /// A replica that lost its leadership answers the reads that were waiting.
    DeposedAnswersReads = "deposed-answers-reads",
    /// A removed replica goes on answering linearizable reads.
    RemovedAnswersReads = "removed-answers-reads",
    /// A client retries under a new sequence number.
    RetryUnderNewSequence = "retry-under-new-sequence",
    /// A client takes an unknown outcome for success.
    UnknownIsSuccess = "unknown-is-success",
    /// Replies go to whoever has waited longest, not to whom they belong.
    AnswerByOrder = "answer-by-order",
    /// Snapshots are written without the table of sessions.
    SessionsNotInSnapshot = "sessions-not-in-snapshot",
    /// A restore forgets a table.
    RestoreForgetsTable = "restore-forgets-table",
    /// Rows are taken in an order that differs between replicas.
    OrderOfReplica = "order-of-replica",
    /// A command reads the clock.
    ClockInApply = "clock-in-apply",
    /// A command reads the id of the replica.
    ReplicaInApply = "replica-in-apply",
    /// A torn snapshot file is taken for whole as far as it could be read.
    BelieveTornFile = "believe-torn-file",
    /// A received snapshot is stored without a look at its checksums.
    ChecksumUnchecked = "checksum-unchecked",
    /// A received snapshot is stored without a look at its position.
    PositionUnchecked = "position-unchecked",
    /// A received snapshot takes the place of the recorded one before the log says so.
    InstallBeforeDurable = "install-before-durable",
    /// A received snapshot is recorded in two writes.
    InstallInTwoWrites = "install-in-two-writes",
    /// The hard state is written before the entries, in a write of its own.
    HardStateFirst = "hard-state-first",
    /// Compaction forgets every entry that is there.
    CompactTooFar = "compact-too-far",
    /// An append does not discard the conflicting tail.
    KeepTail = "keep-tail",
    /// A power loss takes a write out of the middle.
    LoseTheMiddle = "lose-the-middle",
    /// Now and then a replica comes back under its id with an empty disk.
    ComeBackEmpty = "come-back-empty",
    /// A replica starts from the older file although the log does not reach back to it.
    OlderFileWithGap = "older-file-with-gap",
    /// A start from a chain leaves the last link out.
    ChainWithoutLastLink = "chain-without-last-link",
    /// An install makes a new database and leaves those who watch the old one there.
    WatchersLeftBehind = "watchers-left-behind",
    /// A follower of a feed passes over the item that tells of a restore.
    FeedHidesReset = "feed-hides-reset",
    /// A feed that is resumed at another replica begins one revision late.
    ResumeOneLate = "resume-one-late",
    /// A replica is never told that the file of its snapshot is lost.
    LostFileUntold = "lost-file-untold",
    /// An erasure does not wait for the log to be compacted.
    EraseTooEarly = "erase-too-early",
    /// An erasure leaves the snapshot file from before it.
    EraseKeepsOlderFile = "erase-keeps-older-file",
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Mutant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|mutant| mutant.name() == text);
        found.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|mutant| mutant.name()).collect();
            format!("there is no planted bug {text:?}; there are {}", names.join(", "))
        })
    }
}
