//! Transactions as values: create if absent, compare and swap, move; sent as bytes through a log.
//!
//! `cargo run --example programs`

use anyhow::{Context, Result, ensure};
use fsmdb::{
    Applied, Cmp, Compare, Db, Fsm, Machine, Op, Program, ProgramError, ProgramReply, Row, Select,
    Table, WriteTxn,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "accounts", version = 1)]
struct Account {
    #[key]
    id: u64,
    #[index(unique)]
    owner: String,
    balance: i64,
}

/// Runs whatever program a client sends; the tables need no code of their own.
struct Programs;

impl Fsm for Programs {
    type Command = Program;
    type Reply = Result<ProgramReply, ProgramError>;

    fn apply(&self, txn: &mut WriteTxn<'_>, _at: Applied, program: Program) -> Self::Reply {
        txn.run(&program)
    }
}

/// Opens an account; gives the one that stands there if there is one.
fn open(account: &Account) -> Result<Program> {
    Ok(Program::when([Compare::absent::<Account>(&account.id)])
        .then([Op::insert(account)?])
        .otherwise([Op::get::<Account>(&account.id)]))
}

/// Moves money if neither account was written since they were read, and gives both if one was.
fn transfer(from: &Row<Account>, to: &Row<Account>, amount: i64) -> Result<Program> {
    let unchanged =
        |row: &Row<Account>| Compare::modified::<Account>(&row.id, Cmp::Equal, row.modified());
    let changed = |row: &Row<Account>, by: i64| {
        Op::upsert(&Account { balance: row.balance + by, ..row.value().clone() })
    };
    Ok(Program::when([unchanged(from), unchanged(to)])
        .then([changed(from, -amount)?, changed(to, amount)?])
        .otherwise([Op::get::<Account>(&from.id), Op::get::<Account>(&to.id)]))
}

/// Gives an account another number, if that is free.
fn renumber(account: &Account, id: u64) -> Result<Program> {
    Ok(Program::when([Compare::equals(account)?, Compare::absent::<Account>(&id)]).then([
        Op::delete::<Account>(&account.id),
        Op::insert(&Account { id, ..account.clone() })?,
    ]))
}

fn main() -> Result<()> {
    let machine = Machine::new(Db::builder().table::<Account>().build()?, Programs)?;
    let propose = |program: &Program| -> Result<Result<ProgramReply, ProgramError>> {
        let entry = Machine::<Programs>::encode(program)?;
        let at = Applied { index: machine.applied().index + 1, term: 1 };
        machine.apply(at, &entry)?.context("each entry is new")
    };
    let account = |id, owner: &str| Account { id, owner: owner.into(), balance: 100 };

    ensure!(propose(&open(&account(1, "ada"))?)??.succeeded);
    ensure!(propose(&open(&account(2, "bob"))?)??.succeeded);
    let again = propose(&open(&account(2, "eve"))?)??;
    let stands = again.results[0].row::<Account>()?.context("somebody has it")?;
    println!("account 2 was opened before, by {}", stands.owner);

    let read = machine.read();
    let accounts = read.table::<Account>();
    let both = accounts.get(&1).zip(accounts.get(&2)).context("both are open")?;
    let program = transfer(both.0, both.1, 30)?;
    println!("a transfer of {} bytes: {}", program.encode()?.len(), propose(&program)??.succeeded);
    let stale = propose(&program)??;
    let now = stale.results[0].row::<Account>()?.context("it is open")?;
    println!("sent again: {}, the balance is {} already", stale.succeeded, now.balance);

    println!("moved to number 7: {}", propose(&renumber(&now, 7)?)??.succeeded);
    // Refused by the unique index, and so nothing of it happened.
    let refused =
        propose(&Program::default().then([
            Op::delete_all(Select::range::<Account>(..5)),
            Op::insert(&account(9, "ada"))?,
        ]))?;
    println!("refused: {}", refused.unwrap_err());

    let all = propose(&Program::default().then([Op::rows(Select::range::<Account>(..), 10)]))??;
    for row in all.results[0].rows::<Account>()? {
        println!("{} {} {}", row.id, row.owner, row.balance);
    }
    Ok(())
}
