//! `fsmdb-snapshot`: looks into, compares, changes and exports snapshot files of fsmdb, without the
//! program that has written them.
//!
//! The library does the work ([`fsmdb::offline`]); this is its command line. `arguments.rs` says
//! what can be asked, `look.rs`, `compare.rs` and `rewrite.rs` do it, `files.rs` opens files and
//! tells how far it is, `print.rs` knows how rows are printed, `fault.rs` how the process ends.

#![forbid(unsafe_code)]

mod arguments;
mod compare;
mod fault;
mod files;
mod look;
mod print;
mod rewrite;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use arguments::{Arguments, Command};
use clap::{CommandFactory, Parser};
use fault::{Fault, Outcome};
use files::Files;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    let done = run(&arguments, &mut out).and_then(|outcome| {
        out.flush()?;
        Ok(outcome)
    });
    match done {
        Ok(outcome) => outcome.into(),
        Err(fault) => {
            // What was found before it goes to the reader first; it may have gone away.
            let _ = out.flush();
            fault.tell();
            (&fault).into()
        }
    }
}

fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<Outcome, Fault> {
    let files = Files::new(arguments)?;
    let format = arguments.output;
    match &arguments.command {
        Command::Inspect(inspect) => look::inspect(&files, inspect, format, out),
        Command::Verify(verify) => look::verify(&files, verify, format, out),
        Command::List(list) => look::list(&files, list, format, out),
        Command::Diff(diff) => compare::diff(&files, diff, format, out),
        Command::Filter(filter) => rewrite::filter(&files, filter, format, out),
        Command::Redact(redact) => rewrite::redact(&files, redact, format, out),
        Command::Compact(compact) => rewrite::compact(&files, compact, format, out),
        Command::Export(export) => rewrite::export(&files, export, out),
        Command::Import(import) => rewrite::import(&files, import, format, out),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            // It is made whole first: the generator panics when what it writes to fails.
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut command, "fsmdb-snapshot", &mut script);
            out.write_all(&script)?;
            Ok(Outcome::Done)
        }
    }
}
