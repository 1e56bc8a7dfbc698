//! The state machine behind a log: one entry, one transaction, one revision, nothing skipped, and
//! the kit that finds what is not deterministic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fsmdb::limits::COMMAND_BYTES_MAX;
use fsmdb::testing::{Divergence, check};
use fsmdb::{
    Applied, Db, Error, Fsm, Index, IndexDef, IndexKeys, KeyBuf, Machine, MachineError, Many,
    Outcome, Revision, SnapshotError, Table, WriteError, WriteTxn, encode,
};
use serde::{Deserialize, Serialize};

use crate::tables::{Job, Node, Service, commit, empty, file_of, ids, job, node};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Command {
    Put(u64),
    PutBoth(u64),
    /// Writes and then refuses.
    Refuse(u64),
    /// Writes and then panics.
    Panic(u64),
    Delete(u64),
    Text(String),
    Nested(Vec<Command>),
}

struct Jobs;

impl Fsm for Jobs {
    type Command = Command;
    type Reply = Result<u64, Error>;

    fn apply(&self, txn: &mut WriteTxn<'_>, at: Applied, command: Command) -> Self::Reply {
        match command {
            Command::Put(id) => drop(txn.insert(job(id))?),
            Command::PutBoth(id) => {
                txn.insert(job(id))?;
                txn.insert(node(id))?;
            }
            Command::Refuse(id) => {
                txn.insert(job(id))?;
                txn.table_mut::<Job>().delete_all(..id);
                return Err(Error::NotFound { table: "jobs".into(), key: "refused".into() });
            }
            Command::Panic(id) => {
                txn.insert(job(id))?;
                panic!("a command that panics");
            }
            Command::Delete(id) => drop(txn.table_mut::<Job>().delete(&id)),
            Command::Text(_) => {}
            Command::Nested(commands) => {
                for command in commands {
                    self.apply(txn, at, command)?;
                }
            }
        }
        Ok(at.index)
    }
}

fn machine() -> Machine<Jobs> {
    Machine::new(empty(), Jobs).expect("the database is new")
}

fn at(index: u64) -> Applied {
    Applied { index, term: 1 }
}

fn entry(command: &Command) -> Vec<u8> {
    Machine::<Jobs>::encode(command).expect("the commands of a test are small")
}

/// Applies `commands` as entries 1, 2, 3.
fn applied(commands: &[Command]) -> Machine<Jobs> {
    let machine = machine();
    for (command, index) in commands.iter().zip(1..) {
        machine.apply(at(index), &entry(command)).expect("the log has no gap");
    }
    machine
}

#[test]
fn an_entry_is_one_transaction_and_its_index_is_the_revision() {
    let machine = machine();
    let reply = machine.apply(at(1), &entry(&Command::PutBoth(7))).unwrap();
    assert_eq!(reply, Some(Ok(1)));
    let snap = machine.read();
    assert_eq!((snap.revision(), snap.applied()), (Revision(1), at(1)));
    assert_eq!((snap.table::<Job>().len(), snap.table::<Node>().len()), (1, 1));
    assert_eq!(snap.table::<Job>().get(&7).unwrap().created(), Revision(1));
    machine.apply(Applied { index: 2, term: 5 }, &entry(&Command::Put(8))).unwrap();
    assert_eq!(machine.applied(), Applied { index: 2, term: 5 });
    assert_eq!(machine.db().revision(), Revision(2));
}

/// etcd: the applied index was not saved with the data, so entries were applied twice.
#[test]
fn the_applied_position_is_in_the_same_version_as_the_data() {
    let machine = machine();
    for index in 1..50 {
        let before = machine.read();
        machine.apply(at(index), &entry(&Command::Put(index))).unwrap();
        let after = machine.read();
        for snap in [before, after] {
            assert_eq!(snap.applied().index, snap.table::<Job>().len() as u64);
            let mut file = Vec::new();
            snap.save(&mut file).unwrap();
            let summary = fsmdb::inspect(file.as_slice()).unwrap();
            assert_eq!(
                (summary.applied.index, summary.rows),
                (snap.applied().index, summary.applied.index)
            );
        }
    }
}

