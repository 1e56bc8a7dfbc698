//! Writes the implementation of `fsmdb::Table` and the constants that are the handles.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;

use super::index::{Entries, Index, Returns, Source};
use super::parse::Table;
use crate::crate_path::{CratePath, shown_at};

/// The code that the derive adds.
pub(super) fn expand(table: &Table<'_>) -> TokenStream {
    let Table { ident, krate, name, version, .. } = table;
    let (key, primary_key) = (key(table), encode_primary_key(table));
    let handles = table.indexes.iter().enumerate().map(|(at, index)| handle(table, index, at));
    let definitions = table.indexes.iter().map(|index| definition(index, krate));
    quote! {
        #[automatically_derived]
        impl #ident {
            #(#handles)*
        }

        #[automatically_derived]
        impl #krate::Table for #ident {
            type Key = #key;

            const NAME: &'static ::core::primitive::str = #name;

            const VERSION: ::core::primitive::u32 = #version;

            fn encode_primary_key(&self, out: &mut #krate::KeyBuf) {
                #primary_key
            }

            fn indexes() -> ::std::vec::Vec<#krate::IndexDef<Self>> {
                ::std::vec![#(#definitions),*]
            }
        }
    }
}

/// The type of the primary key.
fn key(table: &Table<'_>) -> TokenStream {
    match table.keys.as_slice() {
        [one] => one.ty.to_token_stream(),
        several => {
            let types = several.iter().map(|field| &field.ty);
            quote!((#(#types),*))
        }
    }
}

/// Encodes the key fields, several of them as the tuple of their references.
fn encode_primary_key(table: &Table<'_>) -> TokenStream {
    let this = quote!(self);
    let values = table.keys.iter().map(|field| {
        let (ident, span) = (&field.ident, shown_at(field.ty.span()));
        quote_spanned!(span=> &#this.#ident)
    });
    let span = shown_at(table.keys[0].ty.span());
    let krate = table.krate.shown_at(span);
    let value = if table.keys.len() == 1 { quote!(#(#values)*) } else { quote!(&(#(#values),*)) };
    let key = key(table);
    let out = quote!(out);
    quote_spanned!(span=> #krate::AsKey::<#key>::encode_key(#value, #out))
}

/// The name of the handle, shown at the name of the index.
fn handle_ident(index: &Index<'_>) -> Ident {
    Ident::new(&index.handle(), shown_at(index.name_span))
}

fn handle(table: &Table<'_>, index: &Index<'_>, position: usize) -> TokenStream {
    let Table { ident, visibility, krate, .. } = table;
    let (handle, name, key) = (handle_ident(index), &index.name, index.source.key(krate));
    let cardinality = cardinality(index, krate);
    let doc = describe(index);
    quote! {
        #[doc = #doc]
        #visibility const #handle: #krate::Index<#ident, #key, #cardinality> =
            #krate::Index::new(#name, #position);
    }
}

fn definition(index: &Index<'_>, krate: &CratePath) -> TokenStream {
    let span = shown_at(index.source.span());
    let extractor = index.extractor(krate);
    let (handle, key) = (handle_ident(index), index.source.key(krate));
    let cardinality = cardinality(index, krate);
    let krate = krate.shown_at(span);
    quote_spanned! {span=>
        #krate::IndexDef::new::<#key, #cardinality>(Self::#handle, #extractor)
    }
}

fn cardinality(index: &Index<'_>, krate: &CratePath) -> TokenStream {
    if index.unique { quote!(#krate::Unique) } else { quote!(#krate::Many) }
}

/// One sentence for the documentation of the handle.
fn describe(index: &Index<'_>) -> String {
    let kind = if index.unique { "unique index" } else { "index" };
    let condition = match index.filter {
        Some(_) => ", of the rows that its filter lets in",
        None => "",
    };
    format!("The {kind} `{}`, {}{condition}.", index.name, describe_source(&index.source))
}

fn describe_source(source: &Source<'_>) -> String {
    let named = |field: &syn::Field| {
        field.ident.as_ref().map_or_else(String::new, |ident| format!("`{}`", ident.unraw()))
    };
    match source {
        Source::Value { field, entries, .. } => match entries {
            Entries::One => format!("on {}", named(field)),
            Entries::Optional(_) => format!("on {} where it is present", named(field)),
            Entries::Multi | Entries::OptionalMulti(_) => {
                format!("on each element of {}", named(field))
            }
        },
        Source::Compound(components) => {
            let names: Vec<_> = components.iter().map(|(field, _)| named(field)).collect();
            format!("on {}", names.join(", "))
        }
        Source::Computed { field, returns, .. } => {
            let what = match returns {
                Returns::One => "on a value",
                Returns::Optional => "on an optional value",
                Returns::Multi => "on the values",
            };
            let from = field.map_or_else(|| "the row".into(), named);
            format!("{what} computed from {from}")
        }
    }
}
