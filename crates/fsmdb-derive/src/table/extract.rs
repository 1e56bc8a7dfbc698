//! Writes the key type of an index and its extractor.
//!
//! A mistake in a type is shown where it is mended: at the type of the field, or at the path of the
//! user's function. All tokens of an expression are shown at one place for that reason.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{ExprPath, Field};

use super::index::{Entries, Index, Order, Returns, Source};
use super::push::Push;
use crate::crate_path::{CratePath, shown_at};

/// A variable of the extractor, which no path of the user can see or be hidden by.
pub(super) fn variable(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// `ident`, meaning what it means, shown at `location`.
fn moved(mut ident: Ident, location: Span) -> Ident {
    ident.set_span(ident.span().located_at(location));
    ident
}

impl Order {
    /// The key that stands in this order, made of `key`.
    pub(super) fn key(self, key: &TokenStream, span: Span, krate: &CratePath) -> TokenStream {
        let (span, krate) = (shown_at(span), krate.shown_at(span));
        let key = if self.fold { quote_spanned!(span=> #krate::Folded) } else { key.clone() };
        if self.descending { quote_spanned!(span=> #krate::Descending<#key>) } else { key }
    }

    /// What is pushed for the expression `value`, a reference: the text if this order folds.
    pub(super) fn text_of(self, value: TokenStream, span: Span) -> TokenStream {
        if !self.fold {
            return value;
        }
        quote_spanned! {shown_at(span)=>
            ::core::convert::AsRef::<::core::primitive::str>::as_ref(#value)
        }
    }

    /// What stands for the key in this order, made of what [`text_of`](Self::text_of) gave.
    pub(super) fn wrap(self, value: TokenStream, span: Span, krate: &CratePath) -> TokenStream {
        if !self.descending {
            return value;
        }
        let (span, krate) = (shown_at(span), krate.shown_at(span));
        quote_spanned!(span=> #krate::Descending(#value))
    }
}

impl Source<'_> {
    /// Where mistakes in the key are shown, if they are not those of one component.
    pub(super) fn span(&self, index: &Index<'_>) -> Span {
        match self {
            Self::Value { field, .. } => field.ty.span(),
            Self::Compound(_) => index.name_span,
            Self::Computed { key, .. } => key.span(),
        }
    }

    /// The type of the indexed value; a tuple is shown at `span`.
    pub(super) fn key(&self, span: Span, krate: &CratePath) -> TokenStream {
        match self {
            Self::Value { field, entries, order } => {
                let span = field.ty.span();
                order.key(&entries.key(field, krate), span, krate)
            }
            Self::Compound(components) => {
                let keys = components.iter().map(|(field, order)| {
                    order.key(&field.ty.to_token_stream(), field.ty.span(), krate)
                });
                quote_spanned!(shown_at(span)=> (#(#keys,)*))
            }
            Self::Computed { key, .. } => key.to_token_stream(),
        }
    }
}

impl Entries<'_> {
    /// The type of one entry, before it is ordered.
    fn key(&self, field: &Field, krate: &CratePath) -> TokenStream {
        let container = match self {
            Self::One => return field.ty.to_token_stream(),
            Self::Optional(inside) => return inside.to_token_stream(),
            Self::Multi => &field.ty,
            Self::OptionalMulti(inside) => inside,
        };
        let (span, krate) = (shown_at(field.ty.span()), krate.shown_at(field.ty.span()));
        quote_spanned!(span=> <#container as #krate::Elements>::Key)
    }
}

impl Index<'_> {
    /// The function that pushes the values under which a row is found.
    pub(super) fn extractor(&self, push: Option<&Push<'_>>, krate: &CratePath) -> TokenStream {
        let (row, keys, filter) = (variable("row"), variable("keys"), variable("filter"));
        let check = self.filter.as_ref().map(|path| {
            quote_spanned! {shown_at(path.span())=>
                let #filter: fn(&Self) -> ::core::primitive::bool = #path;
                if !#filter(#row) {
                    return;
                }
            }
        });
        let key = self.source.key(self.source.span(self), krate);
        let body = match (&self.source, push) {
            (Source::Computed { field, with, returns, .. }, _) => {
                push_computed(*field, with, *returns, &key, krate)
            }
            (Source::Value { field, entries: Entries::Optional(_), .. }, Some(push)) => {
                push_optional(field, push)
            }
            (Source::Value { field, .. }, Some(push)) => push.call(&[value_of(field)]),
            (Source::Compound(components), Some(push)) => {
                let values: Vec<_> = components.iter().map(|(field, _)| value_of(field)).collect();
                push.call(&values)
            }
            (Source::Value { field, entries, order }, None) => {
                push_elements(field, entries, *order, &key, krate)
            }
            (Source::Compound(_), None) => unreachable!("components are pushed together"),
        };
        quote!(|#row: &Self, #keys: &mut #krate::IndexKeys| { #check #body })
    }
}

/// A reference to the value of `field`.
fn value_of(field: &Field) -> TokenStream {
    let (location, row) = (field.ty.span(), variable("row"));
    let ident = field.ident.clone().map(|ident| moved(ident, location));
    quote_spanned!(shown_at(location)=> &#row.#ident)
}

fn push_optional(field: &Field, push: &Push<'_>) -> TokenStream {
    let (entry, value) = (moved(variable("entry"), field.ty.span()), value_of(field));
    let push = push.call(&[entry.to_token_stream()]);
    quote_spanned! {shown_at(field.ty.span())=>
        if let ::core::option::Option::Some(#entry) = #value { #push }
    }
}

/// Pushes each element of the container, which may be in an `Option`.
fn push_elements(
    field: &Field,
    entries: &Entries<'_>,
    order: Order,
    key: &TokenStream,
    krate: &CratePath,
) -> TokenStream {
    let (location, keys, value) = (field.ty.span(), variable("keys"), value_of(field));
    let (span, krate) = (shown_at(location), krate.shown_at(location));
    let (entry, inside) = (moved(variable("entry"), location), moved(variable("inside"), location));
    let text = order.text_of(entry.to_token_stream(), location);
    let pushed = order.wrap(text, location, &krate);
    let push = quote_spanned!(span=> #krate::IndexKeys::push::<#key, _>(#keys, &#pushed););
    match entries {
        Entries::OptionalMulti(_) => quote_spanned! {span=>
            if let ::core::option::Option::Some(#inside) = #value {
                for #entry in #inside { #push }
            }
        },
        _ => quote_spanned!(span=> for #entry in #value { #push }),
    }
}

/// Pushes what the function of the user returns.
fn push_computed(
    field: Option<&Field>,
    with: &ExprPath,
    returns: Returns,
    key: &TokenStream,
    krate: &CratePath,
) -> TokenStream {
    let (row, keys, entry) = (variable("row"), variable("keys"), variable("entry"));
    let (span, krate) = (shown_at(with.span()), krate.shown_at(with.span()));
    let argument = match field.map(|field| &field.ident) {
        Some(ident) => quote_spanned!(span=> &#row.#ident),
        None => quote_spanned!(span=> #row),
    };
    let call = quote_spanned!(span=> #with(#argument));
    let push = |value| quote_spanned!(span=> #krate::IndexKeys::push::<#key, _>(#keys, &#value););
    match returns {
        Returns::One => push(call),
        Returns::Optional => {
            let push = push(entry.to_token_stream());
            quote_spanned! {span=>
                if let ::core::option::Option::Some(#entry) = #call { #push }
            }
        }
        Returns::Multi => {
            let push = push(entry.to_token_stream());
            quote_spanned!(span=> for #entry in #call { #push })
        }
    }
}
