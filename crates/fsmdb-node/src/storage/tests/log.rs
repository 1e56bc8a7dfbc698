//! What was appended is there after a restart: against the log in memory.

use fsmdb::Applied;
use fsmdb::raft::{Entry, HardState, LogError, LogStore, Membership, MemoryLog, Recovered};
use proptest::prelude::*;

use super::samples::{Place, entry, hard_state, hollow_snapshot};
use crate::storage::{DataDir, EngineLog, StorageError};

#[test]
fn a_founded_log_is_found_again_and_not_founded_twice() {
    let place = Place::new();
    let (directory, mut log) = place.founded();
    let members = Membership::of_voters([1, 2, 3]);
    assert_eq!(log.load().expect("it is sound"), Recovered::founding(members.clone()));
    assert!(!log.is_empty());
    drop((directory, log));
    let (_directory, mut log) = place.open().expect("it is sound");
    assert_eq!(log.load().expect("it is sound"), Recovered::founding(members.clone()));
    let error = log.found(members).expect_err("it was founded");
    assert!(matches!(error, StorageError::AlreadyFounded { node: 1, last: 1 }));
}

#[test]
fn only_a_member_founds_a_group() {
    let (_directory, mut log) = Place::new().open().expect("an empty folder");
    let error = log.found(Membership::of_voters([2, 3])).expect_err("1 is no member");
    assert!(matches!(error, StorageError::Membership { node: 1, .. }));
    assert!(log.is_empty());
    assert_eq!(log.load().expect("it is sound"), Recovered::default(), "as one that joins");
}

#[test]
fn entries_out_of_order_are_refused_and_change_nothing() {
    let place = Place::new();
    let (_directory, mut log) = place.founded();
    log.append(&[entry(2, 1, b"two"), entry(3, 1, b"three")], None, true).expect("in order");
    let before = log.load().expect("it is sound");
    for wrong in
        [&[entry(1, 1, b"x")][..], &[entry(5, 1, b"x")], &[entry(4, 1, b"x"), entry(6, 1, b"x")]]
    {
        let refused = log.append(wrong, Some(hard_state(9, 9, 1)), true);
        assert!(matches!(refused, Err(LogError::OutOfOrder { first: 2, .. })), "{refused:?}");
    }
    assert_eq!(log.load().expect("it is sound"), before);
    log.append(&[entry(4, 2, b"four")], None, true).expect("a refusal is no failure");
}

#[test]
fn a_synced_write_makes_the_ones_before_it_durable_even_when_it_holds_nothing() {
    let place = Place::new();
    let (_directory, mut log) = place.founded();
    let before = place.disk.syncs();
    log.append(&[entry(2, 1, b"two")], None, false).expect("in order");
    log.append(&[], Some(hard_state(1, 0, 2)), false).expect("in order");
    assert_eq!(place.disk.syncs(), before, "nothing was synced");
    log.append(&[], None, true).expect("in order");
    assert_eq!(place.disk.syncs(), before + 1);
}

#[test]
fn many_batches_in_one_write_are_as_many_writes() {
    let place = Place::new();
    let (directory, mut log) = place.founded();
    let (two, over) = ([entry(2, 1, b"a"), entry(3, 1, b"b")], [entry(3, 2, b"c")]);
    let batches = [(&two[..], Some(hard_state(1, 2, 1))), (&over[..], None), (&[][..], None)];
    log.append_all(&batches, true).expect("in order");
    drop((directory, log));
    let (_directory, mut log) = place.open().expect("it is sound");
    let found = log.load().expect("it is sound");
    assert_eq!(found.entries, [entry(2, 1, b"a"), entry(3, 2, b"c")]);
    assert_eq!(found.hard_state, hard_state(1, 2, 1));
}

#[test]
fn a_snapshot_without_its_file_is_not_recorded() {
    let place = Place::new();
    let (_directory, mut log) = place.founded();
    let mut missing = hollow_snapshot(&place, Applied { index: 8, term: 1 });
    std::fs::remove_file(place.path().join("snapshots").join(&place.snapshot_names()[0]))
        .expect("it was there");
    let refused = log.install_snapshot(&missing, HardState::default());
    assert_eq!(refused, Err(LogError::MissingSnapshot { index: 8 }));
    missing.reference = b"../../elsewhere 1 2".to_vec();
    assert_eq!(log.compact_to(1, &missing), Err(LogError::MissingSnapshot { index: 8 }));
}

