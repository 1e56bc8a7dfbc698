//! Reads a job file: its form here, its meaning in `jobfile/check.rs`.
//!
//! A job file is TOML: `[[node]]` tables for the fleet and `[[job]]` tables for what is to run on
//! it. A file without nodes gets those of the file that ships with this program. Whatever is wrong
//! is told with file, line and field, everything at once where the form allows it.

mod check;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

use crate::model::{Job, Kind, Node};

/// The job file that ships with this program.
const SHIPPED: &str = include_str!("../jobs.toml");
const SHIPPED_NAME: &str = "examples/orchestrator/jobs.toml";

/// What a job file asks for.
#[derive(Debug)]
pub struct Workload {
    pub source: String,
    pub nodes: Vec<Node>,
    pub jobs: Vec<Job>,
}

/// Why a job file cannot be used.
#[derive(Debug, Error)]
pub enum JobFileError {
    #[error("{file}: {reason}")]
    Unreadable { file: String, reason: std::io::Error },
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Problem>),
}

/// One thing that is wrong in a job file.
#[derive(Debug)]
pub struct Problem {
    file: String,
    line: usize,
    column: usize,
    field: Option<String>,
    what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, field, what } = self;
        match field {
            Some(field) => write!(f, "{file}:{line}:{column}: field `{field}`: {what}"),
            None => write!(f, "{file}:{line}:{column}: {what}"),
        }
    }
}

/// Reads the job file at `path`, or the one that ships with this program.
pub fn read(path: Option<&Path>) -> Result<Workload, JobFileError> {
    match path {
        None => parse(SHIPPED_NAME, SHIPPED),
        Some(path) => {
            let file = path.display().to_string();
            match fs::read_to_string(path) {
                Ok(text) => parse(&file, &text),
                Err(reason) => Err(JobFileError::Unreadable { file, reason }),
            }
        }
    }
}

fn parse(name: &str, text: &str) -> Result<Workload, JobFileError> {
    let source = Source { name, text };
    let mut file = source.entries()?;
    if file.node.is_empty() {
        file.node = Source { name: SHIPPED_NAME, text: SHIPPED }.entries()?.node;
    }
    let (workload, problems) = check::check(&source, &file);
    if problems.is_empty() { Ok(workload) } else { Err(JobFileError::Wrong(problems)) }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    node: Vec<Spanned<NodeEntry>>,
    #[serde(default)]
    job: Vec<Spanned<JobEntry>>,
}

/// A `[[node]]` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeEntry {
    name: Spanned<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    cpu: Spanned<i64>,
    memory: Spanned<i64>,
}

/// A `[[job]]` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobEntry {
    name: Spanned<String>,
    kind: Kind,
    priority: Option<Spanned<i64>>,
    count: Option<Spanned<i64>>,
    attempts: Option<Spanned<i64>>,
    cpu: Spanned<i64>,
    memory: Spanned<i64>,
    #[serde(default)]
    spread: bool,
    #[serde(default)]
    tags: BTreeSet<String>,
    #[serde(default)]
    constraints: BTreeMap<String, Spanned<String>>,
    command: Spanned<Vec<String>>,
    #[serde(default)]
    expect: Expect,
}

/// How a job is to end.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expect {
    #[default]
    Complete,
    Failed,
}

/// The text of a job file, for finding the line and the field of what is wrong.
struct Source<'a> {
    name: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn entries(&self) -> Result<File, JobFileError> {
        toml::from_str(self.text).map_err(|error| {
            let span = error.span().unwrap_or_default();
            let what = error.message().lines().collect::<Vec<_>>().join(", ");
            // The words of TOML instead of those of Rust.
            let what = what.replace("expected i64", "expected a whole number");
            let what = what.replace("expected a sequence", "expected an array");
            let field = quoted_after(&what, "missing field")
                .or_else(|| quoted_after(&what, "unknown field"))
                .or_else(|| self.field_before(span.start));
            JobFileError::Wrong(vec![self.problem(&span, field, what)])
        })
    }

    fn problem(&self, span: &Range<usize>, field: Option<String>, what: String) -> Problem {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
        Problem { file: self.name.to_owned(), line, column, field, what }
    }

    /// The key to which the value at `offset` belongs: the last `key =` or `[key]` that begins a
    /// line.
    fn field_before(&self, offset: usize) -> Option<String> {
        let rest = self.text.get(offset..)?;
        let end = rest.find('\n').map_or(self.text.len(), |length| offset + length);
        self.text.get(..end)?.lines().rev().find_map(|line| {
            let header = line.trim().trim_start_matches('[').split_once(']');
            let key = header.or_else(|| line.split_once('='))?.0.trim();
            let is_key = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            (!key.is_empty() && key.chars().all(is_key)).then(|| key.to_owned())
        })
    }
}

/// The word in backquotes that follows `start` at the beginning of `message`.
fn quoted_after(message: &str, start: &str) -> Option<String> {
    let mut parts = message.strip_prefix(start)?.split('`');
    parts.next()?;
    parts.next().map(str::to_owned)
}
