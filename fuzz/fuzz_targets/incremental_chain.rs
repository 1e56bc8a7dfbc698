//! A chain of a whole file and incremental ones is what the whole file of the last version is; and
//! a link of which something was changed and sealed again is refused, or fits what it says.

#![no_main]

use arbitrary::Arbitrary;
use fsmdb::{Db, LoadOptions, SaveOptions, Snapshot, Table, fuzzing};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "items", tombstones = 4)]
struct Item {
    #[key]
    id: u8,
    #[index(unique)]
    name: u8,
    #[index]
    group: Option<u8>,
}

#[derive(Arbitrary, Debug)]
enum Op {
    Put(u8, u8, Option<u8>),
    Delete(u8),
    DeleteBelow(u8),
    Commit,
    Mark,
}

#[derive(Arbitrary, Debug)]
struct Input {
    ops: Vec<Op>,
    keeps_digests: bool,
    edits: Vec<(u8, u16, u8)>,
}

fn builder(keeps_digests: bool) -> fsmdb::Builder {
    let builder = Db::builder().table::<Item>();
    if keeps_digests { builder.keep_digests() } else { builder }
}

fn file_of(snap: &Snapshot) -> Vec<u8> {
    let mut file = Vec::new();
    snap.save(&mut file).expect("rows can be encoded");
    file
}

/// The versions that were marked, the first and the last among them.
fn play(db: &Db, ops: &[Op]) -> Vec<Snapshot> {
    let mut marks = vec![db.read()];
    let mut txn = Some(db.write());
    for op in ops {
        let open = txn.as_mut().expect("one is open");
        match op {
            Op::Put(id, name, group) => {
                let _ = open.upsert(Item { id: *id, name: *name, group: *group });
            }
            Op::Delete(id) => drop(open.table_mut::<Item>().delete(id)),
            Op::DeleteBelow(id) => drop(open.table_mut::<Item>().delete_all(..*id)),
            Op::Commit | Op::Mark => {
                txn.take().expect("one is open").commit();
                if matches!(op, Op::Mark) {
                    marks.push(db.read());
                }
                txn = Some(db.write());
            }
        }
    }
    txn.expect("one is open").commit();
    marks.push(db.read());
    marks
}

fuzz_target!(|input: Input| {
    let Input { ops, keeps_digests, edits } = input;
    let db = builder(keeps_digests).build().expect("the schema is sound");
    let marks = play(&db, &ops);
    let mut chain = vec![file_of(&marks[0])];
    for pair in marks.windows(2) {
        let mut link = Vec::new();
        let saved = pair[1].save_since(&pair[0], &mut link, SaveOptions::new());
        saved.expect("the versions follow each other");
        chain.push(link);
    }
    let whole = file_of(&db.read());
    let copy = builder(!keeps_digests).load_chain(chain.iter().map(Vec::as_slice));
    let copy = copy.expect("every link fits");
    copy.check().expect("what loads is consistent");
    assert_eq!(file_of(&copy.read()), whole);

    let base = builder(keeps_digests).load(chain[0].as_slice()).expect("it was just saved");
    let before = file_of(&base.read());
    let mut frames = fuzzing::unseal(&chain[1]);
    for (frame, at, byte) in edits {
        let count = frames.len();
        let payload = &mut frames[usize::from(frame) % count].1;
        let length = payload.len();
        if length > 0 {
            payload[usize::from(at) % length] = byte;
        }
    }
    let changed = fuzzing::seal(&frames);
    match base.apply_incremental(changed.as_slice(), LoadOptions::new()) {
        Err(_) => assert_eq!(file_of(&base.read()), before, "a refused link changes nothing"),
        Ok(_) => base.check().expect("what was applied is consistent"),
    }
});
