//! Counts, ranks, pages, longest prefixes, many keys at once; and that reads allocate nothing.

use std::ops::Bound;

use fsmdb::{Db, Table};
use serde::{Deserialize, Serialize};

use crate::allocations::largest_during;
use crate::tables::commit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "mounts")]
struct Mount {
    #[key]
    path: String,
    #[index]
    kind: u32,
    #[index(unique)]
    device: String,
}

fn mount(path: &str, kind: u32) -> Mount {
    Mount { path: path.into(), kind, device: format!("dev:{path}") }
}

fn with(paths: &[&str]) -> Db {
    let db = Db::builder().table::<Mount>().build().unwrap();
    commit(&db, |txn| {
        for (n, path) in paths.iter().enumerate() {
            txn.insert(mount(path, n as u32 % 3)).unwrap();
        }
    });
    db
}

const PATHS: [&str; 9] =
    ["", "/", "/var", "/var/lib", "/var/lib/db", "/v", "/var\u{1}", "/var\u{0}x", "/z\u{0}\u{1}"];

#[test]
fn the_longest_stored_start_of_a_string_is_found() {
    let db = with(&PATHS);
    let snap = db.read();
    let mounts = snap.table::<Mount>();
    let more =
        ["/var/lib/app", "/var\u{0}", "/var\u{0}xyz", "/var\u{1}\u{1}", "x", "/z\u{0}", "/z"];
    for wanted in PATHS.iter().chain(&more) {
        let expected =
            PATHS.iter().filter(|path| wanted.starts_with(*path)).max_by_key(|p| p.len());
        let found = mounts.longest_prefix(*wanted).map(|row| row.path.as_str());
        assert_eq!(found, expected.copied(), "{wanted:?}");
        let device = format!("dev:{wanted}");
        let by_device = mounts.index(Mount::BY_DEVICE).longest_prefix(&device);
        assert_eq!(by_device.map(|row| row.path.as_str()), expected.copied(), "{device:?}");
    }
    let db = with(&["/var/lib", "/usr"]);
    assert!(db.read().table::<Mount>().longest_prefix("/var").is_none());
    assert!(with(&[]).read().table::<Mount>().longest_prefix("/var").is_none());
}

#[test]
fn counts_ranks_and_pages_agree_with_iteration() {
    let paths: Vec<_> = (0..500).map(|n| format!("/{:03}", n * 7 % 500)).collect();
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    let db = with(&paths);
    let snap = db.read();
    let mounts = snap.table::<Mount>();
    let kinds = mounts.index(Mount::BY_KIND);
    for (low, high) in [("/000", "/500"), ("/013", "/014"), ("/2", "/3"), ("/9", "/1"), ("", "z")] {
        let all: Vec<_> = mounts.range(low..high).collect();
        assert_eq!(mounts.count(low..high), all.len());
        for index in [0, 1, all.len() / 2, all.len().saturating_sub(1), all.len()] {
            assert_eq!(mounts.nth(low..high, index), all.get(index).copied());
        }
        assert_eq!(mounts.rank(low), mounts.range(..low).count());
    }
    assert_eq!(mounts.count(..), 500);
    assert_eq!(mounts.nth(.., 499), mounts.last());
    let above = (Bound::Excluded("/250"), Bound::Unbounded);
    assert_eq!(mounts.count(above), mounts.range(above).count());
    for kind in 0..4 {
        assert_eq!(kinds.count(kind..=kind), kinds.get(&kind).count());
        assert_eq!(kinds.rank(&kind), kinds.range(..kind).count());
        assert_eq!(kinds.nth(kind..=kind, 2), kinds.get(&kind).nth(2));
    }
}

