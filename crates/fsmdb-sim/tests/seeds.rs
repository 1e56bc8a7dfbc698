//! A few seeds of the simulator, twice; and every planted bug at the seed that has found it before.
//!
//! `found.txt` is what the program has found: a line for each planted bug, with its seed. To write
//! it anew, at the root: `cargo run --release -p fsmdb-sim -- --mutants --found
//! crates/fsmdb-sim/tests/found.txt`. The program runs more of both.

use fsmdb_sim::{Check, Counts, Mutant, Plan, run};

const SEEDS: u64 = 12;

#[test]
fn what_is_promised_holds_under_every_seed_and_much_happens() {
    let mut total = Counts::default();
    for seed in 0..SEEDS {
        let outcome = run(&Plan::of_seed(seed));
        assert_eq!(outcome.violation, None, "replay with --seed {seed}");
        total += outcome.counts;
    }
    let least = [
        ("elections", total.elections, SEEDS),
        ("crashes", total.crashes, SEEDS),
        ("partitions", total.partitions, SEEDS),
        ("acknowledged commands", total.acknowledged, 20 * SEEDS),
        ("linearizable reads", total.reads, 10 * SEEDS),
        ("stale reads", total.stale_reads, SEEDS),
        ("installs", total.installs, SEEDS / 4),
        ("starts from a snapshot", total.starts, SEEDS),
        ("incremental files", total.links, SEEDS),
        ("changes of members", total.changes, SEEDS),
        ("watches woken", total.wakes, 50 * SEEDS),
        ("items of feeds", total.feed_items, 50 * SEEDS),
        ("feeds resumed", total.feeds_resumed, 5 * SEEDS),
        ("erasures", total.erased, SEEDS),
    ];
    for (what, count, least) in least {
        assert!(count >= least, "only {count} {what}, expected {least}:\n{total}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let outcome = run(&Plan::of_seed(3));
    assert_eq!(run(&Plan::of_seed(3)), outcome);
    assert_ne!(run(&Plan::of_seed(4)).trace, outcome.trace);
}

#[test]
fn printing_changes_nothing() {
    let plan = Plan { rounds: 3, ..Plan::of_seed(5) };
    assert_eq!(run(&Plan { prints: true, ..plan }).trace, run(&plan).trace);
}

#[test]
fn every_planted_bug_is_found_again_by_the_seed_that_found_it() {
    let mut known = Vec::new();
    for line in include_str!("found.txt").lines() {
        let (name, seed) = line.split_once(' ').expect("a name and a seed");
        let mutant: Mutant = name.parse().expect("the name of a planted bug");
        let plan = Plan::of_seed(seed.parse().expect("a number")).with_mutant(mutant);
        let violation = run(&plan).violation;
        assert!(violation.is_some(), "seed {seed} does not find {mutant} any more");
        known.push(mutant);
    }
    assert_eq!(known, Mutant::ALL, "run --mutants and write down what it finds");
}

#[test]
fn a_planted_bug_is_told_by_the_check_that_it_breaks() {
    let cases = [
        (Mutant::AckBeforeApply, Check::Acknowledged),
        (Mutant::PersistedBeforeSync, Check::Durability),
        (Mutant::WatchersLeftBehind, Check::Watch),
        (Mutant::FeedHidesReset, Check::Feed),
        (Mutant::ReadAtFollower, Check::LinearizableRead),
        (Mutant::ResumeOneLate, Check::Feed),
        (Mutant::EraseTooEarly, Check::Erasure),
        (Mutant::EraseKeepsOlderFile, Check::Erasure),
    ];
    for (mutant, check) in cases {
        let violation =
            (0..20).find_map(|seed| run(&Plan::of_seed(seed).with_mutant(mutant)).violation);
        let violation = violation.expect("it is found within a few seeds");
        assert_eq!(violation.check, check, "{mutant}: {violation}");
        assert!(Mutant::ALL.contains(&mutant) && !mutant.sentence().is_empty());
    }
}
