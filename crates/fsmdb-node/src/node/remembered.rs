//! What a node knows of members when it starts, before it has applied its log.
//!
//! # Invariants
//!
//! 1. What is read is in the log of this node, and nobody knows whether all of it is committed.
//! 2. Who was removed in it is not known by a later entry.

use std::collections::{BTreeMap, BTreeSet};

use fsmdb::Snapshot;
use fsmdb::raft::Entry;

use crate::session::{MemberRow, OfMember, of_member_in};

/// What a database and the entries that are not applied to it yet say of members.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) directories: BTreeMap<u64, u128>,
    /// Addresses in entries, each with its index.
    pub(super) addresses: BTreeMap<u64, (u64, String)>,
}

/// Reads what a database and the entries that are not applied to it yet say of members.
/// O(members + entries).
pub(crate) fn remembered(snapshot: &Snapshot, entries: &[Entry]) -> Remembered {
    let Remembered { mut directories, mut addresses } = Remembered::default();
    let mut retired = BTreeSet::new();
    let applied = snapshot.applied().index;
    for entry in entries.iter().filter(|entry| entry.index() > applied) {
        match entry.command().and_then(of_member_in) {
            Some(OfMember::Member { id, address: Some(address) }) if !retired.contains(&id) => {
                addresses.insert(id, (entry.index(), address));
            }
            Some(OfMember::Member { id, .. }) => {
                retired.insert(id);
                addresses.remove(&id);
            }
            Some(OfMember::Directory { id, directory }) => {
                directories.entry(id).or_insert(directory);
            }
            None => {}
        }
    }
    directories.extend(written(snapshot));
    Remembered { directories, addresses }
}

/// The directories in the rows of a database.
pub(super) fn written(snapshot: &Snapshot) -> BTreeMap<u64, u128> {
    let rows = snapshot.table::<MemberRow>();
    rows.iter().filter_map(|row| Some((row.id, row.directory()?))).collect()
}

#[cfg(test)]
pub(super) mod samples {
    use fsmdb::{Applied, Db, Fsm, Machine, Snapshot, WriteTxn};

    use crate::session::{Envelope, Sessions, with_tables};

    pub(in crate::node) struct Nothing;

    impl Fsm for Nothing {
        type Command = ();
        type Reply = ();
        fn apply(&self, _: &mut WriteTxn<'_>, _: Applied, (): ()) {}
    }

    pub(in crate::node) fn encode(envelope: &Envelope<()>) -> Vec<u8> {
        Machine::<Sessions<Nothing>>::encode(envelope).expect("short")
    }

    pub(in crate::node) fn member(id: u64, address: Option<&str>) -> Envelope<()> {
        Envelope::Member { id, address: address.map(str::to_owned) }
    }

    /// The state after these commands.
    pub(in crate::node) fn after(envelopes: &[Envelope<()>]) -> Snapshot {
        let db = with_tables(Db::builder()).build().expect("a sound schema");
        let machine = Machine::new(db, Sessions::new(Nothing)).expect("nobody owns it");
        for (index, envelope) in (1..).zip(envelopes) {
            let at = Applied { index, term: 1 };
            machine.apply(at, &encode(envelope)).expect("applied");
        }
        machine.read()
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{after, encode, member};
    use super::{Entry, Remembered, remembered};
    use crate::session::Envelope;

    fn entry(index: u8, envelope: &Envelope<()>) -> Entry {
        let data = encode(envelope);
        let mut bytes = vec![3 << 3, index, 4 << 3 | 2, u8::try_from(data.len()).expect("short")];
        bytes.extend(data);
        Entry::decode(&bytes).expect("an entry")
    }

    #[test]
    fn what_the_log_says_of_members_is_remembered_before_it_is_applied() {
        let directory = |id, directory| Envelope::Directory { id, directory };
        let snapshot = after(&[member(2, Some("row")), directory(2, u128::MAX)]);
        let entries = [
            entry(2, &directory(4, 6)), // applied
            entry(3, &member(3, Some("Directory"))),
            entry(4, &Envelope::Plain { command: () }),
            entry(5, &directory(3, 7)),
            entry(6, &directory(3, 8)),
            entry(7, &directory(2, 9)),
            entry(8, &member(2, Some("before"))),
            entry(9, &member(2, Some("after"))),
            entry(10, &member(4, Some("for a while"))),
            entry(11, &member(4, None)),
            entry(12, &member(4, Some("never again"))),
        ];
        let Remembered { directories, addresses } = remembered(&snapshot, &entries);
        assert_eq!(directories, [(2, u128::MAX), (3, 7)].into());
        let expected = [(2, (9, "after".to_owned())), (3, (3, "Directory".to_owned()))];
        assert_eq!(addresses, expected.into());
    }
}
