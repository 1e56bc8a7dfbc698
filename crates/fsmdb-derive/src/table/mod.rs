//! `#[derive(Table)]`: a struct is parsed into a [`parse::Table`], which `expand` writes out.
//!
//! `options` reads one `#[index(...)]`, `index` checks it into what kind of index it is, and
//! `extract` and `push` write the key and the extractor of each kind.

mod expand;
mod extract;
mod index;
mod options;
mod parse;
mod push;
mod serialized;

use proc_macro2::TokenStream;
use syn::{DeriveInput, Result};

/// The code that `#[derive(Table)]` adds to `input`.
pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let table = parse::Table::parse(input)?;
    Ok(expand::expand(&table))
}
