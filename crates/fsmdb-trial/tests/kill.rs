//! Three processes on one machine, killed without warning again and again while clients are at
//! work: no acknowledged write is lost, none is applied twice, every read is linearizable.

use std::time::Duration;

use fsmdb_trial::client::Load;
use fsmdb_trial::clock::Clock;
use fsmdb_trial::numbers::Numbers;
use fsmdb_trial::replicas::Replicas;
use fsmdb_trial::{search, witnessed};

/// A number that the gate and the long run ask for by this name.
fn asked(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the gate and the long run ask for more")]
    let asked = std::env::var(name);
    asked.ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

/// How many replicas are killed, one after the other or all at once.
fn cycles() -> u64 {
    asked("FSMDB_KILL_CYCLES", 20)
}

const PATIENCE: Duration = Duration::from_secs(30);
const CLIENTS: u64 = 6;

#[test]
fn nothing_is_lost_or_done_twice_while_replicas_are_killed() {
    let (clock, seed) = (Clock::start(), asked("FSMDB_KILL_SEED", 0));
    let directory = tempfile::tempdir().expect("a folder");
    let binary = env!("CARGO_BIN_EXE_fsmdb-replica");
    let mut replicas = Replicas::start(binary, directory.path(), 3, clock).expect("started");
    replicas.leader(PATIENCE).expect("a leader");
    let load = Load::start(&replicas.addresses(), CLIENTS, 4, 7 + seed, clock).expect("clients");
    let mut numbers = Numbers::new(11 + seed);
    let mut leaders = 0;
    for cycle in 0..cycles() {
        // Work goes on between two kills, or there is nothing to lose.
        let before = load.answered();
        let went_on = clock.wait(PATIENCE, || (load.answered() > before + 50).then_some(()));
        let fallen = replicas.fallen().expect("looked at");
        assert!(fallen.is_empty(), "a replica ended by itself: {fallen:?}");
        assert!(went_on.is_some(), "cycle {cycle}: no more answers");
        let victims = match numbers.below(10) {
            0 => replicas.ids(),
            1..5 => replicas.leader(Duration::ZERO).into_iter().inspect(|_| leaders += 1).collect(),
            _ => vec![1 + numbers.below(3)],
        };
        for id in &victims {
            replicas.kill(*id).expect("killed");
        }
        std::thread::sleep(Duration::from_millis(numbers.below(150)));
        for id in &victims {
            replicas.restart(*id).expect("restarted");
        }
    }
    let leader = replicas.leader(PATIENCE).expect("a leader");
    let history = load.stop();
    let agreed = replicas.agree(PATIENCE).expect("agreement");
    let journal = replicas.journal(leader).expect("a journal");
    for id in replicas.ids() {
        assert_eq!(replicas.journal(id).expect("a journal"), journal, "replica {id}");
    }
    let answered = history.iter().filter(|call| call.end.is_some()).count();
    println!(
        "{} kills ({leaders} of leaders): {} calls, {answered} answered, {} applied, {agreed:?}",
        cycles(),
        history.len(),
        journal.len(),
    );
    assert!(cycles() < 10 || leaders > 0, "no leader was killed");
    witnessed::check(&history, &journal).expect("strictly serializable");
    search::check(&history).expect("linearizable without the journal too");
}
