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
    ("digest", &["revision"]),
    ("carried", &["digest"]),
    ("crew", &["limits", "sync"]),
    ("tree", &["limits", "revision", "sync"]),
    ("error", &["limits"]),
    ("messagepack", &["limits"]),
    ("value", &["limits", "messagepack"]),
    ("english", &["limits", "messagepack", "revision"]),
    ("key", &["limits"]),
    ("schema", &["error", "key", "limits", "messagepack", "revision", "sync", "tree", "value"]),
    ("table", &["crew", "digest", "error", "key", "limits", "revision", "schema", "sync", "tree"]),
    ("root", &["carried", "revision", "schema", "sync", "table", "tree"]),
    ("history", &["revision", "root", "sync"]),
    ("watch", &["history", "key", "limits", "revision", "root", "schema", "sync", "table", "tree"]),
    (
        "snapshot",
        &[
            "carried",
            "crew",
            "digest",
            "english",
            "error",
            "key",
            "limits",
            "messagepack",
            "revision",
            "root",
            "schema",
            "table",
            "tree",
            "value",
        ],
    ),
    (
        "txn",
        &[
            "carried",
            "digest",
            "error",
            "key",
            "limits",
            "messagepack",
            "revision",
            "root",
            "schema",
            "snapshot",
            "sync",
            "table",
            "tree",
            "watch",
        ],
    ),
    (
        "db",
        &[
            "digest", "error", "history", "key", "limits", "revision", "root", "schema",
            "snapshot", "sync", "tree", "txn", "watch",
        ],
    ),
    ("machine", &["db", "digest", "error", "limits", "messagepack", "revision", "snapshot", "txn"]),
    ("raft", &["db", "limits", "machine", "revision", "txn"]),
];

