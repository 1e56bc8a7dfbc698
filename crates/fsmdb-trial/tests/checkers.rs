//! The checkers themselves: they accept what a true register answers, and notice one wrong reply.

use std::collections::{BTreeMap, BTreeSet};

use fsmdb_trial::history::{Answer, Call, CallId, End, Operation, Violation};
use fsmdb_trial::numbers::Numbers;
use fsmdb_trial::witnessed::Applied;
use fsmdb_trial::{search, witnessed};

/// What true registers answer `clients` at the same time; of a thousand writes `lost` lose their
/// answer, and half of those are not applied.
fn true_history(
    seed: u64,
    clients: u64,
    calls: u64,
    keys: u64,
    lost: u64,
) -> (Vec<Call>, Vec<Applied>) {
    let mut numbers = Numbers::new(seed);
    let mut registers = vec![None; usize::try_from(keys).expect("few")];
    let (mut history, mut journal) = (Vec::new(), Vec::new());
    // Of each client: the time from which it is free, and its last sequence.
    let mut free = vec![(0_u64, 0_u64); usize::try_from(clients).expect("few")];
    // Calls take effect at times that rise by two, each between its beginning and its end.
    for turn in 0..calls {
        let at = 100 + 2 * turn;
        let ready: Vec<usize> = (0..free.len()).filter(|c| free[*c].0 < at).collect();
        let Some(&client) = ready.get(numbers.below(ready.len().max(1) as u64) as usize) else {
            continue;
        };
        let sequence = free[client].1 + 1;
        let id = CallId { client: client as u64, sequence };
        let key = numbers.below(keys);
        let register: &mut Option<u64> = &mut registers[key as usize];
        let operation = match numbers.below(4) {
            0 => Operation::Get,
            1 => Operation::Swap { expected: *register, value: 1_000 + turn },
            2 => Operation::Swap { expected: Some(turn), value: 1_000 + turn },
            _ => Operation::Put(1_000 + turn),
        };
        let began = at - numbers.below(20.min(at - free[client].0)).min(at - 1);
        let revision = 10 + turn;
        let is_lost = operation.is_write() && numbers.below(1_000) < lost;
        let is_applied = !is_lost || numbers.below(2) == 0;
        let mut end = None;
        let until = at + 1 + numbers.below(20);
        if is_applied {
            let (after, answer) = operation.apply(*register);
            *register = after;
            if operation.is_write() {
                journal.push(Applied { revision, id, key, operation });
            }
            let revision = if operation.is_write() { revision } else { revision - 1 };
            end = (!is_lost).then_some(End { at: until, answer, revision });
        }
        history.push(Call { id, key, operation, began, end });
        free[client] = (until + 1, sequence);
    }
    (history, journal)
}

#[test]
fn what_a_true_register_answers_is_accepted() {
    for seed in 0..30 {
        let (history, journal) = true_history(seed, 8, 2_000, 1 + seed % 8, 20);
        assert!(history.len() > 1_000, "few calls: {}", history.len());
        assert!(history.iter().any(|call| call.end.is_none()));
        assert_eq!(witnessed::check(&history, &journal), Ok(()), "seed {seed}");
        assert_eq!(search::check(&history), Ok(()), "seed {seed}");
    }
}

#[test]
fn one_wrong_reply_in_ten_thousand_is_found_by_both() {
    for seed in 0..8 {
        let (history, journal) = true_history(seed, 8, 10_000, 8, 2);
        let mut numbers = Numbers::new(seed);
        let reads: Vec<usize> = (0..history.len())
            .filter(|n| history[*n].end.is_some() && !history[*n].operation.is_write())
            .collect();
        let wrong = reads[numbers.below(reads.len() as u64) as usize];
        let mut corrupted = history.clone();
        let end = corrupted[wrong].end.as_mut().expect("it has one");
        end.answer = Answer::Value(Some(7));
        let found = witnessed::check(&corrupted, &journal).expect_err("a wrong reply");
        let call = history[wrong].id;
        assert!(matches!(found, Violation::WrongAnswer { call: c, .. } if c == call), "{found}");
        let found = search::check(&corrupted).expect_err("a wrong reply");
        assert!(matches!(found, Violation::NotLinearizable { .. }), "{found}");
    }
}

