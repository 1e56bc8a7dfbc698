//! What the log has forgotten is gone from its files, and what is alive stays.

use std::fs;
use std::path::Path;

use fsmdb::Applied;
use fsmdb::raft::{LogError, LogStore};

use super::disk::Fault;
use super::samples::{Place, SMALL, entry, hard_state, hollow_snapshot};
use crate::storage::LogOptions;

const CANARY: &[u8; 32] = b"canary-5f1c9e07d2b84a63-canary-!";

/// Whether any file below the folder has the canary in it.
fn has_canary(folder: &Path) -> bool {
    let listed = fs::read_dir(folder).expect("it is there");
    listed.map(|entry| entry.expect("listed").path()).any(|path| {
        if path.is_dir() {
            return has_canary(&path);
        }
        let bytes = fs::read(&path).expect("it can be read");
        bytes.windows(CANARY.len()).any(|window| window == CANARY)
    })
}

/// Entries up to 40, the canary in entry 5 and, as an entry that was replaced, in 30; a snapshot of
/// 20 is recorded after one of 6.
fn forgetful(place: &Place) -> (crate::storage::DataDir, crate::storage::EngineLog) {
    let (directory, mut log) = place.founded();
    for index in 2..=30 {
        let data: &[u8] = if [5, 30].contains(&index) { CANARY } else { &[7; 100] };
        log.append(&[entry(index, 1, data)], None, false).expect("in order");
    }
    let entries: Vec<_> = (30..=40).map(|index| entry(index, 2, b"later")).collect();
    log.append(&entries, Some(hard_state(2, 1, 40)), true).expect("in order");
    for index in [6, 20] {
        let snapshot = hollow_snapshot(place, Applied { index, term: 1 });
        log.compact_to(index, &snapshot).expect("its data is there");
    }
    (directory, log)
}

#[test]
fn a_compacted_log_still_has_the_bytes_until_it_is_scrubbed() {
    let place = Place::new();
    let (directory, mut log) = forgetful(&place);
    let before = log.load().expect("it is sound");
    log.housekeeper().run().expect("nothing fails");
    assert!(has_canary(&place.path()), "raft-engine empties nothing");
    assert_eq!(log.scrub().expect("nothing fails"), Some(20));
    assert!(!has_canary(&place.path()));
    assert_eq!(log.load().expect("it is sound"), before);
    log.append(&[entry(41, 2, b"after")], Some(hard_state(2, 1, 41)), true).expect("it goes on");
    let after = log.load().expect("it is sound");
    assert_eq!(after.entries.len(), 21);
    log.housekeeper().run().expect("nothing fails");
    assert_eq!(place.snapshot_names().len(), 1, "the one before is not named any more");
    drop((directory, log));
    let (_directory, mut log) = place.open().expect("it is sound");
    assert_eq!(log.load().expect("it is sound"), after);
}

#[test]
fn recycled_files_and_files_written_ahead_are_gone_too() {
    let place = Place::new();
    let options = LogOptions { purge_bytes: 2048, prefill_bytes: 8192, ..SMALL };
    let (_directory, mut log) = place.open_with(options).expect("an empty folder");
    log.found(fsmdb::raft::Membership::of_voters([1, 2, 3])).expect("it is empty");
    for index in 2..=100 {
        log.append(&[entry(index, 1, CANARY)], None, true).expect("in order");
    }
    let snapshot = hollow_snapshot(&place, Applied { index: 100, term: 1 });
    log.compact_to(100, &snapshot).expect("its data is there");
    log.housekeeper().run().expect("nothing fails");
    assert!(has_canary(&place.path()), "in files that wait to be written over");
    assert_eq!(log.scrub().expect("nothing fails"), Some(100));
    assert!(!has_canary(&place.path()));
    assert_eq!(log.scrub().expect("nothing fails"), Some(100), "again");
    log.append(&[entry(101, 1, b"after")], None, true).expect("it goes on");
}

#[test]
fn a_log_that_was_never_compacted_or_never_written_is_scrubbed_without_a_loss() {
    let place = Place::new();
    let (_directory, mut log) = place.open().expect("an empty folder");
    assert_eq!(log.scrub().expect("nothing fails"), Some(0));
    assert!(log.is_empty());
    log.found(fsmdb::raft::Membership::of_voters([1, 2, 3])).expect("it is empty");
    log.append(&[entry(2, 1, b"two")], Some(hard_state(1, 1, 2)), true).expect("in order");
    let before = log.load().expect("it is sound");
    assert_eq!(log.scrub().expect("nothing fails"), Some(1));
    assert_eq!(log.load().expect("it is sound"), before);
}

