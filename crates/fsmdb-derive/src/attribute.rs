//! Reads the options in the parentheses of an attribute, each at most once.

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::meta::ParseNestedMeta;
use syn::parse::{Parse, ParseBuffer, ParseStream};
use syn::spanned::Spanned;
use syn::{Attribute, Error, LitStr, Meta, Path, Result, Token, token};

/// An option and where its name stands; nothing if it was not given.
pub(crate) type Given<T> = Option<(Span, T)>;

/// Calls `read` for each option of `attribute`; without parentheses there is none.
pub(crate) fn read_options(
    attribute: &Attribute,
    mut read: impl FnMut(&AttributeOption<'_>) -> Result<()>,
) -> Result<()> {
    if matches!(attribute.meta, Meta::Path(_)) {
        return Ok(());
    }
    attribute.parse_nested_meta(|meta| read(&AttributeOption::new(&meta)))
}

/// One option: its name, read, and its value, still to be read.
pub(crate) struct AttributeOption<'a> {
    name: String,
    span: Span,
    input: ParseStream<'a>,
}

impl<'a> AttributeOption<'a> {
    fn new(meta: &ParseNestedMeta<'a>) -> Self {
        let name = meta.path.get_ident().map(|ident| ident.unraw().to_string());
        let name = name.unwrap_or_else(|| "a path".into());
        Self { name, span: meta.path.span(), input: meta.input }
    }

    /// The name of the option.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// An error at the option.
    pub(crate) fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::new(self.span, message)
    }

    /// The error that there is no such option: `allowed` lists those that there are.
    pub(crate) fn unknown(&self, allowed: &str) -> Error {
        self.error(format!("unknown option `{}`; allowed are {allowed}", self.name))
    }

    /// Sets a flag, which stands alone.
    pub(crate) fn set_flag(&self, slot: &mut Given<()>) -> Result<()> {
        if self.input.peek(Token![=]) || self.input.peek(token::Paren) {
            return Err(self.error(format!("`{0}` is a flag: write `{0}` alone", self.name)));
        }
        self.set(slot, ())
    }

    /// Reads the value by `read` and sets the option; `example` shows how to write it.
    pub(crate) fn set_value<T>(
        &self,
        slot: &mut Given<T>,
        example: &str,
        read: impl FnOnce(ParseStream<'a>) -> Result<T>,
    ) -> Result<()> {
        if !self.input.peek(Token![=]) {
            return Err(self.error(format!("`{}` takes a value: `{example}`", self.name)));
        }
        self.input.parse::<Token![=]>()?;
        let value = read(self.input)
            .map_err(|error| Error::new(error.span(), format!("{error}; write `{example}`")))?;
        self.set(slot, value)
    }

    /// Reads a value that is parsed by its type.
    pub(crate) fn set_parsed<T: Parse>(&self, slot: &mut Given<T>, example: &str) -> Result<()> {
        self.set_value(slot, example, ParseBuffer::parse)
    }

    /// Reads the path of the crate `fsmdb`.
    pub(crate) fn set_crate(&self, slot: &mut Given<Path>) -> Result<()> {
        self.set_value(slot, "crate = \"path::to::fsmdb\"", |input| {
            input.parse::<LitStr>()?.parse_with(Path::parse_mod_style)
        })
    }

    fn set<T>(&self, slot: &mut Given<T>, value: T) -> Result<()> {
        if slot.is_some() {
            return Err(self.error(format!("`{}` is given twice; once is enough", self.name)));
        }
        *slot = Some((self.span, value));
        Ok(())
    }
}
