//! Hostile snapshot files: no panic, bounded memory, the old state untouched.
//!
//! Three kinds of input: raw bytes; frames with right checksums around hostile content; and a
//! well-formed file with a few bytes of its frames changed and sealed again. What loads must be
//! consistent, and saving it must give a file that loads again.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::Arbitrary;
use fsmdb::{Db, Table, fuzzing};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "nodes", version = 1, tombstones = 16)]
#[index(name = "zone_size", on = (zone, size))]
struct Node {
    #[key]
    id: u64,
    #[index(unique)]
    name: String,
    #[index]
    zone: Option<String>,
    size: i32,
    #[index(multi)]
    tags: BTreeSet<String>,
    attributes: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "events", version = 2)]
struct Event {
    #[key]
    at: (u64, u32),
    text: String,
}

#[derive(Arbitrary, Debug)]
enum Input {
    Raw(Vec<u8>),
    Frames(Vec<(u8, Vec<u8>)>),
    Changed { frame: u8, edits: Vec<(u16, u8)>, cut: Option<u16> },
}

fn database() -> Db {
    Db::builder().table::<Node>().table::<Event>().build().expect("the schema is sound")
}

fn filled() -> Db {
    let db = database();
    let mut txn = db.write();
    for id in 0..8_u64 {
        let node = Node {
            id,
            name: format!("node-{id}"),
            zone: (id % 3 != 0).then(|| format!("zone-{}", id % 2)),
            size: id as i32 - 4,
            tags: (0..id % 4).map(|tag| format!("tag-{tag}")).collect(),
            attributes: BTreeMap::from([("kernel".to_owned(), vec![0, 1, 255])]),
        };
        txn.insert(node).expect("the rows are sound");
        txn.insert(Event { at: (id, 0), text: "started".into() }).expect("the rows are sound");
    }
    txn.commit();
    for id in 0..3_u64 {
        let mut txn = db.write();
        txn.table_mut::<Node>().delete(&id).expect("it is there");
        txn.commit();
    }
    db
}

fn file_of(db: &Db) -> Vec<u8> {
    let mut file = Vec::new();
    db.read().save(&mut file).expect("what is in memory can be saved");
    file
}

fn bytes_of(input: Input) -> Vec<u8> {
    match input {
        Input::Raw(bytes) => bytes,
        Input::Frames(frames) => fuzzing::seal(&frames),
        Input::Changed { frame, edits, cut } => {
            let mut frames = fuzzing::unseal(&file_of(&filled()));
            let position = usize::from(frame) % frames.len();
            let payload = &mut frames[position].1;
            for (at, byte) in edits {
                let length = payload.len();
                if length > 0 {
                    payload[usize::from(at) % length] = byte;
                }
            }
            if let Some(cut) = cut {
                payload.truncate(usize::from(cut));
            }
            fuzzing::seal(&frames)
        }
    }
}

fuzz_target!(|input: Input| {
    let bytes = bytes_of(input);
    let db = filled();
    let before = file_of(&db);
    let inspected = fsmdb::inspect(bytes.as_slice());
    match db.restore(bytes.as_slice()) {
        Err(_) => assert_eq!(file_of(&db), before, "a refused file changes nothing"),
        Ok(()) => {
            db.check().expect("what loads is consistent");
            let summary = inspected.expect("what loads can be inspected");
            let saved = file_of(&db);
            let copy = database();
            copy.restore(saved.as_slice()).expect("what was saved loads");
            assert_eq!(file_of(&copy), saved, "saving again gives the same bytes");
            assert_eq!(summary.rows, fsmdb::inspect(saved.as_slice()).expect("sound").rows);
        }
    }
});