#[test]
fn a_refused_command_rolls_back_and_counts_as_applied() {
    let machine = applied(&[Command::Put(1)]);
    let reply = machine.apply(at(2), &entry(&Command::Refuse(5))).unwrap().unwrap();
    assert!(reply.is_refused());
    let snap = machine.read();
    assert_eq!(ids(snap.table::<Job>().iter()), [1]);
    assert_eq!(snap.table::<Job>().modified(), Revision(1), "nothing of it is left");
    assert_eq!((snap.applied(), snap.revision()), (at(2), Revision(2)));
    let conflict = machine.apply(at(3), &entry(&Command::PutBoth(1))).unwrap().unwrap();
    assert!(conflict.unwrap_err().is_conflict());
    assert!(machine.read().table::<Node>().is_empty());
    assert_eq!(machine.applied(), at(3));
}

#[test]
fn a_replay_changes_nothing_and_gives_none() {
    let machine = applied(&[Command::Put(1), Command::Put(2), Command::Delete(1)]);
    let before = file_of(machine.db());
    for index in 0..=3 {
        assert_eq!(machine.apply(at(index), &entry(&Command::Put(1))).unwrap(), None);
        // Not even looked into: it was applied, whatever it was.
        assert_eq!(machine.apply(at(index), b"not a command").unwrap(), None);
        machine.skip(at(index)).unwrap();
    }
    assert_eq!(file_of(machine.db()), before);
}

#[test]
fn a_gap_is_refused_and_nothing_is_applied() {
    let machine = applied(&[Command::Put(1)]);
    let before = file_of(machine.db());
    for index in [3, 4, u64::MAX] {
        let refused = machine.apply(at(index), &entry(&Command::Put(2))).unwrap_err();
        assert!(matches!(refused, MachineError::Gap { got, applied }
                if got == at(index) && applied == at(1)));
        assert!(matches!(machine.skip(at(index)), Err(MachineError::Gap { .. })));
    }
    let backwards = Applied { index: 2, term: 0 };
    assert!(matches!(machine.apply(backwards, b""), Err(MachineError::Gap { .. })));
    assert_eq!(file_of(machine.db()), before);
    machine.apply(at(2), &entry(&Command::Put(2))).unwrap();
}

#[test]
fn an_entry_without_a_command_is_skipped_but_counted() {
    let machine = applied(&[Command::Put(1)]);
    machine.skip(Applied { index: 2, term: 3 }).unwrap();
    assert_eq!(machine.applied(), Applied { index: 2, term: 3 });
    assert_eq!(machine.read().table::<Job>().modified(), Revision(1));
    assert_eq!(machine.read().revision(), Revision(2));
    machine.apply(Applied { index: 3, term: 3 }, &entry(&Command::Put(2))).unwrap();
}

#[test]
fn an_entry_that_is_no_command_is_an_error_that_names_entry_and_offset() {
    let machine = applied(&[Command::Put(1)]);
    let before = file_of(machine.db());
    let good = entry(&Command::Put(2));
    let unknown = rmp_serde::to_vec_named(&"FromTheFuture").unwrap();
    let cases = [Vec::new(), good[..good.len() - 1].to_vec(), [&good[..], &[0]].concat(), unknown];
    for bytes in &cases {
        match machine.apply(at(2), bytes).unwrap_err() {
            MachineError::Decode { at: named, offset, .. } => {
                assert_eq!(named, at(2));
                assert!(offset <= bytes.len() as u64);
            }
            error => panic!("{error}"),
        }
    }
    let MachineError::Decode { offset, .. } = machine.apply(at(2), &cases[2]).unwrap_err() else {
        unreachable!()
    };
    assert_eq!(offset, good.len() as u64, "where the command ends");
    assert_eq!((file_of(machine.db()), machine.applied()), (before, at(1)));
    machine.apply(at(2), &good).unwrap();
}

