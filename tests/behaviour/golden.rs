//! Every format of snapshot files that was ever written can be read, for ever.

use fsmdb::{Db, Revision};

use crate::tables::{Node, Service, commit, file_of, node, service};

/// Written by builds that knew no other format.
const FORMAT_1: &[u8] = include_bytes!("../data/format-1.snapshot");
const FORMAT_2: &[u8] = include_bytes!("../data/format-2.snapshot");

/// The database of the golden files. Never change it.
fn golden() -> Db {
    let db = Db::builder().table::<Service>().table::<Node>().build().unwrap();
    commit(&db, |txn| {
        txn.insert(service("prod", "web\0\u{1}é")).unwrap();
        txn.insert(service("", "")).unwrap();
        txn.insert(fsmdb_node(1, "one")).unwrap();
        txn.insert(fsmdb_node(u64::MAX, "last")).unwrap();
    });
    commit(&db, |txn| {
        txn.table_mut::<Node>().update(&1, |node| node.name = "uno".into()).unwrap();
        txn.table_mut::<Node>().delete(&u64::MAX);
    });
    db
}

fn fsmdb_node(id: u64, name: &str) -> Node {
    Node { name: name.into(), ..node(id) }
}

fn load(file: &[u8]) -> Db {
    let db = Db::builder().table::<Service>().table::<Node>().load(file).unwrap();
    db.check().unwrap();
    db
}

#[test]
fn the_golden_files_of_every_format_load_as_the_same_state() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "snapshot") {
            let db = load(&std::fs::read(&path).unwrap());
            assert_eq!(file_of(&db), file_of(&golden()), "{}", path.display());
            assert_eq!(db.read().table::<Node>().get(&1).unwrap().created(), Revision(1));
            seen += 1;
        }
    }
    assert!(seen >= 2, "{seen} golden files");
}

#[test]
fn what_is_written_is_the_golden_file_of_the_newest_format() {
    assert!(file_of(&golden()) == FORMAT_2, "a new format needs a new number and a new file");
    assert_eq!(fsmdb::inspect(FORMAT_1).unwrap().format_version, 1);
    assert_eq!(fsmdb::inspect(FORMAT_2).unwrap().format_version, 2);
}

/// Format 1 had no hash and no digests, but all of its checksums.
#[test]
fn damage_in_a_file_of_format_1_is_still_detected() {
    let mut file = FORMAT_1.to_vec();
    for bit in 0..file.len() * 8 {
        file[bit / 8] ^= 1 << (bit % 8);
        let builder = Db::builder().table::<Service>().table::<Node>();
        assert!(builder.load(file.as_slice()).is_err(), "bit {bit}");
        assert!(fsmdb::inspect(file.as_slice()).is_err(), "bit {bit}");
        file[bit / 8] ^= 1 << (bit % 8);
    }
    for length in 0..file.len() {
        assert!(fsmdb::inspect(&file[..length]).is_err(), "cut at {length}");
    }
}

#[test]
#[ignore = "writes the golden file; only for a new format, under a new name"]
fn write_the_golden_file() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/format-2.snapshot");
    std::fs::write(path, file_of(&golden())).unwrap();
}
