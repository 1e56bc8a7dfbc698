//! Integers, `bool` and `char`: encodings of fixed width.
//!
//! # Invariants
//!
//! 1. All encodings of one type have the same length, so none is a prefix of another.
//! 2. Big endian puts the most significant byte first, where byte order compares first. A signed
//!    integer has its sign bit flipped, which moves the negative half below the other.
//! 3. `usize` and `isize` take eight bytes on every platform, so that replicas of different word
//!    size agree. Floating point is absent on purpose: it has no total order that `==` agrees with.

use super::{AsKey, Key, KeyBuf, KeyError, KeyReader};

macro_rules! unsigned_key {
    ($($integer:ty),+) => {$(
        impl AsKey<$integer> for $integer {
            #[inline]
            fn encode_key(&self, out: &mut KeyBuf) {
                out.extend(&self.to_be_bytes());
            }
        }

        impl Key for $integer {
            fn decode_key(reader: &mut KeyReader<'_>) -> Result<Self, KeyError> {
                Ok(Self::from_be_bytes(reader.array()?))
            }
        }
    )+};
}

macro_rules! signed_key {
    ($($integer:ty),+) => {$(
        impl AsKey<$integer> for $integer {
            #[inline]
            fn encode_key(&self, out: &mut KeyBuf) {
                out.extend(&(self ^ <$integer>::MIN).to_be_bytes());
            }
        }

        impl Key for $integer {
            fn decode_key(reader: &mut KeyReader<'_>) -> Result<Self, KeyError> {
                Ok(Self::from_be_bytes(reader.array()?) ^ Self::MIN)
            }
        }
    )+};
}

impl AsKey<u8> for u8 {
    #[inline]
    fn encode_key(&self, out: &mut KeyBuf) {
        out.push(*self);
    }

    #[inline]
    fn encode_all(keys: &[Self], out: &mut KeyBuf) {
        out.extend(keys);
    }
}

impl Key for u8 {
    fn decode_key(reader: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        reader.byte()
    }
}

unsigned_key!(u16, u32, u64, u128);
signed_key!(i8, i16, i32, i64, i128);

/// A key written where words are wide may not fit where they are narrow, so decoding can refuse.
macro_rules! word_key {
    ($($word:ty as $wide:ty, $expected:literal;)+) => {$(
        impl AsKey<$word> for $word {
            #[inline]
            fn encode_key(&self, out: &mut KeyBuf) {
                AsKey::<$wide>::encode_key(&(*self as $wide), out);
            }
        }

        impl Key for $word {
            fn decode_key(reader: &mut KeyReader<'_>) -> Result<Self, KeyError> {
                let offset = reader.position();
                let wide = <$wide>::decode_key(reader)?;
                Self::try_from(wide)
                    .map_err(|_| KeyError::Invalid { offset, expected: $expected })
            }
        }
    )+};
}

word_key! {
    usize as u64, "usize of this platform";
    isize as i64, "isize of this platform";
}

impl AsKey<bool> for bool {
    fn encode_key(&self, out: &mut KeyBuf) {
        out.push(u8::from(*self));
    }
}

impl Key for bool {
    fn decode_key(reader: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        let offset = reader.position();
        match reader.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(KeyError::Invalid { offset, expected: "boolean" }),
        }
    }
}

impl AsKey<char> for char {
    fn encode_key(&self, out: &mut KeyBuf) {
        // The greatest scalar value is 0x10FFFF: the top byte of the four is always zero.
        let [_, low @ ..] = u32::from(*self).to_be_bytes();
        out.extend(&low);
    }
}

impl Key for char {
    fn decode_key(reader: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        let offset = reader.position();
        let [high, middle, low] = reader.array()?;
        Self::from_u32(u32::from_be_bytes([0, high, middle, low]))
            .ok_or(KeyError::Invalid { offset, expected: "character" })
    }
}
