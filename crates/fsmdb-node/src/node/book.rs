//! The address book: where the others are, which directories they have, and who must hear of it.
//!
//! A node knows addresses from its start, from the rows of its database, and, when it has heard of
//! no leader for a while, from the peers it knows. It may have been away while its group went on:
//! the leader can be one that its rows do not name, and whom it does not know it does not hear.
//!
//! # Invariants
//!
//! 1. Who was removed stays unknown, whatever a peer or the start of the node says.
//! 2. Only peers that are known are asked, and what they say names peers, and trusts nobody: each
//!    of these shows a certificate with its own name, where certificates are asked for.
//! 3. A book of a peer counts while that peer has applied more than this node; then the rows of
//!    this node know as much.
//! 4. An address that the log had at the start is tried as well, by turns while a peer cannot be
//!    reached, until as much is applied; nobody is told of it.
//! 5. The directories of members that the log of this node has, applied or not, are known before it
//!    hears anybody: while it applies its log again, a member that was wiped could get a vote in.
//! 6. The directory of a member is proposed when every member has shown one: no build that does not
//!    know such entries has to apply one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fsmdb::raft::Role;
use fsmdb::{Machine, Snapshot};

use super::clock;
use super::job::{Job, Waiter};
use super::mail::Mail;
use super::remembered::{Remembered, written};
use super::replica::{Replica, all_of};
use super::request::{Answer, Request, decode, encode};
use crate::limits::{
    ADDRESS_BYTES_MAX, ADDRESS_TRIED_TICKS, ADDRESSES_ASKED_TICKS, ADDRESSES_TOLD_MAX,
    ANNOUNCE_TICKS, READ_ATTEMPT_TICKS,
};
use crate::session::{EnvelopeRef, MemberRow, Replicated, Sessions};
use crate::transport::Refusal;

/// What a node was told at its start.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Where members are, until the database says it; this node among them.
    pub(crate) addresses: BTreeMap<u64, String>,
    /// Where members are, whatever the database says.
    pub(crate) moved: BTreeMap<u64, String>,
    /// Random bits of the directory of this node, if it has one.
    pub(crate) directory: Option<u128>,
    /// What the log says, until the database says it.
    pub(crate) remembered: Remembered,
}

/// What the raft thread knows of members, beside the rows.
pub(super) struct Book {
    known: Known,
    /// What the peer said that had applied most, and how much that was.
    told: BTreeMap<u64, String>,
    told_at: u64,
    /// Directories that were shown since the start, this node's own among them.
    directories: BTreeMap<u64, u128>,
    /// Whose address in the log is not tried at the moment, and the ticks since which it is so.
    doubted: BTreeSet<u64>,
    doubted_at: BTreeMap<u64, u64>,
    /// Who was removed since the start, a few bytes each, until their rows say so.
    gone: BTreeSet<u64>,
    /// The ticks at which this node announced, heard of a leader, and asked for addresses.
    announced: Option<u64>,
    heard: u64,
    asked: u64,
}

impl Book {
    pub(super) fn new(id: u64, known: Known) -> Self {
        let directories = known.directory.map(|own| (id, own)).into_iter().collect();
        let (told, gone) = (BTreeMap::new(), BTreeSet::new());
        let (doubted, doubted_at) = (BTreeSet::new(), BTreeMap::new());
        let (told_at, heard, asked, announced) = (0, 0, 0, None);
        Self {
            known,
            told,
            told_at,
            directories,
            doubted,
            doubted_at,
            gone,
            announced,
            heard,
            asked,
        }
    }

    /// The next leader announces anew.
    pub(super) fn unannounce(&mut self) {
        self.announced = None;
    }

    /// An entry has removed this member.
    pub(super) fn lose(&mut self, id: u64) {
        self.gone.insert(id);
    }

