//! Networks that part in both directions or in one, slow down, and break in mid-frame.

use std::time::Duration;

use fsmdb_trial::history::Operation;
use fsmdb_trial::proxy::Weather;

use crate::trial::{PATIENCE, Trial};

const CUT: Weather = Weather { is_cut: true, delay: Duration::ZERO, bytes_per_second: None };

#[test]
fn a_leader_that_is_cut_off_is_replaced_and_answers_no_read_meanwhile() {
    let mut trial = Trial::start(21);
    let old = trial.leader();
    trial.put(old, 1);
    let others = trial.others(old);
    trial.network.part(&[old], &others);
    let new = trial.leader_after(old);
    trial.put(new, 2);
    // A majority is out of its reach, so whatever it would answer now could be old.
    let asked = trial.send(old, Operation::Get);
    assert_eq!(trial.hear(asked), None, "replica {old} was cut off");
    trial.goes_on("while the old leader is cut off");
    trial.network.heal();
    trial.goes_on("after the network was healed");
    trial.finish();
}

#[test]
fn a_leader_that_only_hears_or_only_speaks_is_replaced() {
    let mut trial = Trial::start(22);
    for is_deaf in [true, false] {
        let old = trial.leader();
        for other in trial.others(old) {
            let (from, to) = if is_deaf { (other, old) } else { (old, other) };
            trial.network.set(from, to, CUT);
        }
        let new = trial.leader_after(old);
        trial.put(new, u64::from(is_deaf));
        trial.goes_on(if is_deaf { "the old leader is deaf" } else { "it is mute" });
        trial.network.heal();
        trial.goes_on("after the network was healed");
    }
    trial.finish();
}

#[test]
fn slow_connections_that_break_in_the_middle_of_a_frame_lose_nothing() {
    let mut trial = Trial::start(23);
    let (delay, bytes_per_second) = (Duration::from_millis(3), Some(400_000));
    let slow = Weather { is_cut: false, delay, bytes_per_second };
    for round in 0..12 {
        let leader = trial.leader();
        for other in trial.others(leader) {
            trial.network.set(leader, other, slow);
            trial.network.set(other, leader, slow);
            trial.network.break_off(leader, other);
            trial.network.break_off(other, leader);
        }
        let broken = trial.network.broken();
        let breaks = || (trial.network.broken() > broken).then_some(());
        assert!(trial.clock.wait(PATIENCE, breaks).is_some(), "round {round}: nothing broke");
        trial.goes_on("while connections are slow and break");
    }
    assert!(trial.network.broken() >= 12);
    trial.finish();
}
