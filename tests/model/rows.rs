//! The tables of the model test and where their values are drawn from: small domains, so that
//! values collide all the time.

use std::ops::Bound;

use fsmdb::{Folded, Table};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde::{Deserialize, Serialize};

/// Every kind of index on one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "items", tombstones = 8)]
#[index(name = "group_rank", on = (group, desc(rank)))]
#[index(name = "initial", with = Item::initial, key = char, optional)]
#[index(name = "parity", with = Item::parity, key = (bool, Folded))]
pub(crate) struct Item {
    #[key]
    pub(crate) id: u8,
    #[index(unique)]
    pub(crate) name: String,
    #[index]
    pub(crate) group: String,
    #[index(multi)]
    pub(crate) tags: Vec<u8>,
    #[index(multi, unique)]
    pub(crate) codes: Vec<i16>,
    #[index]
    pub(crate) maybe: Option<i8>,
    #[index(unique, filter = Item::is_live)]
    pub(crate) slot: u8,
    #[index(fold)]
    pub(crate) label: String,
    #[index(descending)]
    pub(crate) rank: i8,
    pub(crate) live: bool,
}

impl Item {
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    pub(crate) fn initial(&self) -> Option<char> {
        self.name.chars().next()
    }

    pub(crate) fn parity(&self) -> (bool, Folded) {
        (self.id.is_multiple_of(2), Folded::new(&self.label))
    }
}

pub(crate) fn plain(id: u8) -> Item {
    Item {
        id,
        name: "name".into(),
        group: "g".into(),
        tags: vec![1],
        codes: Vec::new(),
        maybe: None,
        slot: 1,
        label: "Label".into(),
        rank: 0,
        live: true,
    }
}

/// A compound primary key of strings that begin with each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "pairs", version = 2)]
pub(crate) struct Pair {
    #[key]
    pub(crate) left: String,
    #[key]
    pub(crate) right: String,
    #[index(unique)]
    pub(crate) number: Option<u8>,
}

pub(crate) const NAMES: [&str; 14] =
    ["", "\0", "\u{1}", "a", "a\0", "a\0b", "a\u{1}", "ab", "b", "é", "\u{10FFFF}", "z", "zz", "q"];
pub(crate) const GROUPS: [&str; 4] = ["", "g", "g\0", "gg"];
pub(crate) const LABELS: [&str; 6] = ["Web", "WEB", "straße", "STRASSE", "ß", ""];
pub(crate) const LEFTS: [&str; 4] = ["", "l", "ll", "l\0"];

pub(crate) fn id() -> impl Strategy<Value = u8> {
    select(vec![0_u8, 1, 2, 3, 4, 5, 6, 7, 254, 255])
}

pub(crate) fn item() -> impl Strategy<Value = Item> {
    let keys = (id(), select(&NAMES[..]), select(&GROUPS[..]), select(&LABELS[..]));
    let lists = (vec(0_u8..5, 0..4), vec(select(vec![i16::MIN, -1, 0, 1, 2, 9, i16::MAX]), 0..3));
    let values =
        (option::of(-2_i8..2), 0_u8..8, select(vec![i8::MIN, -1, 0, 1, i8::MAX]), any::<bool>());
    (keys, lists, values).prop_map(|(keys, lists, values)| {
        let (id, name, group, label) = keys;
        let (tags, codes) = lists;
        let (maybe, slot, rank, live) = values;
        let (name, group, label) = (name.to_owned(), group.to_owned(), label.to_owned());
        Item { id, name, group, tags, codes, maybe, slot, label, rank, live }
    })
}

pub(crate) fn pair() -> impl Strategy<Value = Pair> {
    (select(&LEFTS[..]), select(&LEFTS[..]), option::of(0_u8..6)).prop_map(
        |(left, right, number)| Pair { left: left.to_owned(), right: right.to_owned(), number },
    )
}

pub(crate) fn bound<T: Clone + std::fmt::Debug + 'static>(
    value: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Bound<T>> {
    (0..3, value).prop_map(|(kind, value)| match kind {
        0 => Bound::Unbounded,
        1 => Bound::Included(value),
        _ => Bound::Excluded(value),
    })
}

/// Where the ranges of one comparison begin and end: two rows' worth of values and two shapes.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) low: Item,
    pub(crate) high: Item,
    pub(crate) low_kind: u8,
    pub(crate) high_kind: u8,
}

impl Default for Probe {
    fn default() -> Self {
        Self { low: plain(0), high: plain(9), low_kind: 0, high_kind: 0 }
    }
}

impl Probe {
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        (item(), item(), 0_u8..3, 0_u8..3).prop_map(|(low, high, low_kind, high_kind)| Self {
            low,
            high,
            low_kind,
            high_kind,
        })
    }

    /// Bounds over what `value` makes of the two rows.
    pub(crate) fn bounds<V>(&self, value: impl Fn(&Item) -> V) -> (Bound<V>, Bound<V>) {
        let bound = |kind, item| match kind {
            0 => Bound::Unbounded,
            1 => Bound::Included(value(item)),
            _ => Bound::Excluded(value(item)),
        };
        (bound(self.low_kind, &self.low), bound(self.high_kind, &self.high))
    }
}
