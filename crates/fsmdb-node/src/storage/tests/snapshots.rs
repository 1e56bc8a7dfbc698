//! Snapshot files: built, received, kept and taken away.

use std::fs;
use std::io::Write;

use fsmdb::raft::LogStore;
use fsmdb::{Applied, Machine, SaveOptions};

use super::samples::{IDENTITY, Jobs, Place, command, entry, hollow_snapshot, machine, quiet};
use crate::storage::{DataDir, SnapshotReference, StorageError};

/// A machine that has applied so many commands.
fn grown(count: u64) -> Machine<Jobs> {
    let machine = machine();
    for index in 1..=count {
        machine
            .apply(Applied { index, term: 2 }, &command(index))
            .expect("they follow")
            .unwrap()
            .unwrap();
    }
    machine
}

#[test]
fn a_built_snapshot_has_the_name_size_and_hash_that_its_reference_says() {
    let place = Place::new();
    let (directory, _log) = place.founded();
    let snapshots = directory.snapshots();
    let built = snapshots.build(&grown(40).read(), SaveOptions::new()).expect("the disk is sound");
    assert_eq!(built.at, Applied { index: 40, term: 2 });
    let path = snapshots.path_of(&built.reference).expect("it is one");
    let bytes = fs::read(&path).expect("it is there");
    let reference = SnapshotReference::parse(&built.reference).expect("it is one");
    assert_eq!(reference.bytes, bytes.len() as u64);
    assert_eq!(reference.hash, *blake3::hash(&bytes).as_bytes());
    assert_eq!(place.snapshot_names(), [reference.name()]);
    let empty = snapshots.build(&machine().read(), SaveOptions::new());
    assert!(matches!(empty, Err(StorageError::NothingApplied)));
}

#[test]
fn a_reference_of_a_peer_names_a_file_in_the_folder_or_nothing() {
    let hash = "00".repeat(32);
    let name = "snap-00000000000000000002-00000000000000000040";
    SnapshotReference::parse(format!("{name} 5 {hash}").as_bytes()).expect("it is one");
    let long = "9".repeat(300);
    let refused = [
        String::new(),
        name.to_owned(),
        format!("{name} 5"),
        format!("{name} 05 {hash}"),
        format!("{name} 5 {hash} "),
        format!("{name} 5 {}", "0G".repeat(32)),
        format!("snap-2-40 5 {hash}"),
        format!("../{name} 5 {hash}"),
        format!("snap-00000000000000000002-../000000000000000040 5 {hash}"),
        format!("{name} {long} {hash}"),
    ];
    for text in refused {
        let parsed = SnapshotReference::parse(text.as_bytes());
        assert!(matches!(parsed, Err(StorageError::Reference { .. })), "{text:?}");
    }
    assert!(SnapshotReference::parse(&[0xff; 40]).is_err());
}

#[test]
fn a_received_snapshot_is_adopted_whole_or_refused() {
    let (sender, receiver) = (Place::new(), Place::new());
    let (from, _log) = sender.founded();
    let (to, _log) = receiver.founded();
    let built = from.snapshots().build(&grown(30).read(), SaveOptions::new()).expect("sound");
    let path = from.snapshots().path_of(&built.reference).expect("it is one");
    let sound = fs::read(path).expect("it is there");
    let snapshots = to.snapshots();
    let send = |bytes: &[u8]| {
        let (mut file, path) = snapshots.receive().expect("the disk is sound");
        file.write_all(bytes).expect("the disk is sound");
        path
    };
    for at in (0..sound.len()).step_by(37) {
        let mut flipped = sound.clone();
        flipped[at] ^= 1;
        for bytes in [&flipped[..], &sound[..at]] {
            let path = send(bytes);
            snapshots.adopt(&path, &built.reference).expect_err("it is damaged");
            fs::remove_file(path).expect("it is left to the caller");
        }
    }
    let other = from.snapshots().build(&grown(31).read(), SaveOptions::new()).expect("sound");
    let path = send(&sound);
    let error = snapshots.adopt(&path, &other.reference).expect_err("it is another one");
    assert!(matches!(error, StorageError::WrongSnapshot { .. }), "{error}");
    assert!(receiver.snapshot_names().iter().all(|name| name.ends_with(".partial")));
    let adopted = snapshots.adopt(&path, &built.reference).expect("it is sound");
    assert_eq!(adopted.to_bytes(), built.reference);
    assert_eq!(receiver.snapshot_names(), [adopted.name()]);
    // A second time it is there already.
    let again = snapshots.adopt(&send(&sound), &built.reference).expect("it is sound");
    assert_eq!((again, receiver.snapshot_names()), (adopted, vec![adopted.name()]));
}

