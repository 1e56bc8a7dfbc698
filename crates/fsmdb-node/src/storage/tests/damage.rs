//! Files that were cut, changed or taken away: what was written last may be missing as if it had
//! never been, and everything else is refused by name.

use std::fs;
use std::path::Path;

use fsmdb::Applied;
use fsmdb::raft::{LogError, LogStore, Recovered};

use super::samples::{Place, entry, hard_state, hollow_snapshot};
use crate::storage::{LogOptions, StorageError};

/// One file for everything, so that every record is at the end of the last file.
const ONE_FILE: LogOptions =
    LogOptions { file_bytes: 1 << 20, purge_bytes: 1 << 20, prefill_bytes: 0 };

/// A log of several batches, and what it held after each of them, the founding first.
fn written(place: &Place, options: LogOptions) -> Vec<Recovered> {
    let (_directory, mut log) = place.open_with(options).expect("an empty folder");
    let mut states = vec![log.load().expect("it is sound")];
    log.found(fsmdb::raft::Membership::of_voters([1, 2, 3])).expect("it is empty");
    states.push(log.load().expect("it is sound"));
    for batch in 0..8_u64 {
        let (index, term) = (2 + batch * 2, 1 + batch / 3);
        let data = |index: u64| format!("command of entry {index:04} ").repeat(3);
        let at = |index| entry(index, term, data(index).as_bytes());
        let state = hard_state(term, batch, index - 1);
        log.append(&[at(index), at(index + 1)], Some(state), true).expect("in order");
        states.push(log.load().expect("it is sound"));
    }
    states
}

/// Opens a log that was damaged: how many of its batches are there, or why it was refused.
fn batches(place: &Place, states: &[Recovered]) -> Result<usize, StorageError> {
    let (_directory, mut log) = place.open_with(ONE_FILE)?;
    let found = log.load().expect("the open has read it");
    let batches = states.iter().position(|state| *state == found);
    Ok(batches.unwrap_or_else(|| panic!("a part of a batch is there: {found:?}")))
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("it is there");
    change(&mut bytes);
    fs::write(path, bytes).expect("it can be written");
}

#[test]
fn a_log_cut_anywhere_holds_the_batches_before_the_cut() {
    let place = Place::new();
    let states = written(&place, ONE_FILE);
    let length = fs::metadata(&place.log_files()[0]).expect("it is there").len() as usize;
    let mut least = None;
    for cut in (0..length).step_by(13).chain([length]) {
        let copy = place.copy();
        change(&copy.log_files()[0], |bytes| bytes.truncate(cut));
        match batches(&copy, &states) {
            Ok(count) => {
                assert!(least <= Some(count), "{cut}: more is left of less");
                least = Some(count);
                // What comes after a torn end is kept like anything else.
                let (_directory, mut log) = copy.open_with(ONE_FILE).expect("it is sound");
                log.append(&[], Some(hard_state(77, 1, 0)), true).expect("it goes on");
                drop((_directory, log));
                let (_directory, mut log) = copy.open_with(ONE_FILE).expect("it is sound");
                assert_eq!(log.load().expect("it is sound").hard_state.term, 77);
            }
            // Not even the record that began the log is left.
            Err(StorageError::LogGone { .. }) => assert_eq!(least, None),
            Err(error) => panic!("{cut}: {error}"),
        }
    }
    assert_eq!(least, Some(states.len() - 1));
}

