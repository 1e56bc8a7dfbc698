//! Erasing a tenant: rows, tombstones, kept versions and kept changes go, and what stays is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fsmdb::{
    Applied, ChangeSetError, Db, Event, Feed, FeedError, Fsm, HistoryError, IntentError, Lagged,
    Machine, Retention, Revision, Snapshot, StartsWith, Table, TableMut, Write, WriteError,
    WriteTxn, testing,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::tables::{commit, file_of};

macro_rules! table {
    ($row:ident, $name:literal, $tombstones:literal) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
        #[table(name = $name, tombstones = $tombstones)]
        #[index(name = "owned", on = (tenant, title))]
        struct $row {
            #[key]
            tenant: String,
            #[key]
            id: u64,
            #[index]
            title: String,
            #[index(multi)]
            tags: BTreeSet<String>,
            #[index(unique)]
            slug: String,
            body: String,
            /// Counts the rows that are alive.
            #[serde(skip)]
            token: Option<Arc<()>>,
        }

        impl $row {
            fn of(tenant: &str, id: u64, token: &Arc<()>) -> Self {
                Self {
                    tenant: tenant.into(),
                    id,
                    title: format!("{tenant} title {}", id % 3),
                    tags: [format!("{tenant} tag"), "shared".to_owned()].into(),
                    slug: format!("{tenant}-{id}"),
                    body: format!("the body of {tenant}"),
                    token: Some(Arc::clone(token)),
                }
            }
        }
    };
}

table!(Note, "notes", 1000);
table!(Plain, "plains", 0);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "tenants", tombstones = 10)]
struct Tenant {
    #[key]
    name: String,
}

const CANARY: &str = "CANARY-7f3a9c51e8d24b06-xyzzy-42";
const OTHER: &str = "other";
const ROWS: u64 = 150;

fn builder() -> fsmdb::Builder {
    Db::builder().table::<Note>().table::<Plain>().table::<Tenant>()
}

fn tenant(name: &str) -> Tenant {
    Tenant { name: name.into() }
}

/// Whether any eight bytes of the canary stand somewhere in `bytes`.
fn has_canary(bytes: &[u8]) -> bool {
    let pieces: BTreeSet<&[u8]> = CANARY.as_bytes().windows(8).collect();
    bytes.windows(8).any(|window| pieces.contains(window))
}

/// All that can be read of a version, tombstones included.
fn bytes_of(snapshot: &Snapshot) -> Vec<u8> {
    let mut bytes = Vec::new();
    snapshot.save(&mut bytes).unwrap();
    let notes = snapshot.table::<Note>();
    let rows = (
        notes.iter().collect::<Vec<_>>(),
        snapshot.table::<Plain>().iter().collect::<Vec<_>>(),
        snapshot.table::<Tenant>().iter().collect::<Vec<_>>(),
        notes.index(Note::BY_TITLE).range("".to_owned()..).collect::<Vec<_>>(),
        notes.index(Note::BY_SLUG).range("".to_owned()..).collect::<Vec<_>>(),
    );
    bytes.extend_from_slice(format!("{rows:?}").as_bytes());
    bytes
}

/// Revisions at which some version can be read that has the canary.
fn canaries_in_versions(db: &Db) -> Vec<u64> {
    let newest = db.revision().0;
    let has = |revision: &u64| {
        db.at(Revision(*revision)).is_ok_and(|snapshot| has_canary(&bytes_of(&snapshot)))
    };
    (0..=newest).filter(has).collect()
}

/// What a feed gives, to its end.
fn drain(feed: &mut Feed) -> (Vec<u8>, Vec<Lagged>) {
    let (mut bytes, mut lags) = (Vec::new(), Vec::new());
    loop {
        match feed.try_next() {
            Ok(None) => return (bytes, lags),
            Err(lagged) => lags.push(lagged),
            Ok(Some(event)) => {
                bytes.extend_from_slice(format!("{event:?}").as_bytes());
                if let Event::Commit(commit) = event {
                    for change in commit.changes() {
                        bytes.extend_from_slice(change.key());
                        let rows = (change.before::<Note>(), change.after::<Note>());
                        bytes.extend_from_slice(format!("{rows:?}").as_bytes());
                    }
                }
            }
        }
    }
}

