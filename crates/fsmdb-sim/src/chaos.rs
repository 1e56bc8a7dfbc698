//! What goes wrong, and when: one fault after the other, drawn from the stream of the run.

use fsmdb::raft::{Core, Event, MemberChange};

use crate::limits::{CALM_TIME_MAX, PAUSE_TIME_MAX, REPLICAS_MAX, ROUND_TIME_MAX};
use crate::violation::Checked;
use crate::world::World;

impl World {
    /// One fault, and some time.
    pub(crate) fn round(&mut self) -> Checked {
        if self.random.chance(30) {
            self.change_weather();
        }
        self.disturb()?;
        let time = 5 + self.random.below(ROUND_TIME_MAX);
        self.run(time)
    }

    fn change_weather(&mut self) {
        self.network.loss_percent = self.random.pick(&[0, 0, 3, 15]).unwrap_or(0);
        self.network.repeat_percent = self.random.pick(&[0, 2, 10]).unwrap_or(0);
        self.network.delay_max = self.random.pick(&[2, 8, 25, 60]).unwrap_or(2);
        self.network.snapshots_cut = self.random.chance(15);
        self.disk_max = self.random.pick(&[3, 3, 20, 150]).unwrap_or(3);
    }

    fn disturb(&mut self) -> Checked {
        let ids = self.ids();
        let at = self.random.pick(&ids).unwrap_or(1);
        let what = self.random.below(33);
        self.trace.note(self.now, at, "fault", &[what]);
        match what {
            0 => self.crash(at)?,
            2 => {
                // A power cut hits many at once, and they come back.
                for &id in ids.iter().filter(|id| **id != at) {
                    self.crash(id)?;
                }
                self.start_all()?;
            }
            3 => {
                self.crash(at)?;
                self.start(at)?;
            }
            1 | 4 | 5 => self.start_all()?,
            6 => {
                self.counts.partitions += 1;
                self.network.cut_off(at, &ids);
            }
            7 => {
                let other = self.random.pick(&ids).unwrap_or(1);
                self.counts.partitions += 1;
                self.network.cuts.insert((at, other));
            }
            8 => self.split(&ids),
            9 | 10 => self.network.cuts.clear(),
            11 => {
                if let Some(leader) = self.leader() {
                    self.counts.transfers += 1;
                    self.step(leader, Event::Transfer(at))?;
                }
            }
            12..15 => self.change_members(at)?,
            15 => self.step(at, Event::Campaign)?,
            16 => {
                // The clock of one replica jumps.
                self.counts.clock_jumps += 1;
                for _ in 0..self.random.below(30) {
                    self.step(at, Event::Tick)?;
                }
            }
            17 => self.pause(at, 400),
            // It comes back and thinks that it leads.
            18 | 26 | 27 => self.pause(self.leader().unwrap_or(at), PAUSE_TIME_MAX),
            19 => self.cut_leader(&ids),
            20 => self.cut_power_of_a_half(&ids)?,
            21..26 => {
                // A calm: work is done, snapshots are built upon each other.
                self.network.cuts.clear();
                self.start_all()?;
                let time = self.random.below(CALM_TIME_MAX);
                self.run(time)?;
            }
            28 => self.crash_in_a_loop(at)?,
            29 => self.erase_history()?,
            30 | 31 => self.lose_file(&ids),
            _ => {}
        }
        Ok(())
    }

    /// The file of the newest snapshot of a replica goes away or is damaged: of the leader, if it
    /// can do without, or else of one of the others.
    fn lose_file(&mut self, ids: &[u64]) {
        let ids = self.leader().into_iter().chain(ids.iter().copied());
        for id in ids.collect::<Vec<_>>() {
            let random = &mut self.random;
            if self.nodes.get_mut(&id).is_some_and(|node| node.lose_file(random)) {
                self.counts.files_lost += 1;
                self.trace.note(self.now, id, "loses a file", &[]);
                return;
            }
        }
    }

    /// A replica crashes as soon as it has done a little, on a slow disk: mostly the leader.
    fn crash_in_a_loop(&mut self, at: u64) -> Checked {
        self.disk_max = 150;
        let at = self.leader().unwrap_or(at);
        for _ in 0..3 {
            self.crash(at)?;
            self.start(at)?;
            let time = self.random.below(400);
            self.run(time)?;
        }
        Ok(())
    }

    /// A whole process stands still: what reaches it waits.
    fn pause(&mut self, id: u64, longest: u64) {
        self.counts.clock_jumps += 1;
        let until = self.now + 20 + self.random.below(longest);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.paused_until = until;
        }
    }

    /// Two groups that do not see each other.
    fn split(&mut self, ids: &[u64]) {
        self.counts.partitions += 1;
        let sides: Vec<bool> = ids.iter().map(|_| self.random.chance(50)).collect();
        for (&one, side) in ids.iter().zip(&sides) {
            for (&other, _) in ids.iter().zip(&sides).filter(|(_, other)| *other != side) {
                self.network.cuts.insert((one, other));
            }
        }
    }

    /// The leader sees nobody, and the others elect another one soon.
    fn cut_leader(&mut self, ids: &[u64]) {
        if let Some(leader) = self.leader() {
            self.counts.partitions += 1;
            self.network.cut_off(leader, ids);
        }
    }

    /// Some lose power and come back to see only each other.
    fn cut_power_of_a_half(&mut self, ids: &[u64]) -> Checked {
        let leader = self.leader();
        let mut lost: Vec<u64> = ids.iter().copied().filter(|id| Some(*id) != leader).collect();
        lost.truncate(ids.len().div_ceil(2));
        for &id in &lost {
            self.crash(id)?;
        }
        self.counts.partitions += 1;
        for &one in &lost {
            for other in ids.iter().copied().filter(|id| !lost.contains(id)) {
                self.network.cuts.insert((one, other));
                self.network.cuts.insert((other, one));
            }
        }
        self.start_all()
    }

    fn change_members(&mut self, at: u64) -> Checked {
        let Some(leader) = self.leader() else { return Ok(()) };
        let Some(members) = self.nodes[&leader].core.as_ref().map(Core::membership).cloned() else {
            return Ok(());
        };
        let fresh = self.nodes.keys().copied().max().unwrap_or(0) + 1;
        let learner = members.learners.first().copied();
        let voters = members.voters.len();
        let is_spare = voters > 3 || (voters > 1 && self.random.chance(25));
        let is_voter = members.voters.contains(&at);
        let steps = match self.random.below(5) {
            0 if fresh <= REPLICAS_MAX => {
                self.add_node(fresh)?;
                vec![MemberChange::AddLearner(fresh)]
            }
            1 | 2 if learner.is_some() => vec![MemberChange::AddVoter(learner.unwrap_or(0))],
            3 if is_spare && is_voter => vec![MemberChange::Remove(at)],
            4 if learner.is_some() && is_voter && voters > 1 => {
                vec![MemberChange::Remove(at), MemberChange::AddVoter(learner.unwrap_or(0))]
            }
            _ => return Ok(()),
        };
        if steps.iter().any(|step| self.retired.contains(&step.id())) {
            return Ok(());
        }
        self.retired.extend(steps.iter().filter_map(|step| match step {
            MemberChange::Remove(id) => Some(*id),
            _ => None,
        }));
        let token = self.number();
        self.step(leader, Event::Change { token, steps })
    }
}
