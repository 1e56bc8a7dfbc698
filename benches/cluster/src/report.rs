//! What was measured, as a table with bars.

use std::fmt;

use serde::Serialize;

use crate::group::Place;
use crate::load::{Ask, Sample};

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) load_before: String,
    pub(crate) load_after: String,
    pub(crate) rows: Vec<Row>,
}

/// One line of the table: a sample of each round.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) ask: Ask,
    pub(crate) place: Place,
    pub(crate) clients: usize,
    pub(crate) rate_bar: Option<f64>,
    pub(crate) latency_bar: Option<f64>,
    pub(crate) etcd: Vec<Sample>,
    pub(crate) fsmdb: Vec<Sample>,
}

/// The middle of them; of two in the middle the lower.
pub(crate) fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len().saturating_sub(1) / 2;
    numbers.get(middle).copied().unwrap_or(f64::NAN)
}

fn of(samples: &[Sample], what: impl Fn(&Sample) -> f64) -> f64 {
    median(samples.iter().map(what))
}

/// A ratio beside its bar, and whether the bar is met.
fn judged(ratio: f64, bar: Option<f64>, is_met: impl Fn(f64) -> bool, sign: &str) -> String {
    match bar {
        None => format!("{ratio:.2}"),
        Some(bar) if is_met(bar) => format!("{ratio:.2} {sign}{bar} met"),
        Some(bar) => format!("{ratio:.2} {sign}{bar} MISSED"),
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let mut cells = vec![
            format!("{:?}", self.ask).to_lowercase(),
            format!("{:?}", self.place).to_lowercase(),
            self.clients.to_string(),
        ];
        for samples in [&self.etcd, &self.fsmdb] {
            if samples.is_empty() {
                cells.extend(["", "", ""].map(str::to_owned));
                continue;
            }
            cells.push(format!("{:.0}", of(samples, |sample| sample.per_second)));
            cells.push(format!("{:.1}", of(samples, |sample| sample.median)));
            cells.push(format!("{:.1}", of(samples, |sample| sample.p99)));
        }
        if self.etcd.is_empty() {
            cells.extend(["", ""].map(str::to_owned));
            return cells;
        }
        let ratio = |what: fn(&Sample) -> f64| of(&self.fsmdb, what) / of(&self.etcd, what);
        let rate = ratio(|sample| sample.per_second);
        let latency = ratio(|sample| sample.median);
        cells.push(judged(rate, self.rate_bar, |bar| rate >= bar, ">="));
        cells.push(judged(latency, self.latency_bar, |bar| latency <= bar, "<="));
        cells
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} rounds of {} s, medians of rounds", self.rounds, self.seconds)?;
        writeln!(f, "load average before: {}, after: {}\n", self.load_before, self.load_after)?;
        let heads = "| asked | fsmdb's clients at | clients | etcd /s | median us | p99 us \
                     | fsmdb /s | median us | p99 us | ratio /s | ratio of medians |";
        writeln!(f, "{heads}")?;
        writeln!(f, "|{}", "---|".repeat(11))?;
        for row in &self.rows {
            writeln!(f, "| {} |", row.cells().join(" | "))?;
        }
        writeln!(f, "\nWhere fsmdb's time goes, means of the last round at the asked replica:")?;
        for row in self.rows.iter().filter(|row| row.ask == Ask::Put) {
            let Some(sample) = row.fsmdb.last() else { continue };
            let shown = sample.inside.iter().map(|(name, mean)| match name.ends_with("seconds") {
                true => format!("{name} {:.0} us", mean * 1e6),
                false => format!("{name} {mean:.2}"),
            });
            let shown = shown.collect::<Vec<_>>().join(", ");
            writeln!(f, "put, {} clients at the {:?}: {shown}", row.clients, row.place)?;
        }
        Ok(())
    }
}