/// Erases a tenant in every table.
fn erase_all(txn: &mut impl Write, name: &str) -> usize {
    Write::table_mut::<Note>(txn).erase_prefix(&(name,))
        + Write::table_mut::<Plain>(txn).erase_prefix(&(name,))
        + usize::from(Write::table_mut::<Tenant>(txn).erase(name))
}

/// The canary in keys, values and index values, in rows that are there, were replaced, moved and
/// deleted; among the rows of others.
fn fill(db: &Db, token: &Arc<()>) {
    commit(db, |txn| {
        for name in ["aaa", OTHER, CANARY] {
            txn.insert(tenant(name)).unwrap();
            for id in 0..ROWS {
                txn.insert(Note::of(name, id, token)).unwrap();
                txn.insert(Plain::of(name, id, token)).unwrap();
            }
        }
    });
    for id in 0..10 {
        commit(db, |txn| {
            let mut notes = txn.table_mut::<Note>();
            for name in [OTHER, CANARY] {
                notes.update(&(name, id), |note| note.title = format!("{name} moved")).unwrap();
                notes.delete(&(name, ROWS - 1 - id)).unwrap();
            }
        });
    }
}

#[test]
fn no_byte_of_an_erased_tenant_is_in_a_file_in_a_version_or_in_a_feed() {
    let token = Arc::new(());
    let db = builder()
        .keep_versions(Retention::versions(100))
        .keep_changes(1000, usize::MAX)
        .build()
        .unwrap();
    let mut behind = db.changes().open();
    let mut filtered = db.changes_of::<Note>().index_value(Note::BY_TITLE, "nobody").open();
    fill(&db, &token);
    assert!(has_canary(&file_of(&db)), "the search finds it where it is");
    assert_eq!(canaries_in_versions(&db).len(), 11);
    // It has taken more items than it has given.
    assert!(matches!(behind.try_next(), Ok(Some(Event::Commit(_)))));

    let mut txn = db.write();
    assert_eq!(erase_all(&mut txn, CANARY) as u64, 2 * ROWS - 10 + 1);
    let revision = txn.commit();

    db.check().unwrap();
    assert!(!has_canary(&file_of(&db)));
    assert_eq!(canaries_in_versions(&db), [0; 0]);
    let oldest = revision;
    let below = HistoryError::BelowFloor { revision: Revision(3), oldest };
    assert_eq!(db.at(Revision(3)).unwrap_err(), below);
    assert!(db.versions::<Note, _>(&(CANARY, 1)).iter().all(|version| version.row.is_none()));
    // All others are alive, once.
    let others = 2 * 2 * ROWS as usize - 10;
    assert_eq!(Arc::strong_count(&token), 1 + others, "nothing waits for another commit");

    for feed in [&mut behind, &mut filtered] {
        let (bytes, lags) = drain(feed);
        assert!(!has_canary(&bytes));
        assert_eq!(lags.iter().map(|lag| lag.resume_at).collect::<Vec<_>>(), [revision]);
        assert_eq!(feed.revision(), revision);
    }
    let gone = db.changes().since(Revision(2)).map(drop).unwrap_err();
    assert_eq!(gone, FeedError::Gone { revision: Revision(2), floor: revision });
    let waiting = db.waiting();
    assert_eq!((waiting.feed_commits, waiting.feed_bytes), (0, 0));

    let erasure = db.erased().unwrap();
    assert_eq!((erasure.revision, erasure.rows), (revision, 2 * ROWS - 9));
    let tables: Vec<_> = erasure.tables.iter().map(|table| (&*table.name, table.rows)).collect();
    assert_eq!(tables, [("notes", ROWS - 10), ("plains", ROWS), ("tenants", 1)]);
    assert_eq!(erasure.pinned_until, None);

    // What comes after it is told and kept as ever.
    commit(&db, |txn| drop(txn.insert(tenant("new")).unwrap()));
    assert!(matches!(behind.try_next(), Ok(Some(Event::Commit(_)))));
    assert!(db.at(revision).is_ok());
    let copy = builder().load(file_of(&db).as_slice()).unwrap();
    copy.check().unwrap();
}

