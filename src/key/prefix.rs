//! Prefixes of keys: by component, or by the start of a string.
//!
//! This file owns which byte prefixes of an encoding mean something. A scan by prefix exists only
//! for these forms, so that "a" can never match "ab" by accident: a caller who wants the start of
//! a string says so with [`StartsWith`].
//!
//! # Invariants
//!
//! 1. A prefix encodes to a byte prefix of exactly the keys that it describes.
//! 2. Components before the last are complete, terminators included; only the last may be open.
//! 3. A tuple with all components of the key is a prefix only if its last component is open. The
//!    complete key is not a prefix of anything; it is looked up, not scanned for.

use std::borrow::Cow;
use std::sync::Arc;

use super::folded::push_folded_prefix;
use super::text::push_escaped;
use super::{AsKey, AsPrefix, Folded, KeyBuf};

/// All strings that start with the given one.
///
/// A prefix of a string key, or of the last component named in a tuple prefix:
///
/// ```
/// use fsmdb::{AsPrefix, KeyBuf, StartsWith, encode};
///
/// type ByName = (String, String, u64);
///
/// let mut prefix = KeyBuf::new();
/// AsPrefix::<ByName>::encode_prefix(&("prod", StartsWith("we")), &mut prefix);
/// assert!(encode::<ByName, _>(&("prod", "web", 1_u64)).starts_with(&prefix));
/// assert!(!encode::<ByName, _>(&("prod", "db", 2_u64)).starts_with(&prefix));
/// ```
///
/// For a [`Folded`] key the prefix is folded too. The empty string is the start of every string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartsWith<'a>(
    /// The start that the strings share.
    pub &'a str,
);

/// All byte strings that start with the given one; see [`StartsWith`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartsWithBytes<'a>(
    /// The start that the byte strings share.
    pub &'a [u8],
);

/// The last component of a prefix that names some of the components of a key: a complete
/// component, or the start of a string.
///
/// Implemented for every `AsKey<K>`, for [`StartsWith`] and for [`StartsWithBytes`]; it exists so
/// that a tuple prefix can be written with either, and needs no other implementation.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a component of type `{K}` nor the start of one"
)]
pub trait PrefixEnd<K> {
    /// Appends the encoding of the last component, complete or open.
    fn encode_end(&self, out: &mut KeyBuf);
}

impl<K, Q: AsKey<K>> PrefixEnd<K> for Q {
    fn encode_end(&self, out: &mut KeyBuf) {
        self.encode_key(out);
    }
}

macro_rules! starts_with {
    ($start:ident, |$content:ident, $out:ident| $push:expr, $($owner:ty),+) => {$(
        impl AsPrefix<$owner> for $start<'_> {
            fn encode_prefix(&self, $out: &mut KeyBuf) {
                let $content = self.0;
                $push;
            }
        }

        impl PrefixEnd<$owner> for $start<'_> {
            fn encode_end(&self, out: &mut KeyBuf) {
                AsPrefix::<$owner>::encode_prefix(self, out);
            }
        }
    )+};
}

starts_with!(
    StartsWith,
    |text, out| push_escaped(text.as_bytes(), out),
    String,
    Box<str>,
    Arc<str>,
    Cow<'static, str>
);
starts_with!(StartsWith, |text, out| push_folded_prefix(text, out), Folded);
starts_with!(StartsWithBytes, |bytes, out| push_escaped(bytes, out), Vec<u8>, Box<[u8]>, Arc<[u8]>);

/// Fewer components than the key has: complete ones, the last of them possibly open.
macro_rules! leading_components {
    ($($key:ident $query:ident $index:tt,)* [$last:ident $end:ident $at:tt] $($rest:ident)+) => {
        impl<$($key, $query: AsKey<$key>,)* $last, $end: PrefixEnd<$last>, $($rest),+>
            AsPrefix<($($key,)* $last, $($rest),+)> for ($($query,)* $end,)
        {
            fn encode_prefix(&self, out: &mut KeyBuf) {
                $(self.$index.encode_key(out);)*
                self.$at.encode_end(out);
            }
        }
    };
}

leading_components!([A PA 0] B);
leading_components!([A PA 0] B C);
leading_components!([A PA 0] B C D);
leading_components!([A PA 0] B C D E);
leading_components!([A PA 0] B C D E F);
leading_components!(A QA 0, [B PB 1] C);
leading_components!(A QA 0, [B PB 1] C D);
leading_components!(A QA 0, [B PB 1] C D E);
leading_components!(A QA 0, [B PB 1] C D E F);
leading_components!(A QA 0, B QB 1, [C PC 2] D);
leading_components!(A QA 0, B QB 1, [C PC 2] D E);
leading_components!(A QA 0, B QB 1, [C PC 2] D E F);
leading_components!(A QA 0, B QB 1, C QC 2, [D PD 3] E);
leading_components!(A QA 0, B QB 1, C QC 2, [D PD 3] E F);
leading_components!(A QA 0, B QB 1, C QC 2, D QD 3, [E PE 4] F);

/// As many components as the key has, the last of them a prefix of its component.
macro_rules! open_last_component {
    ($($key:ident $query:ident $index:tt,)* [$last:ident $prefix:ident $at:tt]) => {
        impl<$($key, $query: AsKey<$key>,)* $last, $prefix: AsPrefix<$last>>
            AsPrefix<($($key,)* $last,)> for ($($query,)* $prefix,)
        {
            fn encode_prefix(&self, out: &mut KeyBuf) {
                $(self.$index.encode_key(out);)*
                self.$at.encode_prefix(out);
            }
        }
    };
}

open_last_component!([A PA 0]);
open_last_component!(A QA 0, [B PB 1]);
open_last_component!(A QA 0, B QB 1, [C PC 2]);
open_last_component!(A QA 0, B QB 1, C QC 2, [D PD 3]);
open_last_component!(A QA 0, B QB 1, C QC 2, D QD 3, [E PE 4]);
open_last_component!(A QA 0, B QB 1, C QC 2, D QD 3, E QE 4, [F PF 5]);
