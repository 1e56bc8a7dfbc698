//! Parses the struct and its attributes into a table, or into every error there is.

use std::collections::BTreeSet;

use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Error, ExprPath, Field, Fields, Ident, LitInt, LitStr, Meta,
    Path, Result, Visibility,
};

use super::index::{COMPONENTS_MAX, Index};
use super::options::{IndexOptions, Place};
use super::serialized::key_names;
use crate::attribute::{Given, read_options};
use crate::crate_path::CratePath;
use crate::errors::Errors;
use crate::names::check_table_name;

/// A table, checked as far as a macro can.
pub(super) struct Table<'a> {
    pub(super) ident: &'a Ident,
    pub(super) visibility: &'a Visibility,
    pub(super) krate: CratePath,
    pub(super) name: LitStr,
    pub(super) version: u32,
    /// The function that makes rows of older versions newer.
    pub(super) migrate: Option<ExprPath>,
    pub(super) tombstones: usize,
    /// The fields of the primary key, in the order of declaration.
    pub(super) keys: Vec<&'a Field>,
    /// Their names in an encoded row, if they are known.
    pub(super) key_names: Vec<String>,
    /// The indexes in the order of their positions.
    pub(super) indexes: Vec<Index<'a>>,
}

impl<'a> Table<'a> {
    /// Parses the input of the derive.
    pub(super) fn parse(input: &'a DeriveInput) -> Result<Self> {
        let fields = named_fields(input)?;
        let mut errors = Errors::default();
        let options = errors.keep(TableOptions::parse(input));
        let keys = errors.keep(primary_key(input, &fields));
        let indexes = parse_indexes(input, &fields, &mut errors);
        errors.finish()?;
        let (Some(options), Some(keys)) = (options, keys) else {
            unreachable!("what is missing has left an error");
        };
        Ok(Self {
            ident: &input.ident,
            visibility: &input.vis,
            krate: options.krate,
            name: options.name,
            version: options.version,
            migrate: options.migrate,
            tombstones: options.tombstones,
            key_names: key_names(input, &keys),
            keys,
            indexes,
        })
    }
}

/// The fields of a struct that can be a table.
fn named_fields(input: &DeriveInput) -> Result<Vec<&Field>> {
    let (at, what) = match &input.data {
        Data::Enum(data) => (data.enum_token.span(), "an enum"),
        Data::Union(data) => (data.union_token.span(), "a union"),
        Data::Struct(data) => match &data.fields {
            Fields::Named(_) if !input.generics.params.is_empty() => {
                (input.generics.params.span(), "a generic struct")
            }
            Fields::Named(fields) => return Ok(fields.named.iter().collect()),
            Fields::Unnamed(fields) => (fields.span(), "a tuple struct"),
            Fields::Unit => (input.ident.span(), "a struct without fields"),
        },
    };
    let message = format!("a table is a struct with named fields and no generics, not {what}");
    Err(Error::new(at, message))
}

/// What `#[table(...)]` says.
struct TableOptions {
    name: LitStr,
    version: u32,
    migrate: Option<ExprPath>,
    tombstones: usize,
    krate: CratePath,
}

impl TableOptions {
    fn parse(input: &DeriveInput) -> Result<Self> {
        let mut name: Given<LitStr> = None;
        let mut version: Given<LitInt> = None;
        let mut migrate: Given<ExprPath> = None;
        let mut tombstones: Given<LitInt> = None;
        let mut krate: Given<Path> = None;
        for attribute in input.attrs.iter().filter(|one| one.path().is_ident("table")) {
            read_options(attribute, |option| match option.name() {
                "name" => option.set_parsed(&mut name, "name = \"jobs\""),
                "version" => option.set_parsed(&mut version, "version = 1"),
                "migrate" => option.set_parsed(&mut migrate, "migrate = path::to::function"),
                "tombstones" => option.set_parsed(&mut tombstones, "tombstones = 4096"),
                "crate" => option.set_crate(&mut krate),
                _ => Err(option.unknown(
                    "`name = \"...\"`, `version = 1`, `migrate = path`, `tombstones = 4096` and \
                     `crate = \"path\"`",
                )),
            })?;
        }
        let Some((_, name)) = name else {
            let message = format!(
                "the table `{}` has no name in snapshots: add `#[table(name = \"...\")]`",
                input.ident.unraw()
            );
            return Err(Error::new(input.ident.span(), message));
        };
        check_table_name(&name.value()).map_err(|message| Error::new(name.span(), message))?;
        let version = number(version, "a version")?;
        let migrate = migration(version, migrate)?;
        let version = version.unwrap_or(1);
        let tombstones = number(tombstones, "the number of tombstones")?.unwrap_or(0) as usize;
        let krate = CratePath::new(krate.map(|(_, path)| path));
        Ok(Self { name, version, migrate, tombstones, krate })
    }
}