#[test]
fn an_open_snapshot_pins_what_was_erased_and_the_report_says_until_when() {
    let token = Arc::new(());
    let db = builder().build().unwrap();
    let put = |id| commit(&db, |txn| drop(txn.insert(Note::of(CANARY, id, &token)).unwrap()));
    put(1);
    let first = db.read();
    put(2);
    let second = db.read();
    put(3);
    let erasure = db.erase::<Note, _>(&(CANARY,)).unwrap();
    assert_eq!((erasure.revision, erasure.rows), (Revision(4), 3));
    assert_eq!(erasure.pinned_until, Some(Revision(2)));
    // The row that no snapshot has is gone, the others are not.
    assert_eq!(Arc::strong_count(&token), 3);
    let later = db.read();
    commit(&db, |txn| drop(txn.insert(tenant(OTHER)).unwrap()));

    let fork = second.fork();
    drop(second);
    assert_eq!(db.pinned_until(erasure.revision), Some(Revision(2)), "the fork holds it");
    drop(fork);
    assert_eq!(db.erased().unwrap().pinned_until, Some(Revision(1)));
    assert_eq!(Arc::strong_count(&token), 2, "asking frees what can be freed");
    assert_eq!(first.table::<Note>().len(), 1);
    drop(first);
    assert_eq!(db.pinned_until(erasure.revision), None, "a later snapshot pins nothing");
    assert_eq!(Arc::strong_count(&token), 1);
    assert_eq!(db.erased().unwrap().pinned_until, None);
    drop(later);
}

