//! Checks a history against the journal that the replicas kept.
//!
//! Every answer names a revision, and the journal names the call applied at each. So the order is
//! given, and checking it is one walk: strict serializability in O(n log n).
//!
//! # Invariants
//!
//! 1. The journal is not believed: each entry must be a call that was asked, once, as it was
//!    asked, and after it began.
//! 2. What was acknowledged must be in the journal where it was acknowledged.
//! 3. A call that began after another had ended stands at a revision that is not lower; a write
//!    at a higher one.

use std::collections::BTreeMap;

use crate::history::{Answer, Call, CallId, Operation, Violation};

/// A write as the replicas applied it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The revision it made.
    pub revision: u64,
    /// The call.
    pub id: CallId,
    /// The register.
    pub key: u64,
    /// What was asked.
    pub operation: Operation,
}

/// Checks `history` against `journal`, which is in the order of revisions.
///
/// # Errors
///
/// The first [`Violation`] found.
pub fn check(history: &[Call], journal: &[Applied]) -> Result<(), Violation> {
    let asked: BTreeMap<CallId, &Call> = history.iter().map(|call| (call.id, call)).collect();
    let applied = check_journal(&asked, journal)?;
    check_acknowledged(history, &applied)?;
    check_answers(history, journal)?;
    check_time(history, &applied)
}

/// The revision of each call of the journal, each of which must have been asked so.
fn check_journal(
    asked: &BTreeMap<CallId, &Call>,
    journal: &[Applied],
) -> Result<BTreeMap<CallId, u64>, Violation> {
    let mut applied = BTreeMap::new();
    let mut before = 0;
    for entry in journal {
        let Applied { revision, id, key, operation } = *entry;
        if revision <= before {
            return Err(Violation::JournalOrder { before, after: revision });
        }
        before = revision;
        let call = asked.get(&id).filter(|call| (call.key, call.operation) == (key, operation));
        if call.is_none() || !operation.is_write() {
            return Err(Violation::NotAsked { call: id, revision });
        }
        if let Some(first) = applied.insert(id, revision) {
            return Err(Violation::AppliedTwice { call: id, first, second: revision });
        }
    }
    Ok(applied)
}

fn check_acknowledged(history: &[Call], applied: &BTreeMap<CallId, u64>) -> Result<(), Violation> {
    for call in history.iter().filter(|call| call.operation.is_write()) {
        let Some(end) = call.end else { continue };
        let found = applied.get(&call.id);
        if found != Some(&end.revision) {
            let found = found.map_or("nothing of it".to_owned(), |at| format!("it at {at}"));
            let (call, revision) = (call.id, end.revision);
            return Err(Violation::AcknowledgedLost { call, revision, found });
        }
    }
    Ok(())
}

/// Replays the journal; each answer must be what the state at its revision gives.
fn check_answers(history: &[Call], journal: &[Applied]) -> Result<(), Violation> {
    let mut ended: Vec<(u64, &Call, Answer)> = Vec::new();
    for call in history {
        if let Some(end) = call.end {
            ended.push((end.revision, call, end.answer));
        }
    }
    ended.sort_by_key(|(revision, call, _)| (*revision, !call.operation.is_write()));
    let mut registers: BTreeMap<u64, u64> = BTreeMap::new();
    let mut journal = journal.iter().peekable();
    for (revision, call, answered) in ended {
        let own = |entry: &Applied| entry.id == call.id;
        while let Some(entry) = journal.next_if(|next| next.revision <= revision && !own(next)) {
            let (after, _) = entry.operation.apply(registers.get(&entry.key).copied());
            after.map(|value| registers.insert(entry.key, value));
        }
        let (after, expected) = call.operation.apply(registers.get(&call.key).copied());
        if call.operation.is_write() {
            journal.next_if(|next| own(next));
            after.map(|value| registers.insert(call.key, value));
        }
        if answered != expected {
            return Err(Violation::WrongAnswer { call: call.id, revision, answered, expected });
        }
    }
    Ok(())
}

/// Walks through the calls in the order of real time.
fn check_time(history: &[Call], applied: &BTreeMap<CallId, u64>) -> Result<(), Violation> {
    let mut beginnings: Vec<&Call> = history.iter().collect();
    beginnings.sort_by_key(|call| call.began);
    let mut endings: Vec<&Call> = history.iter().filter(|call| call.end.is_some()).collect();
    endings.sort_by_key(|call| call.end.map(|end| end.at));
    let mut endings = endings.into_iter().peekable();
    let mut latest: Option<(u64, CallId)> = None;
    for later in beginnings {
        while let Some(call) =
            endings.next_if(|call| call.end.is_some_and(|end| end.at < later.began))
        {
            latest = latest.max(call.end.map(|end| (end.revision, call.id)));
        }
        // An unknown call that was applied has a place too.
        let place = later.end.map(|end| end.revision).or(applied.get(&later.id).copied());
        let (Some((ended, earlier)), Some(revision)) = (latest, place) else { continue };
        let is_in_order =
            if later.operation.is_write() { revision > ended } else { revision >= ended };
        if !is_in_order {
            return Err(Violation::TimeTravel { earlier, ended, later: later.id, revision });
        }
    }
    Ok(())
}
