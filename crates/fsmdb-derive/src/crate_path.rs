//! Where the generated code finds `fsmdb`, and where the compiler shows what is wrong with it.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::Path;

/// A span that the compiler shows at `location` and resolves like the derive's own tokens, so that
/// lints know the code as generated.
pub(crate) fn shown_at(location: Span) -> Span {
    Span::call_site().located_at(location)
}

/// The path of the crate `fsmdb`: `::fsmdb`, or what the option `crate = "..."` says.
pub(crate) struct CratePath(TokenStream);

impl CratePath {
    /// The path that the user gave, or the default.
    pub(crate) fn new(given: Option<Path>) -> Self {
        Self(given.map_or_else(|| quote!(::fsmdb), Path::into_token_stream))
    }

    /// The path with errors shown at `location`.
    ///
    /// All tokens of an expression must be shown at one place, else the compiler shows the stretch
    /// between the first and the last of them.
    pub(crate) fn shown_at(&self, location: Span) -> Self {
        let tokens = self.0.clone().into_iter().map(|mut token: TokenTree| {
            token.set_span(token.span().located_at(location));
            token
        });
        Self(tokens.collect())
    }
}

impl ToTokens for CratePath {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.0.to_tokens(tokens);
    }
}
