//! Figures as Markdown: a table of operations and engines, and the bars.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::bars;
use crate::figures::Figure;
use crate::runner::ENGINES;

/// The tables of `figures`, the largest size first.
pub(crate) fn markdown(figures: &[Figure]) -> String {
    let sizes: BTreeSet<usize> = figures.iter().map(|figure| figure.n).collect();
    let mut out = String::new();
    for n in sizes.into_iter().rev() {
        let figures: Vec<_> = figures.iter().filter(|figure| figure.n == n).collect();
        out += &format!("## {} rows\n\n", thousands(n as f64));
        out += "In brackets: what fsmdb takes, divided by what the engine takes; less than one\n";
        out += "means that fsmdb is faster or smaller.\n\n";
        table(&mut out, &figures);
    }
    out
}

/// The bars that the figures of one size meet and miss.
pub(crate) fn bars(figures: &[Figure]) -> String {
    let sizes: BTreeSet<usize> = figures.iter().map(|figure| figure.n).collect();
    let mut out = String::new();
    for n in sizes.into_iter().rev() {
        out += &format!("## Bars at {} rows\n\n", thousands(n as f64));
        if n != bars::ROWS {
            out += &format!("They are set for {} rows.\n\n", thousands(bars::ROWS as f64));
        }
        out += "| operation | at most | | measured | |\n|---|---|---|---|---|\n";
        for verdict in bars::judge(figures, n) {
            let measured = verdict.measured.map_or("-".into(), amount);
            let (limit, word) = (amount(verdict.limit), verdict.word());
            let row = (verdict.op, limit, verdict.against, measured, word);
            // Writing to a string does not fail.
            let _ = writeln!(out, "| {} | {} | {} | {} | {} |", row.0, row.1, row.2, row.3, row.4);
        }
        out += "\n";
    }
    out
}

fn table(out: &mut String, figures: &[&Figure]) {
    let present = |engine: &&str| figures.iter().any(|figure| figure.engine == **engine);
    let engines: Vec<_> = ENGINES.iter().copied().filter(|engine| present(engine)).collect();
    *out += &format!("| operation | unit | {} |\n", engines.join(" | "));
    *out += &format!("|---|---|{}\n", "---|".repeat(engines.len()));
    let mut ops: Vec<&str> = Vec::new();
    for figure in figures {
        if ops.last() != Some(&figure.op.as_str()) {
            ops.push(&figure.op);
        }
    }
    for op in ops {
        let row: Vec<_> = figures.iter().filter(|figure| figure.op == op).collect();
        let unit = row.first().map_or("", |figure| figure.unit.as_str());
        *out += &format!("| {op} | {unit} |");
        for engine in &engines {
            *out += &match row.iter().find(|figure| figure.engine == *engine) {
                Some(figure) => format!(" {} |", cell(figure)),
                None => " - |".into(),
            };
        }
        *out += "\n";
    }
    *out += "\n";
}

fn cell(figure: &Figure) -> String {
    let amount = amount(figure.amount());
    match figure.ratio {
        Some(ratio) if figure.engine != crate::figures::SUBJECT => {
            format!("{amount} ({})", self::amount(ratio))
        }
        _ => amount,
    }
}

/// Three digits that matter, thousands apart.
pub(crate) fn amount(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size < 0.000_5 => "< 0.001".into(),
        size if size < 0.095 => format!("{value:.3}"),
        size if size < 9.95 => format!("{value:.2}"),
        size if size < 99.5 => format!("{value:.1}"),
        _ => thousands(value),
    }
}

/// The whole number nearest to `value`, with commas.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        let left = digits.len() - at;
        if at > 0 && left.is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