#[test]
fn slices_steps_and_counts_of_a_range_agree_from_both_ends() {
    let paths: Vec<String> = (0..3_000).map(|n| format!("/{:04}", n * 7 % 3_000)).collect();
    let db = with(&paths.iter().map(String::as_str).collect::<Vec<_>>());
    let snap = db.read();
    let mounts = snap.table::<Mount>();
    for (low, high) in [(0, 3_000), (0, 1), (10, 10), (5, 60), (17, 2_900), (2_990, 3_000)] {
        let bounds = format!("/{low:04}")..format!("/{high:04}");
        let rows = || mounts.range(bounds.clone());
        let expected: Vec<String> = (low..high).map(|n| format!("/{n:04}")).collect();

        let mut slices = Vec::new();
        let mut rest = rows();
        // Steps from both ends before the slices: they give what is left.
        let (first, last) = (rest.next(), rest.next_back());
        slices.extend(first.map(|row| row.path.clone()));
        while let Some(slice) = rest.next_slice() {
            assert!(!slice.is_empty());
            slices.extend(slice.iter().map(|row| row.path.clone()));
        }
        slices.extend(last.map(|row| row.path.clone()));
        assert!(rest.next().is_none() && rest.next_slice().is_none());
        assert_eq!(slices, expected);

        let mut back: Vec<_> = rows().rev().map(|row| row.path.clone()).collect();
        back.reverse();
        assert_eq!(back, expected);
        assert_eq!(rows().count(), expected.len());
        // Folding what is left takes another way than stepping.
        let mut rest = rows();
        let (first, last) = (rest.next(), rest.next_back());
        let mut folded = rest.fold(Vec::from_iter(first), |mut rows, row| {
            rows.push(row);
            rows
        });
        folded.extend(last);
        let folded: Vec<_> = folded.into_iter().map(|row| row.path.clone()).collect();
        assert_eq!(folded, expected);
        assert_eq!(rows().rev().count(), expected.len());

        // Alternating between the ends, so that each fetches ahead across the other's leaves.
        let (mut from_front, mut from_back, mut both) = (Vec::new(), Vec::new(), rows());
        while let Some(row) = both.next() {
            from_front.push(row.path.clone());
            from_back.extend(both.next_back().map(|row| row.path.clone()));
        }
        from_front.extend(from_back.into_iter().rev());
        assert_eq!(from_front, expected);
    }
}

#[test]
fn many_keys_are_looked_up_each_in_its_place() {
    let db = with(&PATHS);
    let snap = db.read();
    let mounts = snap.table::<Mount>();
    let keys: Vec<_> = (0..40).map(|n| PATHS[n * 5 % 9]).chain(["absent", "/var/"]).collect();
    let found = mounts.get_many(&keys);
    assert_eq!(found.len(), keys.len());
    for (key, found) in keys.iter().zip(found) {
        assert_eq!(found, mounts.get(*key), "{key}");
    }
    let devices: Vec<_> = keys.iter().map(|key| format!("dev:{key}")).collect();
    let index = mounts.index(Mount::BY_DEVICE);
    for (device, found) in devices.iter().zip(index.get_many(&devices)) {
        assert_eq!(found, index.get(device));
    }
    assert!(mounts.get_many::<&str>(&[]).is_empty());
}

#[test]
fn point_range_prefix_and_index_reads_allocate_nothing() {
    let paths: Vec<_> = (0..2000).map(|n| format!("/{n:04}")).collect();
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    let db = with(&paths);
    let (found, largest) = largest_during(|| {
        let snap = db.read();
        let mounts = snap.table::<Mount>();
        let point = usize::from(mounts.get("/0777").is_some()) + usize::from(mounts.contains("x"));
        let range = mounts.range("/0100".."/1900").rev().count();
        let prefix = mounts.prefix(&fsmdb::StartsWith("/01")).count();
        let index = mounts.index(Mount::BY_KIND).get(&1).map(|row| row.path.len()).sum::<usize>();
        let ranks = mounts.rank("/1000") + mounts.count(..) + mounts.iter().count();
        let longest = mounts.longest_prefix("/0123/x").map_or(0, |row| row.path.len());
        let unique = mounts.index(Mount::BY_DEVICE).get("dev:/0001").map_or(0, |_| 1);
        point + range + prefix + index + ranks + longest + unique
    });
    assert!(found > 0);
    assert_eq!(largest, 0, "a read allocated");
}

