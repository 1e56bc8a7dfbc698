//! Erasures: nothing is to be left of the log up to an entry, nor of snapshots from before it.
//!
//! # Invariants
//!
//! 1. A replica has erased only what its core has compacted, by the order of the log.
//! 2. Who was not asked, or forgot it in a crash, is asked at the end.
//! 3. Chains of files are folded into one where they begin before the erasure.
//!
//! # Invariants checked
//!
//! 1. Of what a replica says to have erased nothing is in its durable log or its files.

use std::collections::BTreeSet;

use fsmdb::raft::Event;
use fsmdb::{LoadOptions, Machine, SaveOptions};

use crate::disk::{Chain, begins_at};
use crate::limits::ERASURE_BEHIND_MAX;
use crate::mutant::Mutant;
use crate::node::{ApplyWork, LogWork, Node, empty_machine};
use crate::random::Random;
use crate::state::Bank;
use crate::violation::{Check, Checked, ensure};
use crate::world::World;

impl World {
    /// Somebody wants an entry erased that the leader has applied, and most replicas hear of it.
    pub(crate) fn erase_history(&mut self) -> Checked {
        let leader = self.leader().and_then(|leader| self.nodes[&leader].core.as_ref());
        let Some(applied) = leader.map(|core| core.status().applied) else { return Ok(()) };
        let index = applied.saturating_sub(self.random.below(ERASURE_BEHIND_MAX + 1));
        self.unwanted = self.unwanted.max(index);
        for id in self.ids() {
            let is_reached = self.nodes[&id].paused_until <= self.now && self.random.chance(75);
            if is_reached {
                self.ask_for_erasure(id, index)?;
            }
        }
        Ok(())
    }

    /// Asks these for all that anybody has ever wanted erased.
    pub(crate) fn ask_for_erasure_of_all(&mut self, ids: &BTreeSet<u64>) -> Checked {
        ids.iter().try_for_each(|id| self.ask_for_erasure(*id, self.unwanted))
    }

    fn ask_for_erasure(&mut self, id: u64, index: u64) -> Checked {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        if !node.is_running() || index == 0 {
            return Ok(());
        }
        self.counts.erasures += 1;
        node.erasure = node.erasure.max(Some(index));
        node.erased_to = node.erased_to.max(index);
        // A link behind a file from before would bring it back.
        node.base = None;
        self.trace.note(self.now, id, "erases", &[index]);
        // The log must not go when the file is no good.
        if let Some(reference) = node.disk.lost_in_use() {
            self.check_file(id, reference)?;
        }
        self.step(id, Event::Compact { index })
    }

    /// Has the log and the files written anew once the core has compacted what is to be erased.
    pub(crate) fn scrub(&mut self, id: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(index) = node.erasure else { return };
        let Some(core) = &node.core else { return };
        let status = core.status();
        // The older file goes too, so the core must not know that the newest is lost.
        let recorded = core.snapshot_index().unwrap_or(0);
        let reached = status.applied.min(status.first_index - 1).min(recorded);
        if index <= reached || self.mutant == Some(Mutant::EraseTooEarly) {
            node.erasure = None;
            self.counts.erased += 1;
            self.give_log_work(id, LogWork::Scrub { index });
        }
    }

    /// Whether a replica has erased all that anybody has ever wanted erased.
    pub(crate) fn has_erased(&self, id: u64) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.disk.has_erased(self.unwanted))
    }
}

impl Node {
    /// Writes the log and the files anew, and checks that nothing is left. Not while the power
    /// fails: nobody would be told any more.
    pub(crate) fn erase(&mut self, index: u64) -> Checked {
        if self.disk.is_failing() {
            return Ok(());
        }
        let (id, mutant, clock) = (self.id, self.mutant, &self.clock);
        self.disk.scrub(index, |chain| folded(&empty_machine(id, mutant, clock), chain));
        ensure(self.disk.has_erased(index), Check::Erasure, || {
            format!("replica {id} has something left from before {index}")
        })
    }

    /// The file of the newest snapshot goes away or is damaged; not when the log may go up to it.
    pub(crate) fn lose_file(&mut self, random: &mut Random) -> bool {
        let is_needed = self.erasure.is_some()
            || self.log_work.iter().any(|(_, work)| matches!(work, LogWork::Scrub { .. }))
            || self.apply_work.iter().any(|work| matches!(work, ApplyWork::Install(_)));
        self.is_running() && !is_needed && self.disk.lose_newest(random)
    }

    /// What was built before an erasure was asked for, as one file.
    pub(crate) fn without_erased(&self, chain: Chain) -> Chain {
        if self.erased_to == 0 || chain.len() == 1 || begins_at(&chain) >= self.erased_to {
            return chain;
        }
        folded(&empty_machine(self.id, self.mutant, &self.clock), &chain).unwrap_or(chain)
    }
}

/// One file with what the chain leads to, if it can be read, by an empty machine.
fn folded(machine: &Machine<Bank>, chain: &Chain) -> Option<Chain> {
    let sources = chain.iter().map(Vec::as_slice);
    machine.install_chain(sources, LoadOptions::new().threads(1)).ok()?;
    let mut file = Vec::new();
    machine.read().save_with(&mut file, SaveOptions::new().threads(1)).ok()?;
    Some([file].into())
}
