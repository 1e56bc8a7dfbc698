//! The house rules that a machine can hold, each a test with a message that names the way out.
//!
//! ARCHITECTURE.md says why the rooms are as they are; this file says what may lean on what.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms each room of `src` may name. What is not here is not allowed.
const MAY_USE: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("sync", &[]),
    ("revision", &[]),
    ("tree", &[]),
    ("error", &["limits"]),
    ("messagepack", &["limits"]),
    ("row", &["revision"]),
    ("key", &["limits"]),
    ("schema", &["error", "key", "limits", "messagepack", "revision", "row"]),
    ("table", &["error", "key", "limits", "revision", "row", "schema", "tree"]),
    ("root", &["revision", "schema", "sync", "table"]),
    (
        "snapshot",
        &["error", "key", "limits", "messagepack", "revision", "root", "row", "schema", "table"],
    ),
    ("txn", &["error", "key", "revision", "root", "row", "schema", "snapshot", "sync", "table"]),
    ("db", &["error", "revision", "root", "schema", "snapshot", "sync", "txn"]),
    ("machine", &["db", "error", "limits", "messagepack", "revision", "snapshot", "txn"]),
    ("raft", &["limits", "machine", "revision", "txn"]),
];

/// The files or rooms that may name each package.
const DOORS: &[(&str, &[&str])] = &[
    ("arc_swap", &["src/root.rs"]),
    ("crc32c", &["src/snapshot/", "src/schema/"]),
    ("fsmdb_derive", &["src/lib.rs"]),
    ("im", &["src/tree/", "src/root.rs", "src/txn/changes.rs"]),
    ("loom", &["src/sync.rs"]),
    ("protobuf", &["src/raft/"]),
    ("raft", &["src/raft/"]),
    ("rmp", &["src/messagepack.rs"]),
    ("rmp_serde", &["src/messagepack.rs"]),
    ("slog", &["src/raft/"]),
    ("smallvec", &["src/key/buf.rs"]),
    ("unicase", &["src/key/folded.rs"]),
    ("uuid", &["src/key/"]),
];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARS_MAX: usize = 100;

/// One source file: its path from the root of the repository, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Whether it is made only of tests.
    fn is_test(&self) -> bool {
        let inside = |folder| self.path.split('/').any(|part| part == folder);
        inside("tests") || inside("fuzz") || inside("benches") || self.path.ends_with("/tests.rs")
    }

    /// The lines of code, numbered from 1, without comments and the contents of strings.
    fn code(&self) -> Vec<(usize, String)> {
        code_of(&self.text).lines().map(str::to_owned).zip(1..).map(|(line, n)| (n, line)).collect()
    }

    /// The first folder or file below `src`.
    fn room(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let name = below.split('/').next().unwrap_or(below);
        Some(name.trim_end_matches(".rs"))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    for entry in entries.map(|entry| entry.expect("a folder can be listed").path()) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if entry.is_dir() && !["target", "corpus", "artifacts"].contains(&name.as_str()) {
            walk(&entry, found);
        } else if name.ends_with(".rs") {
            found.push(entry);
        }
    }
}

/// Every Rust file of the repository.
fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in ["src", "crates", "examples", "tests", "benches", "fuzz"] {
        walk(&root().join(folder), &mut paths);
    }
    paths.sort();
    let source = |path: PathBuf| {
        let relative = path.strip_prefix(root()).expect("below the root").to_string_lossy();
        let path_text = relative.replace('\\', "/");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        Source { path: path_text, text }
    };
    paths.into_iter().map(source).collect()
}

fn library() -> Vec<Source> {
    sources().into_iter().filter(|source| source.path.starts_with("src/")).collect()
}

/// Where a lexer of just enough Rust stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Code,
    LineComment,
    BlockComment(usize),
    Text,
    RawText(usize),
}

/// `text` with comments and the contents of strings and characters blanked, line for line.
fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let (mut inside, mut at) = (Inside::Code, 0);
    while at < chars.len() {
        let (next, length) = step(inside, &chars[at..]);
        for &c in &chars[at..at + length] {
            let visible = inside == Inside::Code && next == Inside::Code && length == 1;
            code.push(if c == '\n' || visible { c } else { ' ' });
        }
        inside = next;
        at += length;
    }
    code
}

