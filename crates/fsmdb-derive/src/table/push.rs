//! Functions, generic over the types of the fields, through which an index on fields is defined
//! and its values are pushed.
//!
//! They exist for the sake of errors. Without them a field that is no key is an error about the
//! key of the index (`(u64, Point)`, `Descending<Point>`) wherever that key is used; with them it
//! is one error about the field's type, shown at that type.
//!
//! The paths of the user's functions are in scope of theirs, and the row's type in scope of their
//! parameters, hence the odd names.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::Type;
use syn::spanned::Spanned;

use super::extract::variable;
use super::index::{Entries, Index, Order, Source};
use crate::crate_path::CratePath;

/// One component of the key: the type of the field, or what is in its `Option`.
struct Component<'a> {
    ty: &'a Type,
    location: Span,
    order: Order,
}

/// The two functions of one index.
pub(super) struct Push<'a> {
    components: Vec<Component<'a>>,
    is_tuple: bool,
}

impl<'a> Push<'a> {
    /// Those of `index`; nothing if it is computed or gives elements, whose types are not spelled.
    pub(super) fn of(index: &Index<'a>) -> Option<Self> {
        match &index.source {
            Source::Value { field, entries, order } => {
                let ty = match entries {
                    Entries::One => &field.ty,
                    Entries::Optional(inside) => inside,
                    Entries::Multi | Entries::OptionalMulti(_) => return None,
                };
                let component = Component { ty, location: field.ty.span(), order: *order };
                Some(Self { components: vec![component], is_tuple: false })
            }
            Source::Compound(components) => {
                let components = components.iter().map(|(field, order)| Component {
                    ty: &field.ty,
                    location: field.ty.span(),
                    order: *order,
                });
                Some(Self { components: components.collect(), is_tuple: true })
            }
            Source::Computed { .. } => None,
        }
    }

    /// The expression that pushes `values`, a reference for each component.
    pub(super) fn call(&self, values: &[TokenStream]) -> TokenStream {
        let keys = variable("keys");
        let values =
            self.components.iter().zip(values).map(|(component, value)| {
                component.order.text_of(value.clone(), component.location)
            });
        let types = self.types();
        quote!(__fsmdb_push::<#(#types),*>(#keys, #(#values),*);)
    }

    /// The expression that defines the index of `handle` for the rows `row`.
    pub(super) fn define(
        &self,
        row: &Ident,
        handle: &TokenStream,
        cardinality: &TokenStream,
        extractor: &TokenStream,
        krate: &CratePath,
    ) -> TokenStream {
        let parameters: Vec<_> = self.parameters().flatten().collect();
        let names: Vec<_> =
            (0..self.components.len()).map(|at| format_ident!("value_{at}")).collect();
        let borrowed = self.parameters().map(|parameter| match parameter {
            Some(parameter) => parameter.to_token_stream(),
            None => quote!(::core::primitive::str),
        });
        let key = self.tuple(self.components.iter().zip(self.parameters()).map(
            |(component, parameter)| {
                component.order.key(&parameter.to_token_stream(), Span::call_site(), krate)
            },
        ));
        let value = self.tuple(self.components.iter().zip(&names).map(|(component, name)| {
            component.order.wrap(name.to_token_stream(), Span::call_site(), krate)
        }));
        let types = self.types();
        quote! {{
            fn __fsmdb_define<#(#parameters: #krate::Key),*>(
                handle: #krate::Index<#row, #key, #cardinality>,
                extract: fn(&#row, &mut #krate::IndexKeys),
            ) -> #krate::IndexDef<#row> {
                #krate::IndexDef::new(handle, extract)
            }

            fn __fsmdb_push<#(#parameters: #krate::Key),*>(
                keys: &mut #krate::IndexKeys,
                #(#names: &#borrowed),*
            ) {
                #krate::IndexKeys::push::<#key, _>(keys, &#value);
            }

            __fsmdb_define::<#(#types),*>(#handle, #extractor)
        }}
    }

    /// The types that are keys themselves: folded text is always one.
    fn types(&self) -> Vec<&Type> {
        let keys = self.components.iter().filter(|component| !component.order.fold);
        keys.map(|component| component.ty).collect()
    }

    /// The type parameter of each component that has one.
    fn parameters(&self) -> impl Iterator<Item = Option<Ident>> {
        self.components
            .iter()
            .enumerate()
            .map(|(at, component)| (!component.order.fold).then(|| format_ident!("__K{at}")))
    }

    fn tuple(&self, parts: impl Iterator<Item = TokenStream>) -> TokenStream {
        if self.is_tuple { quote!((#(#parts,)*)) } else { quote!(#(#parts)*) }
    }
}
