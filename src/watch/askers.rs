//! Who has asked about one extent: mostly one watch, sometimes very many.

use std::collections::BTreeSet;

use smallvec::SmallVec;

use crate::table::Aspect;

/// Up to so many stand in a list.
const FEW: usize = 8;

/// The watches that have asked, each with what.
#[derive(Debug)]
pub(super) struct Askers {
    watches: Watches,
    /// The round in which the aspects that are not [`Aspect::Rows`] were last looked at.
    pub(super) round: u64,
}

#[derive(Debug)]
enum Watches {
    Few(SmallVec<[(Aspect, u64); 1]>),
    /// So that many leave in O(log n) each. In this order those who ask the same stand together.
    Many(BTreeSet<(Aspect, u64)>),
}

impl Default for Askers {
    fn default() -> Self {
        Self { watches: Watches::Few(SmallVec::new()), round: 0 }
    }
}

impl Askers {
    pub(super) fn insert(&mut self, asker: (Aspect, u64)) {
        match &mut self.watches {
            Watches::Few(few) if few.len() < FEW => few.push(asker),
            Watches::Few(few) => {
                let mut many: BTreeSet<_> = few.drain(..).collect();
                many.insert(asker);
                self.watches = Watches::Many(many);
            }
            Watches::Many(many) => drop(many.insert(asker)),
        }
    }

    /// Takes one out; whether nobody is left.
    pub(super) fn remove(&mut self, asker: (Aspect, u64)) -> bool {
        match &mut self.watches {
            Watches::Few(few) => {
                few.retain(|known| *known != asker);
                few.is_empty()
            }
            Watches::Many(many) => {
                many.remove(&asker);
                many.is_empty()
            }
        }
    }

    pub(super) fn for_each(&self, mut visit: impl FnMut(Aspect, u64)) {
        match &self.watches {
            Watches::Few(few) => few.iter().for_each(|(aspect, id)| visit(*aspect, *id)),
            Watches::Many(many) => many.iter().for_each(|(aspect, id)| visit(*aspect, *id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_are_a_set() {
        let mut askers = Askers::default();
        let mut model = BTreeSet::new();
        for id in 0..100 {
            let aspect = [Aspect::Rows, Aspect::Count, Aspect::Nth(3)][id as usize % 3];
            askers.insert((aspect, id));
            model.insert((aspect, id));
        }
        for asker in model.clone() {
            model.remove(&asker);
            assert_eq!(askers.remove(asker), model.is_empty());
            let mut left = BTreeSet::new();
            askers.for_each(|aspect, id| {
                left.insert((aspect, id));
            });
            assert_eq!(left, model);
        }
    }
}
