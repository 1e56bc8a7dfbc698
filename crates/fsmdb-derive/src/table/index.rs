//! What kind of index an `#[index(...)]` asks for, and whether its options go together.

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::{Error, ExprPath, Field, GenericArgument, PathArguments, Result, Token, Type};

use super::options::{Component, IndexOptions};
use crate::attribute::Given;
use crate::names::{check_index_name, handle_of};

/// The widest compound key: the longest tuple that is a key.
pub(super) const COMPONENTS_MAX: usize = 6;

/// One index of a table.
pub(super) struct Index<'a> {
    pub(super) name: String,
    pub(super) name_span: Span,
    pub(super) unique: bool,
    pub(super) filter: Option<ExprPath>,
    pub(super) source: Source<'a>,
}

/// What the values of an index come from.
pub(super) enum Source<'a> {
    /// The value of a field, or what is in it.
    Value { field: &'a Field, entries: Entries<'a>, order: Order },
    /// The tuple of several fields.
    Compound(Vec<(&'a Field, Order)>),
    /// What the function `with` makes of a field, or of the whole row.
    Computed { field: Option<&'a Field>, with: ExprPath, key: Box<Type>, returns: Returns },
}

/// How many entries a field gives.
pub(super) enum Entries<'a> {
    /// One: the value.
    One,
    /// One if there is a value of this type in the `Option`.
    Optional(&'a Type),
    /// One an element.
    Multi,
    /// One an element of the container of this type, if there is one in the `Option`.
    OptionalMulti(&'a Type),
}

/// What a `with` function returns.
#[derive(Clone, Copy)]
pub(super) enum Returns {
    One,
    Optional,
    Multi,
}

/// In what order values stand.
#[derive(Clone, Copy)]
pub(super) struct Order {
    pub(super) fold: bool,
    pub(super) descending: bool,
}

impl<'a> Index<'a> {
    /// The index that `options` on `field` ask for.
    pub(super) fn of_field(field: &'a Field, options: IndexOptions) -> Result<Self> {
        let source = match &options.with {
            Some(_) => {
                refuse(&options.fold, "`fold` does not go with `with`: use `key = Folded`")?;
                refuse(
                    &options.descending,
                    "`descending` does not go with `with`: use `key = Descending<Type>`",
                )?;
                computed(Some(field), &options)?
            }
            None => value(field, &options)?,
        };
        let ident = field.ident.as_ref().map(|ident| (ident.unraw().to_string(), ident.span()));
        Self::new(options, ident, source)
    }

    /// The index that `options` on a struct of `fields` ask for.
    pub(super) fn of_struct(fields: &[&'a Field], options: IndexOptions) -> Result<Self> {
        let source = match (&options.on, &options.with) {
            (Some(_), Some((span, _))) => {
                let message = "`with` does not go with `on`: an index is computed or compound";
                return Err(Error::new(*span, message));
            }
            (Some((span, on)), None) => {
                refuse(&options.key, "`key` goes with `with`; the key of `on` is a tuple")?;
                refuse(&options.multi, "`multi` goes with `with`, not with `on`")?;
                refuse(&options.optional, "`optional` goes with `with`, not with `on`")?;
                compound(*span, on, fields)?
            }
            (None, Some(_)) => computed(None, &options)?,
            (None, None) => {
                let message = "an index on the struct says what it is on: `on = (field, ...)` or \
                               `with = path, key = Type`";
                return Err(Error::new(options.span, message));
            }
        };
        Self::new(options, None, source)
    }

    fn new(
        options: IndexOptions,
        field: Option<(String, Span)>,
        source: Source<'a>,
    ) -> Result<Self> {
        let given = options.name.map(|(_, name)| (name.value(), name.span()));
        let Some((name, name_span)) = given.or(field) else {
            let message = "an index on the struct has a name: `name = \"...\"`";
            return Err(Error::new(options.span, message));
        };
        check_index_name(&name).map_err(|message| Error::new(name_span, message))?;
        let filter = options.filter.map(|(_, path)| path);
        Ok(Self { name, name_span, unique: options.unique.is_some(), filter, source })
    }

    /// The name of the constant that is the handle.
    pub(super) fn handle(&self) -> String {
        handle_of(&self.name)
    }
}

/// Fails with `message` at an option that was given.
fn refuse<T>(option: &Given<T>, message: &str) -> Result<()> {
    option.as_ref().map_or(Ok(()), |(span, _)| Err(Error::new(*span, message)))
}

fn value<'a>(field: &'a Field, options: &IndexOptions) -> Result<Source<'a>> {
    refuse(&options.key, "`key` goes with `with = path`; a field is indexed by its own type")?;
    refuse(
        &options.optional,
        "`optional` goes with `with = path`; a field of type `Option` is optional by itself",
    )?;
    let entries = match (inside_option(&field.ty), &options.multi) {
        (None, None) => Entries::One,
        (None, Some(_)) => Entries::Multi,
        (Some(inside), None) => Entries::Optional(inside),
        (Some(inside), Some(_)) => Entries::OptionalMulti(inside),
    };
    let order = Order { fold: options.fold.is_some(), descending: options.descending.is_some() };
    Ok(Source::Value { field, entries, order })
}

fn computed<'a>(field: Option<&'a Field>, options: &IndexOptions) -> Result<Source<'a>> {
    let Some((span, with)) = &options.with else {
        unreachable!("asked for only when `with` is given");
    };
    let Some((_, key)) = &options.key else {
        let message = "`with` needs to know what the function returns: `with = path, key = Type`";
        return Err(Error::new(*span, message));
    };
    let returns = match (&options.optional, &options.multi) {
        (None, None) => Returns::One,
        (Some(_), None) => Returns::Optional,
        (None, Some(_)) => Returns::Multi,
        (Some(_), Some((span, ()))) => {
            let message = "`multi` does not go with `optional`: the function returns an `Option` \
                           or an iterator";
            return Err(Error::new(*span, message));
        }
    };
    Ok(Source::Computed { field, with: with.clone(), key: Box::new(key.clone()), returns })
}

