//! A leader that is stopped in its tracks and wakes up as if nothing had happened.

use fsmdb_trial::client::Line;
use fsmdb_trial::history::{Answer, Operation};

use crate::trial::Trial;

#[test]
fn a_leader_that_wakes_from_a_pause_answers_no_old_reads() {
    let mut trial = Trial::start(31);
    for round in 1..=4 {
        let old = trial.leader();
        trial.put(old, 2 * round);
        trial.replicas.pause(old).expect("paused");
        let new = trial.leader_after(old);
        trial.put(new, 2 * round + 1);
        // The system takes these for the sleeper. When it wakes it finds them before anything that
        // would tell it about the other leader.
        let asked: Vec<(Line, usize)> = (0..8).map(|_| trial.send(old, Operation::Get)).collect();
        trial.replicas.resume(old).expect("resumed");
        for asked in asked {
            let answer = trial.hear(asked);
            let is_new = answer.is_none_or(|got| got == Answer::Value(Some(2 * round + 1)));
            assert!(is_new, "round {round}: replica {old} answered {answer:?}");
        }
        trial.goes_on("after a leader woke up");
    }
    trial.finish();
}

#[test]
fn work_goes_on_after_all_replicas_were_paused() {
    let mut trial = Trial::start(32);
    for id in trial.replicas.ids() {
        trial.replicas.pause(id).expect("paused");
    }
    for id in trial.replicas.ids() {
        trial.replicas.resume(id).expect("resumed");
    }
    trial.goes_on("after all woke up");
    trial.finish();
}
