//! Enums without fields: the position of the variant, or its discriminant when it has one.
//!
//! Both give the order of a derived `Ord`, which compares discriminants.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{format_ident, quote};
use syn::ext::IdentExt;
use syn::{DataEnum, DeriveInput, Error, Fields, Meta, Result};

use super::Bodies;
use crate::crate_path::CratePath;
use crate::errors::Errors;

/// The integers that `#[repr]` can name.
const INTEGERS: [&str; 12] =
    ["u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize"];

/// The bodies for the enum `data` of `input`.
pub(super) fn bodies(input: &DeriveInput, data: &DataEnum, krate: &CratePath) -> Result<Bodies> {
    check_variants(input, data)?;
    let (code_type, codes) = codes(input, data)?;
    let variants: Vec<&Ident> = data.variants.iter().map(|variant| &variant.ident).collect();
    let expected = format!("a variant of {}", input.ident.unraw());
    let code = Ident::new("code", Span::mixed_site());
    let offset = Ident::new("offset", Span::mixed_site());
    Ok(Bodies {
        encode: quote! {
            let #code: #code_type = match self {
                #(Self::#variants => #codes,)*
            };
            <#code_type as #krate::AsKey<#code_type>>::encode_key(&#code, out)
        },
        decode: quote! {
            let #offset = #krate::KeyReader::position(reader);
            match <#code_type as #krate::Key>::decode_key(reader)? {
                #(#code if #code == #codes => ::core::result::Result::Ok(Self::#variants),)*
                _ => ::core::result::Result::Err(#krate::KeyError::Invalid {
                    offset: #offset,
                    expected: #expected,
                }),
            }
        },
    })
}

fn check_variants(input: &DeriveInput, data: &DataEnum) -> Result<()> {
    let mut errors = Errors::default();
    if data.variants.is_empty() {
        let message = format!(
            "`{}` has no variants, so there is no value to encode; a key has at least one variant",
            input.ident
        );
        errors.push(Error::new(input.ident.span(), message));
    }
    for variant in data.variants.iter().filter(|variant| !matches!(variant.fields, Fields::Unit)) {
        let message = format!(
            "the variant `{}` has fields, and a derived key has none: remove them, make the key a \
             struct of keys, or implement `Key` and `AsKey` by hand",
            variant.ident
        );
        errors.push(Error::new(variant.ident.span(), message));
    }
    errors.finish()
}

/// The integer type of the codes, and the code of each variant as a constant expression.
fn codes(input: &DeriveInput, data: &DataEnum) -> Result<(TokenStream, Vec<TokenStream>)> {
    if data.variants.iter().any(|variant| variant.discriminant.is_some()) {
        let variants = data.variants.iter().map(|variant| &variant.ident);
        return Ok(match represented_as(input)? {
            Some(integer) => (
                quote!(::core::primitive::#integer),
                variants
                    .map(|variant| quote!(Self::#variant as ::core::primitive::#integer))
                    .collect(),
            ),
            None => (
                quote!(::core::primitive::i64),
                variants
                    .map(|variant| {
                        quote! {
                            Self::#variant as ::core::primitive::isize as ::core::primitive::i64
                        }
                    })
                    .collect(),
            ),
        });
    }
    let count = data.variants.len();
    let (integer, literal): (_, fn(usize) -> Literal) = match count {
        0..=0x100 => ("u8", |at| Literal::u8_suffixed(at as u8)),
        0x101..=0x1_0000 => ("u16", |at| Literal::u16_suffixed(at as u16)),
        _ => {
            let message = format!("a derived key has up to 65536 variants, not {count}");
            return Err(Error::new(input.ident.span(), message));
        }
    };
    let integer = format_ident!("{integer}");
    let codes = (0..count).map(|at| {
        let literal = literal(at);
        quote!(#literal)
    });
    Ok((quote!(::core::primitive::#integer), codes.collect()))
}

/// The integer that `#[repr]` names, if it does.
fn represented_as(input: &DeriveInput) -> Result<Option<Ident>> {
    let mut integer = None;
    for attribute in input.attrs.iter().filter(|one| one.path().is_ident("repr")) {
        if !matches!(attribute.meta, Meta::List(_)) {
            continue;
        }
        attribute.parse_nested_meta(|meta| {
            if let Some(ident) = meta.path.get_ident() {
                if INTEGERS.iter().any(|name| ident == name) {
                    integer = Some(Ident::new(&ident.to_string(), Span::call_site()));
                } else if meta.input.peek(syn::token::Paren) {
                    // `align(8)`, which says nothing of the discriminant.
                    let content;
                    syn::parenthesized!(content in meta.input);
                    content.parse::<TokenStream>()?;
                }
            }
            Ok(())
        })?;
    }
    Ok(integer)
}