/// What the lexer is inside of after the next token, and how many characters that has.
fn step(inside: Inside, rest: &[char]) -> (Inside, usize) {
    let starts = |word: &str| word.chars().zip(rest).filter(|(a, b)| a == *b).count() == word.len();
    let hashes = |from: usize| rest[from..].iter().take_while(|c| **c == '#').count();
    match inside {
        Inside::LineComment if rest[0] == '\n' => (Inside::Code, 1),
        Inside::BlockComment(depth) if starts("/*") => (Inside::BlockComment(depth + 1), 2),
        Inside::BlockComment(1) if starts("*/") => (Inside::Code, 2),
        Inside::BlockComment(depth) if starts("*/") => (Inside::BlockComment(depth - 1), 2),
        Inside::Text if rest[0] == '\\' && rest.len() > 1 => (Inside::Text, 2),
        Inside::Text if rest[0] == '"' => (Inside::Code, 1),
        Inside::RawText(count) if rest[0] == '"' && hashes(1) >= count => (Inside::Code, 1 + count),
        Inside::Code if starts("//") => (Inside::LineComment, 2),
        Inside::Code if starts("/*") => (Inside::BlockComment(1), 2),
        Inside::Code if rest[0] == '"' => (Inside::Text, 1),
        Inside::Code if rest[0] == 'r' && rest.get(1 + hashes(1)) == Some(&'"') => {
            (Inside::RawText(hashes(1)), 2 + hashes(1))
        }
        Inside::Code if starts("'\\") => {
            let end = rest[2..].iter().skip(1).position(|c| *c == '\'').unwrap_or(0);
            (Inside::Code, end + 4)
        }
        Inside::Code if rest[0] == '\'' && rest.get(2) == Some(&'\'') => (Inside::Code, 3),
        other => (other, 1),
    }
}

/// The identifiers of a line, each with what follows it directly.
fn words(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.char_indices().filter_map(move |(at, c)| {
        let starts = is_word(c) && !line[..at].chars().next_back().is_some_and(is_word);
        starts.then(|| {
            let length = line[at..].find(|c| !is_word(c)).unwrap_or(line.len() - at);
            (&line[at..at + length], &line[at + length..])
        })
    })
}

fn assert_none(violations: &[String], way_out: &str) {
    let mut message = String::new();
    for violation in violations {
        writeln!(message, "  {violation}").expect("writing to a string");
    }
    assert!(violations.is_empty(), "\n{message}{way_out}");
}

/// The rooms that a line of code names by `crate::room`, also in a list.
fn rooms_named(line: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (_, rest) in words(line).filter(|(word, _)| *word == "crate") {
        if let Some(path) = rest.strip_prefix("::") {
            let room = words(path).next().map(|(room, _)| room);
            rooms.extend(
                room.filter(|room| MAY_USE.iter().any(|(known, _)| known == room))
                    .map(str::to_owned),
            );
        }
    }
    rooms
}

fn direction_violations(source: &Source) -> Vec<String> {
    let Some(room) = source.room().filter(|room| !["lib", "main"].contains(room)) else {
        return Vec::new();
    };
    let Some((_, allowed)) = MAY_USE.iter().find(|(known, _)| *known == room) else {
        return vec![format!("{}: room `{room}` is not in MAY_USE", source.path)];
    };
    let mut violations = Vec::new();
    for (number, line) in source.code() {
        for named in rooms_named(&line) {
            if named != room && !allowed.contains(&named.as_str()) {
                violations.push(format!("{}:{number}: `{room}` names `{named}`", source.path));
            }
        }
    }
    violations
}

#[test]
fn rooms_lean_on_each_other_in_one_direction() {
    let library: Vec<_> = library().into_iter().filter(|source| !source.is_test()).collect();
    let violations: Vec<_> = library.iter().flat_map(direction_violations).collect();
    assert_none(&violations, "move what is shared down, or argue for the edge in MAY_USE");
    for (at, (room, allowed)) in MAY_USE.iter().enumerate() {
        for used in *allowed {
            let below = MAY_USE[..at].iter().any(|(earlier, _)| earlier == used);
            assert!(below, "MAY_USE lets `{room}` use `{used}`, which is not above it in the list");
        }
    }
}

