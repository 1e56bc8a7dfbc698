//! Traps that a review found, each closed and kept shut.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fsmdb::{Applied, Db, Fsm, Machine, MachineError, Table, WriteError, WriteTxn};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "notes")]
struct Note {
    #[key]
    id: u64,
}

#[derive(Debug, Serialize, Deserialize)]
enum Command {
    /// Cannot be read back when it is empty: the field is left out and has no default.
    Tag {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tags: Vec<String>,
    },
    /// Writes past the transaction.
    Escape,
}

/// Keeps a handle on the database that it is applied to.
struct Notes(Db);

impl Fsm for Notes {
    type Command = Command;
    type Reply = ();

    fn apply(&self, txn: &mut WriteTxn<'_>, at: Applied, command: Command) {
        txn.insert(Note { id: at.index }).unwrap();
        match command {
            Command::Tag { .. } => {
                assert_eq!(self.0.try_write().err(), Some(WriteError::OwnedByMachine));
            }
            Command::Escape => drop(self.0.write()),
        }
    }
}

fn machine() -> Machine<Notes> {
    let db = Db::builder().table::<Note>().build().unwrap();
    Machine::new(db.clone(), Notes(db)).unwrap()
}

fn tag() -> Vec<u8> {
    Machine::<Notes>::encode(&Command::Tag { tags: vec!["a".into()] }).unwrap()
}

#[test]
fn a_command_that_cannot_be_read_back_is_refused_before_it_is_in_the_log() {
    let refused = Machine::<Notes>::encode(&Command::Tag { tags: Vec::new() }).unwrap_err();
    assert!(matches!(&refused, MachineError::Encode { message } if message.contains("tags")));
}

#[test]
fn a_state_machine_that_writes_past_its_transaction_panics_instead_of_waiting_for_itself() {
    let machine = machine();
    let escape = Machine::<Notes>::encode(&Command::Escape).unwrap();
    let at = Applied { index: 1, term: 1 };
    assert!(catch_unwind(AssertUnwindSafe(|| machine.apply(at, &escape))).is_err());
    assert_eq!(machine.applied(), Applied::default());
    assert_eq!(machine.apply(at, &tag()).unwrap(), Some(()));
}

#[test]
fn another_entry_at_the_applied_index_is_no_replay() {
    let machine = machine();
    machine.apply(Applied { index: 1, term: 1 }, &tag()).unwrap();
    assert_eq!(machine.apply(Applied { index: 1, term: 1 }, &tag()).unwrap(), None);
    let refused = machine.apply(Applied { index: 1, term: 2 }, &tag()).unwrap_err();
    assert!(matches!(refused, MachineError::Gap { .. }), "{refused}");
}

#[test]
fn a_savepoint_of_a_dropped_transaction_brings_nothing_back() {
    let db = Db::builder().table::<Note>().build().unwrap();
    let mut txn = db.write();
    txn.insert(Note { id: 1 }).unwrap();
    let stale = txn.savepoint();
    drop(txn);
    let mut txn = db.write();
    assert!(catch_unwind(AssertUnwindSafe(|| txn.rollback_to(&stale))).is_err());
    let own = txn.savepoint();
    assert!(catch_unwind(AssertUnwindSafe(|| txn.rollback_to(&stale))).is_err());
    txn.rollback_to(&own);
    assert!(txn.table::<Note>().is_empty());
}
