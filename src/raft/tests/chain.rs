//! The state machine of the seeded world, and its random numbers.

/// The state machine of the world: a chain of hashes over all it was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) hash: u64,
}

impl Chain {
    pub(super) fn push(&mut self, index: u64, term: u64, data: &[u8]) {
        assert_eq!(index, self.index + 1, "entries are applied without a gap");
        let mut hash = self.hash ^ mix(index) ^ mix(term).rotate_left(7);
        for byte in data {
            hash = mix(hash ^ u64::from(*byte));
        }
        *self = Self { index, term, hash: mix(hash) };
    }

    pub(super) fn encode(self) -> Vec<u8> {
        [self.index, self.term, self.hash].iter().flat_map(|part| part.to_be_bytes()).collect()
    }

    pub(super) fn decode(bytes: &[u8]) -> Self {
        let part = |at: usize| u64::from_be_bytes(bytes[at * 8..][..8].try_into().expect("8"));
        Self { index: part(0), term: part(1), hash: part(2) }
    }
}

pub(super) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