#[test]
fn a_view_of_the_erasing_transaction_pins_and_hides_no_other_pin() {
    let token = Arc::new(());
    let db = builder().build().unwrap();
    commit(&db, |txn| drop(txn.insert(Note::of(CANARY, 1, &token)).unwrap()));
    let before = db.read();
    let mut txn = db.write();
    let view = txn.snapshot();
    drop(txn.snapshot());
    assert_eq!(txn.table_mut::<Note>().erase_prefix(&(CANARY,)), 1);
    let erased = txn.snapshot();
    let revision = txn.commit();
    assert!(!has_canary(&bytes_of(&erased)), "a view from after it has nothing");
    let versions = db.memory().versions;
    assert_eq!(versions.iter().filter(|version| version.revision == Revision(1)).count(), 3);
    drop(erased);
    drop(view);
    assert_eq!(db.pinned_until(revision), Some(Revision(1)), "the snapshot from before is seen");
    drop(before);
    assert_eq!(db.pinned_until(revision), None);
    assert_eq!(Arc::strong_count(&token), 1);

    let mut txn = db.write();
    txn.insert(Note::of(CANARY, 1, &token)).unwrap();
    let view = txn.snapshot();
    txn.table_mut::<Note>().erase_prefix(&(CANARY,));
    let revision = txn.commit();
    assert_eq!(db.pinned_until(revision), Some(Revision(2)));
    drop(view);
    assert_eq!(db.pinned_until(revision), None);
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn an_erasure_that_finds_no_row_still_takes_what_was_kept_of_them() {
    let token = Arc::new(());
    let db = builder().keep_versions(Retention::versions(100)).build().unwrap();
    let mut feed = db.changes().open();
    commit(&db, |txn| drop(txn.insert(Note::of(CANARY, 1, &token)).unwrap()));
    commit(&db, |txn| drop(txn.insert(Note::of(OTHER, 1, &token)).unwrap()));
    commit(&db, |txn| drop(txn.table_mut::<Note>().delete(&(CANARY, 1)).unwrap()));
    commit(&db, |txn| drop(txn.table_mut::<Note>().delete(&(OTHER, 1)).unwrap()));
    assert!(has_canary(&file_of(&db)), "a tombstone has the key");

    let erasure = db.erase::<Note, _>(&(CANARY,)).unwrap();
    assert_eq!((erasure.revision, erasure.rows, erasure.tables.len()), (Revision(5), 0, 1));
    assert!(!has_canary(&file_of(&db)));
    assert_eq!(canaries_in_versions(&db), [0; 0]);
    assert!(!has_canary(&drain(&mut feed).0));
    assert_eq!(Arc::strong_count(&token), 1);
    db.check().unwrap();
    // Nothing was taken out of the table now, so no revision is that of the erasure.
    let snap = db.read();
    let notes = snap.table::<Note>();
    assert_eq!(notes.modified(), Revision(4));
    assert_eq!(notes.modified_under(&(CANARY,)), Revision(3));
    assert_eq!(notes.modified_under(&(OTHER,)), Revision(4), "its tombstone is younger, and kept");
    assert_eq!(notes.index(Note::BY_SLUG).modified_of("nobody"), Revision(4));
}

#[test]
fn what_a_transaction_deletes_and_erases_leaves_no_tombstone_and_revisions_not_too_low() {
    let token = Arc::new(());
    let db = builder().build().unwrap();
    commit(&db, |txn| {
        for name in [OTHER, CANARY] {
            (0..4).for_each(|id| drop(txn.insert(Note::of(name, id, &token)).unwrap()));
        }
    });
    commit(&db, |txn| {
        let mut notes = txn.table_mut::<Note>();
        notes.delete(&(CANARY, 0)).unwrap();
        assert_eq!(notes.erase_prefix(&(CANARY,)), 3);
        assert_eq!(notes.read().modified_under(&(CANARY,)), Revision(2));
        // And again by the same name, within the transaction and beyond it.
        notes.insert(Note::of(CANARY, 7, &token)).unwrap();
        notes.delete(&(CANARY, 7)).unwrap();
        notes.delete(&(OTHER, 0)).unwrap();
    });
    assert!(!has_canary(&file_of(&db)));
    let snap = db.read();
    let notes = snap.table::<Note>();
    for under in [CANARY, OTHER, "nobody"] {
        assert_eq!(notes.modified_under(&(under,)), Revision(2));
        assert_eq!(notes.index(Note::BY_SLUG).modified_of(under), Revision(2));
    }
    db.check().unwrap();
    // From here on tombstones are exact again.
    commit(&db, |txn| drop(txn.table_mut::<Note>().delete(&(OTHER, 1)).unwrap()));
    let snap = db.read();
    assert_eq!(snap.table::<Note>().modified_under(&(OTHER,)), Revision(3));
    assert_eq!(snap.table::<Note>().modified_under(&("nobody",)), Revision(2));
}

#[test]
fn rows_that_come_and_are_erased_within_a_transaction_were_never_there() {
    let token = Arc::new(());
    let db = builder().build().unwrap();
    commit(&db, |txn| drop(txn.insert(Note::of(OTHER, 1, &token)).unwrap()));
    commit(&db, |txn| {
        txn.insert(Note::of(CANARY, 1, &token)).unwrap();
        assert_eq!(txn.table_mut::<Note>().erase_prefix(&(CANARY,)), 1);
    });
    db.check().unwrap();
    let snap = db.read();
    assert_eq!(snap.table::<Note>().modified(), Revision(1));
    assert_eq!(snap.table::<Note>().modified_under(&(CANARY,)), Revision(0));
    assert!(!has_canary(&file_of(&db)));
    assert_eq!(Arc::strong_count(&token), 2);
}

#[test]
fn going_back_to_a_savepoint_undoes_an_erasure_and_all_that_it_would_do() {
    let token = Arc::new(());
    let db = builder().keep_versions(Retention::versions(100)).build().unwrap();
    let mut feed = db.changes().open();
    fill(&db, &token);
    let (file, alive) = (file_of(&db), Arc::strong_count(&token));
    drain(&mut feed);

    let mut txn = db.write();
    let savepoint = txn.savepoint();
    erase_all(&mut txn, CANARY);
    txn.rollback_to(&savepoint);
    assert!(!txn.is_changed());
    let revision = txn.commit();
    db.check().unwrap();
    // The same rows and tombstones: the files differ in their revision alone.
    let copy = builder().load(file.as_slice()).unwrap();
    commit(&copy, |_| {});
    assert_eq!(file_of(&db), file_of(&copy));
    assert_eq!(canaries_in_versions(&db).len(), 12);
    assert_eq!(drain(&mut feed).1, []);
    assert_eq!(Arc::strong_count(&token), alive);
    assert_eq!(db.erased(), None);

    // Dropped, and undone whole.
    let mut txn = db.write();
    erase_all(&mut txn, CANARY);
    drop(txn);
    let mut txn = db.write();
    erase_all(&mut txn, CANARY);
    txn.rollback_all();
    txn.insert(tenant("new")).unwrap();
    txn.commit();
    assert!(db.at(revision).is_ok());
    assert_eq!(drain(&mut feed).1, []);

    // Back and forth: the last word counts.
    let mut txn = db.write();
    let before = txn.savepoint();
    erase_all(&mut txn, CANARY);
    let after = txn.savepoint();
    txn.rollback_to(&before);
    txn.rollback_to(&after);
    let revision = txn.commit();
    assert_eq!(db.erased().unwrap().revision, revision);
    assert!(!has_canary(&file_of(&db)));
    assert_eq!(drain(&mut feed).1.len(), 1);
}

#[test]
fn a_feed_that_lags_behind_an_erasure_catches_up_by_the_difference() {
    let token = Arc::new(());
    let db = builder().build().unwrap();
    let (mut seen, mut feed) = db.changes().follow();
    let write = |name: &str| commit(&db, |txn| drop(txn.insert(tenant(name)).unwrap()));
    write(OTHER);
    commit(&db, |txn| drop(txn.insert(Note::of(CANARY, 1, &token)).unwrap()));
    assert!(matches!(feed.try_next(), Ok(Some(Event::Commit(_)))));
    db.erase::<Note, _>(&(CANARY,)).unwrap();
    let mut late = db.changes().open();
    write("new");

    let lagged = feed.try_next().unwrap_err();
    assert_eq!(lagged.resume_at, Revision(3));
    let current = feed.catch_up();
    assert_eq!(current.diff_all(&seen).count(), 2, "two tenants, and no note");
    seen = current;
    assert!(matches!(feed.try_next(), Ok(None)));
    // One that was opened after it has missed nothing.
    assert!(matches!(late.try_next(), Ok(Some(Event::Commit(commit))) if commit.revision().0 == 4));

    // One that sleeps is woken.
    let waiting = std::thread::spawn(move || feed.next_within(Duration::from_secs(60)));
    while db.waiting().feeds < 2 {
        std::thread::yield_now();
    }
    db.erase::<Note, _>(&(CANARY,)).unwrap();
    assert_eq!(waiting.join().unwrap().unwrap_err().resume_at, Revision(5));
    assert_eq!(seen.revision(), Revision(4));
}

#[test]
fn an_item_that_a_feed_has_taken_and_not_given_holds_no_row_after_an_erasure() {
    let token = Arc::new(());
    let db = builder().build().unwrap();
    let mut feed = db.changes().open();
    for id in 0..20 {
        commit(&db, |txn| drop(txn.insert(Note::of(CANARY, id, &token)).unwrap()));
    }
    let given = feed.try_next().unwrap();
    db.erase::<Note, _>(&(CANARY,)).unwrap();
    // The item that was given is its holder's.
    assert_eq!(Arc::strong_count(&token), 2);
    drop(given);
    assert_eq!(Arc::strong_count(&token), 1);
    assert!(feed.try_next().is_err());
}

#[test]
fn a_watch_of_what_was_erased_ends_and_others_go_on() {
    let token = Arc::new(());
    let db = builder().build().unwrap();
    fill(&db, &token);
    let (_, hit) = db.read().watch(|read| read.table::<Note>().prefix(&(CANARY,)).count());
    let (_, value) =
        db.read().watch(|read| read.table::<Note>().index(Note::BY_TAGS).get("shared").count());
    let (_, other) = db.read().watch(|read| read.table::<Note>().prefix(&(OTHER,)).count());
    let (_, under) = db.read().watch(|read| read.table::<Note>().modified_under(&(CANARY,)));
    db.erase::<Note, _>(&(CANARY,)).unwrap();
    assert!(hit.ended().is_some() && value.ended().is_some() && under.ended().is_some());
    assert!(other.ended().is_none());
}

#[test]
fn an_exact_key_is_erased_alone() {
    let db = builder().build().unwrap();
    commit(&db, |txn| {
        ["a", "ab", "abc"].into_iter().for_each(|name| drop(txn.insert(tenant(name)).unwrap()));
    });
    commit(&db, |txn| drop(txn.table_mut::<Tenant>().delete("abc").unwrap()));
    commit(&db, |txn| {
        let mut tenants: TableMut<'_, Tenant, _> = txn.table_mut();
        assert!(tenants.erase("a"));
        assert!(!tenants.erase("a"));
    });
    assert_eq!(db.read().table::<Tenant>().first().unwrap().name, "ab");
    assert_eq!(db.erased().unwrap().rows, 1);
    // All under a prefix that is named as one.
    let erasure = db.erase::<Tenant, _>(&StartsWith("a")).unwrap();
    assert_eq!((erasure.rows, db.read().table::<Tenant>().len()), (1, 0));
    db.check().unwrap();
}

#[test]
fn a_fork_tries_an_erasure_out_and_does_not_hand_it_on() {
    let token = Arc::new(());
    let db = builder().build().unwrap();
    fill(&db, &token);
    let mut fork = db.read().fork();
    let before = fork.savepoint();
    let rows = erase_all(&mut fork, CANARY);
    assert_eq!(fork.changes().len(), rows);
    fork.check().unwrap();
    let refused = fork.change_set().unwrap_err();
    assert!(matches!(&refused, ChangeSetError::Erases { .. }), "{refused}");
    assert!(refused.to_string().contains("rows were erased"));

    // Neither does one that was taken off it, or moved.
    let child = fork.fork();
    assert!(matches!(child.change_set(), Err(ChangeSetError::Erases { .. })));
    commit(&db, |txn| drop(txn.insert(Note::of(CANARY, 9999, &token)).unwrap()));
    let moved = fork.rebase(&db.read()).unwrap();
    assert_eq!(moved.table::<Note>().prefix(&(CANARY,)).count(), 1, "it came meanwhile");
    assert!(matches!(moved.change_set(), Err(ChangeSetError::Erases { .. })));
    moved.check().unwrap();
    fork.rollback_to(&before);
    assert_eq!(fork.change_set().unwrap().len(), 0);
    assert_eq!(db.erased(), None);

    let mut txn = db.optimistic();
    erase_all(&mut txn, CANARY);
    let refused = txn.into_intent().unwrap_err();
    assert!(matches!(&refused, IntentError::Refused { is_conflict: false, .. }), "{refused}");
}

#[test]
fn an_optimistic_transaction_erases_when_it_commits_and_sees_who_came_between() {
    let token = Arc::new(());
    let db = builder().keep_versions(Retention::versions(100)).build().unwrap();
    fill(&db, &token);
    let others = Arc::strong_count(&token);
    let mut late = db.optimistic();
    erase_all(&mut late, CANARY);
    commit(&db, |txn| drop(txn.insert(Note::of(CANARY, 9999, &token)).unwrap()));
    assert!(db.commit(late).unwrap_err().is_conflict(), "a row came under the prefix");

    let mut txn = db.optimistic();
    let rows = erase_all(&mut txn, CANARY);
    txn.insert(Note::of("new", 1, &token)).unwrap();
    let revision = db.commit(txn).unwrap();
    db.check().unwrap();
    assert!(!has_canary(&file_of(&db)));
    assert_eq!(canaries_in_versions(&db), [0; 0]);
    let erasure = db.erased().unwrap();
    assert_eq!((erasure.revision, erasure.rows), (revision, rows as u64));
    assert_eq!(erasure.pinned_until, None);
    assert!(Arc::strong_count(&token) < others - 2 * ROWS as usize + 30);

    // Also when there is nothing to write.
    let mut txn = db.optimistic();
    assert_eq!(erase_all(&mut txn, CANARY), 0);
    assert!(db.commit(txn).unwrap() > revision);
    assert!(db.at(revision).is_err());
}

#[test]
fn a_database_that_a_machine_owns_is_erased_by_its_log_alone() {
    let machine = machine();
    let refused = machine.db().erase::<Note, _>(&(CANARY,)).unwrap_err();
    assert!(matches!(refused, WriteError::OwnedByMachine));
    assert_eq!(machine.db().erased(), None);
}

#[test]
fn a_restore_forgets_the_report() {
    let token = Arc::new(());
    let db = builder().build().unwrap();
    fill(&db, &token);
    let file = file_of(&db);
    db.erase::<Note, _>(&(CANARY,)).unwrap();
    db.restore(file.as_slice()).unwrap();
    assert_eq!(db.erased(), None);
    assert!(has_canary(&file_of(&db)), "the file was not erased");
}

/// A state machine over a few tenants.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Command {
    Put {
        tenant: u8,
        id: u8,
        shape: u8,
    },
    Delete {
        tenant: u8,
        id: u8,
    },
    Erase {
        tenant: u8,
        is_refused: bool,
    },
    /// Erases, and puts and deletes rows around that.
    Mixed {
        erased: u8,
        other: u8,
        id: u8,
    },
}

