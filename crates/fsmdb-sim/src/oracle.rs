//! What is known to be true of a run, and what must therefore be true of every replica and reply.
//!
//! The first replica that applies an entry decides what stands at its index; the model says what
//! that must lead to. All others are held to both.

use std::collections::{BTreeMap, BTreeSet};

use fsmdb::raft::{Entry, Recovered};
use fsmdb::{Applied, Digest, Snapshot};

use crate::model::Model;
use crate::random::hash_of;
use crate::state::{Command, Done, Session, Stale};
use crate::violation::{Check, Checked, Violation, ensure};

/// The state after an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    term: u64,
    digest: Digest,
    /// The highest term that had a leader when the first replica came to it.
    newest_leader: u64,
}

/// What is known of the whole run.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    leaders: BTreeMap<u64, u64>,
    entries: BTreeMap<(u64, u64), u64>,
    states: BTreeMap<u64, State>,
    replies: BTreeMap<u64, Result<Done, Stale>>,
    changes: BTreeSet<u64>,
    effects: BTreeMap<(u64, u64), Done>,
    model: Model,
    /// The revision that every read asked from here on must have at least.
    floor: u64,
}

impl Oracle {
    /// Somebody leads. A replica that stood still may come to lead in a term that is over, so only
    /// what was applied before any later term had a leader must be in its log.
    pub(crate) fn leads(&mut self, id: u64, term: u64, log: &Recovered) -> Checked {
        let leader = *self.leaders.entry(term).or_insert(id);
        ensure(leader == id, Check::Election, || format!("{leader} and {id} lead in term {term}"))?;
        let first = log.entries.first().map_or(log.truncated_index + 1, Entry::index);
        let required = self.states.range(first..);
        let mut has = log.entries.iter().map(|entry| (entry.index(), entry.term()));
        for (index, state) in required.take_while(|(_, state)| state.newest_leader < term) {
            let entry = has.next();
            ensure(entry == Some((*index, state.term)), Check::LeaderCompleteness, || {
                let was = state.term;
                format!("{id} leads in term {term} with {entry:?}, applied was {index} of {was}")
            })?;
        }
        Ok(())
    }

    /// How many terms had a leader.
    pub(crate) fn elections(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// Somebody has this entry in its log.
    pub(crate) fn logged(&mut self, id: u64, entry: &Entry) -> Checked {
        let bytes = entry.encode();
        let bytes = bytes.map_err(|error| Violation::new(Check::LogMatching, error.to_string()))?;
        let hash = hash_of(&bytes);
        let place = (entry.index(), entry.term());
        let known = *self.entries.entry(place).or_insert(hash);
        ensure(known == hash, Check::LogMatching, || {
            format!("replica {id} has another entry at {} of term {}", place.0, place.1)
        })
    }

    /// A replica has applied an entry, with a command if it has one and the reply to it.
    pub(crate) fn applied(
        &mut self,
        id: u64,
        at: Applied,
        command: Option<(&Command, &Result<Done, Stale>)>,
        snapshot: &Snapshot,
    ) -> Checked {
        let newest = self.states.last_key_value().map_or(0, |(index, _)| *index);
        let is_first = at.index > newest;
        if let Some((command, reply)) = command {
            if is_first {
                let (expected, is_changed) = self.model.apply(at.index, command);
                if is_changed {
                    self.changes.insert(at.index);
                    let done = expected.clone().ok();
                    let key = (command.client, command.sequence);
                    done.map(|done| self.effects.insert(key, done));
                }
                self.replies.insert(at.index, expected);
                self.check_repeats(at.index)?;
            }
            let expected = self.replies.get(&at.index);
            ensure(expected == Some(reply), Check::Reply, || {
                format!("replica {id} at {at}: {reply:?} to {command:?}, expected {expected:?}")
            })?;
        }
        self.holds(id, at, snapshot)
    }

    fn check_repeats(&self, index: u64) -> Checked {
        let repeated = self.model.repeated();
        ensure(repeated.is_none(), Check::ExactlyOnce, || {
            format!("the value {repeated:?} was appended again at {index}")
        })
    }

    /// A replica is at an index, by whatever way.
    pub(crate) fn holds(&mut self, id: u64, at: Applied, snapshot: &Snapshot) -> Checked {
        let failed = |text: String| Violation::new(Check::StateMachine, text);
        ensure(snapshot.applied() == at, Check::StateMachine, || {
            format!("replica {id} should be at {at} and is at {}", snapshot.applied())
        })?;
        let digests = snapshot.digests().map_err(|error| failed(error.to_string()))?;
        let newest_leader = self.leaders.last_key_value().map_or(0, |(term, _)| *term);
        let state = State { term: at.term, digest: digests.database(), newest_leader };
        let known = *self.states.entry(at.index).or_insert(state);
        let is_same = (known.term, known.digest) == (state.term, state.digest);
        ensure(is_same, Check::StateMachine, || {
            format!("replica {id} at {at} has {state:?}, another had {known:?}")
        })
    }

    /// The first entry of `[from, to)` that changed anything.
    pub(crate) fn first_change(&self, from: u64, to: u64) -> Option<u64> {
        if from >= to {
            return None;
        }
        self.changes.range(from..to).next().copied()
    }

    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    /// A client was told that its command is done.
    pub(crate) fn acknowledged(&mut self, command: &Command, done: &Done) -> Checked {
        let known = self.effects.get(&(command.client, command.sequence));
        ensure(known == Some(done), Check::Acknowledged, || {
            format!("{command:?} was acknowledged as {done:?}; what happened is {known:?}")
        })?;
        self.floor = self.floor.max(done.index);
        Ok(())
    }

    /// A client has read a register; `floor` is for a linearizable read.
    pub(crate) fn read(
        &mut self,
        register: u64,
        floor: Option<u64>,
        revision: u64,
        values: &[u64],
    ) -> Checked {
        let expected = self.model.register_at(register, revision);
        ensure(values == expected, Check::Read, || {
            format!("register {register} at {revision} is {expected:?}, read was {values:?}")
        })?;
        let Some(floor) = floor else { return Ok(()) };
        ensure(revision >= floor, Check::LinearizableRead, || {
            format!("a read of revision {revision}, when {floor} was known before it was asked")
        })?;
        self.floor = self.floor.max(revision);
        Ok(())
    }

    /// At the end: the session of a client, who knows of `known` commands and has sent `sent`.
    pub(crate) fn session(&self, client: u64, known: u64, sent: u64, at: &Snapshot) -> Checked {
        let row = at.table::<Session>().get(&client).map(|row| (row.sequence, row.effects));
        let (last, effects) = row.unwrap_or_default();
        ensure(last == effects && (known..=sent).contains(&last), Check::ExactlyOnce, || {
            format!(
                "client {client} knows of {known} commands and has sent {sent}; \
                 {effects} had an effect, the last is {last}"
            )
        })?;
        let expected = self.model.sessions().get(&client).map_or(0, |done| done.sequence);
        ensure(last == expected, Check::ExactlyOnce, || {
            format!("client {client} has come to {last}, by the model to {expected}")
        })
    }
}