/// The files or rooms that may name each package.
const DOORS: &[(&str, &[&str])] = &[
    ("arc_swap", &["src/root.rs"]),
    ("blake3", &["src/snapshot/"]),
    ("chacha20poly1305", &["src/snapshot/codec.rs"]),
    ("crc32c", &["src/schema/", "src/snapshot/", "src/watch/points.rs"]),
    ("crossbeam_skiplist", &["src/history.rs"]),
    ("event_listener", &["src/sync/signal.rs"]),
    ("fsmdb_derive", &["src/lib.rs"]),
    ("futures_core", &["src/txn/feed.rs"]),
    ("getrandom", &["src/snapshot/codec.rs"]),
    ("im", &["src/root.rs", "src/table/removals.rs"]),
    ("loom", &["src/sync.rs"]),
    ("protobuf", &["src/raft/"]),
    ("raft", &["src/raft/"]),
    ("rmp", &["src/messagepack.rs", "src/messagepack/"]),
    ("rmp_serde", &["src/messagepack.rs"]),
    ("shuttle", &["src/sync.rs"]),
    ("slog", &["src/raft/"]),
    (
        "smallvec",
        &["src/tree/reclaim.rs", "src/tree/table.rs", "src/txn/changes.rs", "src/watch/askers.rs"],
    ),
    ("tempfile", &["src/snapshot/file.rs"]),
    ("unicase", &["src/key/folded.rs"]),
    ("uuid", &["src/key/"]),
    ("xxhash_rust", &["src/digest.rs"]),
    ("zstd", &["src/snapshot/codec.rs"]),
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

/// What a file names by `crate::`, also in braces and over several lines, each with its line.
fn named_behind_crate(code: &str) -> Vec<(usize, &str)> {
    let mut named = Vec::new();
    for (word, rest) in words(code).filter(|(word, _)| *word == "crate") {
        let Some(path) = rest.strip_prefix("::") else { continue };
        let line = code[..code.len() - rest.len() - word.len()].matches('\n').count() + 1;
        let Some(group) = path.strip_prefix('{') else {
            named.extend(words(path).next().map(|(first, _)| (line, first)));
            continue;
        };
        let (mut depth, mut begins) = (0, true);
        for (at, c) in group.char_indices() {
            match c {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' => begins = depth == 0,
                c if begins && !c.is_whitespace() => {
                    begins = false;
                    named.extend(words(&group[at..]).next().map(|(first, _)| (line, first)));
                }
                _ => {}
            }
        }
    }
    named
}

/// Which room each name of the front door comes from: `pub use room::{Name, ...};`.
fn front_door(text: &str) -> Vec<(String, String)> {
    let mut names = Vec::new();
    for item in code_of(text).split("pub use ").skip(1) {
        let item = item.split(';').next().unwrap_or_default();
        if let Some((room, list)) = item.split_once("::") {
            names.extend(words(list).map(|(name, _)| (name.to_owned(), room.trim().to_owned())));
        }
    }
    names
}

fn direction_violations(source: &Source, front: &[(String, String)]) -> Vec<String> {
    let Some(room) = source.room().filter(|room| !["lib", "main"].contains(room)) else {
        return Vec::new();
    };
    let Some((_, allowed)) = MAY_USE.iter().find(|(known, _)| *known == room) else {
        return vec![format!("{}: room `{room}` is not in MAY_USE", source.path)];
    };
    let mut violations = Vec::new();
    let code = code_of(&source.text);
    for (number, named) in named_behind_crate(&code) {
        // `crate::Snapshot` leans on the room that the front door has it from.
        let through = front.iter().find(|(name, _)| name == named).map(|(_, room)| room.as_str());
        let named = through.unwrap_or(named);
        let is_room = MAY_USE.iter().any(|(known, _)| *known == named);
        if is_room && named != room && !allowed.contains(&named) {
            violations.push(format!("{}:{number}: `{room}` names `{named}`", source.path));
        }
    }
    violations
}

/// Chains of `super` that reach the root of the crate, from where every room can be named unseen.
fn climb_violations(source: &Source) -> Vec<String> {
    let below = source.path.trim_start_matches("src/").trim_end_matches(".rs");
    let own = below.trim_end_matches("/mod").split('/').count();
    let (mut violations, mut modules, mut depth) = (Vec::new(), Vec::new(), 0_usize);
    for (number, line) in source.code() {
        let mut chain = 0;
        for (word, rest) in words(&line) {
            chain = if word == "super" { chain + 1 } else { 0 };
            if chain >= own + modules.len() {
                violations.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
            if word == "mod" && rest.trim_end().ends_with('{') {
                modules.push(depth);
            }
        }
        depth = (depth + line.matches('{').count()).saturating_sub(line.matches('}').count());
        modules.retain(|opened| *opened < depth);
    }
    violations
}

#[test]
fn rooms_lean_on_each_other_in_one_direction() {
    let library: Vec<_> = library().into_iter().filter(|source| !source.is_test()).collect();
    let front = fs::read_to_string(root().join("src/lib.rs")).expect("there is a front door");
    let front = front_door(&front);
    assert!(front.contains(&("Snapshot".into(), "txn".into())), "the front door was not read");
    let violations: Vec<_> =
        library.iter().flat_map(|source| direction_violations(source, &front)).collect();
    assert_none(&violations, "move what is shared down, or argue for the edge in MAY_USE");
    for (at, (room, allowed)) in MAY_USE.iter().enumerate() {
        for used in *allowed {
            let below = MAY_USE[..at].iter().any(|(earlier, _)| earlier == used);
            assert!(below, "MAY_USE lets `{room}` use `{used}`, which is not above it in the list");
        }
    }
}

#[test]
fn no_path_climbs_out_of_its_room() {
    let inside = |source: &Source| !source.is_test() && source.path != "src/lib.rs";
    let library: Vec<_> = library().into_iter().filter(inside).collect();
    let violations: Vec<_> = library.iter().flat_map(climb_violations).collect();
    assert_none(&violations, "name it by `crate::room`, where the direction is checked");
}

fn door_violations(source: &Source) -> Vec<String> {
    let mut violations = Vec::new();
    for (number, line) in source.code() {
        for (word, rest) in words(&line) {
            let Some((package, doors)) = DOORS.iter().find(|(package, _)| *package == word) else {
                continue;
            };
            let before = line[..line.len() - rest.len() - word.len()].trim_end();
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

/// Packages for deriving and for traits, which have no door.
const EVERYWHERE: &[&str] = &["serde", "thiserror"];

/// The packages that a manifest makes the library depend on.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut packages = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if (section == "[dependencies]" || section.starts_with("[target."))
            && line.starts_with(|c: char| c.is_ascii_alphabetic())
        {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            packages.push(name.replace('-', "_"));
        }
    }
    packages
}

#[test]
fn each_package_has_a_line_in_the_table_of_doors() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("there is a manifest");
    let mut packages = dependencies(&manifest);
    assert!(packages.iter().any(|package| package == "loom"), "the manifest was not read");
    packages.retain(|package| {
        !EVERYWHERE.contains(&package.as_str()) && !DOORS.iter().any(|(known, _)| known == package)
    });
    assert_none(&packages, "decide on its door, in DOORS and in ARCHITECTURE.md");
}

/// Locks and atomics of `std`, which loom does not see.
fn primitive_violations(source: &Source) -> Vec<String> {
    let shared = ["Mutex", "RwLock", "Condvar", "Barrier", "OnceLock", "atomic", "mpsc"];
    let code = code_of(&source.text);
    let mut violations = Vec::new();
    for (at, _) in code.match_indices("std::sync::") {
        let statement = code[at..].split(';').next().unwrap_or_default();
        if let Some((word, _)) = words(statement).find(|(word, _)| shared.contains(word)) {
            let line = code[..at].matches('\n').count() + 1;
            violations.push(format!("{}:{line}: {word}", source.path));
        }
    }
    violations
}

#[test]
fn locks_and_atomics_come_from_the_sync_room() {
    let exempt = ["src/sync", "src/raft/"];
    let outside = |source: &Source| !exempt.iter().any(|path| source.path.starts_with(path));
    let library: Vec<_> = library().into_iter().filter(outside).collect();
    let violations: Vec<_> = library.iter().flat_map(primitive_violations).collect();
    assert_none(&violations, "take it from `crate::sync`, so that loom sees it");
}

/// Paths that exist on one machine alone.
fn machine_paths(source: &Source) -> Vec<String> {
    // Written in halves, so that this file passes its own test.
    let starts = ["home", "root", "work", "Users", "tmp"].map(|folder| format!("/{folder}/"));
    let mut violations = Vec::new();
    for (line, number) in source.text.lines().zip(1..) {
        let begins = |start: &String| {
            line.match_indices(start.as_str()).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || "_-.}/".contains(c))
            })
        };
        violations.extend(
            starts
                .iter()
                .find(|start| begins(start))
                .map(|start| format!("{}:{number}: {start}", source.path)),
        );
    }
    violations
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    let mut files = sources();
    for name in ["Cargo.toml", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", ".ci/run"] {
        let text = fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        files.push(Source { path: name.into(), text });
    }
    let violations: Vec<_> = files.iter().flat_map(machine_paths).collect();
    assert_none(&violations, "make it relative to the repository");
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
    let marks = [
        ("TO", "DO"),
        ("FIX", "ME"),
        ("XX", "X"),
        ("db", "g!("),
        ("unimple", "mented!("),
        ("to", "do!("),
    ];
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
fn the_library_has_no_hash_order() {
    let words = ["HashMap", "HashSet", "RandomState", "thread_rng"];
    let violations: Vec<_> = library()
        .iter()
        .filter(|source| !source.is_test())
        .flat_map(|source| forbidden_words(source, &words))
        .collect();
    assert_none(&violations, "hash order differs between replicas: use BTreeMap and BTreeSet");
}

