//! `#[derive(Key)]`: enums without fields by their discriminants, structs by their fields.

mod of_enum;
mod of_struct;

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Path, Result};

use crate::attribute::{Given, read_options};
use crate::crate_path::{CratePath, shown_at};

/// The bodies of the two methods, over the variables `self`, `out` and `reader`.
struct Bodies {
    encode: TokenStream,
    decode: TokenStream,
}

/// The code that `#[derive(Key)]` adds to `input`.
pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    if !input.generics.params.is_empty() {
        let message = "a derived key has no generics: implement `Key` and `AsKey` by hand, or \
                       derive them for each type that you need";
        return Err(Error::new(input.generics.params.span(), message));
    }
    let krate = crate_option(input)?;
    let Bodies { encode, decode } = match &input.data {
        Data::Enum(data) => of_enum::bodies(input, data, &krate)?,
        Data::Struct(data) => of_struct::bodies(input, data, &krate)?,
        Data::Union(data) => {
            let message = "a key is an enum without fields or a struct of keys, not a union";
            return Err(Error::new(data.union_token.span(), message));
        }
    };
    let ident = &input.ident;
    let at_ident = krate.shown_at(ident.span());
    // Shown at the name of the type, which is where a missing `Debug` belongs.
    let implements = quote_spanned!(shown_at(ident.span())=> #at_ident::Key for #ident);
    Ok(quote! {
        #[automatically_derived]
        impl #krate::AsKey<#ident> for #ident {
            fn encode_key(&self, out: &mut #krate::KeyBuf) {
                #encode
            }
        }

        #[automatically_derived]
        impl #implements {
            fn decode_key(
                reader: &mut #krate::KeyReader<'_>,
            ) -> ::core::result::Result<Self, #krate::KeyError> {
                #decode
            }
        }
    })
}

/// What `#[key(...)]` on the type says.
///
/// A field may carry the `#[key]` of a table that is itself a key, so fields are not looked at.
fn crate_option(input: &DeriveInput) -> Result<CratePath> {
    let mut krate: Given<Path> = None;
    for attribute in input.attrs.iter().filter(|one| one.path().is_ident("key")) {
        read_options(attribute, |option| match option.name() {
            "crate" => option.set_crate(&mut krate),
            _ => Err(option.unknown("`crate = \"path\"`")),
        })?;
    }
    Ok(CratePath::new(krate.map(|(_, path)| path)))
}