struct Tenants;

fn name(tenant: u8) -> String {
    format!("tenant {tenant}")
}

fn note(tenant: u8, id: u8, shape: u8) -> Note {
    let name = name(tenant);
    Note {
        title: format!("title {}", shape % 4),
        tags: (0..shape % 3).map(|tag| format!("tag {tag}")).collect(),
        slug: format!("{name}-{id}-{shape}"),
        body: format!("{shape}"),
        token: None,
        ..Note::of(&name, id.into(), &Arc::new(()))
    }
}

fn run(notes: &mut TableMut<'_, Note, WriteTxn<'_>>, command: &Command, erases: bool) -> usize {
    let clear = |notes: &mut TableMut<'_, Note, WriteTxn<'_>>, tenant: u8| {
        let name = name(tenant);
        let prefix = (name.as_str(),);
        if erases { notes.erase_prefix(&prefix) } else { notes.delete_prefix(&prefix) }
    };
    match *command {
        Command::Put { tenant, id, shape } => {
            usize::from(notes.upsert(note(tenant, id, shape)).unwrap().is_some())
        }
        Command::Delete { tenant, id } => {
            usize::from(notes.delete(&(name(tenant), u64::from(id))).is_some())
        }
        Command::Erase { tenant, .. } => clear(notes, tenant),
        Command::Mixed { erased, other, id } => {
            notes.delete(&(name(erased), u64::from(id)));
            notes.upsert(note(other, id, 9)).unwrap();
            let rows = clear(notes, erased);
            notes.upsert(note(erased, id, 2)).unwrap();
            notes.delete(&(name(other), u64::from(id) + 1));
            rows
        }
    }
}