#[test]
fn a_log_changed_anywhere_holds_whole_batches_or_is_refused() {
    let place = Place::new();
    let states = written(&place, ONE_FILE);
    let length = fs::metadata(&place.log_files()[0]).expect("it is there").len() as usize;
    let (mut shorter, mut refused) = (0, 0);
    for (at, bit) in (0..length).step_by(7).zip((0..8).cycle()) {
        let copy = place.copy();
        change(&copy.log_files()[0], |bytes| bytes[at] ^= 1 << bit);
        match batches(&copy, &states) {
            Ok(count) => shorter += usize::from(count + 1 < states.len()),
            Err(StorageError::Log(LogError::Corrupt { index, .. })) => {
                assert!((2..=17).contains(&index), "byte {at}: index {index}");
                refused += 1;
            }
            Err(StorageError::BrokenLog { .. } | StorageError::LogGone { .. }) => refused += 1,
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    assert!(shorter > 0 && refused > 0, "{shorter} shorter, {refused} refused");
}

#[test]
fn a_flipped_bit_in_an_entry_is_found_at_the_open_and_named_by_its_index() {
    let place = Place::new();
    written(&place, ONE_FILE);
    // Entries are written by twos; the checksum is over both.
    for (damaged, named) in [(2_u64, 2), (7, 6), (13, 12)] {
        let copy = place.copy();
        change(&copy.log_files()[0], |bytes| {
            let text = format!("command of entry {damaged:04}");
            let found = bytes.windows(text.len()).position(|part| part == text.as_bytes());
            bytes[found.expect("it is not compressed")] ^= 4;
        });
        match copy.open_with(ONE_FILE) {
            Err(StorageError::Log(LogError::Corrupt { index, .. })) => assert_eq!(index, named),
            other => panic!("{damaged}: {other:?}"),
        }
    }
}

#[test]
fn a_log_that_is_gone_is_not_begun_again() {
    let place = Place::new();
    written(&place, ONE_FILE);
    fs::remove_dir_all(place.path().join("log")).expect("it is there");
    let error = place.open().expect_err("the node has promised things");
    assert!(matches!(error, StorageError::LogGone { .. }));
    assert!(error.to_string().contains("under a new id"), "{error}");
}

#[test]
fn a_log_without_its_oldest_file_is_refused_at_the_first_index_that_is_missing() {
    let place = Place::new();
    written(&place, LogOptions { file_bytes: 512, purge_bytes: 512, prefill_bytes: 0 });
    assert!(place.log_files().len() > 4, "there are several files");
    let (directory, mut log) = place.open().expect("it is sound");
    // So that what the log says of its snapshot is in a newer file.
    let snapshot = hollow_snapshot(&place, Applied { index: 16, term: 3 });
    log.compact_to(1, &snapshot).expect("it is legal");
    drop((directory, log));
    fs::remove_file(&place.log_files()[0]).expect("it is there");
    match place.open() {
        Err(StorageError::Log(LogError::Corrupt { index: 2, reason })) => {
            assert_eq!(reason, "it is missing");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_before_the_last_that_is_damaged_is_refused() {
    let place = Place::new();
    written(&place, LogOptions { file_bytes: 512, purge_bytes: 512, prefill_bytes: 0 });
    let second = place.log_files()[1].clone();
    change(&second, |bytes| bytes.truncate(bytes.len() - 1));
    let error = place.open().expect_err("it is no torn end");
    assert!(matches!(error, StorageError::BrokenLog { .. }), "{error}");
}

#[test]
fn a_log_that_ends_before_what_is_committed_is_refused_with_what_to_do() {
    let place = Place::new();
    let (directory, mut log) = place.founded();
    log.append(&[entry(2, 1, b"two")], Some(hard_state(1, 0, 9)), true).expect("in order");
    drop((directory, log));
    let error = place.open().expect_err("entries are lost");
    assert!(matches!(error, StorageError::Log(LogError::Lost { commit: 9, last: 2 })));
    for advice in ["wipe the directory", "remove the node", "new id"] {
        assert!(error.to_string().contains(advice), "{error}");
    }
}

#[test]
fn two_logs_that_one_thread_reads_are_not_mistaken_for_each_other() {
    // Files, places and lengths of the entries are the same; only what they say differs.
    let places = [Place::new(), Place::new()];
    for (place, data) in places.iter().zip([b"one", b"two"]) {
        let (_directory, mut log) = place.founded();
        log.append(&[entry(2, 1, data)], None, true).expect("in order");
    }
    for (place, data) in places.iter().zip([b"one", b"two"]) {
        let (_directory, mut log) = place.open().expect("it is sound");
        assert_eq!(log.load().expect("it is sound").entries[0].command(), Some(&data[..]));
    }
}
