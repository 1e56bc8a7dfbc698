//! Starting again: the state machine from a snapshot, the rest from the log.

use std::fs;
use std::path::PathBuf;

use fsmdb::raft::{Config, Core, LogStore, Membership, SnapshotMeta};
use fsmdb::{Applied, SaveOptions};
use slog::Level;

use super::samples::{Place, Told, command, entry, hard_state, quiet, replay, start};
use crate::storage::{DataDir, EngineLog, StorageError};

const LAST: u64 = 60;

/// Appends commands up to the last, with snapshots at two indexes, the log compacted to one; the
/// bytes that the final state saves as.
fn history(place: &Place, snapshots: [u64; 2], compacted: u64) -> Vec<u8> {
    let (directory, mut log) = place.founded();
    let (machine, _) = start(&directory, &mut log).expect("it was founded");
    for index in 2..=LAST {
        let command = command(index);
        log.append(&[entry(index, 1, &command)], Some(hard_state(1, 1, index)), false)
            .expect("in order");
        machine.apply(Applied { index, term: 1 }, &command).expect("they follow").unwrap().unwrap();
        if snapshots.contains(&index) {
            let built = directory.snapshots().build(&machine.read(), SaveOptions::new());
            let built = built.expect("the disk is sound");
            let snapshot = SnapshotMeta {
                index: built.at.index,
                term: built.at.term,
                membership: Membership::of_voters([1, 2, index]),
                reference: built.reference,
            };
            let to = if index == snapshots[1] { compacted } else { 1 };
            log.compact_to(to, &snapshot).expect("it is legal");
        }
    }
    let mut file = Vec::new();
    machine.read().save(&mut file).expect("memory");
    file
}

/// The file of the snapshot at an index.
fn file_of(place: &Place, index: u64) -> PathBuf {
    let name = format!("snap-{:020}-{index:020}", 1);
    place.path().join("snapshots").join(name)
}

/// Starts the node and gives what its state saves as once the log is applied, and the index of the
/// snapshot that it began with.
fn started(
    directory: &DataDir,
    log: &mut EngineLog,
) -> Result<(Vec<u8>, SnapshotMeta), StorageError> {
    let (machine, recovered) = start(directory, log)?;
    assert_eq!(machine.applied().index, recovered.snapshot.index);
    let applied = machine.applied().index;
    Core::new(Config::new(1, directory.boot()), recovered.clone(), applied, &quiet())
        .expect("the core takes it");
    replay(&machine, &recovered);
    let mut file = Vec::new();
    machine.read().save(&mut file).expect("memory");
    Ok((file, recovered.snapshot))
}

#[test]
fn a_node_starts_again_from_its_newest_snapshot() {
    let place = Place::new();
    let state = history(&place, [20, 40], 30);
    let (directory, mut log) = place.open().expect("it is sound");
    let (found, snapshot) = started(&directory, &mut log).expect("it is sound");
    assert_eq!(snapshot.index, 40);
    assert!(found == state, "the same state");
}

#[test]
fn a_node_that_was_founded_and_one_that_joins_start_without_a_snapshot() {
    let place = Place::new();
    let (directory, mut log) = place.founded();
    let (machine, recovered) = start(&directory, &mut log).expect("it was founded");
    assert_eq!((machine.applied().index, recovered.snapshot.index), (1, 1));
    let place = Place::new();
    let (directory, mut log) = place.open().expect("an empty folder");
    let (machine, recovered) = start(&directory, &mut log).expect("it is empty");
    assert_eq!((machine.applied().index, recovered.snapshot.index), (0, 0));
}

