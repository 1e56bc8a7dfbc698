//! Members that are replaced while clients are at work.

use fsmdb_trial::wire::Request;

use crate::trial::{PATIENCE, REPLICAS, Trial};

#[test]
fn dead_replicas_are_replaced_by_new_ones_under_load_until_no_founder_is_left() {
    let mut trial = Trial::start(41);
    for round in 0..REPLICAS {
        // The leader first, then who comes.
        let dead = match round {
            0 => trial.leader(),
            _ => trial.replicas.ids()[0],
        };
        trial.replicas.kill(dead).expect("killed");
        trial.replace(dead);
        trial.goes_on("after a replica was replaced");
    }
    assert!(trial.replicas.ids().iter().all(|id| *id > REPLICAS));
    trial.finish();
}

impl Trial {
    /// Starts a new replica, makes it a voter, and removes one that is dead for ever.
    pub(crate) fn replace(&mut self, dead: u64) {
        let (id, address) = self.replicas.join().expect("started");
        self.replicas.change(&Request::Add { id, address }, PATIENCE).expect("added");
        self.replicas.change(&Request::Promote { id }, PATIENCE).expect("promoted");
        self.replicas.change(&Request::Remove { id: dead }, PATIENCE).expect("removed");
        self.replicas.forget(dead).expect("forgotten");
        self.load.turn_to(self.replicas.addresses());
    }
}