#[test]
fn unsafe_code_stands_in_its_room_and_nowhere_else() {
    let library = library();
    let violations: Vec<_> = library
        .iter()
        .filter(|source| !source.path.starts_with("src/tree/"))
        .flat_map(|source| forbidden_words(source, &["unsafe"]))
        .collect();
    assert_none(&violations, "unsafe code has one room, src/tree/, with a safe interface");
    let allowed =
        |source: &&Source| source.code().iter().any(|(_, line)| line.contains("allow(unsafe"));
    let doors: Vec<_> = library.iter().filter(allowed).map(|source| &source.path).collect();
    assert_eq!(doors, ["src/lib.rs"]);
    let front = library.iter().find(|source| source.path == "src/lib.rs").expect("a front door");
    assert!(front.text.contains("#![deny(unsafe_code)]"));
    assert_eq!(front.text.matches("#[allow(unsafe_code)]\nmod tree;").count(), 1);
    for example in fs::read_dir(root().join("examples")).expect("there are examples") {
        let path = example.expect("it can be read").path();
        let text = fs::read_to_string(&path).unwrap_or_default();
        assert!(!text.contains("unsafe {"), "{}", path.display());
    }
}

#[test]
fn the_library_reads_no_clock_no_file_and_no_environment() {
    let words =
        ["Instant", "SystemTime", "fs", "File", "env", "thread", "TcpStream", "UdpSocket", "sleep"];
    // Times and addresses are keys there, and the tick of the in-process cluster is a clock; one
    // room starts threads, and one touches files.
    let exempt = ["src/key/", "src/raft/cluster/", "src/crew.rs", "src/snapshot/file.rs"];
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
    let front = front_door("pub use table::{Rows, TableReader};\npub use db::Db;\n");
    let direction = |source: &Source| direction_violations(source, &front).len();
    assert_eq!(direction(&planted("src/key/buf.rs", "use crate::table::Rows;\n")), 1);
    let group = "use crate::{\n    limits::{A, B},\n    db::{self, C},\n    table::D,\n};\n";
    assert_eq!(direction(&planted("src/key/buf.rs", group)), 2);
    assert_eq!(direction(&planted("src/key/buf.rs", "fn f(rows: crate::Rows) {}\n")), 1);
    assert_eq!(direction(&planted("src/attic/mod.rs", "//! A new room.\n")), 1);
    let quoted = planted("src/key/buf.rs", "// crate::table\nlet a = \"crate::table\";\n");
    assert_eq!(direction(&quoted), 0);
    let climbs = |path, text| climb_violations(&planted(path, text)).len();
    assert_eq!(climbs("src/key/mod.rs", "use super::db::Db;\n"), 1);
    assert_eq!(climbs("src/key/buf.rs", "use super::A;\nuse super::super::db::Db;\n"), 1);
    assert_eq!(climbs("src/root.rs", "mod cell {\n    use super::A;\n}\nuse super::B;\n"), 1);
    let manifest = "[dependencies]\na-b.workspace = true\n[dev-dependencies]\nc = \"1\"\n";
    assert_eq!(dependencies(manifest), ["a_b"]);
    let locks = "use std::sync::Arc;\nuse std::sync::{\n    Arc, Mutex,\n};\n";
    assert_eq!(primitive_violations(&planted("src/db.rs", locks)).len(), 1);
    let path = ["cp /ho", "me/me/file .\nsee src/ro", "ot/mod.rs\n"].concat();
    assert_eq!(machine_paths(&planted("README.md", &path)).len(), 1);
    assert_eq!(door_violations(&planted("src/db.rs", "use arc_swap::ArcSwap;\n")).len(), 1);
    let twice = planted("src/db.rs", "let x: crate::im::X = im::Vector::new();\n");
    assert_eq!(door_violations(&twice).len(), 1);
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
