//! Writes the key type and the extractor of an index.
//!
//! Every expression about a field is shown at the type of the field, and every call of a function
//! of the user at its path, because that is where a type error is mended.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{ExprPath, Field};

use super::index::{Entries, Index, Order, Returns, Source};
use crate::crate_path::{CratePath, shown_at};

/// A variable of the extractor, which no path of the user can see or be hidden by.
fn variable(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

impl Source<'_> {
    /// Where errors about the key are shown.
    pub(super) fn span(&self) -> Span {
        match self {
            Self::Value { field, .. } => field.ty.span(),
            Self::Compound(components) => components[0].0.ty.span(),
            Self::Computed { key, .. } => key.span(),
        }
    }

    /// The type of the indexed value.
    pub(super) fn key(&self, krate: &CratePath) -> TokenStream {
        match self {
            Self::Value { field, entries, order } => {
                let krate = krate.shown_at(field.ty.span());
                order.key(&entries.key(field, &krate), &krate)
            }
            Self::Compound(components) => {
                let keys = components.iter().map(|(field, order)| {
                    order.key(&field.ty.to_token_stream(), &krate.shown_at(field.ty.span()))
                });
                quote!((#(#keys,)*))
            }
            Self::Computed { key, .. } => key.to_token_stream(),
        }
    }

    fn push(&self, krate: &CratePath) -> TokenStream {
        let (row, keys) = (variable("row"), variable("keys"));
        let key = self.key(krate);
        match self {
            Self::Value { field, entries, order } => push_value(field, entries, *order, krate),
            Self::Compound(components) => {
                let values = components.iter().map(|(field, order)| {
                    let (ident, span) = (&field.ident, shown_at(field.ty.span()));
                    order.value(&quote_spanned!(span=> &#row.#ident), field.ty.span(), krate)
                });
                quote!(#krate::IndexKeys::push::<#key, _>(#keys, &(#(#values,)*));)
            }
            Self::Computed { field, with, returns, .. } => {
                push_computed(*field, with, *returns, &key, krate)
            }
        }
    }
}

impl Index<'_> {
    /// The function that pushes the values under which a row is found.
    pub(super) fn extractor(&self, krate: &CratePath) -> TokenStream {
        let (row, keys, filter) = (variable("row"), variable("keys"), variable("filter"));
        let check = self.filter.as_ref().map(|path| {
            quote_spanned! {shown_at(path.span())=>
                let #filter: fn(&Self) -> ::core::primitive::bool = #path;
                if !#filter(#row) {
                    return;
                }
            }
        });
        let push = self.source.push(krate);
        quote! {
            |#row: &Self, #keys: &mut #krate::IndexKeys| {
                #check
                #push
            }
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
        quote_spanned!(shown_at(field.ty.span())=> <#container as #krate::Elements>::Key)
    }
}

impl Order {
    /// The key that stands in this order, made of `key`.
    fn key(self, key: &TokenStream, krate: &CratePath) -> TokenStream {
        let key = if self.fold { quote!(#krate::Folded) } else { key.clone() };
        if self.descending { quote!(#krate::Descending<#key>) } else { key }
    }

    /// What stands for that key, made of the expression `value`, which is a reference.
    fn value(self, value: &TokenStream, span: Span, krate: &CratePath) -> TokenStream {
        let span = shown_at(span);
        let krate = krate.shown_at(span);
        let value = if self.fold {
            quote_spanned! {span=>
                ::core::convert::AsRef::<::core::primitive::str>::as_ref(#value)
            }
        } else {
            value.clone()
        };
        if self.descending { quote_spanned!(span=> #krate::Descending(#value)) } else { value }
    }
}

fn push_value(
    field: &Field,
    entries: &Entries<'_>,
    order: Order,
    krate: &CratePath,
) -> TokenStream {
    let (row, keys) = (variable("row"), variable("keys"));
    let (inside, entry) = (variable("inside"), variable("entry"));
    let (ident, span) = (&field.ident, shown_at(field.ty.span()));
    let krate = krate.shown_at(field.ty.span());
    let key = order.key(&entries.key(field, &krate), &krate);
    let value = quote_spanned!(span=> &#row.#ident);
    let push = |value: TokenStream| {
        let value = order.value(&value, span, &krate);
        quote_spanned!(span=> #krate::IndexKeys::push::<#key, _>(#keys, &#value);)
    };
    let some = quote_spanned!(span=> ::core::option::Option::Some);
    match entries {
        Entries::One => push(value),
        Entries::Optional(_) => {
            let push = push(quote!(#entry));
            quote_spanned!(span=> if let #some(#entry) = #value { #push })
        }
        Entries::Multi => {
            let push = push(quote!(#entry));
            quote_spanned!(span=> for #entry in #value { #push })
        }
        Entries::OptionalMulti(_) => {
            let push = push(quote!(#entry));
            quote_spanned! {span=>
                if let #some(#inside) = #value {
                    for #entry in #inside { #push }
                }
            }
        }
    }
}

fn push_computed(
    field: Option<&Field>,
    with: &ExprPath,
    returns: Returns,
    key: &TokenStream,
    krate: &CratePath,
) -> TokenStream {
    let (row, keys, entry) = (variable("row"), variable("keys"), variable("entry"));
    let span = shown_at(with.span());
    let krate = krate.shown_at(with.span());
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
