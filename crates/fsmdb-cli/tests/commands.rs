//! What the program prints, writes and ends with, asked as a person or a script would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fsmdb::{Db, EncryptionKey, SaveOptions, Table};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tempfile::TempDir;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "jobs")]
struct Job {
    #[key]
    namespace: String,
    #[key]
    id: u64,
    owner: Option<String>,
    live: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "nodes")]
struct Node {
    #[key]
    id: u64,
    name: String,
}

/// A folder with the files of two versions of a database.
struct Files {
    folder: TempDir,
}

fn job(namespace: &str, id: u64, live: bool) -> Job {
    Job { namespace: namespace.into(), id, owner: Some(format!("ada-{id}")), live }
}

fn builder() -> fsmdb::Builder {
    Db::builder().table::<Job>().table::<Node>()
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        let db = builder().build().unwrap();
        let mut txn = db.write();
        for (namespace, id) in [("acme", 1), ("acme", 2), ("other", 3)] {
            txn.insert(job(namespace, id, id != 2)).unwrap();
        }
        txn.insert(Node { id: 7, name: "bell\u{7}".into() }).unwrap();
        txn.commit();
        let old = db.read();
        let mut txn = db.write();
        txn.table_mut::<Job>().delete(&("acme", 1_u64));
        txn.upsert(job("acme", 2, true)).unwrap();
        txn.insert(job("new", 4, true)).unwrap();
        txn.commit();
        let new = db.read();
        old.save_to_path(files.path("old"), SaveOptions::new()).unwrap();
        new.save_to_path(files.path("new"), SaveOptions::new()).unwrap();
        new.save_since_to_path(&old, files.path("link"), SaveOptions::new()).unwrap();
        let key = EncryptionKey::new([0x5a; 32]);
        let options = SaveOptions::new().encrypt(&key).compress(3);
        new.save_to_path(files.path("sealed"), options).unwrap();
        fs::write(files.path("key"), [0x5a; 32]).unwrap();
        fs::write(files.path("digits"), "5a".repeat(32) + "\n").unwrap();
        let mut damaged = fs::read(files.path("new")).unwrap();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 4;
        fs::write(files.path("damaged"), damaged).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Runs the program; the words that begin with `@` are files of the folder.
    fn run(&self, arguments: &str) -> Output {
        let words = arguments.split(' ').map(|word| match word.strip_prefix('@') {
            Some(name) => self.path(name).into_os_string(),
            None => word.into(),
        });
        Command::new(env!("CARGO_BIN_EXE_fsmdb-snapshot")).args(words).output().unwrap()
    }

    /// Runs the program, which must end with `code`, and gives what it printed.
    fn ends(&self, code: i32, arguments: &str) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments}: {errors}");
        assert_eq!(errors.is_empty(), matches!(code, 0 | 1), "{arguments}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn lines(&self, code: i32, arguments: &str) -> Vec<Json> {
        let printed = self.ends(code, arguments);
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn load(path: &Path) -> Db {
    let options = fsmdb::LoadOptions::new().missing_tables_are_empty();
    let file = fs::read(path).unwrap();
    builder().load_with(file.as_slice(), options).unwrap()
}

#[test]
fn inspect_says_what_is_in_a_file() {
    let files = Files::new();
    let printed = files.ends(0, "inspect @new --largest 1");
    assert!(printed.contains("revision 2, applied index 0 of term 0"), "{printed}");
    assert!(printed.contains("\njobs   1        3     3     0        "), "{printed}");
    assert_eq!(printed.matches("large row: jobs ").count(), 1);
    let told = &files.lines(0, "-o json inspect @link")[0];
    assert_eq!(told["base"]["revision"], 1);
    assert_eq!((&told["tables"][0]["puts"], &told["tables"][0]["deletes"]), (&2.into(), &1.into()));
    let largest = told["tables"][0]["largest_rows"].as_array().unwrap();
    assert_eq!((largest.len(), &largest[0]["key"]), (2, &"acme/2".into()));
    let old_format = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/format-1.snapshot");
    fs::copy(old_format, files.path("format-1")).unwrap();
    assert!(files.ends(0, "inspect @format-1").starts_with("format 1, "));
    assert!(files.run("list @format-1 nodes").status.code() == Some(4));
}

#[test]
fn verify_tells_good_files_from_damaged_ones() {
    let files = Files::new();
    assert_eq!(files.ends(0, "verify @new @link").matches(": ok, revision 2, ").count(), 2);
    let output = files.run("verify @new @damaged @missing");
    assert_eq!(output.status.code(), Some(3));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.matches(": FAILED, ").count(), 2, "{printed}");
    let output = files.run("verify -o json @missing @new");
    assert_eq!(output.status.code(), Some(4));
    let printed = String::from_utf8(output.stdout).unwrap();
    let told: Vec<Json> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&told[0]["ok"], &told[1]["ok"]), (&false.into(), &true.into()));
    for command in ["inspect @damaged", "list @damaged jobs", "diff @damaged @new"] {
        files.ends(3, command);
    }
}

