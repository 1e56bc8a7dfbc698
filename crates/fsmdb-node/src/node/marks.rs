//! States of the database that are held for snapshot files.
//!
//! Two replicas build files of the same state only if they agree on when. A mark is the state at an
//! entry whose index is a multiple of the snapshot interval; a file that is asked for later, by how
//! many entries there are, is of the mark. And a file of changes needs the state that it begins
//! from: that of the last file is held until the next one is built.
//!
//! # Invariants
//!
//! 1. At most two states are held: the newest mark, and that of the last file.
//! 2. None from before an erasure is held once the entry that erased was applied, nor one from
//!    before an installed snapshot.
//! 3. What is let go of is dropped outside the lock: that runs the code of rows.

use std::sync::{Mutex, MutexGuard, PoisonError};

use fsmdb::Snapshot;

/// The states that are held, of a database that keeps digests.
///
/// Without kept digests a file of changes costs more than a whole one, and nothing is held.
#[derive(Debug)]
pub(super) struct Marks {
    /// Entries between two marks; nothing when none are held.
    entries: Option<u64>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    mark: Option<Snapshot>,
    base: Option<Snapshot>,
    /// The last entry that erased.
    erased: u64,
}

impl Marks {
    pub(super) fn new(entries: Option<u64>) -> Self {
        Self { entries, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the state after this entry is a mark.
    pub(super) fn is_at(&self, index: u64) -> bool {
        self.entries.is_some_and(|entries| index.is_multiple_of(entries))
    }

    pub(super) fn set(&self, mark: Snapshot) {
        let before = self.held().mark.replace(mark);
        drop(before);
    }

    /// The machine has been brought to the state of a file: what was held is of another time.
    pub(super) fn begin(&self, base: Snapshot) {
        let is_held = self.entries.is_some() && base.applied().index > 0;
        let index = base.applied().index;
        let mut held = self.held();
        let erased = held.erased.max(index);
        let now = Held { base: is_held.then_some(base), erased, ..Held::default() };
        let before = std::mem::replace(&mut *held, now);
        drop(held);
        drop(before);
    }

    /// The mark, if it is as of an entry from `from` on. It is given once.
    pub(super) fn take(&self, from: u64) -> Option<Snapshot> {
        self.held().mark.take_if(|mark| mark.applied().index >= from)
    }

    /// A file of this state was built. Answers with that of the file before.
    pub(super) fn built(&self, snapshot: &Snapshot) -> Option<Snapshot> {
        let mut held = self.held();
        let index = snapshot.applied().index;
        let is_held = self.entries.is_some() && index >= held.erased;
        let base = std::mem::replace(&mut held.base, is_held.then(|| snapshot.clone()));
        drop(held);
        base.filter(|base| base.applied().index < index)
    }

    /// The entry at `index` has erased: no state from before it is held any more.
    pub(super) fn erased(&self, index: u64) {
        let mut held = self.held();
        if held.erased >= index {
            return;
        }
        held.erased = index;
        let is_old = |held: &mut Snapshot| held.applied().index < index;
        let before = (held.mark.take_if(is_old), held.base.take_if(is_old));
        drop(held);
        drop(before);
    }
}

#[cfg(test)]
mod tests {
    use fsmdb::{Applied, Db, Fsm, Machine, Table, WriteTxn};
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    #[table(name = "jobs")]
    struct Job {
        #[key]
        id: u64,
    }

    struct Jobs;

    impl Fsm for Jobs {
        type Command = u64;
        type Reply = ();

        fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, id: u64) {
            txn.upsert(Job { id }).expect("it is a row");
        }
    }

    fn states() -> impl FnMut() -> Snapshot {
        let db = Db::builder().table::<Job>().build().expect("a sound schema");
        let machine = Machine::new(db, Jobs).expect("nobody owns it");
        let mut index = 0;
        move || {
            index += 1;
            machine.skip(Applied { index, term: 1 }).expect("it follows");
            machine.read()
        }
    }

    fn index(snapshot: Option<Snapshot>) -> Option<u64> {
        snapshot.map(|snapshot| snapshot.applied().index)
    }

    #[test]
    fn a_mark_is_given_once_and_only_to_who_can_use_it() {
        let (marks, mut next) = (Marks::new(Some(10)), states());
        assert!(marks.is_at(20) && !marks.is_at(21));
        marks.set(next());
        assert_eq!(index(marks.take(2)), None);
        assert_eq!(index(marks.take(1)), Some(1));
        assert_eq!(index(marks.take(1)), None);
        assert!(!Marks::new(None).is_at(20));
    }

    #[test]
    fn each_file_is_based_on_the_one_before_or_on_what_was_installed() {
        let (marks, mut next) = (Marks::new(Some(10)), states());
        assert_eq!(index(marks.built(&next())), None);
        assert_eq!(index(marks.built(&next())), Some(1));
        marks.begin(next());
        let (fourth, fifth) = (next(), next());
        assert_eq!(index(marks.built(&fifth)), Some(3));
        assert_eq!(index(marks.built(&fourth)), None, "that is no step forward");
        let none = Marks::new(None);
        none.begin(fourth);
        assert_eq!(index(none.built(&fifth)), None);
        assert_eq!(index(none.built(&next())), None);
    }

    #[test]
    fn nothing_from_before_an_erasure_is_held() {
        let (marks, mut next) = (Marks::new(Some(10)), states());
        let (first, second) = (next(), next());
        marks.set(second);
        marks.begin(first.clone());
        marks.set(next());
        marks.erased(3);
        assert_eq!(index(marks.take(0)), Some(3), "it is of the erasing entry");
        let (fourth, fifth) = (next(), next());
        assert_eq!(index(marks.built(&fourth)), None);
        marks.erased(5);
        assert_eq!(index(marks.built(&first)), None);
        assert_eq!(index(marks.built(&fifth)), None, "one that was built late is not held");
    }
}