#[test]
fn with_the_newest_snapshot_damaged_anywhere_it_goes_back_to_the_one_before() {
    let place = Place::new();
    let state = history(&place, [20, 40], 20);
    let length = fs::metadata(file_of(&place, 40)).expect("it is there").len() as usize;
    let (directory, mut log) = place.open().expect("it is sound");
    let sound = fs::read(file_of(&place, 40)).expect("it is there");
    for at in (0..length).step_by(length / 24) {
        let mut flipped = sound.clone();
        flipped[at] ^= 0x10;
        fs::write(file_of(&place, 40), flipped).expect("written");
        let copy = place.copy();
        let (directory, mut log) = copy.open().expect("the log is sound");
        let (found, snapshot) = started(&directory, &mut log).expect("the older one is sound");
        assert_eq!(snapshot.index, 20, "byte {at}");
        assert_eq!(snapshot.membership, Membership::of_voters([1, 2, 20]));
        assert!(found == state, "byte {at}: the same state");
    }
    fs::write(file_of(&place, 40), sound).expect("written");
    assert_eq!(started(&directory, &mut log).expect("it is sound").1.index, 40);
}

#[test]
fn a_damaged_snapshot_that_is_skipped_is_told_as_an_error_with_its_file_and_what_is_wrong() {
    let mut place = Place::new();
    let told = Told::default();
    place.logger = told.logger();
    history(&place, [20, 40], 20);
    let (directory, mut log) = place.open().expect("it is sound");
    started(&directory, &mut log).expect("it is sound");
    drop((directory, log));
    assert_eq!(told.take(Level::Error), [""; 0], "all is well");
    fs::write(file_of(&place, 40), "this is no snapshot").expect("written");
    let (directory, mut log) = place.open().expect("the log is sound");
    started(&directory, &mut log).expect("the older one is sound");
    let lines = told.take(Level::Error);
    let [line] = &lines[..] else { panic!("one line is to be told: {lines:?}") };
    let file = file_of(&place, 40).display().to_string();
    for part in ["SNAPSHOT DAMAGED", "index: 40", &file, "it does not begin with"] {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
}

#[test]
fn the_snapshot_it_went_back_to_is_kept_until_there_is_a_better_one() {
    let place = Place::new();
    history(&place, [20, 40], 20);
    fs::write(file_of(&place, 40), "damaged").expect("written");
    let (directory, mut log) = place.open().expect("the log is sound");
    let (machine, recovered) = start(&directory, &mut log).expect("the older one is sound");
    replay(&machine, &recovered);
    log.housekeeper().run().expect("the disk is sound");
    assert!(file_of(&place, 20).exists());
    let built = directory.snapshots().build(&machine.read(), SaveOptions::new());
    let built = built.expect("the disk is sound");
    let (index, term) = (built.at.index, built.at.term);
    let membership = Membership::of_voters([1]);
    let snapshot = SnapshotMeta { index, term, membership, reference: built.reference };
    log.compact_to(20, &snapshot).expect("it is legal");
    log.housekeeper().run().expect("the disk is sound");
    assert!(file_of(&place, 20).exists() && file_of(&place, LAST).exists());
    assert!(!file_of(&place, 40).exists(), "the damaged one is gone");
}

#[test]
fn without_the_entries_after_the_older_snapshot_it_does_not_start() {
    let place = Place::new();
    history(&place, [20, 40], 30);
    fs::remove_file(file_of(&place, 40)).expect("it is there");
    let (directory, mut log) = place.open().expect("the log is sound");
    match started(&directory, &mut log) {
        Err(StorageError::EntriesForgotten { index: 40, older: 20, first: 31, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn with_both_snapshots_damaged_it_says_what_is_wrong_with_each() {
    let place = Place::new();
    history(&place, [20, 40], 20);
    fs::write(file_of(&place, 40), "this is no snapshot").expect("written");
    fs::remove_file(file_of(&place, 20)).expect("it is there");
    let (directory, mut log) = place.open().expect("the log is sound");
    let error = started(&directory, &mut log).expect_err("there is none");
    let text = error.to_string();
    assert!(matches!(error, StorageError::NoSnapshot { index: 40, .. }), "{text}");
    assert!(text.contains("it does not begin with") && text.contains("cannot open"), "{text}");
}

#[test]
fn the_snapshot_before_the_first_is_the_founding() {
    let place = Place::new();
    let state = history(&place, [40, 40], 1);
    fs::write(file_of(&place, 40), "damaged").expect("written");
    let (directory, mut log) = place.open().expect("the log is sound");
    let (found, snapshot) = started(&directory, &mut log).expect("every entry is there");
    assert_eq!(snapshot.index, 1);
    assert!(found == state, "the same state");
}
