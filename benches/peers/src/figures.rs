//! From the samples of processes to the figures of engines.
//!
//! # Invariants
//!
//! 1. The figure under one allocator is the median over its processes.
//! 2. Of a peer the better allocator counts, of fsmdb the worse one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::ops;
use crate::runner::ENGINES;
use crate::sampler::{NANOSECONDS, Sample, median};

/// The engine that all others are compared with.
pub(crate) const SUBJECT: &str = "fsmdb";

/// What is known of one operation on one engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) op: String,
    pub(crate) n: usize,
    pub(crate) engine: String,
    /// Time in nanoseconds; `value` has everything that is no time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ns: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<f64>,
    /// What fsmdb takes, divided by what this engine takes.
    pub(crate) ratio: Option<f64>,
    pub(crate) unit: String,
    pub(crate) allocator: String,
    /// Processes under that allocator.
    pub(crate) runs: usize,
    /// The figure under each allocator.
    pub(crate) by_allocator: BTreeMap<String, f64>,
}

impl Figure {
    /// The figure, whatever its unit.
    pub(crate) fn amount(&self) -> f64 {
        self.ns.or(self.value).unwrap_or(f64::NAN)
    }
}

/// The figures of `samples`, by size, operation and engine.
pub(crate) fn of(samples: Vec<Sample>) -> Vec<Figure> {
    type Found = BTreeMap<String, Vec<f64>>;
    let mut found: BTreeMap<(usize, String, String, String), Found> = BTreeMap::new();
    for sample in samples {
        let key = (sample.n, sample.op, sample.engine, sample.unit);
        found.entry(key).or_default().entry(sample.allocator).or_default().push(sample.value);
    }
    let mut figures: Vec<_> = found
        .into_iter()
        .map(|((n, op, engine, unit), found)| {
            let runs = found.values().map(Vec::len).max().unwrap_or(0);
            let by_allocator: BTreeMap<String, f64> =
                found.into_iter().map(|(name, values)| (name, median(values))).collect();
            let order = |a: &(&String, &f64), b: &(&String, &f64)| a.1.total_cmp(b.1);
            let counts = if engine == SUBJECT {
                by_allocator.iter().max_by(order)
            } else {
                by_allocator.iter().min_by(order)
            };
            let (allocator, amount) = counts.map(|(name, value)| (name.clone(), *value)).unzip();
            let timed = unit == NANOSECONDS;
            Figure {
                ns: amount.filter(|_| timed),
                value: amount.filter(|_| !timed),
                ratio: None,
                allocator: allocator.unwrap_or_default(),
                op,
                n,
                engine,
                unit,
                runs,
                by_allocator,
            }
        })
        .collect();
    compare(&mut figures);
    figures
}

/// Reads the figures of one or more runs; a later figure replaces an earlier one.
pub(crate) fn read(file: &Path) -> anyhow::Result<Vec<Figure>> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut figures: BTreeMap<_, Figure> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let figure: Figure = serde_json::from_str(line).with_context(|| line.to_owned())?;
        figures.insert((figure.n, figure.op.clone(), figure.engine.clone()), figure);
    }
    let mut figures: Vec<_> = figures.into_values().collect();
    compare(&mut figures);
    Ok(figures)
}

/// Sorts the figures as tables show them, and works out their ratios.
fn compare(figures: &mut [Figure]) {
    let names = op_names();
    let place = |op: &str| names.iter().position(|name| *name == op).unwrap_or(usize::MAX);
    let engine = |name: &str| ENGINES.iter().position(|engine| *engine == name);
    figures.sort_by_key(|figure| {
        (usize::MAX - figure.n, place(&figure.op), figure.op.clone(), engine(&figure.engine))
    });
    let subject: BTreeMap<(usize, String), f64> = figures
        .iter()
        .filter(|figure| figure.engine == SUBJECT)
        .map(|figure| ((figure.n, figure.op.clone()), figure.amount()))
        .collect();
    for figure in figures {
        let amount = figure.amount();
        let ours = subject.get(&(figure.n, figure.op.clone()));
        figure.ratio = match ours {
            Some(_) if figure.engine == SUBJECT => Some(1.0),
            ours => ours.map(|ours| ours / amount).filter(|ratio| ratio.is_finite()),
        };
    }
}

/// Every operation that is timed or weighed, in the order of tables.
fn op_names() -> Vec<&'static str> {
    [ops::PRIMARY, ops::LOADS, ops::TRIPLE, ops::MEMORY].concat()
}