#[derive(Clone, Debug)]
enum Step {
    /// Entries that take the place of so many at the end, of a new term or not.
    Append {
        over: u64,
        lengths: Vec<usize>,
        is_new_term: bool,
        sync: bool,
    },
    Vote {
        candidate: u64,
        sync: bool,
    },
    /// Forgets all but so many entries, with a snapshot so far before the last.
    Compact {
        keep: u64,
        before: u64,
    },
    /// A snapshot so far beyond the first entry.
    Install {
        ahead: u64,
    },
    Sweep,
    Reopen,
    /// Goes on from a copy of the directory.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let lengths = prop::collection::vec(0..400_usize, 1..6);
    let append = (0..4_u64, lengths, any::<bool>(), any::<bool>());
    prop_oneof![
        8 => append.prop_map(|(over, lengths, is_new_term, sync)| {
            Step::Append { over, lengths, is_new_term, sync }
        }),
        2 => (0..4_u64, any::<bool>()).prop_map(|(candidate, sync)| Step::Vote { candidate, sync }),
        2 => (0..6_u64, 0..6_u64).prop_map(|(keep, before)| Step::Compact { keep, before }),
        1 => (1..30_u64).prop_map(|ahead| Step::Install { ahead }),
        2 => Just(Step::Sweep),
        2 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

/// A log on disk beside one in memory.
struct Pair {
    place: Place,
    opened: Option<(DataDir, EngineLog)>,
    model: MemoryLog,
    /// What the model holds.
    held: Recovered,
}

impl Pair {
    fn new() -> Self {
        let place = Place::new();
        let opened = Some(place.founded());
        let mut model = MemoryLog::founding(Membership::of_voters([1, 2, 3]));
        let held = model.load().expect("memory");
        Self { place, opened, model, held }
    }

    fn log(&mut self) -> &mut EngineLog {
        &mut self.opened.as_mut().expect("it is open").1
    }

    fn last(&self) -> Applied {
        let last = self.held.entries.last().map(|last| (last.index(), last.term()));
        let (index, term) = last.unwrap_or((self.held.truncated_index, self.held.truncated_term));
        Applied { index, term }
    }

    fn take(&mut self, step: Step) {
        let Recovered { hard_state, snapshot, truncated_index, .. } = self.held.clone();
        let mut state = hard_state;
        match step {
            Step::Append { over, lengths, is_new_term, sync } => {
                let last = self.last().index;
                // What is committed is never replaced, and nothing else is in a snapshot.
                let floor = snapshot.index.max(state.commit);
                let first = last.saturating_sub(over).max(floor) + 1;
                state.term += u64::from(is_new_term || first <= last);
                let at = |(number, length): (u64, usize)| {
                    entry(first + number, state.term, &vec![number as u8; length])
                };
                let entries: Vec<Entry> = (0..).zip(lengths).map(at).collect();
                self.append(&entries, state, sync);
            }
            Step::Vote { candidate, sync } => {
                state.vote = candidate;
                state.commit = self.last().index;
                self.append(&[], state, sync);
            }
            Step::Compact { keep, before } => {
                let last = self.last().index;
                let index = last.saturating_sub(before).max(self.held.snapshot.index);
                let at = |entry: &&Entry| entry.index() == index;
                let Some(entry) = self.held.entries.iter().find(at) else { return };
                let snapshot = hollow_snapshot(&self.place, Applied { index, term: entry.term() });
                self.model.put_snapshot(&snapshot.reference, b"data"[..].into());
                let to = index.saturating_sub(keep);
                self.log().compact_to(to, &snapshot).expect("it is legal");
                self.model.compact_to(to, &snapshot).expect("it is legal");
            }
            Step::Install { ahead } => {
                let index = truncated_index + ahead;
                state.term += 1;
                state.commit = index;
                let snapshot = hollow_snapshot(&self.place, Applied { index, term: state.term });
                self.model.put_snapshot(&snapshot.reference, b"data"[..].into());
                self.log().install_snapshot(&snapshot, state).expect("it is legal");
                self.model.install_snapshot(&snapshot, state).expect("it is legal");
            }
            Step::Sweep => {
                self.log().housekeeper().run().expect("it can clean up");
            }
            Step::Reopen => {
                self.opened = None;
                self.opened = Some(self.place.open().expect("it is sound"));
            }
            Step::Crash => {
                let copy = self.place.copy();
                self.opened = None;
                self.place = copy;
                self.opened = Some(self.place.open().expect("it is sound"));
            }
        }
    }

    fn append(&mut self, entries: &[Entry], state: HardState, sync: bool) {
        self.log().append(entries, Some(state), sync).expect("it is legal");
        self.model.append(entries, Some(state), sync).expect("it is legal");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None,
        ..ProptestConfig::default() })]

    #[test]
    fn it_holds_what_the_log_in_memory_holds_over_restarts_and_crashes(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut pair = Pair::new();
        for step in steps {
            pair.take(step);
            pair.held = pair.model.load().expect("memory");
            prop_assert_eq!(pair.log().load().expect("it is sound"), pair.held.clone());
        }
        pair.take(Step::Reopen);
        prop_assert_eq!(pair.log().load().expect("it is sound"), pair.held);
    }
}