#[test]
fn a_file_that_was_changed_cut_or_taken_away_is_not_the_one_that_was_referred_to() {
    let place = Place::new();
    let (directory, _log) = place.founded();
    let snapshots = directory.snapshots();
    let built = snapshots.build(&grown(30).read(), SaveOptions::new()).expect("sound");
    snapshots.check(&built.reference).expect("it is as it was built");
    let path = snapshots.path_of(&built.reference).expect("it is one");
    let sound = fs::read(&path).expect("it is there");
    for at in (0..sound.len()).step_by(41) {
        let mut flipped = sound.clone();
        flipped[at] ^= 1;
        for bytes in [&flipped[..], &sound[..at]] {
            fs::write(&path, bytes).expect("it can be written");
            let error = snapshots.check(&built.reference).expect_err("it is damaged");
            assert!(matches!(error, StorageError::WrongSnapshot { .. }), "{error}");
        }
    }
    fs::remove_file(&path).expect("it is there");
    let error = snapshots.check(&built.reference).expect_err("it is gone");
    assert!(matches!(error, StorageError::Disk { .. }), "{error}");
    fs::write(&path, sound).expect("it can be written");
    snapshots.check(&built.reference).expect("it is back");
    assert!(matches!(snapshots.check(b"../x 1 2"), Err(StorageError::Reference { .. })));
}

#[test]
fn what_was_not_received_to_its_end_is_removed_by_the_next_open() {
    let place = Place::new();
    let (directory, log) = place.founded();
    let (mut file, path) = directory.snapshots().receive().expect("the disk is sound");
    file.write_all(b"the beginning").expect("the disk is sound");
    let (_, second) = directory.snapshots().receive().expect("the disk is sound");
    assert!(path.exists() && second.exists());
    drop((directory, log));
    drop(DataDir::open(place.path(), IDENTITY, &quiet()).expect("it is ours"));
    assert_eq!(place.snapshot_names(), [""; 0]);
}

#[test]
fn the_two_that_the_log_names_are_kept_and_those_that_are_newer() {
    let place = Place::new();
    let (directory, mut log) = place.founded();
    let entries: Vec<_> = (2..=60).map(|index| entry(index, 1, b"x")).collect();
    log.append(&entries, None, true).expect("in order");
    for index in [10, 20, 30] {
        let snapshot = hollow_snapshot(&place, Applied { index, term: 1 });
        log.compact_to(index - 5, &snapshot).expect("it is legal");
    }
    // Built or received, and on its way into the log.
    hollow_snapshot(&place, Applied { index: 40, term: 1 });
    hollow_snapshot(&place, Applied { index: 25, term: 1 });
    let housekeeper = log.housekeeper();
    assert_eq!(housekeeper.run().expect("the disk is sound").snapshots_removed, 2);
    let name = |index: u64| format!("snap-{:020}-{index:020}", 1);
    assert_eq!(place.snapshot_names(), [name(20), name(30), name(40)]);
    drop((directory, log, housekeeper));
    let (_directory, log) = place.open().expect("it is sound");
    assert_eq!(log.housekeeper().run().expect("the disk is sound").snapshots_removed, 0);
}

#[test]
fn a_housekeeper_takes_away_files_whose_entries_are_forgotten() {
    let place = Place::new();
    let (_directory, mut log) = place.founded();
    let mut most = 0;
    for index in 2..=600_u64 {
        log.append(&[entry(index, 1, &[5; 100])], None, false).expect("in order");
        if index % 50 == 0 {
            let snapshot = hollow_snapshot(&place, Applied { index, term: 1 });
            log.compact_to(index - 5, &snapshot).expect("it is legal");
            log.housekeeper().run().expect("the disk is sound");
            most = most.max(log.housekeeper().run().expect("the disk is sound").log_bytes);
        }
    }
    let written = 600 * 100;
    assert!(most < written / 2, "{most} bytes of {written} are kept");
    assert_eq!(log.load().expect("it is sound").entries.len(), 5);
}
