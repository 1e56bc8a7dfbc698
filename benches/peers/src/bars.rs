//! The bars: what fsmdb has to reach beside a peer, at one million rows.

use crate::figures::{Figure, SUBJECT};

/// What a figure of fsmdb is held against.
#[derive(Clone, Copy, Debug)]
enum Against {
    /// The same operation of a peer.
    Peer(&'static str),
    /// Another operation of fsmdb.
    Own(&'static str),
    /// One, in the unit of the operation.
    Amount,
}

use Against::{Amount, Own, Peer};

/// A bar is met when the figure, divided by what it is held against, is at most the limit.
#[derive(Clone, Copy, Debug)]
struct Bar(&'static str, Against, f64);

/// Rows at which the bars are set.
pub(crate) const ROWS: usize = 1_000_000;

const BARS: &[Bar] = &[
    Bar("get", Peer("imbl"), 0.5),
    Bar("get", Peer("btreemap"), 0.8),
    Bar("get_many64", Peer("btreemap"), 0.25),
    Bar("range100", Peer("imbl"), 0.2),
    Bar("range100", Peer("btreemap"), 0.35),
    Bar("range100_back", Peer("imbl"), 0.2),
    Bar("range100_back", Peer("btreemap"), 0.35),
    Bar("scan", Peer("imbl"), 0.1),
    Bar("scan_rows", Peer("imbl"), 0.25),
    Bar("snapshot", Peer("arc-swap"), 1.2),
    Bar("fork10", Peer("imbl"), 0.3),
    Bar("upsert", Peer("imbl"), 0.45),
    Bar("upsert", Peer("btreemap"), 1.5),
    Bar("insert", Peer("imbl"), 0.35),
    Bar("delete", Peer("imbl"), 0.35),
    Bar("get_beside_writer", Peer("imbl"), 0.4),
    Bar("old_snapshot_drop", Amount, 1_000.0),
    Bar("sorted_load", Peer("imbl"), 0.25),
    Bar("upsert3", Peer("imbl"), 0.33),
    Bar("upsert3", Peer("memdb"), 0.1),
    Bar("upsert3", Peer("btreemap"), 1.1),
    Bar("upsert3_100", Peer("imbl"), 0.33),
    Bar("upsert3_10000", Own("upsert3_100"), 1.2),
    Bar("memory/random", Amount, 34.0),
    Bar("memory/sorted", Amount, 26.0),
    Bar("memory/held_growth", Amount, 2.2),
];

/// One bar and how it was met.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) op: &'static str,
    pub(crate) against: String,
    pub(crate) limit: f64,
    /// `None` when one of the two figures is missing.
    pub(crate) measured: Option<f64>,
}

impl Verdict {
    pub(crate) fn word(&self) -> &'static str {
        match self.measured {
            Some(measured) if measured <= self.limit => "met",
            Some(_) => "missed",
            None => "not measured",
        }
    }
}

/// Every bar, judged by the figures at `n` rows.
pub(crate) fn judge(figures: &[Figure], n: usize) -> Vec<Verdict> {
    let amount = |op: &str, engine: &str| {
        let wanted = |figure: &&Figure| figure.n == n && figure.op == op && figure.engine == engine;
        figures.iter().find(wanted).map(Figure::amount)
    };
    let unit = |op: &str| figures.iter().find(|figure| figure.op == op).map(|it| it.unit.clone());
    let verdict = |&Bar(op, against, limit): &Bar| {
        let (against, base) = match against {
            Peer(peer) => (format!("of {peer}"), amount(op, peer)),
            Own(other) => (format!("of its {other}"), amount(other, SUBJECT)),
            Amount => (unit(op).unwrap_or_default(), Some(1.0)),
        };
        let measured = amount(op, SUBJECT).zip(base).map(|(ours, base)| ours / base);
        Verdict { op, against, limit, measured }
    };
    BARS.iter().map(verdict).collect()
}
