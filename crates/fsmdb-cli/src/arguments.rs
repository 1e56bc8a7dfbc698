//! What can be asked on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Looks into, compares, changes and exports snapshot files of fsmdb.
#[derive(Debug, Parser)]
#[command(name = "fsmdb-snapshot", version, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 1 differences found (diff), 2 wrong usage, \
                        3 damaged file, 4 any other failure.")]
pub(crate) struct Arguments {
    /// How results are printed; JSON has one value a line where there may be many
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// The key of encrypted files: 32 bytes, or 64 hexadecimal digits; what is written is encrypted
    /// with it too
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say what is in a file: tables, rows, bytes, the largest rows, revision
    Inspect(Inspect),
    /// Verify files whole: checksums, hash, digests, counts, order
    Verify(Verify),
    /// List the rows of a table
    List(List),
    /// List the rows that differ between two files
    Diff(Diff),
    /// Write the part of a file that is asked for
    Filter(Filter),
    /// Write a file without the values of some fields
    Redact(Redact),
    /// Write a chain, a whole file and the incremental ones that follow it, as one whole file
    Compact(Compact),
    /// Write a file as text, in English or as JSON, one row a line
    Export(Export),
    /// Write English text as a file
    Import(Import),
    /// Print the completions of a shell
    Completions { shell: Shell },
}

#[derive(Args, Debug)]
pub(crate) struct Inspect {
    pub(crate) file: PathBuf,
    /// How many of the largest rows of each table are named
    #[arg(long, default_value_t = 3, value_name = "ROWS")]
    pub(crate) largest: usize,
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

/// Which rows are meant.
#[derive(Args, Debug)]
pub(crate) struct Rows {
    /// Rows whose key begins so: its fields with slashes between them, or else its bytes in
    /// hexadecimal digits
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,
    /// Rows of which a field is this text, number or truth value; all that are given must be
    #[arg(long = "where", value_name = "FIELD=VALUE", value_parser = condition)]
    pub(crate) conditions: Vec<Condition>,
}

/// A field and its printed value.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) field: String,
    pub(crate) value: String,
}

fn condition(text: &str) -> Result<Condition, String> {
    let (field, value) = text.split_once('=').ok_or("it is not FIELD=VALUE")?;
    Ok(Condition { field: field.to_owned(), value: value.to_owned() })
}

#[derive(Args, Debug)]
pub(crate) struct List {
    pub(crate) file: PathBuf,
    pub(crate) table: String,
    #[command(flatten)]
    pub(crate) rows: Rows,
}

#[derive(Args, Debug)]
pub(crate) struct Diff {
    pub(crate) older: PathBuf,
    pub(crate) newer: PathBuf,
}

/// How files are written.
#[derive(Args, Debug)]
pub(crate) struct Written {
    /// Compress with zstd at this level, from 1, fast, to 22, small
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(i32).range(1..=22))]
    pub(crate) compress: Option<i32>,
    /// Do not encrypt, though there is a key
    #[arg(long)]
    pub(crate) plain: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Filter {
    pub(crate) file: PathBuf,
    pub(crate) target: PathBuf,
    /// Keep this table, and others that are named; otherwise all
    #[arg(long = "table", value_name = "TABLE")]
    pub(crate) tables: Vec<String>,
    /// Leave this table out
    #[arg(long = "without-table", value_name = "TABLE")]
    pub(crate) without: Vec<String>,
    /// Keep the rows of this tenant: of which the first key field is this text
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// The field that tells the tenant, instead of the first of the key
    #[arg(long, value_name = "FIELD", requires = "tenant")]
    pub(crate) tenant_field: Option<String>,
    #[command(flatten)]
    pub(crate) rows: Rows,
    #[command(flatten)]
    pub(crate) written: Written,
}

#[derive(Args, Debug)]
pub(crate) struct Redact {
    pub(crate) file: PathBuf,
    pub(crate) target: PathBuf,
    /// The field whose values are taken out, of one table or of all
    #[arg(long = "field", required = true, value_name = "[TABLE:]FIELD")]
    pub(crate) fields: Vec<String>,
    /// Put the text "redacted" in their place instead of nothing
    #[arg(long)]
    pub(crate) text: bool,
    #[command(flatten)]
    pub(crate) written: Written,
}

#[derive(Args, Debug)]
pub(crate) struct Compact {
    /// What is written; it may be one of the files
    #[arg(long = "to", required = true, value_name = "FILE")]
    pub(crate) target: PathBuf,
    /// The whole file, then the incremental ones in their order
    #[arg(required = true, value_name = "FILE")]
    pub(crate) chain: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) written: Written,
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    pub(crate) file: PathBuf,
    /// What is written; the standard output if it is left out
    pub(crate) target: Option<PathBuf>,
    #[arg(long = "as", value_enum, default_value_t = TextFormat::English)]
    pub(crate) format: TextFormat,
    /// A field whose text is said with each row
    #[arg(long, value_name = "FIELD")]
    pub(crate) tenant_field: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TextFormat {
    English,
    Json,
}

#[derive(Args, Debug)]
pub(crate) struct Import {
    pub(crate) text: PathBuf,
    pub(crate) target: PathBuf,
    /// The snapshot file that the text was made of: what text does not say is taken from it
    #[arg(long, value_name = "FILE")]
    pub(crate) template: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) written: Written,
}
