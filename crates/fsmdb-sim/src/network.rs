//! What is on its way: a queue by virtual time, and the faults of the ways.
//!
//! # Invariants
//!
//! 1. What is due at one time is delivered in the order in which it was sent.
//! 2. Messages are lost, repeated, delayed and reordered; what a machine does within itself is not.

use std::collections::{BTreeMap, BTreeSet};

use fsmdb::raft::{Batch, Message};

use crate::clients::{Answer, Request};
use crate::disk::Chain;
use crate::node::Built;
use crate::random::Random;

/// Something that arrives at a time. `boot` is the start of the replica that it is meant for.
#[derive(Clone, Debug)]
pub(crate) enum Delivery {
    /// A message of Raft.
    Message(Message),
    /// A snapshot message with its data, from a start of the sender that waits for an answer.
    Snapshot {
        message: Message,
        data: Chain,
        boot: u64,
        attempt: u64,
    },
    /// What became of it.
    SnapshotAnswer {
        id: u64,
        boot: u64,
        attempt: u64,
        to: u64,
        ok: bool,
    },
    /// The other side refused the connection.
    Unreachable {
        id: u64,
        boot: u64,
        to: u64,
    },
    Tick {
        id: u64,
        boot: u64,
    },
    /// The log of a replica has come to the work of this number.
    Log {
        id: u64,
        boot: u64,
        number: u64,
    },
    /// For planted bugs: a batch is answered that is not written.
    Durable {
        id: u64,
        boot: u64,
        batch: Batch,
    },
    /// The state machine of a replica has come to its next work.
    Apply {
        id: u64,
        boot: u64,
    },
    /// A snapshot that was built in the background.
    Built {
        id: u64,
        boot: u64,
        built: Built,
    },
    Request {
        to: u64,
        request: Request,
    },
    Answer(Answer),
    /// A replica loses power.
    PowerCut {
        id: u64,
        boot: u64,
    },
    /// The subscriber looks after the replica that it follows.
    Subscriber,
    /// A client looks at what it waits for.
    Wake {
        client: u64,
    },
}

/// The network, and everything else that takes time.
#[derive(Debug, Default)]
pub(crate) struct Network {
    queue: BTreeMap<(u64, u64), Delivery>,
    sequence: u64,
    pub(crate) loss_percent: u64,
    pub(crate) repeat_percent: u64,
    pub(crate) delay_max: u64,
    /// Directed cuts: nothing comes from the first to the second.
    pub(crate) cuts: BTreeSet<(u64, u64)>,
    /// Whether the way of snapshot data is cut.
    pub(crate) snapshots_cut: bool,
}

impl Network {
    pub(crate) fn put(&mut self, at: u64, delivery: Delivery) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), delivery);
    }

    /// The next delivery that is due at `until`, with its time.
    pub(crate) fn next(&mut self, until: u64) -> Option<(u64, Delivery)> {
        let (&(at, _), _) = self.queue.first_key_value()?;
        if at > until {
            return None;
        }
        self.queue.pop_first().map(|((at, _), delivery)| (at, delivery))
    }

    pub(crate) fn loses(&self, from: u64, to: u64, random: &mut Random) -> bool {
        self.cuts.contains(&(from, to)) || random.chance(self.loss_percent)
    }

    pub(crate) fn delay(&self, random: &mut Random) -> u64 {
        1 + random.below(self.delay_max)
    }

    /// Sends over a way that loses, repeats and reorders.
    pub(crate) fn send(
        &mut self,
        now: u64,
        ends: (u64, u64),
        delivery: &Delivery,
        random: &mut Random,
    ) -> bool {
        if self.loses(ends.0, ends.1, random) {
            return false;
        }
        let copies = if random.chance(self.repeat_percent) { 2 } else { 1 };
        for _ in 0..copies {
            let at = now + self.delay(random);
            self.put(at, delivery.clone());
        }
        true
    }

    /// Cuts both directions between `id` and all of `others`.
    pub(crate) fn cut_off(&mut self, id: u64, others: &[u64]) {
        for &other in others.iter().filter(|other| **other != id) {
            self.cuts.insert((id, other));
            self.cuts.insert((other, id));
        }
    }

    /// No faults from here on.
    pub(crate) fn heal(&mut self) {
        (self.loss_percent, self.repeat_percent, self.delay_max) = (0, 0, 3);
        self.cuts.clear();
        self.snapshots_cut = false;
    }
}