impl Fsm for Tenants {
    type Command = Command;
    type Reply = Result<usize, String>;

    fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, command: Command) -> Self::Reply {
        let rows = run(&mut txn.table_mut(), &command, true);
        match command {
            Command::Erase { is_refused: true, .. } => Err("refused".into()),
            _ => Ok(rows),
        }
    }
}

fn machine() -> Machine<Tenants> {
    let db = builder().keep_versions(Retention::versions(5)).build().unwrap();
    Machine::new(db, Tenants).unwrap()
}

fn any_command() -> impl Strategy<Value = Command> {
    let (tenant, id) = (0..3_u8, 0..5_u8);
    prop_oneof![
        6 => (tenant.clone(), id.clone(), any::<u8>())
            .prop_map(|(tenant, id, shape)| Command::Put { tenant, id, shape }),
        3 => (tenant.clone(), id.clone()).prop_map(|(tenant, id)| Command::Delete { tenant, id }),
        1 => (tenant.clone(), any::<bool>())
            .prop_map(|(tenant, is_refused)| Command::Erase { tenant, is_refused }),
        1 => (tenant.clone(), tenant.clone(), id)
            .prop_map(|(erased, other, id)| Command::Mixed { erased, other, id }),
    ]
}

/// What the table says of revisions.
fn revisions(snapshot: &Snapshot) -> BTreeMap<String, Revision> {
    let notes = snapshot.table::<Note>();
    let mut revisions = BTreeMap::from([("all".to_owned(), notes.modified_in(..))]);
    for tenant in 0..3 {
        let name = name(tenant);
        let under = notes.modified_under(&(name.as_str(),));
        revisions.insert(format!("under {name}"), under);
        for id in 0..6_u64 {
            let of = notes.modified_of(&(name.as_str(), id));
            revisions.insert(format!("of {name} {id}"), of);
        }
    }
    for value in 0..4 {
        let title = format!("title {value}");
        let titled = notes.index(Note::BY_TITLE).modified_of(title.as_str());
        let tagged = notes.index(Note::BY_TAGS).modified_of(format!("tag {value}").as_str());
        revisions.insert(title, titled);
        revisions.insert(format!("tag {value}"), tagged);
    }
    revisions
}

