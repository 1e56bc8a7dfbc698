//! The names that fields have where rows are encoded, as far as the attributes of `serde` tell.

use syn::ext::IdentExt;
use syn::{Attribute, DeriveInput, Expr, Field, Lit, Token, punctuated::Punctuated};

/// The names of the key fields in an encoded row; none when an attribute of `serde` changes them in
/// a way that is not known here.
pub(super) fn key_names(input: &DeriveInput, keys: &[&Field]) -> Vec<String> {
    if options(&input.attrs).any(|(name, _)| name.starts_with("rename") || name == "transparent") {
        return Vec::new();
    }
    let names = keys.iter().map(|field| name_of(field)).collect::<Option<Vec<_>>>();
    names.unwrap_or_default()
}

fn name_of(field: &Field) -> Option<String> {
    let mut name = field.ident.as_ref()?.unraw().to_string();
    for (option, value) in options(&field.attrs) {
        match (option.as_str(), value) {
            ("rename", Some(renamed)) => name = renamed,
            ("rename" | "skip" | "skip_serializing" | "flatten", _) => return None,
            _ => (),
        }
    }
    Some(name)
}

/// The options of all `#[serde(...)]`, with their texts.
fn options(attributes: &[Attribute]) -> impl Iterator<Item = (String, Option<String>)> {
    let serde = attributes.iter().filter(|attribute| attribute.path().is_ident("serde"));
    let lists = serde.filter_map(|attribute| {
        attribute.parse_args_with(Punctuated::<syn::Meta, Token![,]>::parse_terminated).ok()
    });
    lists.flatten().filter_map(|meta| {
        let name = meta.path().get_ident()?.to_string();
        let text = meta.require_name_value().ok().and_then(|pair| match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        });
        Some((name, text))
    })
}