#[test]
fn a_read_of_an_older_value_is_found_by_both() {
    for seed in 0..20 {
        // To be sure that no order does, the search tries each unknown write everywhere.
        let (history, journal) = true_history(seed, 4, 2_000, 1, 0);
        // A read that answers as the register was a hundred revisions ago, and says so.
        let late = history.iter().position(|call| {
            !call.operation.is_write() && call.end.is_some_and(|end| end.revision > 1_000)
        });
        let late = late.expect("there is one");
        let old = history[late].end.expect("it has one").revision - 100;
        let mut register = None;
        for entry in journal.iter().filter(|entry| entry.revision <= old) {
            register = entry.operation.apply(register).0;
        }
        let mut stale = history.clone();
        let end = stale[late].end.as_mut().expect("it has one");
        assert_ne!(end.answer, Answer::Value(register));
        (end.answer, end.revision) = (Answer::Value(register), old);
        let found = witnessed::check(&stale, &journal).expect_err("a stale read");
        assert!(matches!(found, Violation::TimeTravel { .. }), "{found}");
        let found = search::check(&stale).expect_err("a stale read");
        assert!(matches!(found, Violation::NotLinearizable { .. }), "{found}");
    }
}

#[test]
fn a_swap_that_was_answered_the_opposite_is_found_by_the_journal_and_by_both_where_it_shows() {
    for seed in 0..8 {
        let (history, journal) = true_history(seed, 8, 10_000, 8, 2);
        let read: BTreeSet<Option<u64>> = history.iter().filter_map(value_read).collect();
        // Whether its value was seen though it says it did nothing, or it says that it found what
        // was not there.
        let shows = |call: &Call| match (call.operation, call.end.map(|end| end.answer)) {
            (Operation::Swap { value, .. }, Some(Answer::Done(true))) => {
                read.contains(&Some(value))
            }
            _ => true,
        };
        for was in [true, false] {
            let flips: Vec<usize> = (0..history.len())
                .filter(|n| matches!(history[*n].operation, Operation::Swap { .. }))
                .filter(|n| history[*n].end.is_some_and(|end| end.answer == Answer::Done(was)))
                .collect();
            let flipped = |wrong: usize| {
                let mut corrupted = history.clone();
                corrupted[wrong].end.as_mut().expect("it has one").answer = Answer::Done(!was);
                corrupted
            };
            for &wrong in flips.iter().step_by(flips.len() / 5) {
                let found = witnessed::check(&flipped(wrong), &journal).expect_err("a wrong reply");
                let call = history[wrong].id;
                assert!(matches!(found, Violation::WrongAnswer { call: c, .. } if c == call));
            }
            let showing: Vec<usize> =
                flips.into_iter().filter(|wrong| shows(&history[*wrong])).collect();
            let wrong = showing[Numbers::new(seed).below(showing.len() as u64) as usize];
            let found = search::check(&flipped(wrong)).expect_err("a wrong reply");
            assert!(matches!(found, Violation::NotLinearizable { .. }), "{was}: {found}");
        }
    }
}

#[test]
fn a_read_that_misses_only_the_last_write_before_it_is_found_by_both() {
    for seed in 0..8 {
        let (history, journal) = true_history(seed, 8, 10_000, 8, 2);
        let misses = reads_with_the_value_before(&history, &journal);
        let (wrong, before) = misses[Numbers::new(seed).below(misses.len() as u64) as usize];
        // The revision is the right one: only the value is old.
        let mut stale = history.clone();
        stale[wrong].end.as_mut().expect("it has one").answer = Answer::Value(Some(before));
        let found = witnessed::check(&stale, &journal).expect_err("a stale value");
        let call = history[wrong].id;
        assert!(matches!(found, Violation::WrongAnswer { call: c, .. } if c == call), "{found}");
        let found = search::check(&stale).expect_err("a stale value");
        assert!(matches!(found, Violation::NotLinearizable { .. }), "{found}");
    }
}

fn value_read(call: &Call) -> Option<Option<u64>> {
    match call.end?.answer {
        Answer::Value(value) => Some(value),
        Answer::Done(_) => None,
    }
}

