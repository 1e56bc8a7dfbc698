//! Changes that are sent in the place of a snapshot file, and what comes out of them.

use std::fs;
use std::path::Path;

use fsmdb::{Applied, Db, Machine, SaveOptions, Snapshot};

use super::samples::{Job, Jobs, Place, command};
use crate::storage::{DataDir, Links, SnapshotReference, StorageError, head_of};

/// A node with a machine that keeps digests.
struct Node {
    place: Place,
    directory: DataDir,
    machine: Machine<Jobs>,
}

impl Node {
    fn new() -> Self {
        let place = Place::new();
        let (directory, _log) = place.founded();
        let db = Db::builder().table::<Job>().keep_digests().build().expect("a sound schema");
        let machine = Machine::new(db, Jobs).expect("nobody owns it");
        Self { place, directory, machine }
    }

    /// Applies entries up to this one; others than another node would have from `parted` on.
    fn apply(&self, to: u64, parted: u64) -> Snapshot {
        for index in self.machine.applied().index + 1..=to {
            let id = if index < parted { index } else { index + 1_000_000 };
            let applied = self.machine.apply(Applied { index, term: 2 }, &command(id));
            applied.expect("they follow").expect("it is new").expect("it is taken");
        }
        self.machine.read()
    }

    fn build(&self, snapshot: &Snapshot) -> SnapshotReference {
        let built = self.directory.snapshots().build(snapshot, SaveOptions::new());
        SnapshotReference::parse(&built.expect("the disk is sound").reference).expect("it is one")
    }

    fn links(&self) -> Links {
        Links::open(self.place.path().join("snapshots")).expect("it can be listed")
    }

    fn held(&self) -> Vec<Applied> {
        let names = self.place.snapshot_names();
        let held = names.iter().filter_map(|name| crate::storage::reference::parse_name(name));
        held.collect()
    }

    /// What it makes of a parcel.
    fn take(&self, expected: &SnapshotReference, parcel: &[u8]) -> Result<(), StorageError> {
        let received = self.place.path().join("parcel");
        fs::write(&received, parcel).expect("the disk is sound");
        let files = self.directory.snapshots();
        let whole = self.place.path().join("composed");
        let composed = files.compose(&received, expected, &self.held(), &whole);
        assert_eq!(composed.is_ok(), whole.exists());
        assert!(composed?, "it is a parcel");
        let adopted = files.adopt(&whole, &expected.to_bytes());
        assert_eq!(adopted.is_err(), whole.exists(), "it is left to the caller");
        adopted.map(drop)
    }
}

/// The leader at entries 400, 440 and 480, and the parcel of the last two steps.
fn leader() -> (Node, SnapshotReference, Vec<u8>) {
    let node = Node::new();
    let links = node.links();
    let mut before = node.apply(400, u64::MAX);
    let mut newest = node.build(&before);
    for to in [440, 480] {
        let snapshot = node.apply(to, u64::MAX);
        newest = node.build(&snapshot);
        links.build(&before, &snapshot, newest.bytes, || false).expect("the disk is sound");
        before = snapshot;
    }
    let parcel = parcel(&links, &newest, 400);
    (node, newest, parcel)
}

fn parcel(links: &Links, newest: &SnapshotReference, base: u64) -> Vec<u8> {
    let mut leading = links.leading_to(newest);
    leading.retain(|link| link.from >= base);
    leading.reverse();
    let mut bytes = head_of(base, leading.iter().map(|link| link.bytes).collect());
    for link in &leading {
        bytes.extend(fs::read(links.path(link)).expect("it is there"));
    }
    bytes
}

fn content(folder: &Path, reference: &SnapshotReference) -> Vec<u8> {
    fs::read(folder.join("snapshots").join(reference.name())).expect("it is there")
}

