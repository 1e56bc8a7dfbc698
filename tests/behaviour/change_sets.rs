//! Change sets: what a fork changed, applied elsewhere with the same result, or refused whole.

use std::collections::BTreeMap;

use fsmdb::limits::{CHANGE_SET_BYTES_MAX, CHANGES_MAX, COMMAND_BYTES_MAX};
use fsmdb::{Applied, ChangeSet, ChangeSetError, Db, Error, Fork, Fsm, Machine, Table, WriteTxn};
use serde::{Deserialize, Serialize};

use crate::allocations::largest_during;
use crate::tables::{
    Job, Node, Service, commit, empty, file_of, job, load, node, service, with_jobs,
};

/// What a change set looks like to those who forge one. Bytes are lists of numbers here, which is
/// how formats without bytes write them.
#[derive(Clone, Serialize)]
struct Forged {
    origin: u64,
    tables: Vec<String>,
    changes: Vec<(u16, Vec<u8>, u8, Vec<u8>)>,
}

const DELETE: u8 = 0;
const REPLACE: u8 = 1;

fn json<T: Serialize>(value: &T) -> Result<ChangeSet, String> {
    let text = serde_json::to_string(value).unwrap();
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

fn row_bytes(table: &str, fork: &Fork) -> Vec<(u16, Vec<u8>, u8, Vec<u8>)> {
    let value = serde_json::to_value(fork.change_set().unwrap()).unwrap();
    let tables: Vec<String> = serde_json::from_value(value["tables"].clone()).unwrap();
    let changes: Vec<(u16, Vec<u8>, u8, Vec<u8>)> =
        serde_json::from_value(value["changes"].clone()).unwrap();
    changes.into_iter().filter(|change| tables[usize::from(change.0)] == table).collect()
}

fn planned(db: &Db) -> Fork {
    let mut fork = db.read().fork();
    fork.table_mut::<Job>().delete_all(5..8);
    fork.upsert(Job { priority: 4, ..job(1) }).unwrap();
    fork.insert(job(50)).unwrap();
    fork.table_mut::<Job>().delete(&2);
    fork.insert(Job { priority: 1, ..job(2) }).unwrap();
    fork.insert(node(7)).unwrap();
    fork.insert(service("a", "b")).unwrap();
    fork
}

#[test]
fn a_change_set_makes_of_the_origin_what_the_fork_is() {
    let db = with_jobs((0..20).map(job));
    let copy = load(&file_of(&db)).unwrap();
    let fork = planned(&db);
    let set = fork.change_set().unwrap();
    assert_eq!((set.len(), set.is_empty(), set.origin().0), (8, false, 1));

    let bytes = set.encode();
    assert_eq!(ChangeSet::decode(&bytes).unwrap(), set);
    assert_eq!(json(&set).unwrap(), set);
    commit(&copy, |txn| ChangeSet::decode(&bytes).unwrap().apply(txn).unwrap());
    copy.check().unwrap();

    // The same statements in a transaction give the same file, revisions included.
    commit(&db, |txn| {
        txn.table_mut::<Job>().delete_all(5..8);
        txn.upsert(Job { priority: 4, ..job(1) }).unwrap();
        txn.insert(job(50)).unwrap();
        txn.table_mut::<Job>().delete(&2);
        txn.insert(Job { priority: 1, ..job(2) }).unwrap();
        txn.insert(node(7)).unwrap();
        txn.insert(service("a", "b")).unwrap();
    });
    assert_eq!(file_of(&copy), file_of(&db));

    let nothing = db.read().fork().change_set().unwrap();
    assert!(nothing.is_empty());
    commit(&db, |txn| {
        nothing.apply(txn).unwrap();
        assert!(!txn.is_changed());
    });
}

#[test]
fn equal_changes_give_equal_bytes_whatever_the_order_of_tables() {
    let one = Db::builder().table::<Job>().table::<Node>().build().unwrap();
    let other = Db::builder().table::<Node>().table::<Job>().build().unwrap();
    let set = |db: &Db, is_reverse: bool| {
        let mut fork = db.read().fork();
        let ids: Vec<u64> = if is_reverse { (0..9).rev().collect() } else { (0..9).collect() };
        for id in ids {
            fork.insert(job(id)).unwrap();
            fork.insert(node(id)).unwrap();
        }
        fork.change_set().unwrap().encode()
    };
    assert_eq!(set(&one, false), set(&other, true));
}

#[test]
fn a_change_set_can_be_applied_to_a_fork_and_twice() {
    let db = with_jobs((0..20).map(job));
    let set = planned(&db).change_set().unwrap();
    let mut fork = db.read().fork();
    set.apply(&mut fork).unwrap();
    let len = fork.table::<Job>().len();
    set.apply(&mut fork).unwrap();
    assert_eq!((fork.table::<Job>().len(), fork.changes().len()), (len, 8));
    fork.check().unwrap();
}

/// Checks that `set` is refused by a transaction, which is as it was before.
fn refused(db: &Db, set: &ChangeSet) -> ChangeSetError {
    let mut txn = db.write();
    txn.upsert(job(1)).unwrap();
    let (changes, jobs) = (txn.changes().len(), txn.table::<Job>().len());
    let error = set.apply(&mut txn).unwrap_err();
    assert_eq!((txn.changes().len(), txn.table::<Job>().len()), (changes, jobs));
    txn.commit();
    db.check().unwrap();
    error
}

#[test]
fn a_change_set_that_cannot_be_applied_names_the_row_and_changes_nothing() {
    let db = with_jobs((0..20).map(job));
    let fork = planned(&db);
    let set = fork.change_set().unwrap();
    commit(&db, |txn| drop(txn.insert(Job { name: "job-50".into(), ..job(30) }).unwrap()));
    let ChangeSetError::Refused { table, key, error } = refused(&db, &set) else { panic!() };
    assert_eq!((table.as_str(), key.as_str()), ("jobs", "50"));
    assert!(matches!(*error, Error::Taken { owner, .. } if owner == "30"));

    let other = Db::builder().table::<Job>().table::<Service>().build().unwrap();
    let unknown = refused(&other, &set);
    let expected = "table nodes of the change of key 0x0000000000000007 is not in the schema";
    assert_eq!(unknown.to_string(), expected);

    let forged = |table: &str, changes: Vec<(u16, Vec<u8>, u8, Vec<u8>)>| {
        json(&Forged { origin: 1, tables: vec![table.into()], changes }).unwrap()
    };
    let rows = row_bytes("nodes", &fork);
    let (_, key, action, value) = rows[0].clone();
    let decode = forged("jobs", vec![(0, key.clone(), action, value.clone())]);
    let error = refused(&db, &decode);
    assert!(
        matches!(&error, ChangeSetError::Row { table, key, .. } if table == "jobs" && key == "7")
    );
    let long = forged("nodes", vec![(0, key.clone(), REPLACE, [value.clone(), vec![0]].concat())]);
    assert!(matches!(refused(&db, &long), ChangeSetError::Row { .. }));
    let swapped = forged("nodes", vec![(0, vec![0; 8], REPLACE, value.clone())]);
    let differs =
        ChangeSetError::KeyDiffers { table: "nodes".into(), key: "0".into(), found: "7".into() };
    assert_eq!(refused(&db, &swapped), differs);
    // A key of any length and content may be named to be deleted: there is no such row.
    let odd =
        forged("nodes", vec![(0, vec![], DELETE, vec![]), (0, vec![9; 9000], DELETE, vec![])]);
    commit(&db, |txn| odd.apply(txn).unwrap());
}

#[test]
fn hostile_change_sets_are_not_read() {
    let bytes = |id: u8| vec![0, 0, 0, 0, 0, 0, 0, id];
    let forged = |tables: &[&str], changes: &[(u16, u8, u8, &[u8])]| {
        let tables = tables.iter().map(|&table| table.to_owned()).collect();
        let changes = changes
            .iter()
            .map(|(table, key, action, value)| (*table, bytes(*key), *action, value.to_vec()))
            .collect();
        json(&Forged { origin: 1, tables, changes })
    };
    assert!(forged(&["a", "b"], &[(0, 1, 1, b"x"), (0, 2, 0, b""), (1, 0, 2, b"x")]).is_ok());
    for (tables, changes, why) in [
        (&["b", "a"][..], &[][..], "in the order of their names"),
        (&["a", "a"], &[], "in the order of their names"),
        (&["a"], &[(0, 2, 0, &b""[..]), (0, 1, 0, b"")], "in the order of tables and keys"),
        (&["a"], &[(0, 2, 0, b""), (0, 2, 0, b"")], "in the order of tables and keys"),
        (&["a"], &[(1, 2, 0, b"")], "in no table"),
        (&[], &[(0, 2, 0, b"")], "in no table"),
        (&["a"], &[(0, 2, 0, b"x")], "deleted and put"),
        (&["a"], &[(0, 2, 3, b"x")], "no action is 3"),
    ] {
        let error = forged(tables, changes).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    let mut many = Forged { origin: 1, tables: vec!["a".into()], changes: Vec::new() };
    for id in 0..=u32::try_from(CHANGES_MAX).unwrap() {
        many.changes.push((0, id.to_be_bytes().to_vec(), DELETE, Vec::new()));
    }
    assert!(json(&many).unwrap_err().contains("a list of more than 65536"));
    many.changes.pop();
    assert_eq!(json(&many).unwrap().len(), CHANGES_MAX);

    let whole = planned(&with_jobs((0..20).map(job))).change_set().unwrap().encode();
    for end in 0..whole.len() {
        assert!(ChangeSet::decode(&whole[..end]).is_err());
    }
    for at in 0..whole.len() {
        for flip in [1, 0x80, 0xFF] {
            let mut damaged = whole.clone();
            damaged[at] ^= flip;
            if let Ok(set) = ChangeSet::decode(&damaged) {
                // Whatever it says now, it is applied whole or not at all.
                let db = with_jobs((0..20).map(job));
                let mut txn = db.write();
                if set.apply(&mut txn).is_err() {
                    assert!(!txn.is_changed());
                }
                txn.commit();
                db.check().unwrap();
            }
        }
    }
    // A list that claims to be long allocates nothing.
    let claims = [&b"\x83\xA6origin\x01\xA6tables\x90\xA7changes\xDD\xFF\xFF\xFF\xFF"[..]].concat();
    let (error, largest) = largest_during(|| ChangeSet::decode(&claims).unwrap_err());
    assert!(matches!(error, ChangeSetError::Malformed { .. }));
    assert!(largest < 4096, "{largest}");
    let error = ChangeSet::decode(&vec![0xC0; COMMAND_BYTES_MAX + 1]).unwrap_err();
    assert!(matches!(error, ChangeSetError::TooLarge { .. }));
}

#[derive(Debug, Serialize, Deserialize, Table)]
#[table(name = "blobs")]
struct Blob {
    #[key]
    id: u64,
    text: String,
    /// Cannot be written as MessagePack: it is too deep.
    nested: Option<Nested>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Nested(Vec<Nested>);

fn blob(id: u64, len: usize) -> Blob {
    Blob { id, text: "x".repeat(len), nested: None }
}

#[test]
fn a_fork_that_changed_too_much_gives_no_change_set() {
    let db = Db::builder().table::<Blob>().build().unwrap();
    let mut fork = db.read().fork();
    fork.table_mut().insert_all((0..CHANGES_MAX as u64).map(|id| blob(id, 0))).unwrap();
    let set = fork.change_set().unwrap();
    assert_eq!(ChangeSet::decode(&set.encode()).unwrap(), set, "the largest can be read");
    fork.insert(blob(1 << 40, 0)).unwrap();
    let (changes, limit) = (CHANGES_MAX + 1, CHANGES_MAX);
    assert_eq!(fork.change_set().unwrap_err(), ChangeSetError::TooMany { changes, limit });

    let mut fork = db.read().fork();
    fork.insert(blob(1, CHANGE_SET_BYTES_MAX - 40)).unwrap();
    let bytes = fork.change_set().unwrap().encode();
    assert!(bytes.len() < COMMAND_BYTES_MAX && ChangeSet::decode(&bytes).is_ok());
    fork.insert(blob(2, 40)).unwrap();
    assert!(matches!(fork.change_set().unwrap_err(), ChangeSetError::TooLarge { .. }));

    let mut fork = db.read().fork();
    let deep = (0..200).fold(Nested::default(), |inner, _| Nested(vec![inner]));
    fork.insert(Blob { nested: Some(deep), ..blob(3, 0) }).unwrap();
    let error = fork.change_set().unwrap_err();
    assert!(matches!(&error, ChangeSetError::Row { key, .. } if key == "3"), "{error}");
    let conflict = fork.rebase(&db.read()).unwrap_err();
    assert!(conflict.to_string().contains("the row with key 3 cannot be copied"), "{conflict}");
}

struct Planned;

impl Fsm for Planned {
    type Command = ChangeSet;
    type Reply = Result<(), ChangeSetError>;

    fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, plan: ChangeSet) -> Self::Reply {
        plan.apply(txn)
    }
}

#[test]
fn replicas_that_apply_change_sets_are_the_same() {
    let replica = || Machine::new(empty(), Planned).unwrap();
    let (one, other) = (replica(), replica());
    let mut replies = BTreeMap::new();
    for index in 1..30_u64 {
        let mut fork = one.read().fork();
        fork.upsert(Job { priority: 1, ..job(index % 7) }).unwrap();
        fork.table_mut::<Job>().delete(&(index % 5));
        // The scheduler was late: by then another has the name.
        let stale = fork.change_set().unwrap();
        let entry = Machine::<Planned>::encode(&stale).unwrap();
        let at = Applied { index, term: 1 };
        let reply = one.apply(at, &entry).unwrap();
        assert_eq!(other.apply(at, &entry).unwrap(), reply);
        replies.insert(index, reply);
    }
    assert_eq!(replies.len(), 29);
    let files = [&one, &other].map(|machine| {
        let mut file = Vec::new();
        machine.read().save(&mut file).unwrap();
        file
    });
    assert_eq!(files[0], files[1]);
}