#[test]
fn list_finds_rows_by_key_and_by_field() {
    let files = Files::new();
    let keys = |arguments: &str| -> Vec<String> {
        let rows = files.lines(0, &format!("-o json list @old {arguments}"));
        rows.iter().map(|row| row["key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(keys("jobs"), ["acme/1", "acme/2", "other/3"]);
    assert_eq!(keys("jobs --prefix acme/"), ["acme/1", "acme/2"]);
    assert_eq!(keys("jobs --prefix acme/ --where live=true"), ["acme/1"]);
    assert_eq!(keys("jobs --where owner=ada-3 --where id=3"), ["other/3"]);
    assert_eq!(keys("jobs --where owner=ada-3 --where id=2"), [""; 0]);
    assert_eq!(keys("jobs --where missing=3"), [""; 0]);
    let row = &files.lines(0, "-o json list @old nodes")[0];
    assert_eq!((&row["value"]["name"], &row["created"]), (&"bell\u{7}".into(), &1.into()));
    assert_eq!(row["key_bytes"], "0000000000000007");
    let printed = files.ends(0, "list @old nodes");
    assert_eq!(printed, "7\t1\t1\t{\"id\":7,\"name\":\"bell\\u0007\"}\n");
    files.ends(2, "list @old nowhere");
    files.ends(2, "list @old jobs --where live");
}

#[test]
fn diff_ends_with_one_when_something_differs() {
    let files = Files::new();
    let printed = files.ends(1, "diff @old @new");
    let expected = [
        "- jobs\tacme/1\t{\"id\":1,",
        "~ jobs\tacme/2\tlive: false -> true; ",
        "+ jobs\tnew/4\t{\"id\":4,",
        "revision 1 to 2: 1 created, 1 updated, 1 deleted",
    ];
    for (line, start) in printed.lines().zip(expected) {
        assert!(line.starts_with(start), "{line}");
    }
    assert_eq!(printed.lines().count(), 4);
    let told = files.lines(1, "-o json diff @old @new");
    assert_eq!(told[0]["after"], Json::Null);
    assert_eq!((&told[1]["change"], &told[1]["after"]["live"]), (&"updated".into(), &true.into()));
    assert_eq!(told[3]["created"], 1);
    assert!(files.ends(0, "diff @new @new").contains("0 created, 0 updated, 0 deleted"));
    files.ends(4, "diff @old @link");
}

#[test]
fn filter_writes_the_rows_that_are_asked_for() {
    let files = Files::new();
    let printed = files.ends(0, "filter @new @part --table jobs --tenant acme");
    assert!(printed.starts_with("wrote revision 2: 1 tables, 1 rows, "), "{printed}");
    assert_eq!(load(&files.path("part")).read().table::<Job>().len(), 1);
    let told = files.lines(0, "-o json filter @new @part --without-table nodes --prefix new/");
    assert_eq!(told[0]["rows"], 1);
    files.ends(0, "filter @new @part --where live=true --where id=3");
    assert_eq!(load(&files.path("part")).read().table::<Job>().len(), 1);
    files.ends(0, "filter @new @part");
    assert!(files.read("part") == files.read("new"));
    for wrong in ["--table nowhere", "--tenant-field id", "--compress 99"] {
        files.ends(2, &format!("filter @new @part {wrong}"));
    }
    files.ends(3, "filter @damaged @part");
    assert!(files.read("part") == files.read("new"), "what failed has not replaced the file");
}

#[test]
fn redact_takes_values_out_but_not_of_keys() {
    let files = Files::new();
    let printed = files.ends(0, "redact @new @public --field jobs:owner");
    assert!(printed.ends_with(", 3 values redacted\n"), "{printed}");
    let db = load(&files.path("public"));
    assert!(db.read().table::<Job>().iter().all(|row| row.owner.is_none()));
    let told = files.lines(0, "-o json redact @new @public --field owner --field name --text");
    assert_eq!(told[0]["redacted_values"], 4);
    let db = load(&files.path("public"));
    assert_eq!(db.read().table::<Node>().get(&7).unwrap().name, "redacted");
    files.ends(2, "redact @new @public --field namespace");
    files.ends(2, "redact @new @public");
}

#[test]
fn compact_writes_what_the_database_saved() {
    let files = Files::new();
    files.ends(0, "compact --to @whole @old @link");
    assert!(files.read("whole") == files.read("new"));
    files.ends(0, "compact --to @old @old @link");
    assert!(files.read("old") == files.read("new"), "a file of the chain can be the target");
    files.ends(4, "compact --to @whole @old @link");
    files.ends(4, "compact --to @whole @link");
    files.ends(0, "compact --to @small --compress 19 @new");
    assert_eq!(files.lines(0, "-o json inspect @small")[0]["compression"], "zstd");
}

#[test]
fn a_file_goes_through_english_and_back() {
    let files = Files::new();
    let printed = files.ends(0, "export @new --tenant-field namespace");
    assert!(printed.contains("\nRecord 2 of tenant \"acme\", created at revision 1"), "{printed}");
    files.ends(0, "export @new @text --tenant-field namespace");
    assert_eq!(files.read("text"), printed.as_bytes());
    files.ends(0, "import @text @back --template @new");
    assert!(files.read("back") == files.read("new"));
    files.ends(0, "import @text @back");
    let (new, back) = (load(&files.path("new")), load(&files.path("back")));
    assert_eq!(new.digests().unwrap(), back.digests().unwrap());
    fs::write(files.path("text"), printed.replace("nodes", "knots")).unwrap();
    files.ends(3, "import @text @back --template @new");
    let rows = files.lines(0, "export @new --as json");
    assert_eq!((rows.len(), &rows[3]["table"]), (4, &"nodes".into()));
}

#[test]
fn an_encrypted_file_is_read_with_its_key_and_what_is_written_is_encrypted() {
    let files = Files::new();
    for key in ["key", "digits"] {
        let told = &files.lines(0, &format!("-o json --key-file @{key} inspect @sealed"))[0];
        assert_eq!((&told["rows"], &told["compression"]), (&4.into(), &"zstd".into()));
    }
    files.ends(4, "inspect @sealed");
    fs::write(files.path("wrong"), [0; 32]).unwrap();
    files.ends(4, "--key-file @wrong inspect @sealed");
    files.ends(2, "--key-file @new inspect @sealed");
    files.ends(4, "--key-file @missing inspect @sealed");
    files.ends(0, "--key-file @key filter @sealed @part");
    assert_eq!(files.run("verify @part").status.code(), Some(4));
    files.ends(0, "--key-file @key verify @part");
    files.ends(0, "--key-file @key filter @sealed @part --plain");
    assert!(files.read("part") == files.read("new"));
}

#[test]
fn usage_is_explained_and_shells_complete_it() {
    let files = Files::new();
    files.ends(2, "nonsense");
    files.ends(2, "inspect");
    assert!(files.ends(0, "--help").contains("Exit codes: 0 done, 1 differences found"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(files.ends(0, &format!("completions {shell}")).contains("compact"), "{shell}");
    }
}
