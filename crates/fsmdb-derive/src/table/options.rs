//! Reads one `#[index(...)]`, without asking what its options mean together.

use proc_macro2::Span;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, Error, ExprPath, Ident, LitStr, Result, Token, Type, parenthesized, token};

use crate::attribute::{AttributeOption, Given, read_options};

/// Where an `#[index(...)]` stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Field,
    Struct,
}

impl Place {
    fn allowed(self) -> &'static str {
        match self {
            Self::Field => {
                "`unique`, `multi`, `fold`, `descending`, `name = \"...\"`, `filter = path`, and \
                 `with = path, key = Type` with or without `optional`"
            }
            Self::Struct => {
                "`name = \"...\"`, `on = (field, ...)`, `unique`, `filter = path`, and \
                 `with = path, key = Type` with or without `optional` or `multi`"
            }
        }
    }
}

/// The options of one `#[index(...)]` as they are written.
pub(super) struct IndexOptions {
    /// The attribute, for errors about what is missing.
    pub(super) span: Span,
    pub(super) name: Given<LitStr>,
    pub(super) unique: Given<()>,
    pub(super) multi: Given<()>,
    pub(super) optional: Given<()>,
    pub(super) fold: Given<()>,
    pub(super) descending: Given<()>,
    pub(super) filter: Given<ExprPath>,
    pub(super) with: Given<ExprPath>,
    pub(super) key: Given<Type>,
    pub(super) on: Given<Punctuated<Component, Token![,]>>,
}

impl IndexOptions {
    /// Reads the options of `attribute`.
    pub(super) fn parse(attribute: &Attribute, place: Place) -> Result<Self> {
        let mut options = Self {
            span: attribute.path().span(),
            name: None,
            unique: None,
            multi: None,
            optional: None,
            fold: None,
            descending: None,
            filter: None,
            with: None,
            key: None,
            on: None,
        };
        read_options(attribute, |option| options.read(option, place))?;
        Ok(options)
    }

    fn read(&mut self, option: &AttributeOption<'_>, place: Place) -> Result<()> {
        match option.name() {
            "name" => option.set_parsed(&mut self.name, "name = \"...\""),
            "unique" => option.set_flag(&mut self.unique),
            "multi" => option.set_flag(&mut self.multi),
            "optional" => option.set_flag(&mut self.optional),
            "filter" => option.set_parsed(&mut self.filter, "filter = path::to::function"),
            "with" => option.set_parsed(&mut self.with, "with = path::to::function"),
            "key" => option.set_parsed(&mut self.key, "key = Type"),
            "on" if place == Place::Struct => {
                option.set_value(&mut self.on, "on = (field, ...)", read_components)
            }
            "on" => Err(option.error(
                "`on` belongs on the struct: `#[index(name = \"...\", on = (field, ...))]`",
            )),
            "fold" if place == Place::Field => option.set_flag(&mut self.fold),
            "descending" if place == Place::Field => option.set_flag(&mut self.descending),
            "fold" => {
                Err(option.error("`fold` goes around a component: `on = (fold(field), ...)`"))
            }
            "descending" => {
                Err(option.error("`descending` goes around a component: `on = (desc(field), ...)`"))
            }
            _ => Err(option.unknown(place.allowed())),
        }
    }
}

/// A component of a compound index: `field`, `desc(field)` or `fold(field)`.
pub(super) struct Component {
    pub(super) field: Ident,
    pub(super) fold: bool,
    pub(super) descending: bool,
}

impl Parse for Component {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let ident: Ident = input.parse()?;
        if !input.peek(token::Paren) {
            return Ok(Self { field: ident, fold: false, descending: false });
        }
        let content;
        parenthesized!(content in input);
        let mut component: Self = content.parse()?;
        let order = match ident.to_string().as_str() {
            "fold" => &mut component.fold,
            "desc" => &mut component.descending,
            other => {
                let message = format!(
                    "unknown component `{other}(...)`; allowed are a field, `desc(field)` and \
                     `fold(field)`"
                );
                return Err(Error::new(ident.span(), message));
            }
        };
        if std::mem::replace(order, true) {
            return Err(Error::new(ident.span(), format!("`{ident}` is given twice")));
        }
        if !content.is_empty() {
            return Err(content.error("a component is one field"));
        }
        Ok(component)
    }
}

fn read_components(input: ParseStream<'_>) -> Result<Punctuated<Component, Token![,]>> {
    let content;
    parenthesized!(content in input);
    content.parse_terminated(Component::parse, Token![,])
}