#[test]
fn insert_all_is_all_or_nothing_and_equals_single_inserts() {
    let rows: Vec<_> = (0..3000).map(|n| mount(&format!("/{:04}", n * 7 % 3000), n % 5)).collect();
    let one_by_one = Db::builder().table::<Mount>().build().unwrap();
    commit(&one_by_one, |txn| rows.iter().cloned().for_each(|row| drop(txn.insert(row).unwrap())));
    let at_once = Db::builder().table::<Mount>().build().unwrap();
    commit(&at_once, |txn| {
        let mut table = txn.table_mut::<Mount>();
        assert_eq!(table.insert_all(rows[..2900].iter().cloned()).unwrap(), 2900);
        assert_eq!(table.insert_all(rows[2900..].iter().cloned()).unwrap(), 100);
        assert_eq!(txn.changes().len(), 3000);
    });
    at_once.check().unwrap();
    let bytes = |db: &Db| {
        let mut file = Vec::new();
        db.read().save(&mut file).unwrap();
        file
    };
    assert_eq!(bytes(&at_once), bytes(&one_by_one));
}

#[test]
fn insert_all_refuses_what_insert_refuses_and_changes_nothing() {
    for filled in [0_usize, 2] {
        let db = with(&["/a", "/b"][..filled]);
        let mut txn = db.write();
        let twice = vec![mount("/c", 0), mount("/d", 0), mount("/c", 1)];
        assert!(txn.table_mut::<Mount>().insert_all(twice).unwrap_err().is_conflict());
        let taken = vec![mount("/c", 0), Mount { device: "dev:/c".into(), ..mount("/d", 0) }];
        assert!(txn.table_mut::<Mount>().insert_all(taken).unwrap_err().is_conflict());
        let long = vec![mount("/c", 0), mount(&"x".repeat(5000), 0)];
        txn.table_mut::<Mount>().insert_all(long).unwrap_err();
        assert!(!txn.is_changed());
        assert_eq!(txn.table::<Mount>().len(), filled);
        txn.snapshot().check().unwrap();
        assert_eq!(txn.table_mut::<Mount>().insert_all([mount("/z", 1)]).unwrap(), 1);
        txn.commit();
        db.check().unwrap();
    }
}

#[test]
fn the_net_changes_of_a_table_filled_at_once_are_exact() {
    let db = with(&["/a", "/b"]);
    let mut txn = db.write();
    let mut table = txn.table_mut::<Mount>();
    table.delete_all(..);
    table.insert_all([mount("/b", 7), mount("/c", 0), mount("/d", 0)]).unwrap();
    table.delete(&"/c".to_owned()).unwrap();
    table.update(&"/d".to_owned(), |row| row.kind = 9).unwrap();
    let changes: Vec<_> = txn
        .changes()
        .iter()
        .map(|change| {
            let kinds = [change.before::<Mount>(), change.after::<Mount>()];
            (change.printed_key(), kinds.map(|row| row.map(|row| row.kind)))
        })
        .collect();
    let expected = [
        ("\"/a\"".to_owned(), [Some(0), None]),
        ("\"/b\"".to_owned(), [Some(1), Some(7)]),
        ("\"/d\"".to_owned(), [None, Some(9)]),
    ];
    assert_eq!(changes, expected);
}

#[test]
fn inserting_nothing_is_no_change() {
    let db = with(&[]);
    let mut txn = db.write();
    assert_eq!(txn.table_mut::<Mount>().insert_all([]).unwrap(), 0);
    assert!(!txn.is_changed());
    txn.commit();
    assert_eq!(db.read().table::<Mount>().modified(), fsmdb::Revision(0));
}