#[test]
fn a_crash_between_the_steps_of_a_scrub_leaves_the_old_log_or_the_new_one() {
    let place = Place::new();
    let (directory, mut log) = forgetful(&place);
    let before = log.load().expect("it is sound");
    drop((directory, log));
    let old = place.copy();
    let (directory, mut log) = place.open().expect("it is sound");
    log.scrub().expect("nothing fails");
    drop((directory, log));
    let part = |place: &Place, name: &str| place.path().join(name);
    let renamed = |to: &str| {
        let crashed = place.copy();
        fs::rename(part(&crashed, "log"), part(&crashed, to)).expect("it is there");
        // The old log, whole or with some of its files removed already.
        let torn = old.copy();
        fs::rename(part(&torn, "log"), part(&crashed, "log")).expect("it was moved");
        crashed
    };
    let partial = renamed("log.fresh.partial");
    let whole = renamed("log.fresh");
    let half_removed = renamed("log.fresh");
    fs::remove_file(&half_removed.log_files()[0]).expect("it is there");
    for (crashed, is_old) in [(partial, true), (whole, false), (half_removed, false)] {
        let (_directory, mut log) = crashed.open().expect("it is sound");
        assert_eq!(log.load().expect("it is sound"), before);
        assert_eq!(has_canary(&crashed.path()), is_old);
        assert!(!part(&crashed, "log.fresh").exists());
        assert!(!part(&crashed, "log.fresh.partial").exists());
    }
}

#[test]
fn a_scrub_that_fails_stops_the_log_and_a_restart_finds_all_of_it() {
    for fault in [Fault::Sync, Fault::TornWrite(10)] {
        let place = Place::new();
        let (directory, mut log) = forgetful(&place);
        let before = log.load().expect("it is sound");
        place.disk.fail(fault, 0, 1);
        assert!(matches!(log.scrub(), Err(LogError::Write { .. })), "{fault:?}");
        let after = log.append(&[entry(41, 2, b"after")], None, true);
        assert!(matches!(after, Err(LogError::Write { .. })), "{fault:?}: {after:?}");
        // Its files stay open until the process ends, so a copy is what a restart would find.
        let restarted = place.copy();
        let (_directory, mut restarted) = restarted.open().expect("it is sound");
        assert_eq!(restarted.load().expect("it is sound"), before, "{fault:?}");
        drop((directory, log));
    }
}

#[test]
fn a_scrub_after_going_back_names_the_snapshot_that_is_sound() {
    let place = Place::new();
    let (directory, mut log) = place.founded();
    for index in 2..=30 {
        log.append(&[entry(index, 1, b"entry")], None, true).expect("in order");
    }
    for (index, at) in [(4, 6), (5, 20)] {
        let snapshot = hollow_snapshot(&place, Applied { index: at, term: 1 });
        log.compact_to(index, &snapshot).expect("its data is there");
    }
    log.fall_back();
    assert_eq!(log.scrub().expect("nothing fails"), Some(5));
    drop((directory, log));
    let (_directory, mut log) = place.open().expect("it is sound");
    let recovered = log.load().expect("it is sound");
    assert_eq!((recovered.snapshot.index, recovered.entries.len()), (6, 25));
}

#[test]
fn files_that_are_received_are_removed_and_outdated_snapshots_are_known() {
    let place = Place::new();
    let (_directory, mut log) = forgetful(&place);
    let arriving = place.path().join("arriving");
    log.housekeeper().erase(&arriving).expect("that there is no such folder is fine");
    fs::create_dir(&arriving).expect("there is room");
    fs::write(arriving.join("2-00-32.partial"), CANARY).expect("there is room");
    fs::write(arriving.join("2-1.received"), CANARY).expect("there is room");
    log.scrub().expect("nothing fails");
    assert!(has_canary(&place.path()));
    let housekeeper = log.housekeeper();
    housekeeper.erase(&arriving).expect("nothing fails");
    assert!(!has_canary(&place.path()));
    assert!(housekeeper.is_outdated(19) && !housekeeper.is_outdated(20));
}
