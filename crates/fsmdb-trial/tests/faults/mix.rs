//! Everything at once, at random: kills, pauses, partitions, slow and broken connections, members
//! that are replaced.

use std::collections::BTreeSet;
use std::time::Duration;

use fsmdb_trial::numbers::Numbers;
use fsmdb_trial::proxy::Weather;

use crate::trial::Trial;

/// How many kinds of faults there are.
const KINDS: u64 = 7;
/// Fewer answers in a second than this show nothing.
const ANSWERS_PER_SECOND_MIN: u64 = 50;

fn duration() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "the long run asks for more")]
    let asked = std::env::var("FSMDB_FAULT_SECONDS");
    Duration::from_secs(asked.ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(12))
}

/// What happened how often.
#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    pauses: u64,
    partitions: u64,
    one_way: u64,
    slow: u64,
    breaks: u64,
    replaced: u64,
}

#[test]
fn nothing_is_lost_or_done_twice_whatever_happens_at_once() {
    let trial = Trial::start(61);
    let (numbers, tally) = (Numbers::new(62), Tally::default());
    let (down, asleep) = (BTreeSet::new(), BTreeSet::new());
    let mut mix = Mix { trial, numbers, tally, down, asleep };
    let clock = mix.trial.clock;
    let begun = clock.now();
    let length = u64::try_from(duration().as_nanos()).expect("a short time");
    let mut turn = 0;
    while clock.now() - begun < length || turn < KINDS {
        // Two faults at a time; the first of them come in order, so that a short run has them all.
        for _ in 0..2 {
            let kind = if turn < KINDS { turn } else { mix.numbers.below(KINDS) };
            mix.fault(kind);
            turn += 1;
        }
        std::thread::sleep(Duration::from_millis(100 + mix.numbers.below(900)));
        mix.heal();
        mix.trial.goes_on("after two faults");
    }
    let seconds = (clock.now() - begun) / 1_000_000_000;
    let (tally, broken) = (mix.tally, mix.trial.network.broken());
    let answered = mix.trial.finish() as u64;
    println!("{seconds} s, {tally:?}, {broken} connections broken, {answered} answers");
    assert!(answered >= seconds * ANSWERS_PER_SECOND_MIN, "too little work: {answered}");
    assert!(tally.kills > 0 && tally.pauses > 0 && tally.partitions > 0, "{tally:?}");
    assert!(tally.one_way > 0 && tally.slow > 0 && tally.replaced > 0, "{tally:?}");
    assert!(broken > 0, "no connection was broken");
}

struct Mix {
    trial: Trial,
    numbers: Numbers,
    tally: Tally,
    down: BTreeSet<u64>,
    asleep: BTreeSet<u64>,
}

impl Mix {
    /// One that runs: in half of all faults the leader, if there is one.
    fn victim(&mut self) -> u64 {
        let mut ids = self.trial.replicas.ids();
        ids.retain(|id| !self.down.contains(id));
        let any = ids[self.numbers.below(ids.len() as u64) as usize];
        let meets_leader = self.numbers.below(2) == 0;
        let leader = meets_leader.then(|| self.trial.replicas.leader(Duration::ZERO)).flatten();
        leader.unwrap_or(any)
    }

    /// Does one thing to the group, which `heal` undoes.
    fn fault(&mut self, kind: u64) {
        let victim = self.victim();
        let others = self.trial.others(victim);
        let other = others[self.numbers.below(others.len() as u64) as usize];
        let network = &self.trial.network;
        match kind {
            0 => {
                self.trial.replicas.kill(victim).expect("killed");
                self.asleep.remove(&victim);
                self.down.insert(victim);
                self.tally.kills += 1;
            }
            1 => {
                self.trial.replicas.pause(victim).expect("paused");
                self.asleep.insert(victim);
                self.tally.pauses += 1;
            }
            2 => {
                network.part(&[victim], &others);
                self.tally.partitions += 1;
            }
            3 => {
                network.set(victim, other, Weather { is_cut: true, ..Weather::default() });
                self.tally.one_way += 1;
            }
            4 => {
                let delay = Duration::from_millis(self.numbers.below(40));
                let bytes_per_second = Some(10_000 + self.numbers.below(1_000_000));
                let slow = Weather { is_cut: false, delay, bytes_per_second };
                network.set(victim, other, slow);
                network.set(other, victim, slow);
                self.tally.slow += 1;
            }
            5 => {
                for other in others {
                    network.break_off(victim, other);
                    network.break_off(other, victim);
                }
                self.tally.breaks += 1;
            }
            _ => {
                // Of three, one alone may be missing.
                self.heal();
                self.trial.replicas.kill(victim).expect("killed");
                self.trial.replace(victim);
                self.tally.replaced += 1;
            }
        }
    }

    fn heal(&mut self) {
        self.trial.network.heal();
        for id in std::mem::take(&mut self.down) {
            self.trial.replicas.restart(id).expect("restarted");
        }
        for id in std::mem::take(&mut self.asleep) {
            self.trial.replicas.resume(id).expect("resumed");
        }
    }
}