fn door_violations(source: &Source) -> Vec<String> {
    let mut violations = Vec::new();
    for (number, line) in source.code() {
        for (word, rest) in words(&line) {
            let Some((package, doors)) = DOORS.iter().find(|(package, _)| *package == word) else {
                continue;
            };
            let before = line.find(word).map_or("", |at| line[..at].trim_end());
            let is_path = rest.starts_with("::") && !before.ends_with("::");
            if is_path && !doors.iter().any(|door| source.path.starts_with(door)) {
                let path = &source.path;
                violations.push(format!("{path}:{number}: `{package}` has its door at {doors:?}"));
            }
        }
    }
    violations
}

#[test]
fn each_package_has_one_door() {
    let library: Vec<_> = library().into_iter().filter(|source| !source.is_test()).collect();
    let violations: Vec<_> = library.iter().flat_map(door_violations).collect();
    assert_none(&violations, "go through the room that owns the package");
    for (package, _) in DOORS {
        let name = package.replace('_', "-");
        let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("there is a manifest");
        assert!(manifest.contains(&name), "{name} is not a dependency any more");
    }
}

#[test]
fn files_are_small_and_say_what_they_own() {
    let mut violations = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        let is_case = source.path.starts_with("tests/ui/");
        if lines > FILE_LINES_MAX && !source.is_test() {
            violations.push(format!("{}: {lines} lines", source.path));
        }
        if !is_case && !source.text.starts_with("//!") {
            violations.push(format!("{}: does not begin with //!", source.path));
        }
    }
    assert_none(
        &violations,
        "give the idea inside a room of its own, and say at the top what it is",
    );
}

#[test]
fn lines_are_at_most_100_characters() {
    let mut violations = Vec::new();
    for source in sources() {
        for (line, number) in source.text.lines().zip(1..) {
            // The row of a table in Markdown cannot be broken.
            let is_row =
                line.trim_start().starts_with("//! |") || line.trim_start().starts_with("/// |");
            let is_case = source.path.starts_with("tests/ui/");
            if line.chars().count() > LINE_CHARS_MAX && !is_row && !is_case {
                violations.push(format!("{}:{number}", source.path));
            }
        }
    }
    assert_none(&violations, "break the line");
}

fn function_violations(source: &Source) -> Vec<String> {
    let mut violations = Vec::new();
    let mut open: Vec<(usize, usize)> = Vec::new(); // line of the function, depth of its braces
    let (mut depth, mut announced) = (0_usize, None);
    for (number, line) in source.code() {
        if announced.is_none()
            && words(&line).any(|(word, rest)| word == "fn" && rest.starts_with(' '))
        {
            announced = Some(number);
        }
        for c in line.chars() {
            match c {
                '{' => {
                    depth += 1;
                    open.extend(announced.take().map(|start| (start, depth)));
                }
                '}' => {
                    if let Some((start, _)) = open.pop_if(|(_, opened)| *opened == depth) {
                        let lines = number - start + 1;
                        if lines > FUNCTION_LINES_MAX {
                            violations.push(format!("{}:{start}: {lines} lines", source.path));
                        }
                    }
                    depth = depth.saturating_sub(1);
                }
                ';' if announced.is_some_and(|start| start == number) && !line.contains('{') => {
                    announced = None; // a signature without a body, or a function type
                }
                _ => {}
            }
        }
    }
    violations
}

#[test]
fn functions_fit_on_a_screen() {
    let violations: Vec<_> =
        sources().iter().filter(|source| !source.is_test()).flat_map(function_violations).collect();
    assert_none(&violations, "find the step inside that has a name");
}

