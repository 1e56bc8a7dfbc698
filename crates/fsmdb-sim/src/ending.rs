//! The end of a run: no faults any more, and everything must be well.
//!
//! # Invariants checked
//!
//! 1. Within a bounded time a new command is acknowledged, and all members have it.
//! 2. All members have equal digests and write equal bytes; their indexes equal their rows.
//! 3. All members erase what anybody wanted erased, and nothing of it is left.
//! 4. Who follows the changes, from replica to replica, can go on at the leader and has all.
//! 5. Every client's session is as far as the client knows, or one command further.

use std::collections::BTreeSet;

use fsmdb::raft::Core;
use fsmdb::{SaveOptions, Snapshot};

use crate::clients::{Client, What};
use crate::limits::{HEAL_LOOK, HEAL_TIME_MAX};
use crate::network::Delivery;
use crate::violation::{Check, Checked, Violation, ensure};
use crate::world::World;

/// The client that asks at the end.
const LAST_CLIENT: u64 = 99;

impl World {
    /// Heals everything and holds the group to what it promises.
    pub(crate) fn end(&mut self) -> Checked {
        self.network.heal();
        self.disk_max = 3;
        self.is_open = false;
        for node in self.nodes.values_mut() {
            node.paused_until = 0;
        }
        self.start_all()?;
        let deadline = self.now + HEAL_TIME_MAX;
        self.run(200)?;
        let mut last = Client::new(LAST_CLIENT);
        let command = last.next_command(&mut self.random);
        last.waits = Some((What::Write(command.clone()), self.now));
        self.clients.insert(LAST_CLIENT, last);
        self.network.put(self.now, Delivery::Wake { client: LAST_CLIENT });
        self.send_request(LAST_CLIENT, 1, What::Write(command));
        let writes = |client: &Client| matches!(client.waits, Some((What::Write(_), _)));
        while self.clients.values().any(writes) || !self.have_all()? {
            self.wait(deadline)?;
        }
        let members = self.settled()?;
        self.ask_for_erasure_of_all(&members)?;
        // A request that was long on its way may be applied meanwhile.
        while !members.iter().all(|id| self.has_erased(*id)) || !self.have_all()? {
            self.wait(deadline)?;
        }
        let leader = self.leader().unwrap_or(0);
        self.subscriber_ends(leader)?;
        self.compare()
    }

    fn wait(&mut self, deadline: u64) -> Checked {
        ensure(self.now < deadline, Check::Progress, || {
            let statuses = self.nodes.values().map(|node| node.core.as_ref().map(Core::status));
            format!("at {}: {:?}", self.now, statuses.collect::<Vec<_>>())
        })?;
        self.run(HEAL_LOOK)
    }

    fn settled(&self) -> Checked<BTreeSet<u64>> {
        let text = "the leader is gone";
        self.members().ok_or_else(|| Violation::new(Check::Convergence, text))
    }

    /// The members by the word of the leader, when no change of them is under way.
    fn members(&self) -> Option<BTreeSet<u64>> {
        let leader = self.leader()?;
        let members = self.nodes[&leader].core.as_ref()?.membership();
        let is_settled = !members.is_joint() && members.contains(leader);
        let all = members.voters.iter().chain(&members.learners).copied();
        is_settled.then(|| all.collect())
    }

    /// Whether all members have applied the same entry, and there is none that they have not.
    fn have_all(&self) -> Checked<bool> {
        let Some(members) = self.members() else { return Ok(false) };
        let mut applied = BTreeSet::new();
        for id in members {
            let node = self.nodes.get(&id);
            let node = node.ok_or_else(|| {
                Violation::new(Check::Convergence, format!("member {id} was never made"))
            })?;
            let Some(core) = &node.core else { return Ok(false) };
            let status = core.status();
            applied.extend([status.applied, status.last_index, node.machine.applied().index]);
        }
        Ok(applied.len() == 1)
    }

    fn compare(&mut self) -> Checked {
        let failed = |text: String| Violation::new(Check::Convergence, text);
        let mut first: Option<(u64, Vec<u8>)> = None;
        for id in self.settled()? {
            let snapshot = self.nodes[&id].machine.read();
            let checked = snapshot.check();
            checked.map_err(|error| failed(format!("replica {id}: {error}")))?;
            let mut file = Vec::new();
            let saved = snapshot.save_with(&mut file, SaveOptions::new().threads(1));
            saved.map_err(|error| failed(format!("replica {id}: {error}")))?;
            let (other, bytes) = first.get_or_insert_with(|| (id, file.clone()));
            ensure(*bytes == file, Check::Convergence, || {
                format!("replicas {other} and {id} write other bytes at {:?}", snapshot.applied())
            })?;
            self.check_sessions(&snapshot)?;
        }
        let (id, bytes) = first.ok_or_else(|| failed("nobody is left".into()))?;
        self.trace.note(self.now, id, "ends", &[crate::random::hash_of(&bytes)]);
        Ok(())
    }

    fn check_sessions(&self, snapshot: &Snapshot) -> Checked {
        self.clients.values().try_for_each(|client| {
            self.oracle.session(client.id, client.known, client.sequence, snapshot)
        })
    }
}
