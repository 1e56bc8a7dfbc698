//! Whose a directory is, and who has it.

use std::fs;

use super::samples::{IDENTITY, Place, quiet};
use crate::storage::durable::create_folder;
use crate::storage::{DataDir, Identity, StorageError};

#[test]
fn each_open_has_a_number_of_its_own_and_the_directory_bits_that_stay() {
    let place = Place::new();
    let mut incarnations = Vec::new();
    for boot in 1..=4 {
        let directory = DataDir::open(place.path(), IDENTITY, &quiet()).expect("it is ours");
        assert_eq!(directory.boot(), boot);
        incarnations.push(directory.incarnation());
    }
    assert!(incarnations.iter().all(|one| *one == incarnations[0] && *one != 0));
    let other = DataDir::open(Place::new().path(), IDENTITY, &quiet()).expect("it is empty");
    assert_ne!(other.incarnation(), incarnations[0], "a wiped node is another one");
}

#[test]
fn a_directory_in_use_is_refused_until_everything_in_it_is_dropped() {
    let place = Place::new();
    let (directory, log) = place.open().expect("an empty folder");
    let refused = || match DataDir::open(place.path(), IDENTITY, &quiet()) {
        Err(StorageError::Locked { path }) => assert_eq!(path, place.path()),
        other => panic!("{other:?}"),
    };
    refused();
    let snapshots = directory.snapshots();
    drop(directory);
    refused();
    drop(log);
    refused();
    drop(snapshots);
    DataDir::open(place.path(), IDENTITY, &quiet()).expect("nobody has it any more");
}

#[test]
fn a_directory_of_another_node_or_cluster_is_refused_and_both_are_named() {
    let place = Place::new();
    drop(DataDir::open(place.path(), IDENTITY, &quiet()).expect("it is empty"));
    let strangers = [Identity { node: 2, ..IDENTITY }, Identity { cluster: 0xD2, ..IDENTITY }];
    for stranger in strangers {
        let error = DataDir::open(place.path(), stranger, &quiet()).expect_err("it is ours");
        let text = error.to_string();
        assert!(text.contains(&IDENTITY.to_string()), "{text}");
        assert!(text.contains(&stranger.to_string()), "{text}");
        assert!(matches!(error, StorageError::Foreign { .. }));
    }
    let directory = DataDir::open(place.path(), IDENTITY, &quiet()).expect("it is ours");
    assert_eq!(directory.boot(), 2, "an open that is refused changes nothing");
}

#[test]
#[cfg(unix)]
fn only_its_owner_may_look_into_it_or_write_in_it() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    drop(place.open().expect("it is empty"));
    let mode = |name: &str| {
        let found = fs::metadata(place.path().join(name)).expect("it is there");
        found.permissions().mode() & 0o777
    };
    assert_eq!([mode(""), mode("log"), mode("snapshots")], [0o700; 3]);
    assert_eq!(mode("identity"), 0o600);
    let open_as = |mode| {
        fs::set_permissions(place.path(), fs::Permissions::from_mode(mode)).expect("ours");
        DataDir::open(place.path(), IDENTITY, &quiet())
    };
    let others = [0o710, 0o720, 0o740, 0o701, 0o702, 0o704, 0o750, 0o755, 0o777, 0o1777];
    for mode in others {
        let error = open_as(mode).expect_err("others have rights");
        let text = error.to_string();
        assert!(text.contains(&format!("mode {mode:o}")) && text.contains("chmod 700"), "{text}");
        assert!(matches!(error, StorageError::Permissions { mode: found, .. } if found == mode));
    }
    let directory = open_as(0o700).expect("it is its owner's alone");
    assert_eq!(directory.boot(), 2, "an open that is refused changes nothing");
}

#[test]
fn a_folder_with_something_in_it_and_no_identity_is_left_alone() {
    let place = Place::new();
    create_folder(&place.path()).expect("a folder");
    fs::write(place.path().join("letters.txt"), "dear").expect("a file");
    let error = DataDir::open(place.path(), IDENTITY, &quiet()).expect_err("it is not empty");
    assert!(matches!(error, StorageError::Unidentified { found, .. } if found == "letters.txt"));
    fs::remove_file(place.path().join("letters.txt")).expect("a file");
    // What an open has left that crashed before it had written who it is.
    fs::write(place.path().join("identity.partial"), "fsmdb-no").expect("a file");
    DataDir::open(place.path(), IDENTITY, &quiet()).expect("nothing of anybody is in it");
    assert!(!place.path().join("identity.partial").exists());
}

#[test]
fn an_identity_that_was_changed_is_refused_at_each_of_its_bytes() {
    let place = Place::new();
    drop(DataDir::open(place.path(), IDENTITY, &quiet()).expect("it is empty"));
    let path = place.path().join("identity");
    let sound = fs::read(&path).expect("it is there");
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).expect("written");
        let flipped = DataDir::open(place.path(), IDENTITY, &quiet()).expect_err("it is damaged");
        assert!(matches!(flipped, StorageError::BrokenIdentity { .. }), "byte {at}: {flipped}");
        fs::write(&path, &sound[..at]).expect("written");
        let cut = DataDir::open(place.path(), IDENTITY, &quiet()).expect_err("it is cut off");
        assert!(matches!(cut, StorageError::BrokenIdentity { .. }), "byte {at}: {cut}");
    }
}
