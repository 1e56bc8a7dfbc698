//! What a job file means, and whether it can be done on its fleet.

use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;

use super::{Expect, File, JobEntry, NodeEntry, Problem, Source, Workload};
use crate::model::{Job, JobStatus, Node, NodeId};

/// Most instances of all jobs together. Each is a real process; this keeps a slip of the pen from
/// filling the machine with them.
const INSTANCES_MAX: u32 = 256;

/// Most attempts of one instance.
const ATTEMPTS_MAX: u32 = 10;

/// The highest priority of a job.
const PRIORITY_MAX: u32 = 100;

/// The priority of a job that does not say.
const PRIORITY: u32 = 50;

/// Least thousandths of a core, and least MiB, that a job or node may ask for or have.
const RESOURCE_MIN: u32 = 10;

/// Most of either, so that the sum over all instances is far from an overflow.
const RESOURCE_MAX: u32 = 10_000_000;

/// Longest name of a node or job, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// The workload that `file` describes, and everything that is wrong with it.
pub(super) fn check(source: &Source<'_>, file: &File) -> (Workload, Vec<Problem>) {
    let mut checker = Checker { source, problems: Vec::new() };
    let nodes = checker.nodes(&file.node);
    let jobs = checker.jobs(&file.job, &nodes);
    if jobs.is_empty() {
        checker.wrong(&(0..0), "job", "the file has no [[job]]");
    }
    (Workload { source: source.name.to_owned(), nodes, jobs }, checker.problems)
}

