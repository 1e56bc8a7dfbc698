//! Whether all replicas have the same tables.
//!
//! Each node notes its digests at the same entries. The leader asks for the notes of the others,
//! and tells who differs from the majority; that node looks into its own notes and stops.
//!
//! # Invariants
//!
//! 1. Only notes of the same entry are compared, between nodes of the same build, and the first
//!    entry that differs decides.
//! 2. Nobody stops for less than a majority of all members, except of two, where the leader counts
//!    as right. What cannot be decided is an alarm in the status.
//! 3. A node stops because its own note differs from what the leader says is right, never because
//!    it is told to.
//! 4. An alarm ends when this node, as the leader, has found all members equal at the entry of the
//!    alarm or a later one: one that did not answer, or has not noted that far, proves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fsmdb::raft::Role;
use fsmdb::{Digest, Digests, TableDigest};

use super::error::NodeError;
use super::mail::Mail;
use super::replica::{Replica, all_of};
use super::request::{Answer, Request, decode, encode};
use crate::limits::DIGEST_CHECK_TICKS;
use crate::session::Replicated;

/// A comparison that is under way.
#[derive(Debug, Default)]
pub(super) struct Comparing {
    round: u64,
    /// Who has not answered yet.
    missing: BTreeSet<u64>,
    noted: BTreeMap<u64, Vec<Digests>>,
}

/// What a comparison found.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing differs; the last entry that all members have noted, if there is one.
    Equal {
        by_all: Option<u64>,
    },
    Undecided {
        index: u64,
    },
    Differ {
        right: Digests,
        wrong: Vec<u64>,
    },
}

impl<F: Replicated> Replica<F> {
    /// Begins a comparison, now and then.
    pub(super) fn tick_digests(&mut self) {
        let is_due = self.ticks.is_multiple_of(u64::from(DIGEST_CHECK_TICKS));
        let own = self.shared.notes.all();
        if self.role != Role::Leader || !is_due || own.is_empty() {
            return;
        }
        let others = all_of(&self.members).into_iter().filter(|id| *id != self.id);
        let round = self.ticks;
        let missing: BTreeSet<u64> = others.collect();
        let noted = BTreeMap::from([(self.id, own)]);
        self.comparing = Comparing { round, missing: missing.clone(), noted };
        let timeout = self.shared.tick.saturating_mul(DIGEST_CHECK_TICKS / 2);
        for from in missing {
            let shared = Arc::clone(&self.shared);
            let done = Box::new(move |answer: Result<Vec<u8>, _>| {
                let noted = match answer.ok().and_then(|bytes| decode::<Answer>(&bytes)) {
                    Some(Answer::Digests { build, noted }) if build == shared.build => Some(noted),
                    _ => None,
                };
                // The raft thread has ended already, and nobody asks.
                let _ = shared.inbox.post(Mail::Digests { round, from, noted });
            });
            if let Some(body) = encode(&Request::Digests) {
                self.transport.request(from, body, timeout, done);
            }
        }
    }

    /// A peer has answered, or has not.
    pub(super) fn compare(
        &mut self,
        round: u64,
        from: u64,
        noted: Option<Vec<Digests>>,
    ) -> Result<(), NodeError> {
        let comparing = &mut self.comparing;
        if comparing.round != round || !comparing.missing.remove(&from) {
            return Ok(());
        }
        comparing.noted.extend(noted.map(|noted| (from, noted)));
        if !comparing.missing.is_empty() {
            return Ok(());
        }
        let comparing = std::mem::take(comparing);
        let (right, wrong) = match judge(&comparing.noted, self.id, &all_of(&self.members)) {
            Verdict::Equal { by_all } => {
                self.end_alarm(by_all);
                return Ok(());
            }
            Verdict::Undecided { index } => {
                let alarm = format!("replicas differ since entry {index} or before");
                self.raise_alarm(index, alarm);
                return Ok(());
            }
            Verdict::Differ { right, wrong } => (right, wrong),
        };
        let index = right.applied.index;
        let alarm = format!("replicas {wrong:?} differ since entry {index} or before");
        self.raise_alarm(index, alarm);
        for to in wrong {
            if to == self.id {
                self.diverged(index, &right.tables)?;
            }
            let request = Request::Diverged { index, tables: right.tables.clone() };
            if let Some(body) = encode(&request) {
                // Unheard, it is told again after the next comparison.
                let timeout = self.shared.tick.saturating_mul(DIGEST_CHECK_TICKS / 2);
                self.transport.request(to, body, timeout, Box::new(|_| {}));
            }
        }
        Ok(())
    }

    fn raise_alarm(&mut self, index: u64, alarm: String) {
        self.alarmed_at = Some(index);
        self.shared.metrics.digest_alarms.inc();
        self.shared.board.post(|status| status.digest_alarm = Some(alarm));
    }

    fn end_alarm(&mut self, by_all: Option<u64>) {
        // An alarm is of some entry: without one, or before it, nothing ends.
        if self.alarmed_at.is_some() && self.alarmed_at <= by_all {
            self.alarmed_at = None;
            self.shared.board.post(|status| status.digest_alarm = None);
        }
    }

    /// The leader says that these digests are right; stops this node when its own differ.
    pub(super) fn diverged(&mut self, index: u64, right: &[TableDigest]) -> Result<(), NodeError> {
        let notes = self.shared.notes.all();
        let Some(own) = notes.iter().find(|note| note.applied.index == index) else {
            return Ok(());
        };
        let tables = differing(&own.tables, right);
        if tables.is_empty() { Ok(()) } else { Err(NodeError::Diverged { index, tables }) }
    }
}