/// Each read that began after the last write it saw had ended, with what that write replaced: the
/// value of one that had ended when the last began, so that no other order explains it.
fn reads_with_the_value_before(history: &[Call], journal: &[Applied]) -> Vec<(usize, u64)> {
    let calls: BTreeMap<CallId, &Call> = history.iter().map(|call| (call.id, call)).collect();
    // Of each register: what it held from which revision on, and whose write that was.
    let mut held: BTreeMap<u64, Vec<(u64, u64, &Call)>> = BTreeMap::new();
    for entry in journal {
        let of_key = held.entry(entry.key).or_default();
        let before = of_key.last().map(|(_, value, _)| *value);
        if let (Some(value), Answer::Done(true)) = entry.operation.apply(before) {
            of_key.push((entry.revision, value, calls[&entry.id]));
        }
    }
    let ended_before = |call: &Call, began| call.end.is_some_and(|end| end.at < began);
    let mut found = Vec::new();
    for (n, read) in history.iter().enumerate().filter(|(_, call)| !call.operation.is_write()) {
        let (Some(end), Some(of_key)) = (read.end, held.get(&read.key)) else { continue };
        let seen = of_key.partition_point(|(revision, ..)| *revision <= end.revision);
        if let [.., (_, before, first), (_, _, last)] = of_key[..seen]
            && ended_before(first, last.began)
            && ended_before(last, read.began)
        {
            found.push((n, before));
        }
    }
    found
}

fn put(client: u64, sequence: u64, value: u64, began: u64, ended: Option<(u64, u64)>) -> Call {
    let end = ended.map(|(at, revision)| End { at, answer: Answer::Done(true), revision });
    let id = CallId { client, sequence };
    Call { id, key: 0, operation: Operation::Put(value), began, end }
}

fn get(client: u64, sequence: u64, found: Option<u64>, time: (u64, u64), revision: u64) -> Call {
    let end = Some(End { at: time.1, answer: Answer::Value(found), revision });
    let id = CallId { client, sequence };
    Call { id, key: 0, operation: Operation::Get, began: time.0, end }
}

fn applied(call: &Call, revision: u64) -> Applied {
    Applied { revision, id: call.id, key: call.key, operation: call.operation }
}

#[test]
fn an_acknowledged_write_that_is_gone_is_found_by_both() {
    let write = put(1, 1, 5, 0, Some((10, 3)));
    let read = get(2, 1, None, (20, 30), 4);
    let found = witnessed::check(&[write, read], &[]).expect_err("lost");
    assert!(matches!(found, Violation::AcknowledgedLost { .. }), "{found}");
    let found = search::check(&[write, read]).expect_err("lost");
    assert!(matches!(found, Violation::NotLinearizable { .. }), "{found}");
}

#[test]
fn a_write_applied_twice_is_found() {
    let first = put(1, 1, 5, 0, None);
    let between = put(2, 1, 6, 5, Some((9, 4)));
    let journal = [applied(&first, 3), applied(&between, 4), applied(&first, 5)];
    let found = witnessed::check(&[first, between], &journal).expect_err("twice");
    assert_eq!(found, Violation::AppliedTwice { call: first.id, first: 3, second: 5 });
    // Without the journal: two reads see the first write both before and after the other one.
    let reads = [get(3, 1, Some(5), (1, 2), 3), get(3, 2, Some(5), (20, 21), 5)];
    let third = get(3, 3, Some(6), (22, 23), 5);
    assert_eq!(search::check(&[first, between, reads[0]]), Ok(()));
    assert!(search::check(&[first, between, reads[0], reads[1]]).is_err());
    assert!(search::check(&[first, between, reads[1], third]).is_err());
}

#[test]
fn an_unknown_write_may_come_late_or_never_but_not_before_it_began() {
    let unknown = put(1, 1, 5, 50, None);
    let early = get(2, 1, Some(5), (10, 20), 3);
    let late = get(2, 2, Some(5), (60, 70), 3);
    let never = get(2, 3, None, (60, 70), 2);
    assert_eq!(search::check(&[unknown, late]), Ok(()));
    assert_eq!(witnessed::check(&[unknown, late], &[applied(&unknown, 3)]), Ok(()));
    assert_eq!(search::check(&[unknown, never]), Ok(()));
    assert_eq!(witnessed::check(&[unknown, never], &[]), Ok(()));
    assert!(search::check(&[unknown, early]).is_err());
    assert!(witnessed::check(&[unknown, early], &[applied(&unknown, 3)]).is_err());
}

#[test]
fn a_journal_with_what_nobody_asked_is_refused() {
    let asked = put(1, 1, 5, 0, Some((1, 3)));
    let other = put(1, 1, 6, 0, None);
    let found = witnessed::check(&[asked], &[applied(&other, 3)]).expect_err("not asked");
    assert_eq!(found, Violation::NotAsked { call: asked.id, revision: 3 });
    let found = witnessed::check(&[asked], &[applied(&asked, 3), applied(&asked, 3)]);
    assert_eq!(found, Err(Violation::JournalOrder { before: 3, after: 3 }));
}