#[test]
fn changes_and_the_file_of_another_replica_come_to_the_very_file_of_the_sender() {
    let (leader, newest, parcel_of_two) = leader();
    for base in [400, 440] {
        let follower = Node::new();
        let own = follower.build(&follower.apply(base, u64::MAX));
        assert!(content(&leader.place.path(), &own) == content(&follower.place.path(), &own));
        let parcel = parcel(&leader.links(), &newest, base);
        assert!(parcel.len() as u64 * 2 < newest.bytes, "{} of {}", parcel.len(), newest.bytes);
        follower.take(&newest, &parcel).expect("they fit");
        let (sent, made) = (leader.place.path(), follower.place.path());
        assert!(content(&sent, &newest) == content(&made, &newest));
        assert_eq!(follower.place.snapshot_names(), [own.name(), newest.name()]);
    }
    assert_eq!(parcel_of_two, parcel(&leader.links(), &newest, 400));
}

#[test]
fn changes_without_their_base_or_to_another_one_are_refused_and_leave_nothing() {
    let (leader, newest, parcel) = leader();
    let older = Node::new();
    let own = older.build(&older.apply(360, u64::MAX));
    let error = older.take(&newest, &parcel).expect_err("it has no such file");
    assert!(error.to_string().contains("no snapshot of entry 400"), "{error}");
    assert_eq!(older.place.snapshot_names(), [own.name()]);
    let parted = Node::new();
    let own = parted.build(&parted.apply(400, 399));
    let error = parted.take(&newest, &parcel).expect_err("it is based on another state");
    assert!(matches!(error, StorageError::WrongSnapshot { .. }), "{error}");
    assert_eq!(parted.place.snapshot_names(), [own.name()]);
    // They fit, and come to another snapshot than the one that was named.
    let follower = Node::new();
    let own = follower.build(&follower.apply(400, u64::MAX));
    let another = SnapshotReference { hash: [7; 32], ..newest };
    let shorter = SnapshotReference { bytes: newest.bytes - 1, ..newest };
    let earlier = SnapshotReference { index: 440, ..newest };
    for expected in [another, shorter, earlier] {
        let error = follower.take(&expected, &parcel).expect_err("it is another one");
        assert!(matches!(error, StorageError::WrongSnapshot { .. }), "{error}");
    }
    assert_eq!(follower.place.snapshot_names(), [own.name()]);
    drop(leader);
}

#[test]
fn damaged_changes_are_refused_wherever_the_damage_is_and_leave_nothing() {
    let (_leader, newest, parcel) = leader();
    let follower = Node::new();
    let own = follower.build(&follower.apply(400, u64::MAX));
    for at in (8..parcel.len()).step_by(31).chain(8..48) {
        let mut flipped = parcel.clone();
        flipped[at] ^= 1;
        for bytes in [&flipped[..], &parcel[..at]] {
            follower.take(&newest, bytes).expect_err("it is damaged");
        }
    }
    let longer = [&parcel[..], &[0]].concat();
    follower.take(&newest, &longer).expect_err("something stands behind");
    assert_eq!(follower.place.snapshot_names(), [own.name()]);
    follower.take(&newest, &parcel).expect("it is sound");
}

#[test]
fn changes_that_are_not_worth_it_are_not_kept() {
    let node = Node::new();
    let links = node.links();
    let (first, second) = (node.apply(40, u64::MAX), node.apply(400, u64::MAX));
    let newest = node.build(&second);
    links.build(&first, &second, newest.bytes, || false).expect("the disk is sound");
    assert_eq!(links.leading_to(&newest), []);
    // Nor such as begin where the state did not come from.
    let other = Node::new();
    links
        .build(&other.apply(399, u64::MAX), &second, newest.bytes, || false)
        .expect("the disk is sound");
    assert_eq!(links.leading_to(&newest), []);
    assert_eq!(node.place.snapshot_names(), [newest.name()]);
}

#[test]
fn a_whole_file_is_no_parcel() {
    let node = Node::new();
    let reference = node.build(&node.apply(40, u64::MAX));
    let files = node.directory.snapshots();
    let path = files.path_of(&reference.to_bytes()).expect("it is one");
    let whole = node.place.path().join("composed");
    let composed = files.compose(&path, &reference, &node.held(), &whole);
    assert!(!composed.expect("it can be read") && !whole.exists());
}