    /// The addresses that this node knows: what the rows say, corrected by who knows more.
    fn addresses(&self, snapshot: &Snapshot) -> BTreeMap<u64, String> {
        let mut addresses = self.known.addresses.clone();
        let mut newer: BTreeSet<u64> = BTreeSet::new();
        if self.told_at > snapshot.applied().index {
            addresses.extend(self.told.clone());
            newer.extend(self.told.keys());
        }
        let mut removed = Vec::new();
        for row in snapshot.table::<MemberRow>().iter() {
            match &row.address {
                Some(address) if !newer.contains(&row.id) => {
                    drop(addresses.insert(row.id, address.clone()));
                }
                Some(_) => {}
                None => removed.push(row.id),
            }
        }
        addresses.extend(self.known.moved.clone());
        for id in removed {
            addresses.remove(&id);
        }
        addresses
    }

    /// Where this node looks for its peers: the addresses that it knows, or those in its log.
    fn tried(&self, snapshot: &Snapshot) -> BTreeMap<u64, String> {
        let mut addresses = self.addresses(snapshot);
        let (applied, rows) = (snapshot.applied().index, snapshot.table::<MemberRow>());
        for (id, (index, address)) in &self.known.remembered.addresses {
            let is_removed = rows.get(id).is_some_and(|row| row.address.is_none());
            let is_tried = !self.doubted.contains(id) && !self.known.moved.contains_key(id);
            if *index > applied && !is_removed && (is_tried || !addresses.contains_key(id)) {
                addresses.insert(*id, address.clone());
            }
        }
        addresses
    }

    /// A peer is not reached where it is looked for; whether it is looked for elsewhere now.
    fn doubt(&mut self, peer: u64, tick: u64) -> bool {
        if !self.known.remembered.addresses.contains_key(&peer) {
            return false;
        }
        let since = self.doubted_at.entry(peer).or_insert(tick);
        if tick - *since < u64::from(ADDRESS_TRIED_TICKS) {
            return false;
        }
        *since = tick;
        if !self.doubted.remove(&peer) {
            self.doubted.insert(peer);
        }
        true
    }
}

impl<F: Replicated> Replica<F> {
    /// Tells the transport where the others are, and which directories they have.
    pub(super) fn connect(&mut self) {
        let snapshot = self.shared.machine.read();
        let rows = snapshot.table::<MemberRow>();
        if self.book.told_at <= snapshot.applied().index {
            self.book.told.clear();
        }
        let is_named = |id: &u64| rows.get(id).is_none_or(|row| row.address.is_some());
        self.book.gone.retain(is_named);
        let mut addresses = self.book.tried(&snapshot);
        addresses.remove(&self.id);
        let own = self.id;
        self.book.directories.retain(|id, _| *id == own || addresses.contains_key(id));
        let mut directories = self.book.known.remembered.directories.clone();
        directories.extend(written(&snapshot));
        let is_stranger = |id: &u64| !addresses.contains_key(id);
        if self.shared.board.status().refused_by.keys().any(is_stranger) {
            self.shared.board.post(|status| {
                status.refused_by.retain(|id, _| addresses.contains_key(id));
            });
        }
        self.transport.set_peers(addresses);
        self.transport.set_directories(directories);
    }

    /// The entries up to this one are applied: what they say of addresses is in the rows.
    pub(super) fn went_on(&mut self, applied: u64) {
        let remembered = &mut self.book.known.remembered.addresses;
        let count = remembered.len();
        remembered.retain(|_, (index, _)| *index > applied);
        if remembered.len() < count {
            self.connect();
        }
    }

    /// A peer cannot be reached.
    pub(super) fn missed(&mut self, peer: u64) {
        if self.book.doubt(peer, self.ticks) {
            self.connect();
        }
    }

    /// A peer has shown its directory.
    pub(super) fn introduced(&mut self, peer: u64, directory: u128) {
        self.book.doubted_at.remove(&peer);
        if directory != 0 && peer != self.id {
            self.book.directories.insert(peer, directory);
        }
    }

    /// A peer has said whether it hears this node.
    pub(super) fn answered(&mut self, peer: u64, refusal: Option<Refusal>) {
        if self.shared.board.status().refused_by.get(&peer).copied() != refusal {
            self.shared.board.post(|status| {
                match refusal {
                    Some(refusal) => drop(status.refused_by.insert(peer, refusal)),
                    None => drop(status.refused_by.remove(&peer)),
                };
            });
        }
    }

