//! The rows of the stress test: each carries a sum over its fields and a token that counts it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use fsmdb::{Read, Row, Table};
use serde::{Deserialize, Serialize};

use crate::draw::{Draw, mix};

/// Rows that exist, in tables and in hands.
static LIVE: AtomicI64 = AtomicI64::new(0);

const ALIVE: u64 = 0x5EED_ED0B_0B5E_55ED;

/// Counts the value that it is a field of, and tells a value that was dropped before.
#[derive(Debug)]
pub(crate) struct Token(u64);

impl Default for Token {
    fn default() -> Self {
        LIVE.fetch_add(1, Ordering::Relaxed);
        Self(ALIVE)
    }
}

impl Clone for Token {
    fn clone(&self) -> Self {
        self.check();
        Self::default()
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.check();
        self.0 = 0;
        // Without this the compiler may leave the store out.
        std::hint::black_box(&self.0);
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Token {
    fn check(&self) {
        if self.0 != ALIVE {
            eprintln!("a row that was dropped before is used or dropped again");
            std::process::abort();
        }
    }
}

/// The number of rows that exist.
pub(crate) fn live() -> i64 {
    LIVE.load(Ordering::SeqCst)
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "items")]
pub(crate) struct Item {
    #[key]
    pub(crate) id: u32,
    #[index(unique)]
    pub(crate) name: String,
    #[index]
    pub(crate) group: u16,
    #[index(multi)]
    pub(crate) tags: Vec<u16>,
    pub(crate) amount: i64,
    check: u64,
    #[serde(skip)]
    token: Token,
}

/// What the table of items must come to, written by the transaction that changed it.
#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "totals")]
pub(crate) struct Total {
    #[key]
    id: u8,
    digest: Digest,
    #[serde(skip)]
    token: Token,
}

impl Item {
    pub(crate) fn new(draw: &mut Draw, id: u32, names: u64) -> Self {
        let (number, length) = (draw.below(names), draw.below(3) * 20);
        let tags = (0..draw.below(4)).map(|_| draw.below(100) as u16).collect();
        let mut item = Self {
            id,
            name: format!("{number:x}{}", "-".repeat(length as usize)),
            group: draw.below(40) as u16,
            tags,
            amount: draw.below(1 << 40) as i64 - (1 << 39),
            check: 0,
            token: Token::default(),
        };
        item.seal();
        item
    }

    /// Brings the sum over the fields up to date.
    pub(crate) fn seal(&mut self) {
        self.check = self.sum();
    }

    /// The sum that the row was written with.
    pub(crate) fn check(&self) -> u64 {
        self.check
    }

    fn sum(&self) -> u64 {
        let tags = self.tags.iter().fold(1, |sum, tag| mix(sum ^ u64::from(*tag)));
        let name = self.name.bytes().fold(2, |sum, byte| mix(sum ^ u64::from(byte)));
        let numbers = u64::from(self.id) << 32 | u64::from(self.group);
        mix(tags ^ mix(name) ^ mix(numbers ^ mix(self.amount as u64)))
    }

    /// The row is as it was written.
    pub(crate) fn verify(&self) {
        self.token.check();
        assert_eq!(self.check, self.sum(), "item {} is not as it was written", self.id);
    }
}

/// What a set of items comes to, whatever their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    pub(crate) rows: u64,
    sum: i64,
    checks: u64,
}

impl Digest {
    pub(crate) fn add(&mut self, item: &Item) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(item.amount);
        self.checks = self.checks.wrapping_add(item.check);
    }

    pub(crate) fn remove(&mut self, item: &Item) {
        self.rows -= 1;
        self.sum = self.sum.wrapping_sub(item.amount);
        self.checks = self.checks.wrapping_sub(item.check);
    }

    #[allow(single_use_lifetimes)] // The elided form is not stable.
    pub(crate) fn of<'a>(items: impl Iterator<Item = &'a Item>) -> Self {
        let mut digest = Self::default();
        items.for_each(|item| digest.add(item));
        digest
    }

    /// The digest that the transaction of the version wrote.
    pub(crate) fn written(read: &impl Read) -> Self {
        let total = read.table::<Total>().first();
        total.map_or_else(Self::default, |total| {
            total.token.check();
            total.digest
        })
    }

    pub(crate) fn total(self) -> Total {
        Total { id: 0, digest: self, token: Token::default() }
    }
}

/// The whole version is as it was written, every index included.
pub(crate) fn verify(read: &impl Read, expected: Digest) {
    let table = read.table::<Item>();
    let (mut found, mut tags, mut last) = (Digest::default(), 0, None);
    for row in table {
        row.verify();
        assert!(last < Some(row.id), "items come in the order of their keys");
        last = Some(row.id);
        found.add(row);
        let mut own = row.tags.clone();
        own.sort_unstable();
        own.dedup();
        tags += own.len();
    }
    assert_eq!(found, expected, "the items are not those of their version");
    assert_eq!(table.len() as u64, expected.rows);
    assert_eq!(Digest::of(table.iter().rev().map(Row::value)), expected, "reversed");

    let names = table.index(Item::BY_NAME);
    assert!(names.iter().is_sorted_by(|one, other| one.name < other.name), "names in order");
    assert_eq!(Digest::of(names.iter().map(Row::value)), expected, "by name");
    let groups = table.index(Item::BY_GROUP);
    assert!(groups.iter().is_sorted_by_key(|row| (row.group, row.id)), "groups in order");
    assert_eq!(Digest::of(groups.iter().map(Row::value)), expected, "by group");
    let by_tags = table.index(Item::BY_TAGS);
    let tagged = by_tags.iter().map(|row| (row.id, row)).collect::<BTreeMap<_, _>>();
    let owners = table.iter().filter(|row| !row.tags.is_empty());
    assert!(owners.map(|row| &**row).eq(tagged.values().map(|row| &***row)), "by tag");
    assert_eq!((by_tags.iter().count(), by_tags.len()), (tags, tags), "entries of tags");
}

/// Compares items by address: the same row, not an equal one.
impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}
