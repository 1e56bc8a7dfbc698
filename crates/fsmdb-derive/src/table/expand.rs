//! Writes the implementation of `fsmdb::Table` and the constants that are the handles.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;

use super::extract::variable;
use super::index::{Entries, Index, Returns, Source};
use super::parse::Table;
use super::push::Push;
use crate::crate_path::{CratePath, shown_at};

/// The code that the derive adds.
pub(super) fn expand(table: &Table<'_>) -> TokenStream {
    let Table { ident, krate, name, version, tombstones, key_names, .. } = table;
    let (key, primary_key) = (key(table), encode_primary_key(table));
    let migrate_row = migrate_row(table);
    let handles = table.indexes.iter().enumerate().map(|(at, index)| handle(table, index, at));
    let definitions = table.indexes.iter().map(|index| definition(table, index));
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

            const KEY_FIELDS: &'static [&'static ::core::primitive::str] = &[#(#key_names),*];

            const TOMBSTONES: ::core::primitive::usize = #tombstones;

            fn encode_primary_key(&self, out: &mut #krate::KeyBuf) {
                #primary_key
            }

            fn indexes() -> ::std::vec::Vec<#krate::IndexDef<Self>> {
                ::std::vec![#(#definitions),*]
            }

            #migrate_row
        }
    }
}

/// The method that calls the user's migration; without one, the trait's refuses.
///
/// The path of the user's function is in the scope of the parameters, hence their spans.
fn migrate_row(table: &Table<'_>) -> Option<TokenStream> {
    let path = table.migrate.as_ref()?;
    let (from, row, migrate) = (variable("from"), variable("row"), variable("migrate"));
    let krate = table.krate.shown_at(path.span());
    let function = quote_spanned! {shown_at(path.span())=>
        let #migrate: fn(
            ::core::primitive::u32,
            &mut #krate::Value,
        ) -> ::core::result::Result<(), #krate::MigrationError> = #path;
    };
    let krate = &table.krate;
    Some(quote! {
        fn migrate_row(
            #from: ::core::primitive::u32,
            #row: &mut #krate::Value,
        ) -> ::core::result::Result<(), #krate::MigrationError> {
            #function
            #migrate(#from, #row)
        }
    })
}

/// The type of the primary key; a tuple is shown at the name of the struct.
fn key(table: &Table<'_>) -> TokenStream {
    match table.keys.as_slice() {
        [one] => one.ty.to_token_stream(),
        several => {
            let types = several.iter().map(|field| &field.ty);
            quote_spanned!(shown_at(table.ident.span())=> (#(#types),*))
        }
    }
}

/// Encodes the key fields, several of them as the tuple of their references.
///
/// A function that is generic over their types shows one that is no key at that type.
fn encode_primary_key(table: &Table<'_>) -> TokenStream {
    let krate = &table.krate;
    let this = quote!(self);
    let values = table.keys.iter().map(|field| {
        let (ident, span) = (&field.ident, shown_at(field.ty.span()));
        quote_spanned!(span=> &#this.#ident)
    });
    let types = table.keys.iter().map(|field| &field.ty);
    let parameters: Vec<_> = (0..table.keys.len()).map(|at| format_ident!("__K{at}")).collect();
    let names: Vec<_> = (0..table.keys.len()).map(|at| format_ident!("value_{at}")).collect();
    let (key, value) = match table.keys.len() {
        1 => (quote!(#(#parameters)*), quote!(#(#names)*)),
        _ => (quote!((#(#parameters),*)), quote!(&(#(#names),*))),
    };
    quote! {
        fn __fsmdb_encode<#(#parameters: #krate::Key),*>(
            out: &mut #krate::KeyBuf,
            #(#names: &#parameters),*
        ) {
            #krate::AsKey::<#key>::encode_key(#value, out);
        }

        __fsmdb_encode::<#(#types),*>(out, #(#values),*);
    }
}

/// The name of the handle, shown at `location`.
fn handle_ident(index: &Index<'_>, location: Span) -> Ident {
    Ident::new(&index.handle(), shown_at(location))
}

fn handle(table: &Table<'_>, index: &Index<'_>, position: usize) -> TokenStream {
    let Table { ident, visibility, krate, .. } = table;
    let location = index.source.span(index);
    let handle = handle_ident(index, index.name_span);
    let (name, key) = (&index.name, index.source.key(location, krate));
    let cardinality = cardinality(index, krate);
    let doc = describe(index);
    let krate = krate.shown_at(location);
    let ty = quote_spanned!(shown_at(location)=> #krate::Index<#ident, #key, #cardinality>);
    let new = quote_spanned!(shown_at(location)=> #krate::Index::new(#name, #position));
    quote! {
        #[doc = #doc]
        #visibility const #handle: #ty = #new;
    }
}

fn definition(table: &Table<'_>, index: &Index<'_>) -> TokenStream {
    let Table { ident, krate, .. } = table;
    let location = index.source.span(index);
    let span = shown_at(location);
    let push = Push::of(index);
    let extractor = index.extractor(push.as_ref(), krate);
    let handle = handle_ident(index, location);
    let handle = quote_spanned!(span=> Self::#handle);
    let cardinality = cardinality(index, krate);
    match push {
        Some(push) => push.define(ident, &handle, &cardinality, &extractor, krate),
        None => {
            let (key, krate) = (index.source.key(location, krate), krate.shown_at(location));
            quote_spanned! {span=>
                #krate::IndexDef::new::<#key, #cardinality>(#handle, #extractor)
            }
        }
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