    /// Something came from this peer.
    pub(super) fn heard(&mut self, from: u64) {
        if self.leader == Some(from) {
            self.book.heard = self.ticks;
        }
    }

    /// Asks the peers that are known for their address books, when no leader has been heard of for
    /// a while: there may be one that is not known.
    pub(super) fn ask_for_addresses(&mut self) {
        let since = self.book.heard.max(self.book.asked);
        if self.role == Role::Leader || self.ticks - since < u64::from(ADDRESSES_ASKED_TICKS) {
            return;
        }
        self.book.asked = self.ticks;
        let timeout = self.shared.tick.saturating_mul(READ_ATTEMPT_TICKS);
        let mut peers = self.book.tried(&self.shared.machine.read());
        peers.remove(&self.id);
        for peer in peers.into_keys() {
            let Some(body) = encode(&Request::Addresses) else { return };
            let shared = Arc::clone(&self.shared);
            let done = Box::new(move |answer: Result<Vec<u8>, _>| {
                if let Ok(Some(Answer::Addresses { at, addresses })) =
                    answer.map(|bytes| decode(&bytes))
                {
                    // The raft thread has ended already, and nobody asks.
                    let _ = shared.inbox.post(Mail::Addresses { at, addresses });
                }
            });
            self.transport.request(peer, body, timeout, done);
        }
    }

    /// The address book of a peer that had applied `at` entries.
    pub(super) fn told(&mut self, at: u64, mut addresses: BTreeMap<u64, String>) {
        let is_newer = at > self.shared.machine.applied().index && at >= self.book.told_at;
        if !is_newer || addresses.len() > ADDRESSES_TOLD_MAX {
            return;
        }
        addresses.retain(|id, address| *id != 0 && address.len() <= ADDRESS_BYTES_MAX);
        (self.book.told, self.book.told_at) = (addresses, at);
        self.connect();
    }

    /// The addresses of the members that this node knows, and how far it has applied.
    pub(super) fn address_book(&self) -> Answer {
        let snapshot = self.shared.machine.read();
        let mut addresses = self.book.addresses(&snapshot);
        addresses.retain(|id, _| self.members.contains(*id));
        Answer::Addresses { at: snapshot.applied().index, addresses }
    }

    /// Proposes where a member is reached, or that it never comes back. Nobody waits; what is lost
    /// a later announcement proposes again.
    pub(super) fn propose_address(&mut self, id: u64, address: Option<&str>) {
        self.propose_of_node(&EnvelopeRef::Member { id, address });
    }

    fn propose_of_node(&mut self, envelope: &EnvelopeRef<'_, F::Command>) {
        let Ok(command) = Machine::<Sessions<F>>::encode_as(envelope) else { return };
        let now = clock::now();
        let waiter = Waiter {
            id: self.id,
            asked: now,
            deadline: now,
            slot: None,
            done: None,
            _permit: None,
            is_sent: false,
            is_lost: false,
        };
        self.arrived.push(Job { command, is_repeatable: true, waiter });
    }

    /// A leader, once it has applied an entry of its term and then every so often, writes down what
    /// the rows do not have: where members are, which directories they have, and who is gone.
    pub(super) fn announce(&mut self) {
        let is_due = |at: u64| self.ticks - at >= u64::from(ANNOUNCE_TICKS);
        if self.role != Role::Leader || !self.book.announced.is_none_or(is_due) {
            return;
        }
        let snapshot = self.shared.machine.read();
        if snapshot.applied().term < self.core.status().term {
            return;
        }
        self.book.announced = Some(self.ticks);
        self.announce_addresses(&snapshot);
        self.announce_directories(&snapshot);
    }

