//! Structs of keys: the fields one after the other.
//!
//! Each encoding is prefix-free, so their concatenation has the lexicographic order that a derived
//! `Ord` has.

use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{DataStruct, DeriveInput, Error, Result};

use super::Bodies;
use crate::crate_path::{CratePath, shown_at};

/// The bodies for the struct `data` of `input`.
pub(super) fn bodies(input: &DeriveInput, data: &DataStruct, krate: &CratePath) -> Result<Bodies> {
    if data.fields.is_empty() {
        let message = format!(
            "`{}` has no fields, so it has one value and cannot tell rows apart; a key has at \
             least one field",
            input.ident
        );
        return Err(Error::new(input.ident.span(), message));
    }
    let (this, out, reader) = (quote!(self), quote!(out), quote!(reader));
    let parts = data.fields.iter().zip(data.fields.members());
    let (encode, decode): (Vec<_>, Vec<_>) = parts
        .map(|(field, member)| {
            let (ty, span) = (&field.ty, shown_at(field.ty.span()));
            let krate = krate.shown_at(span);
            let encode = quote_spanned! {span=>
                <#ty as #krate::AsKey<#ty>>::encode_key(&#this.#member, #out);
            };
            let decode = quote_spanned! {span=>
                #member: <#ty as #krate::Key>::decode_key(#reader)?
            };
            (encode, decode)
        })
        .unzip();
    Ok(Bodies {
        encode: quote!(#(#encode)*),
        decode: quote!(::core::result::Result::Ok(Self { #(#decode),* })),
    })
}
