//! Where everything random of this program comes from: ids, claims, ties between nodes.
//!
//! Threads run as they like, so two runs with one seed draw the same numbers for different things.

/// A stream of numbers: splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
/// Generators, OOPSLA 2014).
#[derive(Debug)]
pub struct Draw {
    state: u64,
}

impl Draw {
    /// The stream numbered `stream` of `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut outer = Self { state: seed };
        Self { state: outer.next() ^ stream.wrapping_mul(0xD6E8_FEB8_6659_FD93) }
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
