//! Which containers can be indexed by their elements.
//!
//! This file owns a statement about types and no behaviour: the derive asks it which key type a
//! field marked `multi`, or an optional field, is indexed by.
//!
//! # Invariants
//!
//! 1. The iteration order of every implementor is a function of its value. Containers ordered by
//!    hashing are left out, because their order differs between replicas.

use std::collections::{BTreeMap, BTreeSet};

use super::Key;

/// A container whose elements are keys: a row has one index entry for each element.
///
/// `Key` is the key that each item of `for item in &container` encodes as.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use fsmdb::Elements;
///
/// fn key_of<E: Elements>() -> &'static str {
///     std::any::type_name::<E::Key>()
/// }
///
/// assert_eq!(key_of::<Option<u64>>(), "u64");
/// assert_eq!(key_of::<BTreeMap<u8, bool>>(), "(u8, bool)");
/// ```
///
/// A container ordered by hashing is refused:
///
/// ```compile_fail,E0277
/// use std::collections::HashSet;
///
/// fn needs_elements<E: fsmdb::Elements>() {}
/// needs_elements::<HashSet<u64>>();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a multi-valued or optional index",
    note = "hash-ordered containers differ between replicas: use BTreeSet, BTreeMap or Vec"
)]
pub trait Elements {
    /// The key that each element encodes as.
    type Key: Key;
}

impl<K: Key> Elements for Option<K> {
    type Key = K;
}

impl<K: Key> Elements for Vec<K> {
    type Key = K;
}

impl<K: Key, const N: usize> Elements for [K; N] {
    type Key = K;
}

impl<K: Key> Elements for Box<[K]> {
    type Key = K;
}

impl<K: Key> Elements for BTreeSet<K> {
    type Key = K;
}

/// Each entry of the map is one element, found by key and value together; a prefix of the key
/// alone finds all its values.
impl<K: Key, V: Key> Elements for BTreeMap<K, V> {
    type Key = (K, V);
}
