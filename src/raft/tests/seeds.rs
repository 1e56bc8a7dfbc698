//! Many seeds of everything at once: loss, repetition, reordering, cuts, crashes, snapshots,
//! membership changes, leader transfers, reads.

use super::world::World;
use crate::raft::MemberChange;
use crate::raft::core::Event;

const ROUNDS: u64 = 120;

/// One run. Returns what is needed to see that the faults really happened.
fn run(seed: u64, tracing: bool) -> World {
    let mut world = World::new(seed, &[1, 2, 3]);
    world.tracing = tracing;
    world.snapshot_entries = 12;
    world.start_all();
    let mut retired: Vec<u64> = Vec::new();
    for _ in 0..ROUNDS {
        world.loss_percent = [0, 3, 15][usize::try_from(world.random(3)).expect("small")];
        world.dup_percent = world.random(6);
        world.delay_max = 1 + world.random(25);
        disturb(&mut world, &mut retired);
        world.disk_max = [3, 20, 150][usize::try_from(world.random(3)).expect("small")];
        // Everybody is asked: a deposed leader that does not know it yet is the interesting one.
        for at in world.nodes.keys().copied().collect::<Vec<_>>() {
            world.propose(at);
        }
        let time = 5 + world.random(80);
        for _ in 0..3 {
            world.run(time / 3);
            for at in world.nodes.keys().copied().collect::<Vec<_>>() {
                world.read(at);
            }
        }
    }
    world.heal_and_check();
    world
}

fn disturb(world: &mut World, retired: &mut Vec<u64>) {
    let ids: Vec<u64> = world.nodes.keys().copied().collect();
    let at = ids[usize::try_from(world.random(ids.len() as u64)).expect("small")];
    match world.random(12) {
        0 => world.crash(at),
        1 => {
            // A power cut hits many at once, and they come back.
            for id in ids.iter().copied().filter(|id| *id != at) {
                world.crash(id);
            }
            world.start_all();
        }
        2 => world.start_all(),
        3 => world.cut_off(at),
        4 => {
            let other = ids[usize::try_from(world.random(ids.len() as u64)).expect("small")];
            world.cuts.insert((at, other));
        }
        5 | 6 => world.cuts.clear(),
        7 => {
            if let Some(leader) = world.leader() {
                world.step(leader, Event::Transfer(at));
            }
        }
        8 | 9 => change_members(world, retired, at),
        10 => world.step(at, Event::Campaign),
        _ => {
            let running = world.nodes[&at].core.as_ref();
            if let Some(index) = running.map(|core| core.status().applied) {
                world.step(at, Event::Compact { index });
            }
        }
    }
}

fn change_members(world: &mut World, retired: &mut Vec<u64>, at: u64) {
    let Some(leader) = world.leader() else { return };
    let members = world.core(leader).membership().clone();
    let fresh = world.nodes.keys().copied().max().unwrap_or(0) + 1;
    let learner = members.learners.first().copied();
    let spare = members.voters.len() > 3 || (members.voters.len() > 1 && world.random(4) == 0);
    let steps = match world.random(4) {
        0 if fresh <= 8 => {
            world.add_node(fresh);
            vec![MemberChange::AddLearner(fresh)]
        }
        1 if learner.is_some() => vec![MemberChange::AddVoter(learner.unwrap_or(0))],
        2 if spare && members.voters.contains(&at) => vec![MemberChange::Remove(at)],
        3 if spare && learner.is_some() && members.voters.contains(&at) => {
            vec![MemberChange::Remove(at), MemberChange::AddVoter(learner.unwrap_or(0))]
        }
        _ => return,
    };
    if steps.iter().any(|step| retired.contains(&step.id())) {
        return;
    }
    retired.extend(steps.iter().filter_map(|step| match step {
        MemberChange::Remove(id) => Some(*id),
        _ => None,
    }));
    world.change(leader, &steps);
}

/// 100 in a few seconds; a nightly run sets the variable.
#[expect(clippy::disallowed_methods, reason = "a knob of this test, not of the library")]
fn seed_count() -> u64 {
    let count = std::env::var("FSMDB_RAFT_SEEDS").ok();
    count.and_then(|count| count.parse().ok()).unwrap_or(100)
}

#[test]
fn every_seed_is_safe_and_converges_after_healing() {
    let (mut installs, mut messages) = (0, 0);
    for seed in 0..seed_count() {
        let outcome = std::panic::catch_unwind(|| run(seed, false));
        let Ok(world) = outcome else { panic!("seed {seed} failed; see above") };
        installs += world.installs;
        messages += world.messages;
    }
    assert!(installs > 50, "snapshots were installed: {installs}");
    assert!(messages > 100_000, "there was traffic: {messages}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let (first, second) = (run(7, true), run(7, true));
    assert_ne!(first.trace, 0);
    assert_eq!(first.trace, second.trace);
    assert_ne!(first.trace, run(8, true).trace);
}