/// Rows and the order of indexes, without revisions.
fn content(snapshot: &Snapshot) -> String {
    let notes = snapshot.table::<Note>();
    let rows: Vec<_> = notes.iter().map(|row| (row.created(), row.modified(), row)).collect();
    let titled: Vec<_> = notes.index(Note::BY_TITLE).range("".to_owned()..).collect();
    let tagged: Vec<_> = notes.index(Note::BY_TAGS).range("".to_owned()..).collect();
    format!("{rows:?} {titled:?} {tagged:?}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn an_erasure_leaves_the_rows_of_a_delete_and_revisions_that_are_not_lower(
        commands in prop::collection::vec(any_command(), 1..40),
    ) {
        let (erasing, deleting) = (builder().build().unwrap(), builder().build().unwrap());
        let mut last = revisions(&erasing.read());
        for command in &commands {
            for (db, erases) in [(&erasing, true), (&deleting, false)] {
                commit(db, |txn| {
                    run(&mut txn.table_mut(), command, erases);
                });
            }
            erasing.check().unwrap();
            let (erased, deleted) = (erasing.read(), deleting.read());
            prop_assert_eq!(content(&erased), content(&deleted));
            prop_assert_eq!(erased.table::<Note>().modified(), deleted.table::<Note>().modified());
            let (answers, exact) = (revisions(&erased), revisions(&deleted));
            for (place, exact) in &exact {
                prop_assert!(answers[place] >= *exact, "{} {:?} {}", place, answers[place], exact);
                prop_assert!(answers[place] >= last[place], "{} falls", place);
                prop_assert!(answers[place] <= erased.table::<Note>().modified());
            }
            if let Command::Erase { tenant, .. } = command {
                let name = name(*tenant);
                let file = file_of(&erasing);
                prop_assert!(!file.windows(name.len()).any(|bytes| bytes == name.as_bytes()));
            }
            let copy = builder().load(file_of(&erasing).as_slice()).unwrap();
            prop_assert_eq!(revisions(&copy.read()), answers.clone());
            last = answers;
        }
    }

    #[test]
    fn replicas_that_erase_have_the_same_files(
        commands in prop::collection::vec(any_command(), 1..40),
    ) {
        let checked = testing::check(machine, &commands);
        prop_assert!(checked.is_ok(), "{:?}", checked);
    }
}
