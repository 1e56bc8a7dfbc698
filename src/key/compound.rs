//! Keys made of keys: references, `Option`, arrays, `()` and tuples.
//!
//! # Invariants
//!
//! 1. A compound is the concatenation of its components in order. As no component's encoding is a
//!    prefix of another, the first component that differs decides, as it does for the values.
//! 2. A borrowed form is a compound of borrowed forms: `("prod", 7_u64)` is a `(String, u64)`.

use super::{AsKey, Key, KeyBuf, KeyError, KeyReader};

const NONE: u8 = 0;
const SOME: u8 = 1;

impl<K, Q: AsKey<K> + ?Sized> AsKey<K> for &Q {
    fn encode_key(&self, out: &mut KeyBuf) {
        (**self).encode_key(out);
    }
}

impl<K, Q: AsKey<K>> AsKey<Option<K>> for Option<Q> {
    fn encode_key(&self, out: &mut KeyBuf) {
        match self {
            None => out.push(NONE),
            Some(key) => {
                out.push(SOME);
                key.encode_key(out);
            }
        }
    }
}

impl<K: Key> Key for Option<K> {
    fn decode_key(reader: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        let offset = reader.position();
        match reader.byte()? {
            NONE => Ok(None),
            SOME => K::decode_key(reader).map(Some),
            _ => Err(KeyError::Invalid { offset, expected: "option" }),
        }
    }
}

impl<K, Q: AsKey<K>, const N: usize> AsKey<[K; N]> for [Q; N] {
    #[inline]
    fn encode_key(&self, out: &mut KeyBuf) {
        Q::encode_all(self, out);
    }
}

impl<K: Key, const N: usize> Key for [K; N] {
    fn decode_key(reader: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        // Filled in place, because collecting into a vector first would allocate for a length
        // that the input may not have.
        let mut slots = [const { None }; N];
        for slot in &mut slots {
            *slot = Some(K::decode_key(reader)?);
        }
        Ok(slots.map(|slot| slot.expect("every slot was filled by the loop above")))
    }
}

impl AsKey<()> for () {
    fn encode_key(&self, _out: &mut KeyBuf) {}
}

impl Key for () {
    fn decode_key(_reader: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        Ok(())
    }
}

macro_rules! tuple_key {
    ($($key:ident $query:ident $index:tt),+) => {
        impl<$($key, $query: AsKey<$key>),+> AsKey<($($key,)+)> for ($($query,)+) {
            fn encode_key(&self, out: &mut KeyBuf) {
                $(self.$index.encode_key(out);)+
            }
        }

        impl<$($key: Key),+> Key for ($($key,)+) {
            fn decode_key(reader: &mut KeyReader<'_>) -> Result<Self, KeyError> {
                Ok(($($key::decode_key(reader)?,)+))
            }
        }
    };
}

tuple_key!(A QA 0);
tuple_key!(A QA 0, B QB 1);
tuple_key!(A QA 0, B QB 1, C QC 2);
tuple_key!(A QA 0, B QB 1, C QC 2, D QD 3);
tuple_key!(A QA 0, B QB 1, C QC 2, D QD 3, E QE 4);
tuple_key!(A QA 0, B QB 1, C QC 2, D QD 3, E QE 4, F QF 5);