/// The names of the tables that differ, sorted.
fn differing(one: &[TableDigest], other: &[TableDigest]) -> Vec<String> {
    let only = |from: &[TableDigest], in_other: &[TableDigest]| {
        let missing = from.iter().filter(|table| !in_other.contains(table));
        missing.map(|table| table.table.clone()).collect::<Vec<_>>()
    };
    let names: BTreeSet<String> = only(one, other).into_iter().chain(only(other, one)).collect();
    names.into_iter().collect()
}

/// Compares the notes of these members.
fn judge(noted: &BTreeMap<u64, Vec<Digests>>, leader: u64, members: &[u64]) -> Verdict {
    let mut by_all = None;
    for note in noted.get(&leader).into_iter().flatten() {
        let mut groups: BTreeMap<Digest, Vec<(u64, &Digests)>> = BTreeMap::new();
        for (id, notes) in noted {
            let same = notes.iter().find(|other| other.applied == note.applied);
            if let Some(same) = same {
                groups.entry(same.database()).or_default().push((*id, same));
            }
        }
        if groups.len() < 2 {
            let have_noted = |id: &u64| groups.values().flatten().any(|(other, _)| other == id);
            if members.iter().all(have_noted) {
                by_all = Some(note.applied.index);
            }
            continue;
        }
        let is_right = |group: &Vec<(u64, &Digests)>| {
            let has_leader = group.iter().any(|(id, _)| *id == leader);
            2 * group.len() > members.len() || (members.len() == 2 && has_leader)
        };
        let Some(right) = groups.values().find(|group| is_right(group)) else {
            return Verdict::Undecided { index: note.applied.index };
        };
        let is_wrong = |group: &&Vec<(u64, &Digests)>| group[0].0 != right[0].0;
        let wrong = groups.values().filter(is_wrong).flatten().map(|(id, _)| *id);
        return Verdict::Differ { right: right[0].1.clone(), wrong: wrong.collect() };
    }
    Verdict::Equal { by_all }
}

#[cfg(test)]
mod tests {
    use fsmdb::{Applied, Revision};
    use serde::Serialize;

    use super::*;

    /// What a node notes, as it travels: the fields of `Digests`, which others cannot make.
    #[derive(Serialize)]
    struct Note {
        revision: Revision,
        applied: Applied,
        tables: Vec<Sum>,
    }

    #[derive(Serialize)]
    struct Sum {
        table: &'static str,
        rows: u64,
        #[serde(with = "serde_bytes")]
        digest: Vec<u8>,
    }

    fn note(index: u64, rows: u64) -> Digests {
        let tables = vec![Sum { table: "jobs", rows, digest: vec![0; 16] }];
        let applied = Applied { index, term: 1 };
        let note = Note { revision: Revision(index), applied, tables };
        decode(&encode(&note).expect("it is short")).expect("it has the fields")
    }

    /// The verdict of node 1, where each node has these rows at entries 8 and 16.
    fn judged(rows: &[(u64, [u64; 2])], members: u64) -> Verdict {
        let notes = |[one, two]: [u64; 2]| vec![note(8, one), note(16, two)];
        let noted = rows.iter().map(|(id, rows)| (*id, notes(*rows))).collect();
        judge(&noted, 1, &(1..=members).collect::<Vec<_>>())
    }

    #[test]
    fn the_first_entry_that_differs_decides_against_the_minority() {
        let equal = [(1, [1, 2]), (2, [1, 2]), (3, [1, 2])];
        assert_eq!(judged(&equal, 3), Verdict::Equal { by_all: Some(16) });
        let one = [(1, [1, 2]), (2, [1, 2]), (3, [1, 9])];
        let right = Verdict::Differ { right: note(16, 2), wrong: vec![3] };
        assert_eq!(judged(&one, 3), right);
        let leader = [(1, [9, 2]), (2, [1, 2]), (3, [1, 2])];
        assert_eq!(judged(&leader, 3), Verdict::Differ { right: note(8, 1), wrong: vec![1] });
    }

    #[test]
    fn less_than_a_majority_of_all_members_decides_nothing_except_the_leader_of_two() {
        let half = [(1, [1, 2]), (2, [9, 2])];
        assert_eq!(judged(&half, 3), Verdict::Undecided { index: 8 });
        let two_of_five = [(1, [1, 2]), (2, [1, 2]), (3, [9, 2])];
        assert_eq!(judged(&two_of_five, 5), Verdict::Undecided { index: 8 });
        assert_eq!(judged(&half, 2), Verdict::Differ { right: note(8, 1), wrong: vec![2] });
    }

    #[test]
    fn all_members_are_equal_up_to_the_last_entry_that_each_of_them_has_noted() {
        let equal = [(1, [1, 2]), (2, [1, 2])];
        assert_eq!(judged(&equal, 2), Verdict::Equal { by_all: Some(16) });
        assert_eq!(judged(&equal, 3), Verdict::Equal { by_all: None }, "the third said nothing");
        let noted = [(1, vec![note(8, 1), note(16, 2)]), (2, vec![note(8, 1)])];
        let verdict = judge(&noted.into(), 1, &[1, 2]);
        assert_eq!(verdict, Verdict::Equal { by_all: Some(8) }, "the second is behind");
    }

    #[test]
    fn tables_that_differ_are_named_once() {
        let (one, other) = (note(8, 1), note(8, 2));
        assert_eq!(differing(&one.tables, &other.tables), ["jobs"]);
        assert!(differing(&one.tables, &one.tables).is_empty());
        assert_eq!(differing(&one.tables, &[]), ["jobs"]);
    }
}
