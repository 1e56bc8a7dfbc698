//! Disks that fail: the caller is told, nothing is tried again, what was synced before is there.

use fsmdb::raft::{LogError, LogStore, Recovered};

use super::disk::Fault;
use super::samples::{IDENTITY, Place, entry, hard_state, quiet};
use crate::storage::{DataDir, EngineLog, StorageError};

/// A log with two synced entries, and what it holds.
fn two_entries(place: &Place) -> (DataDir, EngineLog, Recovered) {
    let (directory, mut log) = place.founded();
    let two = [entry(2, 1, b"two"), entry(3, 1, b"three")];
    log.append(&two, Some(hard_state(1, 2, 2)), true).expect("the disk is sound");
    let held = log.load().expect("it is sound");
    (directory, log, held)
}

fn append_four(log: &mut EngineLog) -> Result<(), LogError> {
    log.append(&[entry(4, 2, &[7; 300])], Some(hard_state(2, 3, 3)), true)
}

fn found_after_restart(place: &Place) -> Recovered {
    let copy = place.copy();
    let (_directory, mut log) = copy.open().expect("it is sound");
    log.load().expect("it is sound")
}

#[test]
fn a_failed_write_stops_the_log_and_leaves_nothing_of_itself() {
    for written in [0, 1, 17, 100, 310] {
        let place = Place::new();
        let (_directory, mut log, held) = two_entries(&place);
        place.disk.fail(Fault::TornWrite(written), 0, 1);
        let error = append_four(&mut log).expect_err("the disk has failed");
        assert!(matches!(error, LogError::Write { .. }), "{error}");
        assert_eq!(found_after_restart(&place), held, "after {written} bytes");
        // The disk works again; the log does not.
        let again = append_four(&mut log).expect_err("it is never tried again");
        assert!(again.to_string().contains("failed before"), "{again}");
        assert!(log.load().is_err() && log.housekeeper().run().is_err());
        assert_eq!(found_after_restart(&place), held);
    }
}

#[test]
fn a_failed_sync_is_an_error_and_is_never_followed_by_another_sync() {
    let place = Place::new();
    let (directory, mut log, held) = two_entries(&place);
    place.disk.fail(Fault::Sync, 0, usize::MAX);
    let error = append_four(&mut log).expect_err("the disk has failed");
    assert!(matches!(error, LogError::Write { .. }), "{error}");
    let syncs = place.disk.syncs();
    assert!(append_four(&mut log).is_err());
    let housekeeper = log.housekeeper();
    assert!(housekeeper.run().is_err());
    drop((directory, log, housekeeper));
    assert_eq!(place.disk.syncs(), syncs, "not even when it is dropped");
    // The way out is a new process; nothing is wrong with what is on the disk.
    let again = DataDir::open(place.path(), IDENTITY, &quiet()).expect_err("its files are open");
    assert!(matches!(again, StorageError::Locked { .. }), "{again}");
    assert!(again.to_string().contains("end that process"), "{again}");
    // What was written and not synced may be there or not, whole.
    let found = found_after_restart(&place);
    assert!(found == held || found.entries.len() == 3, "{found:?}");
}

#[test]
fn a_full_disk_stops_the_log_and_what_was_synced_is_there() {
    for written in [0, 9, 200] {
        let place = Place::new();
        let (_directory, mut log, held) = two_entries(&place);
        place.disk.fail(Fault::NoSpace(written), 0, usize::MAX);
        let error = append_four(&mut log).expect_err("the disk is full");
        assert!(matches!(error, LogError::Write { .. }), "{error}");
        assert!(error.to_string().contains("no space left on its disk"), "{error}");
        place.disk.fail(Fault::Sync, 0, 0);
        assert_eq!(found_after_restart(&place), held, "after {written} bytes");
    }
}

#[test]
fn a_disk_that_was_full_for_one_write_has_another_file_to_write_to() {
    let place = Place::new();
    let (directory, mut log, _) = two_entries(&place);
    place.disk.fail(Fault::NoSpace(20), 0, 1);
    append_four(&mut log).expect("the next file has room");
    let held = log.load().expect("it is sound");
    assert_eq!(held.entries.len(), 3);
    assert_eq!(found_after_restart(&place), held);
    drop((directory, log));
    assert_eq!(found_after_restart(&place), held);
}

#[test]
fn every_step_of_an_open_can_fail_and_the_next_open_succeeds() {
    for skip in 0.. {
        let place = Place::new();
        let (directory, log, held) = two_entries(&place);
        drop((directory, log));
        let cut = &place.log_files()[0];
        let bytes = std::fs::read(cut).expect("it is there");
        // A torn end, so that the open has something to repair.
        std::fs::write(cut, [&bytes[..], b"torn"].concat()).expect("it can be written");
        place.disk.fail(Fault::Sync, skip, 1);
        let failed = place.open().is_err();
        assert_eq!(found_after_restart(&place), held, "step {skip}");
        if !failed {
            assert!(skip > 0, "no sync was asked for");
            return;
        }
    }
}
