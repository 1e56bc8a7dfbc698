//! Saving, loading and saving again gives the same bytes, for any rows, on any number of threads,
//! compressed or not; and the digests of the file are those of the database.

#![no_main]

use arbitrary::Arbitrary;
use fsmdb::{Db, LoadOptions, SaveOptions, Table};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};

#[derive(Arbitrary, Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "documents", tombstones = 8)]
struct Document {
    #[key]
    id: (u8, String),
    #[index(unique)]
    title: Option<String>,
    #[index(multi)]
    tags: Vec<u8>,
    body: Body,
}

#[derive(Arbitrary, Clone, Debug, Serialize, Deserialize)]
enum Body {
    Nothing,
    Text(String),
    Numbers(Vec<i64>),
    Ratio { is_known: bool, value: u32 },
}

#[derive(Arbitrary, Debug)]
struct Input {
    rows: Vec<Document>,
    deletes: Vec<(u8, String)>,
    threads: u8,
    level: Option<u8>,
}

fuzz_target!(|input: Input| {
    let Input { rows, deletes, threads, level } = input;
    let builder = || Db::builder().table::<Document>();
    let db = builder().keep_digests().build().expect("the schema is sound");
    for rows in rows.chunks(5) {
        let mut txn = db.write();
        for row in rows {
            // A title that is taken is refused.
            let _ = txn.upsert(row.clone());
        }
        txn.commit();
    }
    let mut txn = db.write();
    for key in &deletes {
        txn.table_mut::<Document>().delete(key);
    }
    txn.commit();
    let threads = usize::from(threads % 4) + 1;
    let options = || match level {
        Some(level) => SaveOptions::new().compress(i32::from(level % 5)),
        None => SaveOptions::new(),
    };
    let mut file = Vec::new();
    let summary = db.read().save_with(&mut file, options().threads(threads)).expect("it is sound");
    assert_eq!(summary.digests(), db.digests().ok());
    assert_eq!(fsmdb::inspect(file.as_slice()).expect("it is sound"), summary);
    let copy = builder().load_with(file.as_slice(), LoadOptions::new().threads(threads));
    let copy = copy.expect("what was saved loads");
    copy.check().expect("what loads is consistent");
    let mut again = Vec::new();
    copy.read().save_with(&mut again, options()).expect("it is sound");
    assert_eq!(again, file);
});