fn compound<'a>(
    span: Span,
    on: &Punctuated<Component, Token![,]>,
    fields: &[&'a Field],
) -> Result<Source<'a>> {
    if !(1..=COMPONENTS_MAX).contains(&on.len()) {
        let message = format!("`on` takes 1 to {COMPONENTS_MAX} fields, not {}", on.len());
        return Err(Error::new(span, message));
    }
    let mut components: Vec<(&Field, Order)> = Vec::new();
    for Component { field: ident, fold, descending } in on {
        let Some(field) = fields.iter().find(|field| field.ident.as_ref() == Some(ident)) else {
            let names: Vec<_> = fields.iter().filter_map(|field| field.ident.as_ref()).collect();
            let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            let message = format!("no field `{ident}`; the fields are {}", names.join(", "));
            return Err(Error::new(ident.span(), message));
        };
        if components.iter().any(|(other, _)| other.ident == field.ident) {
            let message = format!("`{ident}` is given twice; a component more adds no order");
            return Err(Error::new(ident.span(), message));
        }
        components.push((field, Order { fold: *fold, descending: *descending }));
    }
    Ok(Source::Compound(components))
}

/// The `T` of a type that is spelled `Option<T>`, by whatever path.
fn inside_option(ty: &Type) -> Option<&Type> {
    match ty {
        Type::Group(group) => inside_option(&group.elem),
        Type::Paren(paren) => inside_option(&paren.elem),
        Type::Path(path) => {
            let last = path.path.segments.last().filter(|last| last.ident == "Option")?;
            let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
            match arguments.args.first() {
                Some(GenericArgument::Type(inside)) if arguments.args.len() == 1 => Some(inside),
                _ => None,
            }
        }
        _ => None,
    }
}
