//! Which directory each peer has.
//!
//! A node whose directory was wiped comes back with its id and without its votes and entries; to
//! hear it could give one term two leaders. So a peer is held to the directory that the node says
//! it has, or else to the first it came with.
//!
//! # Invariants
//!
//! 1. What the node says goes before what was seen.
//! 2. A peer that does not say which directory it has is remembered by none, and refused once one
//!    is known.

use std::collections::BTreeMap;

/// The directories of peers, by id.
#[derive(Debug, Default)]
pub(super) struct Directories {
    /// What the node says.
    told: BTreeMap<u64, u128>,
    /// With which each came.
    seen: BTreeMap<u64, u128>,
}

impl Directories {
    /// Whether a peer may have this directory; the first one is remembered.
    pub(super) fn admit(&mut self, peer: u64, directory: u128) -> bool {
        let known = self.told.get(&peer).or_else(|| self.seen.get(&peer));
        let is_admitted = known.is_none_or(|known| *known == directory);
        if is_admitted && directory != 0 {
            self.seen.insert(peer, directory);
        }
        is_admitted
    }

    /// Takes what the node says; answers with the peers that came with another one.
    pub(super) fn tell(&mut self, told: BTreeMap<u64, u128>) -> Vec<u64> {
        self.told = told;
        let Self { told, seen } = self;
        let differs = |(peer, seen): (&u64, &u128)| {
            told.get(peer).is_some_and(|told| told != seen).then_some(*peer)
        };
        let others: Vec<u64> = seen.iter().filter_map(differs).collect();
        for peer in &others {
            seen.remove(peer);
        }
        others
    }

    /// Forgets what was seen of peers that are not known any more.
    pub(super) fn retain(&mut self, is_known: impl Fn(u64) -> bool) {
        self.seen.retain(|peer, _| is_known(*peer));
    }
}

#[cfg(test)]
mod tests {
    use super::{BTreeMap, Directories};

    #[test]
    fn a_peer_is_held_to_what_the_node_says_or_else_to_what_it_came_with_first() {
        let mut directories = Directories::default();
        assert!(directories.admit(2, 0), "it does not say");
        assert!(directories.admit(2, 7) && directories.admit(2, 7));
        assert!(!directories.admit(2, 8) && !directories.admit(2, 0));
        assert_eq!(directories.tell(BTreeMap::from([(2, 8), (3, 5)])), [2]);
        assert!(directories.admit(2, 8) && !directories.admit(2, 7));
        assert!(!directories.admit(3, 4) && directories.admit(3, 5));
        assert_eq!(directories.tell(BTreeMap::from([(2, 8), (3, 6)])), [3]);
        assert!(directories.tell(BTreeMap::new()).is_empty());
        assert!(directories.admit(4, 1));
        directories.retain(|peer| peer != 4);
        assert!(directories.admit(4, 2));
    }
}