struct Checker<'a> {
    source: &'a Source<'a>,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn wrong(&mut self, span: &Range<usize>, field: &str, what: impl Into<String>) {
        let field = Some(field.to_owned());
        self.problems.push(self.source.problem(span, field, what.into()));
    }

    fn nodes(&mut self, entries: &[Spanned<NodeEntry>]) -> Vec<Node> {
        let mut names = BTreeSet::new();
        let entries = (1..).zip(entries.iter().map(Spanned::get_ref));
        let nodes = entries.map(|(id, entry)| Node {
            id: NodeId(id),
            name: self.name(&entry.name, &mut names),
            attributes: entry.attributes.clone(),
            cpu: self.within(&entry.cpu, "cpu", RESOURCE_MIN..=RESOURCE_MAX),
            memory: self.within(&entry.memory, "memory", RESOURCE_MIN..=RESOURCE_MAX),
            closed: false,
        });
        nodes.collect()
    }

    fn jobs(&mut self, entries: &[Spanned<JobEntry>], nodes: &[Node]) -> Vec<Job> {
        let mut names = BTreeSet::new();
        let mut instances = 0;
        let mut jobs = Vec::new();
        for spanned in entries {
            let entry = spanned.get_ref();
            let job = self.job(entry, &mut names);
            self.fits(entry, spanned.span(), &job, nodes);
            let before = instances;
            instances += job.count;
            if before <= INSTANCES_MAX && instances > INSTANCES_MAX {
                let span = entry.count.as_ref().map_or(spanned.span(), Spanned::span);
                let what = format!("{instances} instances so far, the limit is {INSTANCES_MAX}");
                self.wrong(&span, "count", what);
            }
            jobs.push(job);
        }
        jobs
    }

    fn job(&mut self, entry: &JobEntry, names: &mut BTreeSet<String>) -> Job {
        self.command(&entry.command);
        let constraints = entry.constraints.iter();
        Job {
            name: self.name(&entry.name, names),
            kind: entry.kind,
            status: JobStatus::Pending,
            priority: self.optional(&entry.priority, "priority", 0..=PRIORITY_MAX, PRIORITY),
            tags: entry.tags.clone(),
            count: self.optional(&entry.count, "count", 1..=INSTANCES_MAX, 1),
            attempts: self.optional(&entry.attempts, "attempts", 1..=ATTEMPTS_MAX, 1),
            cpu: self.within(&entry.cpu, "cpu", RESOURCE_MIN..=RESOURCE_MAX),
            memory: self.within(&entry.memory, "memory", RESOURCE_MIN..=RESOURCE_MAX),
            spread: entry.spread,
            constraints: constraints
                .map(|(name, value)| (name.clone(), value.get_ref().clone()))
                .collect(),
            command: entry.command.get_ref().clone(),
            expect: match entry.expect {
                Expect::Complete => JobStatus::Complete,
                Expect::Failed => JobStatus::Failed,
            },
            stopping: false,
        }
    }

    fn name(&mut self, name: &Spanned<String>, names: &mut BTreeSet<String>) -> String {
        let (span, text) = (name.span(), name.get_ref());
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.chars().all(allowed) {
            let what = format!("{text:?} is not 1 to {NAME_BYTES_MAX} of a-z, 0-9 and -");
            self.wrong(&span, "name", what);
        } else if !names.insert(text.clone()) {
            self.wrong(&span, "name", format!("{text:?} is given twice"));
        }
        text.clone()
    }

    /// The value of a number, or the low end of `range` if it is outside.
    fn within(&mut self, value: &Spanned<i64>, field: &str, range: RangeInclusive<u32>) -> u32 {
        let (low, high) = range.into_inner();
        match u32::try_from(*value.get_ref()) {
            Ok(number) if (low..=high).contains(&number) => number,
            _ => {
                let what = format!("{} is not between {low} and {high}", value.get_ref());
                self.wrong(&value.span(), field, what);
                low
            }
        }
    }

    fn optional(
        &mut self,
        value: &Option<Spanned<i64>>,
        field: &str,
        range: RangeInclusive<u32>,
        default: u32,
    ) -> u32 {
        value.as_ref().map_or(default, |value| self.within(value, field, range))
    }

    fn command(&mut self, command: &Spanned<Vec<String>>) {
        let span = command.span();
        match command.get_ref().first() {
            None => self.wrong(&span, "command", "the command is empty"),
            Some(program) if program.trim().is_empty() => {
                self.wrong(&span, "command", "the name of the program is empty");
            }
            Some(_) if command.get_ref().iter().any(|word| word.contains('\0')) => {
                self.wrong(&span, "command", "a word of the command has a NUL byte");
            }
            Some(_) => {}
        }
    }

    /// Whether the constraints and the resources leave a node, and for a spread job enough nodes.
    fn fits(&mut self, entry: &JobEntry, whole: Range<usize>, job: &Job, nodes: &[Node]) {
        let accepting: Vec<_> = nodes.iter().filter(|node| job.accepts(node)).collect();
        if accepting.is_empty() {
            self.unmet(entry, &whole, nodes);
            return;
        }
        let most = |resource: fn(&Node) -> u32| accepting.iter().map(|node| resource(node)).max();
        let resources = [
            (&entry.cpu, "cpu", job.cpu, most(|node| node.cpu)),
            (&entry.memory, "memory", job.memory, most(|node| node.memory)),
        ];
        for (value, field, wanted, most) in resources {
            let most = most.unwrap_or_default();
            if wanted > most {
                let what = format!("{wanted} is more than the {most} of any node that it accepts");
                self.wrong(&value.span(), field, what);
            }
        }
        let places = accepting.len();
        if job.spread && job.count as usize > places {
            let span = entry.count.as_ref().map_or(whole, Spanned::span);
            let count = job.count;
            let what = format!("{count} cannot be spread over the {places} nodes that it accepts");
            self.wrong(&span, "count", what);
        }
    }

    /// Tells which constraint no node meets.
    fn unmet(&mut self, entry: &JobEntry, whole: &Range<usize>, nodes: &[Node]) {
        let mut is_told = false;
        for (name, value) in &entry.constraints {
            let wanted = value.get_ref();
            let known = nodes.iter().filter_map(|node| node.attributes.get(name));
            let known: BTreeSet<_> = known.collect();
            if known.contains(wanted) {
                continue;
            }
            let what = match known.is_empty() {
                true => format!("no node has the attribute {name:?}"),
                false => format!("no node has {name} = {wanted:?}, only {known:?}"),
            };
            self.wrong(&value.span(), "constraints", what);
            is_told = true;
        }
        if !is_told {
            let first = entry.constraints.values().next();
            let span = first.map_or(whole.clone(), Spanned::span);
            self.wrong(&span, "constraints", "each is met by some node, all by none");
        }
    }
}