#[test]
fn what_cannot_be_applied_is_refused_before_it_is_in_the_log() {
    let too_large = Command::Text("x".repeat(COMMAND_BYTES_MAX));
    match Machine::<Jobs>::encode(&too_large).unwrap_err() {
        MachineError::TooLarge { bytes, limit } => {
            assert!(bytes > limit && limit == COMMAND_BYTES_MAX);
        }
        error => panic!("{error}"),
    }
    let mut refused = 0;
    for depth in 1..150 {
        let nested = (0..depth).fold(Command::Put(1), |command, _| Command::Nested(vec![command]));
        match Machine::<Jobs>::encode(&nested) {
            Ok(bytes) => {
                assert_eq!(refused, 0);
                let reply = machine().apply(at(1), &bytes);
                assert_eq!(reply.unwrap_or_else(|error| panic!("{depth}: {error}")), Some(Ok(1)));
            }
            Err(MachineError::Encode { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0);
}

/// On a thread with room for it, so that a missing limit fails the test and not the process.
#[test]
fn what_is_written_as_a_command_is_can_be_proposed_without_owning_one() {
    #[derive(Serialize)]
    enum Borrowed<'a> {
        Text(&'a str),
        Unknown(&'a str),
    }
    let bytes = Machine::<Jobs>::encode_as(&Borrowed::Text("a")).expect("it reads back");
    assert_eq!(bytes, entry(&Command::Text("a".into())));
    Machine::<Jobs>::check(&bytes).expect("it is a command");
    let unknown = Machine::<Jobs>::encode_as(&Borrowed::Unknown("a")).unwrap_err();
    assert!(matches!(unknown, MachineError::Encode { .. }), "{unknown}");
    let cut = Machine::<Jobs>::check(&bytes[1..]).unwrap_err();
    assert!(matches!(cut, MachineError::Encode { .. }), "{cut}");
}

#[test]
fn waits_end_with_the_replica_and_the_state_stays_readable() {
    let machine = applied(&[Command::Put(1)]);
    let wait = machine.db().wait_for(Revision(9));
    machine.close_waits();
    assert!(wait.wait(None).is_err());
    assert_eq!(ids(machine.read().table::<Job>().iter()), [1]);
}

#[test]
fn an_entry_nested_deeper_than_the_limit_is_refused_whatever_its_shape() {
    let check = || {
        // Each level is an enum variant around the next, which decoders do not count.
        let link = [&[0x81, 0xA3], &b"Not"[..]].concat();
        let bomb = [&link.repeat(2_000), &[0xA4][..], b"True"].concat();
        let machine = Machine::new(empty(), Rules).unwrap();
        assert!(matches!(machine.apply(at(1), &bomb), Err(MachineError::Decode { .. })));
        let deep = (0..500).fold(Rule::True, |rule, _| Rule::Not(Box::new(rule)));
        assert!(matches!(Machine::<Rules>::encode(&deep), Err(MachineError::Encode { .. })));
    };
    let thread = std::thread::Builder::new().stack_size(512 * 1024 * 1024).spawn(check);
    thread.unwrap().join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Rule {
    True,
    Not(Box<Rule>),
}

struct Rules;

impl Fsm for Rules {
    type Command = Rule;
    type Reply = ();

    fn apply(&self, _: &mut WriteTxn<'_>, _: Applied, _: Rule) {}
}

#[test]
fn a_panic_in_apply_applies_nothing_and_the_entry_can_be_given_again() {
    let machine = applied(&[Command::Put(1)]);
    let before = file_of(machine.db());
    let panicked =
        catch_unwind(AssertUnwindSafe(|| machine.apply(at(2), &entry(&Command::Panic(2)))));
    assert!(panicked.is_err());
    assert_eq!((file_of(machine.db()), machine.applied()), (before, at(1)));
    assert_eq!(machine.apply(at(2), &entry(&Command::Put(2))).unwrap(), Some(Ok(2)));
}

#[test]
fn a_database_that_a_machine_owns_is_written_by_the_log_alone() {
    let db = empty();
    let machine = Machine::new(db.clone(), Jobs).unwrap();
    assert_eq!(db.try_write().unwrap_err(), WriteError::OwnedByMachine);
    let panic = catch_unwind(AssertUnwindSafe(|| drop(db.write()))).unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert_eq!(*message, WriteError::OwnedByMachine.to_string());
    let refused = db.restore(file_of(&db).as_slice()).unwrap_err();
    assert!(matches!(refused, SnapshotError::NotWritable));
    assert!(matches!(Machine::new(db.clone(), Jobs), Err(MachineError::Owned)));
    // The panic of `write` while it held the lock has not stopped the log.
    machine.apply(at(1), &entry(&Command::Put(1))).unwrap();
    assert_eq!(db.read().table::<Job>().len(), 1, "handles read what the log wrote");
    drop(machine);
    commit(&db, |txn| drop(txn.insert(job(2)).unwrap()));
    assert_eq!(db.read().table::<Job>().len(), 2, "the database is free again");
}

#[test]
fn an_install_replaces_the_state_and_every_handle_stays_valid() {
    let source = applied(&[Command::Put(1), Command::Put(2), Command::Refuse(9)]);
    let file = file_of(source.db());
    let machine = applied(&[Command::Put(50)]);
    let (handle, old) = (machine.db().clone(), machine.read());
    assert_eq!(machine.install(file.as_slice()).unwrap(), at(3));
    assert_eq!(file_of(&handle), file);
    assert_eq!((machine.applied(), handle.read().applied()), (at(3), at(3)));
    assert_eq!(ids(old.table::<Job>().iter()), [50]);
    old.check().unwrap();
    assert_eq!(handle.try_write().unwrap_err(), WriteError::OwnedByMachine);
    // The log goes on after the snapshot, on both in the same way.
    for machine in [&source, &machine] {
        assert_eq!(machine.apply(at(3), &entry(&Command::Put(4))).unwrap(), None);
        machine.apply(at(4), &entry(&Command::Delete(1))).unwrap();
    }
    assert_eq!(file_of(source.db()), file_of(&handle));
}

/// etcd, tikv: two snapshots in short time.
#[test]
fn an_install_may_repeat_and_a_stale_one_is_refused() {
    let machine = applied(&[Command::Put(1), Command::Put(2)]);
    let file = file_of(machine.db());
    assert_eq!(machine.install(file.as_slice()).unwrap(), at(2));
    machine.apply(at(3), &entry(&Command::Put(3))).unwrap();
    let before = file_of(machine.db());
    match machine.install(file.as_slice()).unwrap_err() {
        MachineError::Stale { found, applied } => assert_eq!((found, applied), (at(2), at(3))),
        error => panic!("{error}"),
    }
    assert_eq!(file_of(machine.db()), before);
}

#[test]
fn an_install_that_fails_leaves_the_old_state_and_the_machine_working() {
    let machine = applied(&[Command::Put(1)]);
    let before = file_of(machine.db());
    let mut file = file_of(applied(&[Command::Put(8), Command::Put(9)]).db());
    let middle = file.len() / 2;
    file[middle] ^= 4;
    let refused = machine.install(file.as_slice()).unwrap_err();
    assert!(matches!(refused, MachineError::Snapshot(error) if error.is_corrupt()));
    assert_eq!((file_of(machine.db()), machine.applied()), (before, at(1)));
    machine.apply(at(2), &entry(&Command::Put(2))).unwrap();
}

/// A machine takes the index of an entry as its revision. Over a database that was written by hand
/// it starts at index 1 and must not thereby go back behind the revisions of the rows.
#[test]
fn a_machine_over_a_database_that_was_written_by_hand_stays_sound() {
    let db = empty();
    for id in 1..=3 {
        commit(&db, |txn| drop(txn.insert(job(id)).unwrap()));
    }
    assert_stays_sound(Machine::new(db, Jobs));
}

#[test]
fn a_machine_that_installed_the_file_of_an_embedded_database_stays_sound() {
    let db = empty();
    for id in 1..=3 {
        commit(&db, |txn| drop(txn.insert(job(id)).unwrap()));
    }
    let machine = machine();
    let installed = machine.install(file_of(&db).as_slice());
    assert_stays_sound(installed.map(|_| machine));
}

/// Either the way into such a machine is refused, or what it writes can be checked and loaded.
fn assert_stays_sound(machine: Result<Machine<Jobs>, MachineError>) {
    let Ok(machine) = machine else { return };
    let before = machine.read().revision();
    let next = Applied { index: machine.applied().index + 1, term: 1 };
    // Deletes a row of before, and makes it anew so that its revisions meet.
    let rewrite = Command::Nested(vec![Command::Put(9), Command::Delete(1)]);
    machine.apply(next, &entry(&rewrite)).unwrap().unwrap().unwrap();
    let snap = machine.read();
    assert!(snap.revision() > before, "{} is not after {before}", snap.revision());
    snap.check().expect("rows, indexes and revisions are sound");
    let mut file = Vec::new();
    snap.save(&mut file).unwrap();
    crate::tables::load(&file).expect("what was saved can be loaded");
}

#[test]
fn two_machines_fed_the_same_log_have_the_same_bytes_and_replies() {
    let log: Vec<_> = (0..60)
        .map(|n| match n % 5 {
            0 => Command::PutBoth(n % 11),
            1 => Command::Delete(n % 7),
            2 => Command::Refuse(n),
            _ => Command::Put(n % 13),
        })
        .collect();
    let (one, other) = (machine(), machine());
    for (command, index) in log.iter().zip(1..) {
        let replies =
            [&one, &other].map(|machine| machine.apply(at(index), &entry(command)).unwrap());
        assert_eq!(replies[0], replies[1]);
    }
    assert_eq!(file_of(one.db()), file_of(other.db()));
}

#[test]
fn the_kit_passes_a_deterministic_machine_and_says_what_it_did() {
    let commands: Vec<_> = (0..40)
        .map(|n| if n % 4 == 3 { Command::Refuse(n) } else { Command::PutBoth(n) })
        .collect();
    let report = check(machine, &commands).unwrap();
    assert_eq!((report.commands, report.refused), (40, 10));
    assert!(report.restored >= 3 && report.snapshot_bytes > 1000, "{report:?}");
    let report = check(machine, &[]).unwrap();
    assert_eq!((report.commands, report.restored), (0, 0));
    check(machine, &[Command::Put(1)]).unwrap();
}

/// A machine made of a closure, for the ones that do something wrong.
struct Wrong<A>(A);

impl<A> Fsm for Wrong<A>
where
    A: Fn(&mut WriteTxn<'_>, u64) -> Result<u64, Error> + Send + Sync + 'static,
{
    type Command = u64;
    type Reply = Result<u64, Error>;

    fn apply(&self, txn: &mut WriteTxn<'_>, _at: Applied, command: u64) -> Self::Reply {
        (self.0)(txn, command)
    }
}

fn check_wrong<A>(apply: A) -> Divergence
where
    A: Fn(&mut WriteTxn<'_>, u64) -> Result<u64, Error> + Clone + Send + Sync + 'static,
{
    let machine = || Machine::new(empty(), Wrong(apply.clone())).unwrap();
    let commands: Vec<_> = (0..40).collect();
    check(machine, &commands).expect_err("the machine is not deterministic")
}

/// formancehq/ledger: replicas chose different orders because of a hash map.
#[test]
#[expect(clippy::disallowed_types, reason = "what the kit must find")]
fn the_kit_finds_iteration_in_hash_order() {
    use std::collections::HashMap;

    let in_replies = check_wrong(|_, command| {
        let map: HashMap<u64, ()> = (0..command + 9).map(|n| (n, ())).collect();
        Ok(*map.keys().next().unwrap())
    });
    assert!(matches!(in_replies, Divergence::Reply { .. }), "{in_replies}");
    let in_state = check_wrong(|txn, command| {
        let map: HashMap<u64, ()> = (0..command + 9).map(|n| (n, ())).collect();
        let order: Vec<_> = map.keys().map(u64::to_string).collect();
        txn.upsert(Node { id: command, name: order.join(",") })?;
        Ok(0)
    });
    assert!(matches!(&in_state, Divergence::State { table: Some(table), .. } if table == "nodes"));
    let text = "the second replica differs from the first replica after entry ";
    assert!(in_state.to_string().starts_with(text), "{in_state}");
    assert!(in_state.to_string().contains(" in table nodes, at byte "), "{in_state}");
}

#[test]
fn the_kit_finds_state_outside_the_tables() {
    // Shared by all replicas of the process.
    let counter = Arc::new(AtomicU64::new(0));
    let shared = check_wrong(move |_, _| Ok(counter.fetch_add(1, Ordering::Relaxed)));
    assert!(matches!(shared, Divergence::Reply { index: 1, .. }), "{shared}");
}

/// State of its own per replica is not in the snapshot, so only a restored replica shows it.
struct Counting(AtomicU64);

impl Fsm for Counting {
    type Command = u64;
    type Reply = Result<(), Error>;

    fn apply(&self, txn: &mut WriteTxn<'_>, _at: Applied, id: u64) -> Self::Reply {
        let name = format!("the {}th", self.0.fetch_add(1, Ordering::Relaxed));
        txn.insert(Node { id, name }).map(drop)
    }
}

#[test]
fn the_kit_finds_state_that_a_restored_replica_does_not_have() {
    let machine = || Machine::new(empty(), Counting(AtomicU64::new(0))).unwrap();
    let commands: Vec<_> = (0..20).collect();
    let found = check(machine, &commands).unwrap_err();
    let replica = match &found {
        Divergence::Reply { replica, .. } | Divergence::State { replica, .. } => replica,
        other => panic!("{other}"),
    };
    assert!(replica.starts_with("the replica restored at entry "), "{found}");
}

/// A row whose index depends on more than the row.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Impure {
    id: u64,
}

static CALLS: AtomicU64 = AtomicU64::new(0);

impl Table for Impure {
    type Key = u64;
    const NAME: &'static str = "impure";
    const VERSION: u32 = 1;

    fn encode_primary_key(&self, out: &mut KeyBuf) {
        out.extend(&encode::<u64, _>(&self.id));
    }

    fn indexes() -> Vec<IndexDef<Self>> {
        let extract = |_: &Self, keys: &mut IndexKeys| {
            keys.push::<u64, _>(&CALLS.fetch_add(1, Ordering::Relaxed));
        };
        vec![IndexDef::new(Index::<Self, u64, Many>::new("calls", 0), extract)]
    }
}

struct Impurities;

impl Fsm for Impurities {
    type Command = u64;
    type Reply = ();

    fn apply(&self, txn: &mut WriteTxn<'_>, _at: Applied, id: u64) {
        txn.upsert(Impure { id }).expect("nothing conflicts");
    }
}

#[test]
fn the_kit_finds_an_index_function_that_is_not_pure() {
    let machine = || {
        let db = Db::builder().table::<Impure>().build().unwrap();
        Machine::new(db, Impurities).unwrap()
    };
    let found = check(machine, &[1, 2, 3]).unwrap_err();
    let Divergence::Index { index, source } = &found else { panic!("{found}") };
    assert_eq!(*index, 1);
    assert!(matches!(source, Error::Inconsistent { table, index, .. }
            if table == "impure" && index == "calls"));
}

#[test]
fn the_kit_says_what_differs_and_where() {
    let counter = Arc::new(AtomicU64::new(0));
    let found = check_wrong(move |_, command| match command {
        0..5 => Ok(0),
        _ => Ok(counter.fetch_add(1, Ordering::Relaxed)),
    });
    match &found {
        Divergence::Reply { replica, index: 6, first, second } => {
            assert_eq!(replica, "the second replica");
            assert!(first.contains("Ok(0)") && second.contains("Ok(1)"), "{found}");
        }
        other => panic!("{other}"),
    }
    assert!(found.to_string().starts_with("the second replica replied "), "{found}");
}

#[test]
fn the_table_of_a_machine_is_read_while_it_applies() {
    let machine = machine();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut seen = 0;
            while seen < 100 {
                let snap = machine.read();
                assert!(snap.applied().index >= seen, "time went back");
                seen = snap.applied().index;
                assert_eq!(snap.table::<Job>().len() as u64, seen);
                assert!(snap.table::<Service>().is_empty());
            }
        });
        for index in 1..=100 {
            machine.apply(at(index), &entry(&Command::Put(index))).unwrap();
        }
    });
}
