//! `#[derive(Table)]` and `#[derive(Key)]` for [fsmdb](https://docs.rs/fsmdb), which re-exports
//! both: depend on `fsmdb`, not on this crate.
//!
//! The generated code names everything by its full path (`::fsmdb::...`, `::core::...`,
//! `::std::vec`) and calls every trait method through its trait, so names that the user shadows do
//! not reach it.
//!
//! # `#[derive(Table)]`
//!
//! On a struct with named fields and without generics. It implements `fsmdb::Table` and gives the
//! struct one constant for each index, its typed handle: `Job::BY_NAME`, `Job::BY_NS_STATUS`.
//!
//! ```ignore (this crate cannot depend on fsmdb, where the examples are compiled)
//! #[derive(Clone, Debug, Serialize, Deserialize, Table)]
//! #[table(name = "jobs", version = 1)]
//! #[index(name = "ns_status", on = (namespace, status))]
//! #[index(name = "label", with = Job::label, key = String, unique)]
//! pub struct Job {
//!     #[key]            pub id: Uuid,
//!     #[index(unique)]  pub name: String,
//!     #[index]          pub status: Status,
//!     #[index]          pub deployment: Option<Uuid>,
//!     #[index(multi)]   pub tags: BTreeSet<String>,
//!     #[index(unique, filter = Job::is_live)] pub slot: u32,
//!                       pub namespace: String,
//! }
//! ```
//!
//! ## `#[table(...)]`, on the struct
//!
//! | option | meaning |
//! |---|---|
//! | `name = "jobs"` | the name of the table in errors and snapshots; required |
//! | `version = 2` | the version of the row's layout, a `u32`; 1 if absent |
//! | `migrate = path` | with `version`: makes a row of version `from + 1` of one of version `from`, by `fn(from: u32, &mut Value) -> Result<(), MigrationError>` |
//! | `tombstones = 4096` | how many removals it remembers, for exact revisions of prefixes; 0 if absent |
//! | `crate = "path"` | where `fsmdb` is, if not at `::fsmdb` |
//!
//! ## `#[key]`, on a field
//!
//! The primary key. On two to six fields it makes their tuple, in the order of declaration.
//!
//! ## `#[index(...)]`, on a field, any number of times
//!
//! | option | meaning |
//! |---|---|
//! | (none) | an index on the field; on an `Option<T>` its key is `T`, and `None` has no entry |
//! | `name = "label"` | another name than the field's |
//! | `unique` | each value belongs to at most one row |
//! | `multi` | one entry for each element of an `Elements`, or of one in an `Option` |
//! | `fold` | strings without regard to case; the key is `Folded` |
//! | `descending` | the highest value comes first; the key is `Descending<T>` |
//! | `filter = path` | only the rows for which `fn(&Row) -> bool` says yes |
//! | `with = path, key = Type` | computed from the field by `fn(&Field) -> Type` |
//! | `..., optional` | with `with`: the function returns `Option<Type>` |
//! | `..., multi` | with `with`: the function returns any `IntoIterator<Item = Type>` |
//!
//! `fold` and `descending` combine with each other, with `multi` and with `Option`. An `Option` is
//! recognised by its spelling, since a macro sees no types: behind a type alias it is an ordinary
//! key, in which `None` is a value. What a `with` function returns may also be a borrowed form of
//! the key, such as `&str` for `String`.
//!
//! ## `#[index(...)]`, on the struct, any number of times
//!
//! | option | meaning |
//! |---|---|
//! | `name = "ns_status"` | the name of the index; required |
//! | `on = (namespace, status)` | compound: one to six fields; the key is their tuple |
//! | `on = (desc(a), fold(b))` | components in descending order, or without regard to case |
//! | `with = path, key = Type` | computed from the row by `fn(&Row) -> Type`, instead of `on` |
//! | `..., optional` / `..., multi` | with `with`, as on a field |
//! | `unique`, `filter = path` | as on a field |
//!
//! ## Names and positions
//!
//! The name of an index is snake case (`[a-z_][a-z0-9_]*`, at most 128 bytes) and its handle is
//! `BY_` and the name in upper case, as visible as the struct. The indexes of the fields come
//! first, in the order of declaration, then those of the struct in the order of its attributes;
//! `Index::position` counts in this order.
//!
//! # `#[derive(Key)]`
//!
//! On an enum without fields, or a struct of keys; without generics. `#[key(crate = "path")]` says
//! where `fsmdb` is. The order of the encoding is the order of a derived `Ord`.
//!
//! | type | encoding |
//! |---|---|
//! | enum | the position of the variant, as `u8` (up to 256 variants) or `u16` |
//! | enum with explicit discriminants | the discriminant, as `i64` |
//! | the same with `#[repr(u8)]` or another integer | the discriminant, as that type |
//! | struct | its fields one after the other, in the order of declaration |
//!
//! Encoded keys are compared with keys that were encoded before, so a variant is added at the end,
//! or the discriminants are explicit.

#![forbid(unsafe_code)]

mod attribute;
mod crate_path;
mod errors;
mod key;
mod names;
mod table;

use proc_macro::TokenStream;
use syn::{DeriveInput, Error, parse_macro_input};

/// Implements `fsmdb::Table` for a struct and gives it a constant for each of its indexes.
///
/// See the [attributes](crate#derivetable).
#[proc_macro_derive(Table, attributes(table, key, index))]
pub fn derive_table(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    table::derive(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// Implements `fsmdb::Key` for an enum without fields or a struct of keys.
///
/// See the [encodings](crate#derivekey).
#[proc_macro_derive(Key, attributes(key))]
pub fn derive_key(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    key::derive(&input).unwrap_or_else(Error::into_compile_error).into()
}
