//! Snapshots: built in the background, and sent with their data on a way of their own.
//!
//! # Invariants
//!
//! 1. A receiver stores data only after it has verified every file, and that they lead to the
//!    position that the message says.
//! 2. Every snapshot that is sent is answered once: by the receiver, or because patience ends.
//! 3. The file of one that did not arrive is read, and the core is told when it is lost.

use fsmdb::inspect;
use fsmdb::raft::{Action, Event, Message};

use crate::disk::{self, Chain};
use crate::limits::SNAPSHOT_PATIENCE;
use crate::mutant::Mutant;
use crate::network::Delivery;
use crate::node::Built;
use crate::violation::Checked;
use crate::world::World;

impl World {
    pub(crate) fn build_snapshot(&mut self, id: u64) -> Checked {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let built = node.build(&mut self.random)?;
        let boot = node.boot;
        let at = self.now + self.random.below(40);
        self.network.put(at, Delivery::Built { id, boot, built });
        Ok(())
    }

    pub(crate) fn snapshot_built(&mut self, id: u64, built: Built) -> Checked {
        let Built { at, chain, snapshot } = built;
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let chain = node.without_erased(chain);
        node.files_built += 1;
        let reference = format!("{id}-{}-{}", node.boot, node.files_built).into_bytes();
        self.trace.note(self.now, id, "built", &[at.index, chain.len() as u64]);
        if chain.len() > 1 {
            self.counts.links += 1;
        } else {
            self.counts.snapshots += 1;
        }
        node.disk.put(&reference, chain.clone());
        node.base = Some((snapshot, chain));
        let (index, term) = (at.index, at.term);
        let event = Event::SnapshotBuilt { index, term, reference: reference.clone() };
        self.step_with_files(id, event, &reference)
    }

    /// Gives an event that may make the core name stored files; if it does not, they go.
    fn step_with_files(&mut self, id: u64, event: Event, reference: &[u8]) -> Checked {
        let core = self.nodes.get_mut(&id).and_then(|node| node.core.as_mut());
        let Some(core) = core else { return Ok(()) };
        self.counts.steps += 1;
        let actions = core.step(event);
        let is_named = actions.iter().any(|action| match action {
            Action::Compact { snapshot, .. } => snapshot.reference == reference,
            Action::Persist(batch) => {
                batch.snapshot.as_ref().is_some_and(|(meta, _)| meta.reference == reference)
            }
            _ => false,
        });
        for action in actions {
            self.trace.show(self.now, id, "does", &action);
            self.perform(id, action)?;
        }
        self.scrub(id);
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        if !is_named && !node.waits_for_files(reference) {
            node.disk.discard(reference);
        }
        Ok(())
    }

    pub(crate) fn send_snapshot(&mut self, id: u64, message: Message) {
        let attempt = self.number();
        let (now, to) = (self.now, message.to());
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let boot = node.boot;
        node.sending.insert(attempt, message.snapshot_reference().to_vec());
        let data = node.disk.chain(message.snapshot_reference());
        let other = node.disk.other_chain(message.snapshot_reference());
        let late = now + SNAPSHOT_PATIENCE;
        self.network.put(late, Delivery::SnapshotAnswer { id, boot, attempt, to, ok: false });
        let is_lost = self.network.snapshots_cut || self.network.loses(id, to, &mut self.random);
        let Some(mut data) = data.filter(|_| !is_lost) else { return };
        if self.random.chance(5) {
            let mut parts = data.to_vec();
            let at = self.random.position(parts.len());
            disk::damage(&mut parts[at], &mut self.random);
            data = parts.into();
        } else if self.random.chance(5) {
            // The data of another snapshot, under the name of this one.
            data = other.unwrap_or(data);
        }
        let copies = if self.random.chance(self.network.repeat_percent) { 2 } else { 1 };
        for _ in 0..copies {
            let at = now + 5 + self.random.below(self.network.delay_max * 3);
            let (message, data) = (message.clone(), data.clone());
            self.network.put(at, Delivery::Snapshot { message, data, boot, attempt });
        }
    }

    pub(crate) fn receive_snapshot(
        &mut self,
        message: Message,
        data: Chain,
        boot: u64,
        attempt: u64,
    ) -> Checked {
        let (id, to) = (message.from(), message.to());
        let Some(node) = self.nodes.get_mut(&to).filter(|node| node.is_running()) else {
            return Ok(());
        };
        let index = message.snapshot_index();
        let ok = self.mutant == Some(Mutant::ChecksumUnchecked)
            || leads_to(&data, index, self.mutant == Some(Mutant::PositionUnchecked));
        self.trace.note(self.now, to, "snapshot", &[id, index, u64::from(ok)]);
        self.counts.refused_snapshots += u64::from(!ok);
        if ok {
            let reference = message.snapshot_reference().to_vec();
            node.disk.put(&reference, data);
            self.step_with_files(to, Event::Receive(message), &reference)?;
        }
        if !self.network.loses(to, id, &mut self.random) {
            let at = self.now + self.network.delay(&mut self.random);
            self.network.put(at, Delivery::SnapshotAnswer { id, boot, attempt, to, ok });
        }
        Ok(())
    }

    pub(crate) fn snapshot_answered(
        &mut self,
        id: u64,
        attempt: u64,
        to: u64,
        ok: bool,
    ) -> Checked {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let Some(reference) = node.sending.remove(&attempt) else {
            // It was answered before.
            return Ok(());
        };
        self.counts.lost_snapshots += u64::from(!ok);
        if self.mutant == Some(Mutant::ForgetSnapshotSent) {
            return Ok(());
        }
        self.trace.note(self.now, id, "snapshot sent", &[to, u64::from(ok)]);
        self.step(id, Event::SnapshotSent { to, ok })?;
        if ok {
            return Ok(());
        }
        self.check_file(id, reference)
    }

    /// Looks at the file of a snapshot that did not arrive: one that is damaged never would.
    pub(crate) fn check_file(&mut self, id: u64, reference: Vec<u8>) -> Checked {
        let Some(node) = self.nodes.get(&id) else { return Ok(()) };
        let chain = node.disk.chain(&reference);
        let is_sound = chain.is_some_and(|chain| leads_to(&chain, 0, true));
        if is_sound || self.mutant == Some(Mutant::LostFileUntold) {
            return Ok(());
        }
        self.counts.files_missed += 1;
        self.trace.note(self.now, id, "misses a file", &[]);
        self.step(id, Event::SnapshotLost { reference })
    }
}

/// Whether every file is sound and the last one is of `index`.
fn leads_to(chain: &Chain, index: u64, anywhere: bool) -> bool {
    let summaries: Result<Vec<_>, _> = chain.iter().map(|file| inspect(file.as_slice())).collect();
    let last = summaries.ok().and_then(|summaries| summaries.last().map(|last| last.applied.index));
    last.is_some_and(|last| anywhere || last == index)
}
