//! Every number of the world, with its reason. Time is virtual: one unit is a millisecond of a
//! machine with a tick of ten.

/// Time between two ticks of one replica. Small, so that a second of virtual time has many
/// elections.
pub(crate) const TICK: u64 = 10;

/// How many rounds of faults a run has unless the command line says otherwise. More rounds find
/// more for one seed, more seeds find more for one second: with these a run takes less than a tenth
/// of one.
pub const ROUNDS_DEFAULT: u64 = 100;

/// Longest time between two faults.
pub(crate) const ROUND_TIME_MAX: u64 = 70;

/// Longest calm, in which a group does its work: long enough for an election and a few snapshots.
pub(crate) const CALM_TIME_MAX: u64 = 800;

/// Longest time that the process of a leader stands still: long enough for the others to elect
/// another one, and for that one to take commands.
pub(crate) const PAUSE_TIME_MAX: u64 = 1_200;

/// Highest replica id; ids are never used again, so this bounds how many a run can add.
pub(crate) const REPLICAS_MAX: u64 = 9;

/// How long a client waits for an answer before it asks again, elsewhere. Longer than most answers
/// take, shorter than an election, so that retries happen and are not the rule.
pub(crate) const CLIENT_PATIENCE: u64 = 120;

/// Longest time between two looks of a client at what it waits for.
pub(crate) const CLIENT_WAKE_MAX: u64 = 40;

/// How many clients work at most; the one that asks at the end comes beside.
pub(crate) const CLIENTS_MAX: u64 = 4;

/// How many registers they append to: few, so that they meet.
pub(crate) const REGISTERS: u64 = 4;

/// How many names they claim: few, so that most claims of a name that is taken are refused.
pub(crate) const NAMES: u64 = 6;

/// How long a leader waits for the answer to a snapshot that it sent; then it counts as lost.
pub(crate) const SNAPSHOT_PATIENCE: u64 = 150;

/// How many files a chain may have before a whole file takes its place.
pub(crate) const CHAIN_FILES_MAX: usize = 4;

/// How many recorded snapshots a disk keeps: the one that is in use and the one before it, for a
/// start when the last one turns out to be damaged.
pub(crate) const SNAPSHOTS_KEPT: usize = 2;

/// Longest time between two looks of the subscriber at the replica that it follows: shorter than an
/// election, so that it is often gone before there is another leader.
pub(crate) const SUBSCRIBER_WAKE_MAX: u64 = 40;

/// Longest time that it follows nobody after it has lost a replica: longer than a start and an
/// install take, after which what it has missed is gone.
pub(crate) const SUBSCRIBER_AWAY_MAX: u64 = 1_500;

/// How many of a hundred installs lose power around their writes, which are there for a few
/// milliseconds only.
pub(crate) const INSTALL_CRASHES_PERCENT: u64 = 6;

/// How far behind the last applied entry an erasing entry is at most.
pub(crate) const ERASURE_BEHIND_MAX: u64 = 4;

/// Virtual time in which a healed group must take a command and bring it to all its members. A
/// leader is there after two elections, a replica is fed after a few snapshots; this is a hundred
/// times as much.
pub(crate) const HEAL_TIME_MAX: u64 = 60_000;

/// How often a healed group is looked at.
pub(crate) const HEAL_LOOK: u64 = 25;

/// Seeds after which a planted bug counts as not found.
pub const MUTANT_SEEDS_MAX: u64 = 1_000;
