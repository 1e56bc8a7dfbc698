//! One who follows the changes over the whole run, from replica to replica: when the one that it
//! follows crashes, stands still or leads no more, it goes on at another by its bookmark.
//!
//! # Invariants
//!
//! 1. Its copy and its bookmark belong to no replica: they outlive all of them.

use fsmdb::raft::{Core, Role};

use crate::follower::{Follower, Resumed};
use crate::limits::{SUBSCRIBER_AWAY_MAX, SUBSCRIBER_WAKE_MAX};
use crate::network::Delivery;
use crate::node::Node;
use crate::violation::{Check, Checked, ensure};
use crate::world::World;

/// A start of a replica that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    id: u64,
    boot: u64,
    /// Whether it led when it was chosen.
    leads: bool,
}

/// The one who follows.
#[derive(Debug, Default)]
pub(crate) struct Subscriber {
    follower: Option<Follower>,
    at: Option<Place>,
    /// Until when it follows nobody: what it misses meanwhile may be gone.
    away_until: u64,
}

fn leads(node: &Node) -> bool {
    node.core.as_ref().map(Core::status).is_some_and(|status| status.role == Role::Leader)
}

impl World {
    /// Looks after the replica that it follows, and for another one if that is no good.
    pub(crate) fn subscriber_wakes(&mut self) -> Checked {
        let again = self.now + 1 + self.random.below(SUBSCRIBER_WAKE_MAX);
        self.network.put(again, Delivery::Subscriber);
        let left = self.subscriber.at.map(|place| place.id);
        let stays = self.subscriber.at.is_some_and(|place| {
            let node = &self.nodes[&place.id];
            self.is_running(place.id, place.boot)
                && node.paused_until <= self.now
                && !node.is_removed
                && (leads(node) || !place.leads)
        });
        if stays {
            return Ok(());
        }
        self.subscriber_leaves();
        if left.is_some() && self.random.chance(20) {
            self.subscriber.away_until = self.now + self.random.below(SUBSCRIBER_AWAY_MAX);
        }
        if self.now < self.subscriber.away_until {
            return Ok(());
        }
        let is_good = |id: &u64| {
            let node = &self.nodes[id];
            node.is_running() && node.paused_until <= self.now
        };
        let mut good: Vec<u64> = self.ids().into_iter().filter(is_good).collect();
        if good.len() > 1 {
            good.retain(|id| Some(*id) != left);
        }
        let leader = self.leader().filter(|leader| good.contains(leader));
        let chosen = leader.filter(|_| self.random.chance(50));
        let chosen = chosen.or_else(|| self.random.pick(&good));
        chosen.map_or(Ok(()), |id| self.subscribe(id))
    }

    fn subscriber_leaves(&mut self) {
        self.subscriber.at = None;
        if let Some(follower) = &mut self.subscriber.follower {
            follower.let_go();
        }
    }

    /// Goes on at a replica, if that is far enough.
    fn subscribe(&mut self, id: u64) -> Checked {
        let Some(node) = self.nodes.get(&id) else { return Ok(()) };
        let db = node.machine.db();
        let follower = &mut self.subscriber.follower;
        let resumed = follower.as_mut().map(|follower| follower.resume(db)).transpose()?;
        self.trace.note(self.now, id, "subscribed", &[resumed.map_or(0, |how| how as u64)]);
        match resumed {
            Some(Resumed::FromBookmark) => self.counts.feeds_resumed += 1,
            Some(Resumed::Anew) => self.counts.feeds_anew += 1,
            Some(Resumed::TooEarly) => return Ok(()),
            None => *follower = Some(Follower::new(db, self.mutant)),
        }
        let (boot, leads) = (node.boot, leads(node));
        self.subscriber.at = Some(Place { id, boot, leads });
        self.subscriber_looks(id)
    }

    /// Takes what has come, if it follows this replica.
    pub(crate) fn subscriber_looks(&mut self, id: u64) -> Checked {
        let Some(node) = self.nodes.get(&id) else { return Ok(()) };
        let is_there = self.subscriber.at.is_some_and(|at| (at.id, at.boot) == (id, node.boot));
        if let Some(follower) = self.subscriber.follower.as_mut().filter(|_| is_there) {
            let followed = follower.look(node.machine.db(), &self.oracle)?;
            self.counts.feed_items += followed.items;
            self.counts.feed_resets += followed.resets;
        }
        Ok(())
    }

    /// At the end: it can go on at the leader, which has everything.
    pub(crate) fn subscriber_ends(&mut self, leader: u64) -> Checked {
        self.subscriber_leaves();
        self.subscribe(leader)?;
        ensure(self.subscriber.at.is_some_and(|at| at.id == leader), Check::Feed, || {
            format!("its bookmark is beyond what the leader {leader} has")
        })
    }
}