    fn announce_addresses(&mut self, snapshot: &Snapshot) {
        let rows = snapshot.table::<MemberRow>();
        let Known { addresses, moved, .. } = &self.book.known;
        let mut news = Vec::new();
        for id in all_of(&self.members) {
            let row = rows.get(&id);
            let address = moved.get(&id).or_else(|| addresses.get(&id).filter(|_| row.is_none()));
            let is_news = |address: &String| {
                row.is_none_or(|row| row.address.as_ref().is_some_and(|known| known != address))
            };
            news.extend(
                address.filter(|address| is_news(address)).map(|to| (id, Some(to.clone()))),
            );
        }
        // A row may also be of one that is about to be added; who showed a directory was a member.
        let is_gone = |row: &MemberRow| {
            let was_member = row.directory.is_some() || self.book.gone.contains(&row.id);
            row.address.is_some() && was_member && !self.members.contains(row.id)
        };
        news.extend(rows.iter().filter(|row| is_gone(row)).map(|row| (row.id, None)));
        for (id, address) in news {
            self.propose_address(id, address.as_deref());
        }
    }

    fn announce_directories(&mut self, snapshot: &Snapshot) {
        let rows = snapshot.table::<MemberRow>();
        let mut news = Vec::new();
        for id in all_of(&self.members) {
            let row = rows.get(&id).filter(|row| row.address.is_some());
            if row.as_ref().is_some_and(|row| row.directory.is_some()) {
                continue;
            }
            let Some(directory) = self.book.directories.get(&id) else { return };
            news.extend(row.map(|_| (id, *directory)));
        }
        for (id, directory) in news {
            self.propose_of_node(&EnvelopeRef::Directory { id, directory });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ADDRESS_TRIED_TICKS, BTreeMap, Book, Known, Remembered};
    use crate::node::remembered::samples::{after, member};

    fn of<const N: usize>(addresses: [(u64, &str); N]) -> BTreeMap<u64, String> {
        addresses.map(|(id, address)| (id, address.to_owned())).into()
    }

    #[test]
    fn an_address_in_the_log_is_tried_by_turns_until_as_much_is_applied() {
        let snapshot = after(&[member(2, Some("row")), member(3, None)]);
        let addresses = [2, 3, 4].map(|id| (id, (3, "log".to_owned()))).into();
        let remembered = Remembered { addresses, ..Remembered::default() };
        let mut book = Book::new(1, Known { remembered, ..Known::default() });
        assert_eq!(book.tried(&snapshot), of([(2, "log"), (4, "log")]));
        assert_eq!(book.addresses(&snapshot), of([(2, "row")]), "nobody is told");
        let due = u64::from(ADDRESS_TRIED_TICKS);
        assert!(!book.doubt(2, 7) && !book.doubt(4, 8), "it may be about to start");
        assert!(!book.doubt(2, 6 + due) && book.doubt(2, 7 + due) && book.doubt(4, 8 + due));
        assert_eq!(book.tried(&snapshot), of([(2, "row"), (4, "log")]));
        assert!(!book.doubt(2, 6 + 2 * due) && book.doubt(2, 7 + 2 * due));
        assert!(!book.doubt(5, 100), "nothing else is known of it");
        assert_eq!(book.tried(&snapshot), of([(2, "log"), (4, "log")]));
        let more = after(&[member(2, Some("row")), member(3, None), member(4, Some("row"))]);
        assert_eq!(book.tried(&more), of([(2, "row"), (4, "row")]));
        book.known.moved = of([(2, "moved")]);
        assert_eq!(book.tried(&snapshot), of([(2, "moved"), (4, "log")]));
    }

    #[test]
    fn rows_go_before_the_start_and_behind_who_has_applied_more_and_the_removed_stay_unknown() {
        let snapshot = after(&[member(2, Some("row")), member(3, Some("row")), member(3, None)]);
        let addresses = of([(1, "start"), (2, "start"), (3, "start")]);
        let mut book = Book::new(1, Known { addresses, ..Known::default() });
        assert_eq!(book.addresses(&snapshot), of([(1, "start"), (2, "row")]));
        book.told = of([(1, "told"), (2, "told"), (3, "told"), (4, "told")]);
        book.told_at = 4;
        assert_eq!(book.addresses(&snapshot), of([(1, "told"), (2, "told"), (4, "told")]));
        book.told_at = 3;
        assert_eq!(book.addresses(&snapshot), of([(1, "start"), (2, "row")]), "as old as the rows");
        book.known.moved = of([(2, "moved"), (3, "moved")]);
        assert_eq!(book.addresses(&snapshot), of([(1, "start"), (2, "moved")]));
    }
}