#[test]
fn nothing_unfinished_is_committed() {
    // Written in halves, so that this file passes its own test.
    let marks = [("TO", "DO"), ("FIX", "ME"), ("XX", "X"), ("db", "g!("), ("unimple", "mented!(")];
    let marks = marks.map(|(one, other)| format!("{one}{other}"));
    let mut violations = Vec::new();
    for source in sources() {
        for (line, number) in source.text.lines().zip(1..) {
            let found = marks.iter().find(|mark| line.contains(mark.as_str()));
            violations.extend(found.map(|mark| format!("{}:{number}: {mark}", source.path)));
        }
    }
    assert_none(&violations, "finish it, or file an issue");
}

fn forbidden_words(source: &Source, forbidden: &[&str]) -> Vec<String> {
    let mut violations = Vec::new();
    for (number, line) in source.code() {
        let found = words(&line).find(|(word, _)| forbidden.contains(word));
        violations.extend(found.map(|(word, _)| format!("{}:{number}: {word}", source.path)));
    }
    violations
}

#[test]
fn the_library_has_no_unsafe_code_and_no_hash_order() {
    let words = ["unsafe", "HashMap", "HashSet", "RandomState", "thread_rng"];
    let library = library();
    let violations: Vec<_> =
        library.iter().flat_map(|source| forbidden_words(source, &words)).collect();
    assert_none(&violations, "hash order differs between replicas: use BTreeMap and BTreeSet");
    let front = library.iter().find(|source| source.path == "src/lib.rs").expect("a front door");
    assert!(front.text.contains("#![forbid(unsafe_code)]"));
}

#[test]
fn the_library_reads_no_clock_no_file_and_no_environment() {
    let words = ["Instant", "SystemTime", "fs", "File", "env", "TcpStream", "UdpSocket", "sleep"];
    // Times and addresses are keys there, and the tick of the in-process cluster is a clock.
    let exempt = ["src/key/", "src/raft/cluster/"];
    let mut violations = Vec::new();
    for source in library().iter().filter(|source| !source.is_test()) {
        if !exempt.iter().any(|path| source.path.starts_with(path)) {
            violations.extend(forbidden_words(source, &words));
        }
    }
    assert_none(&violations, "let the caller bring it");
    let clocks: Vec<_> = library()
        .into_iter()
        .filter(|source| source.path.starts_with("src/raft/cluster/"))
        .filter(|source| source.code().iter().any(|(_, line)| line.contains("Instant::now")))
        .map(|source| source.path)
        .collect();
    assert_eq!(clocks, ["src/raft/cluster/clock.rs"], "the cluster has one clock");
}

#[test]
fn no_file_is_named_after_nothing() {
    let names = ["utils", "util", "common", "helpers", "types", "manager", "misc", "fsmdb"];
    let mut violations = Vec::new();
    for source in sources() {
        let name = source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        if names.contains(&name) {
            violations.push(source.path);
        }
    }
    assert_none(&violations, "name the file after the one thing that it owns");
}

#[test]
fn the_rules_find_what_is_planted() {
    let planted = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let edge = planted("src/key/buf.rs", "use crate::table::Rows;\n");
    assert_eq!(direction_violations(&edge).len(), 1);
    let quoted = planted("src/key/buf.rs", "// crate::table\nlet a = \"crate::table\";\n");
    assert!(direction_violations(&quoted).is_empty());
    assert_eq!(door_violations(&planted("src/db.rs", "use arc_swap::ArcSwap;\n")).len(), 1);
    assert_eq!(door_violations(&planted("src/db.rs", "let x = im::Vector::new();\n")).len(), 1);
    assert!(
        door_violations(&planted("src/lib.rs", "pub mod raft;\nuse crate::raft::X;\n")).is_empty()
    );
    let long = format!("fn long() {{\n{}}}\n", "    step(\"}\", '}', r#\"}\"#);\n".repeat(70));
    assert_eq!(function_violations(&planted("src/db.rs", &long)).len(), 1);
    let short = "fn short() {\n    step();\n}\n".repeat(50);
    assert!(function_violations(&planted("src/db.rs", &short)).is_empty());
    let word = planted("src/db.rs", "let map = HashMap::new(); // unsafe\n");
    assert_eq!(forbidden_words(&word, &["HashMap", "unsafe"]).len(), 1);
}
