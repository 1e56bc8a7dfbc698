//! One core and the smallest shell, for directed cases.

use slog::{Discard, Logger, o};

use super::world::End;
use crate::raft::core::{Action, Batch, Config, Core, Event, Proposal, Role};
use crate::raft::{EntryKind, Membership, Recovered};

pub(super) fn quiet() -> Logger {
    Logger::root(Discard, o!())
}

/// A core alone, with a shell of one function: everything is carried out at once, except what the
/// test holds back.
pub(super) struct Alone {
    pub(super) core: Core,
    pub(super) applied: Vec<u64>,
    pub(super) changes: Vec<u64>,
    pub(super) batches: Vec<Batch>,
    pub(super) ended: Vec<(u64, End)>,
    pub(super) hold_writes: bool,
    pub(super) hold_applied: bool,
}

impl Alone {
    pub(super) fn new(members: &[u64]) -> Self {
        let members = Membership::of_voters(members.iter().copied());
        let recovered = Recovered::founding(members);
        let mut config = Config::new(1, 1);
        config.seed = Some(1);
        let core = Core::new(config, recovered, 1, &quiet()).expect("starts");
        let (applied, changes, batches, ended) = Default::default();
        let (hold_writes, hold_applied) = (false, false);
        Self { core, applied, changes, batches, ended, hold_writes, hold_applied }
    }

    pub(super) fn step(&mut self, event: Event) {
        let mut events = std::collections::VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.core.step(event) {
                match action {
                    Action::Persist(batch) => {
                        if !self.hold_writes {
                            events.push_back(Event::Persisted(batch.number));
                        }
                        self.batches.push(batch);
                    }
                    Action::Apply(list) => {
                        for committed in &list {
                            self.applied.push(committed.entry.index());
                            if committed.entry.kind() == EntryKind::Change {
                                self.changes.push(committed.entry.index());
                            }
                            if let Some(token) = committed.token {
                                let end = End::Applied(committed.entry.index());
                                self.ended.push((token, end));
                            }
                        }
                        let last = list.last().expect("not empty").entry.index();
                        if !self.hold_applied {
                            events.push_back(Event::Applied(last));
                        }
                    }
                    Action::Refused { token, reason } => {
                        self.ended.push((token, End::Refused(reason)));
                    }
                    Action::Unknown { token } => self.ended.push((token, End::Unknown)),
                    Action::ReadReady { tokens, index } => {
                        self.ended
                            .extend(tokens.into_iter().map(|token| (token, End::Read(index))));
                    }
                    _ => {}
                }
            }
        }
    }

    pub(super) fn propose(&mut self, token: u64) {
        self.step(Event::Propose(vec![Proposal { token, command: vec![1] }]));
    }

    pub(super) fn elected(members: &[u64]) -> Self {
        let mut alone = Self::new(members);
        alone.step(Event::Campaign);
        assert_eq!(alone.core.status().role, Role::Leader);
        alone
    }
}
