//! The steps of a history, and how they are drawn.

use std::ops::Bound;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::rows::{GROUPS, Item, LEFTS, NAMES, Pair, bound, id, item, pair};

/// One step. Each is possible in every state: what does not apply does nothing, so that histories
/// shrink by leaving steps out.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Begin,
    Commit,
    Rollback,
    RollbackAll,
    Savepoint,
    RollbackTo(Index),
    Write(Statement),
    Hold,
    Drop(Index),
    Reload,
    Restore(Index),
}

#[derive(Clone, Debug)]
pub(crate) enum Statement {
    Insert(Item),
    Upsert(Item),
    /// Replaces the row with this id by the item, whose id may be another.
    Update(u8, Item),
    Delete(u8),
    DeleteRange(Bound<u8>, Bound<u8>),
    DeleteGroup(&'static str),
    DeleteTags(u8, u8),
    DeleteName(&'static str),
    DeleteRanks(&'static str),
    Retain(u8),
    PutPair(Pair),
    DeletePairs(&'static str),
}

/// The most snapshots that a history holds at once.
pub(crate) const HELD_MAX: usize = 5;

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => statement().prop_map(Step::Write),
        4 => Just(Step::Begin),
        3 => Just(Step::Commit),
        1 => Just(Step::Rollback),
        1 => Just(Step::RollbackAll),
        3 => Just(Step::Savepoint),
        3 => any::<Index>().prop_map(Step::RollbackTo),
        3 => Just(Step::Hold),
        2 => any::<Index>().prop_map(Step::Drop),
        1 => Just(Step::Reload),
        1 => any::<Index>().prop_map(Step::Restore),
    ]
}

fn statement() -> impl Strategy<Value = Statement> {
    prop_oneof![
        8 => item().prop_map(Statement::Insert),
        5 => item().prop_map(Statement::Upsert),
        5 => (id(), item(), prop::bool::weighted(0.1)).prop_map(|(id, item, changes_key)| {
            let item = if changes_key { item } else { Item { id, ..item } };
            Statement::Update(id, item)
        }),
        3 => id().prop_map(Statement::Delete),
        1 => (bound(id()), bound(id())).prop_map(|(low, high)| Statement::DeleteRange(low, high)),
        1 => select(&GROUPS[..]).prop_map(Statement::DeleteGroup),
        1 => (0_u8..5, 0_u8..5).prop_map(|(low, high)| Statement::DeleteTags(low, high)),
        1 => select(&NAMES[..]).prop_map(Statement::DeleteName),
        1 => select(&GROUPS[..]).prop_map(Statement::DeleteRanks),
        1 => (2_u8..5).prop_map(Statement::Retain),
        4 => pair().prop_map(Statement::PutPair),
        1 => select(&LEFTS[..]).prop_map(Statement::DeletePairs),
    ]
}