/// The function that migrates rows, which needs a version that they can come to.
fn migration(version: Option<u32>, migrate: Given<ExprPath>) -> Result<Option<ExprPath>> {
    let Some((span, path)) = migrate else { return Ok(None) };
    let message = match version {
        Some(1..) => return Ok(Some(path)),
        Some(0) => "there is no version before 0 that `migrate` could begin with",
        None => "`migrate` makes rows of the table's version of older ones: add `version = 2`",
    };
    Err(Error::new(span, message))
}

/// The value of an option that is a number.
fn number(given: Given<LitInt>, what: &str) -> Result<Option<u32>> {
    let Some((_, literal)) = given else { return Ok(None) };
    let number = literal.base10_parse().map_err(|_| {
        Error::new(literal.span(), format!("{what} is a number from 0 to {}", u32::MAX))
    })?;
    Ok(Some(number))
}

/// The fields that `#[key]` marks.
fn primary_key<'a>(input: &DeriveInput, fields: &[&'a Field]) -> Result<Vec<&'a Field>> {
    let mut keys = Vec::new();
    for field in fields {
        let mut marks = field.attrs.iter().filter(|one| one.path().is_ident("key"));
        let Some(mark) = marks.next() else { continue };
        if !matches!(mark.meta, Meta::Path(_)) {
            let message = "`#[key]` on a field takes no options; fields that are the primary key \
                           together each have their own";
            return Err(Error::new(mark.meta.span(), message));
        }
        if let Some(second) = marks.next() {
            return Err(Error::new(second.meta.span(), "`#[key]` is given twice; once is enough"));
        }
        keys.push(*field);
    }
    match keys.len() {
        0 => {
            let message = format!(
                "the table `{}` has no primary key: mark one field, or several, with `#[key]`",
                input.ident.unraw()
            );
            Err(Error::new(input.ident.span(), message))
        }
        1..=COMPONENTS_MAX => Ok(keys),
        count => {
            let message = format!("a primary key has up to {COMPONENTS_MAX} fields, not {count}");
            Err(Error::new(keys[COMPONENTS_MAX].span(), message))
        }
    }
}

/// The indexes of the fields, then those of the struct.
fn parse_indexes<'a>(
    input: &'a DeriveInput,
    fields: &[&'a Field],
    errors: &mut Errors,
) -> Vec<Index<'a>> {
    let mut parsed = Vec::new();
    for field in fields {
        errors.keep(refuse_table(field));
        for attribute in index_attributes(&field.attrs) {
            let options = IndexOptions::parse(attribute, Place::Field);
            parsed.push(options.and_then(|options| Index::of_field(field, options)));
        }
    }
    for attribute in index_attributes(&input.attrs) {
        let options = IndexOptions::parse(attribute, Place::Struct);
        parsed.push(options.and_then(|options| Index::of_struct(fields, options)));
    }
    let indexes: Vec<_> = parsed.into_iter().filter_map(|index| errors.keep(index)).collect();
    let mut names = BTreeSet::new();
    for index in &indexes {
        if !names.insert(index.name.as_str()) {
            let message = format!(
                "there is an index `{0}` already; give this one another name: `name = \"...\"`",
                index.name
            );
            errors.push(Error::new(index.name_span, message));
        }
    }
    indexes
}

fn index_attributes(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("index"))
}

fn refuse_table(field: &Field) -> Result<()> {
    match field.attrs.iter().find(|attribute| attribute.path().is_ident("table")) {
        Some(attribute) => {
            let message = "`#[table(...)]` belongs on the struct";
            Err(Error::new(attribute.path().span(), message))
        }
        None => Ok(()),
    }
}
