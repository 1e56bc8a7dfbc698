//! Compares everything that can be read of a version with what the model gives.

use std::fmt::Debug;
use std::ops::Bound;

use fsmdb::{
    Cardinality, Change, ChangeKind, Descending, Folded, Index, Key, Many, Read, Row, Rows,
    Snapshot, StartsWith, Table, Unique, decode,
};

use crate::reference::{State, Stored, within};
use crate::rows::{GROUPS, Item, LABELS, LEFTS, Pair, Probe};

/// Rows met from the front, from the back, and from both ends in turn are the expected ones.
fn same<'a, T: Table + PartialEq + Debug>(
    what: &str,
    found: impl Fn() -> Rows<'a, T>,
    expected: &[&Stored<T>],
) {
    let equal = |row: &Row<T>, stored: &Stored<T>| {
        row.value() == &stored.value
            && (row.created().0, row.modified().0) == (stored.created, stored.modified)
    };
    let show = || format!("{what}: {:?}, expected {expected:?}", found().collect::<Vec<_>>());
    let mut forward = found();
    let mut backward = found().rev();
    for (front, back) in expected.iter().zip(expected.iter().rev()) {
        assert!(forward.next().is_some_and(|row| equal(row, front)), "{}", show());
        assert!(backward.next().is_some_and(|row| equal(row, back)), "{}, reversed", show());
    }
    assert!(forward.next().is_none() && backward.next().is_none(), "{}", show());
    let mut both = found();
    let mut met = 0;
    while let Some(front) = both.next() {
        assert!(equal(front, expected[met / 2]), "{}, from both ends", show());
        let back = both.next_back();
        let at = expected.len() - 1 - met / 2;
        assert!(back.is_none_or(|back| equal(back, expected[at])), "{}, from both ends", show());
        met += 1 + usize::from(back.is_some());
    }
    assert_eq!(met, expected.len(), "{}", show());
}

/// The rows in the order of an index over what `values` gives, one for each distinct value.
fn entries<V: Ord>(state: &State, values: impl Fn(&Item) -> Vec<V>) -> Vec<(V, &Stored<Item>)> {
    let mut entries = Vec::new();
    for row in &state.items {
        let mut own = values(&row.value);
        own.sort();
        own.dedup();
        entries.extend(own.into_iter().map(|value| (value, row)));
    }
    // A stable sort keeps rows with equal values in the order of their primary keys.
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    entries
}

fn compare_index<V: Key + Ord, C: Cardinality>(
    read: &impl Read,
    state: &State,
    probe: &Probe,
    index: Index<Item, V, C>,
    values: impl Fn(&Item) -> Vec<V>,
) {
    let name = index.name();
    let index = read.table::<Item>().index(index);
    let expected = entries(state, &values);
    let rows: Vec<_> = expected.iter().map(|(_, row)| *row).collect();
    same(name, || index.iter(), &rows);
    assert_eq!((index.len(), index.is_empty()), (rows.len(), rows.is_empty()), "{name}");
    let id = |row: Option<&Row<Item>>| row.map(|row| row.id);
    assert_eq!(id(index.first()), rows.first().map(|row| row.value.id), "{name}");
    assert_eq!(id(index.last()), rows.last().map(|row| row.value.id), "{name}");
    // Ranges between the values of two rows that may exist or not, and of one value alone.
    let value = |item: &Item| values(item).into_iter().next();
    if value(&probe.low).is_some() && value(&probe.high).is_some() {
        let bounds = || probe.bounds(|item| value(item).expect("both rows have one"));
        let rows: Vec<_> = expected.iter().filter(|(value, _)| within(value, &bounds())).collect();
        let rows: Vec<_> = rows.into_iter().map(|(_, row)| *row).collect();
        same(name, || index.range(bounds()), &rows);
    }
    if let Some(value) = value(&probe.low) {
        let exactly: Vec<_> = expected.iter().filter(|(found, _)| *found == value).collect();
        let exactly: Vec<_> = exactly.into_iter().map(|(_, row)| *row).collect();
        assert_eq!(index.contains(&value), !exactly.is_empty(), "{name}");
        same(name, || index.range((Bound::Included(&value), Bound::Included(&value))), &exactly);
    }
}

/// `get` of every value that any of the rows, or of the probe's, has.
fn compare_many<V: Key + Ord>(
    read: &impl Read,
    state: &State,
    probe: &Probe,
    index: Index<Item, V, Many>,
    values: impl Fn(&Item) -> Vec<V>,
) {
    compare_index(read, state, probe, index, &values);
    let expected = entries(state, &values);
    let (name, index) = (index.name(), read.table::<Item>().index(index));
    for value in values(&probe.low).iter().chain(expected.iter().map(|(value, _)| value)) {
        let rows: Vec<_> = expected.iter().filter(|(found, _)| found == value).collect();
        let rows: Vec<_> = rows.into_iter().map(|(_, row)| *row).collect();
        same(name, || index.get(value), &rows);
    }
}

fn compare_unique<V: Key + Ord>(
    read: &impl Read,
    state: &State,
    probe: &Probe,
    index: Index<Item, V, Unique>,
    values: impl Fn(&Item) -> Vec<V>,
) {
    compare_index(read, state, probe, index, &values);
    let expected = entries(state, &values);
    let (name, index) = (index.name(), read.table::<Item>().index(index));
    for value in values(&probe.low).iter().chain(expected.iter().map(|(value, _)| value)) {
        let owner = expected.iter().find(|(found, _)| found == value).map(|(_, row)| row.value.id);
        assert_eq!(index.get(value).map(|row| row.id), owner, "{name} at {value:?}");
    }
}

fn compare_items(read: &impl Read, state: &State, probe: &Probe) {
    let table = read.table::<Item>();
    let all: Vec<_> = state.items.iter().collect();
    same("items", || table.iter(), &all);
    assert_eq!((table.len(), table.is_empty()), (all.len(), all.is_empty()));
    assert_eq!(table.modified().0, state.items_modified);
    assert_eq!(table.first().map(|row| row.id), all.first().map(|row| row.value.id));
    assert_eq!(table.last().map(|row| row.id), all.last().map(|row| row.value.id));
    let bounds = probe.bounds(|item| item.id);
    let inside: Vec<_> = all.iter().filter(|row| within(&row.value.id, &bounds)).copied().collect();
    same("a range of items", || table.range(bounds), &inside);
    for id in [probe.low.id, probe.high.id] {
        let row = all.iter().find(|row| row.value.id == id);
        assert_eq!(table.get(&id).map(Row::value), row.map(|row| &row.value));
        assert_eq!(table.contains(&id), row.is_some());
    }
}

fn compare_prefixes(read: &impl Read, state: &State) {
    let table = read.table::<Item>();
    let sorted = |chosen: &dyn Fn(&Item) -> bool, key: &dyn Fn(&Item) -> (Folded, i16)| {
        let mut rows: Vec<_> = state.items.iter().filter(|row| chosen(&row.value)).collect();
        rows.sort_by_key(|row| key(&row.value));
        rows
    };
    for group in GROUPS {
        let in_group = |item: &Item| item.group == group;
        let rows = sorted(&in_group, &|item| (Folded::new(""), -i16::from(item.rank)));
        same("group_rank", || table.index(Item::BY_GROUP_RANK).prefix(&(group,)), &rows);
    }
    for label in LABELS {
        let start = Folded::new(label);
        let starts = |item: &Item| Folded::new(&item.label).as_str().starts_with(start.as_str());
        let by_label = |item: &Item| (Folded::new(&item.label), 0);
        let rows = sorted(&starts, &by_label);
        same("label", || table.index(Item::BY_LABEL).prefix(&StartsWith(label)), &rows);
        let even = |item: &Item| item.id.is_multiple_of(2) && starts(item);
        let rows = sorted(&even, &by_label);
        let prefix = (true, StartsWith(label));
        same("parity", || table.index(Item::BY_PARITY).prefix(&prefix), &rows);
    }
}

fn compare_pairs(read: &impl Read, state: &State) {
    let table = read.table::<Pair>();
    let all: Vec<_> = state.pairs.iter().collect();
    same("pairs", || table.iter(), &all);
    assert_eq!((table.len(), table.modified().0), (all.len(), state.pairs_modified));
    for left in LEFTS {
        let chosen: Vec<_> = all.iter().filter(|row| row.value.left == left).copied().collect();
        same("pairs of a left", || table.prefix(&(left,)), &chosen);
        let starts = |row: &&&Stored<Pair>| row.value.left.starts_with(left);
        let chosen: Vec<_> = all.iter().filter(starts).copied().collect();
        same("pairs whose left starts so", || table.prefix(&(StartsWith(left),)), &chosen);
        for right in LEFTS {
            let row = all.iter().find(|row| row.value.left == left && row.value.right == right);
            assert_eq!(table.get(&(left, right)).map(Row::value), row.map(|row| &row.value));
        }
    }
    for number in 0..6 {
        let owner = all.iter().find(|row| row.value.number == Some(number));
        let found = table.index(Pair::BY_NUMBER).get(&number);
        assert_eq!(found.map(Row::value), owner.map(|row| &row.value));
    }
}

/// Compares all tables and indexes of one version.
pub(crate) fn compare_state(read: &impl Read, state: &State, probe: &Probe) {
    assert_eq!(read.revision().0, state.revision);
    compare_items(read, state, probe);
    compare_unique(read, state, probe, Item::BY_NAME, |item| vec![item.name.clone()]);
    compare_many(read, state, probe, Item::BY_GROUP, |item| vec![item.group.clone()]);
    compare_many(read, state, probe, Item::BY_TAGS, |item| item.tags.clone());
    compare_unique(read, state, probe, Item::BY_CODES, |item| item.codes.clone());
    compare_many(read, state, probe, Item::BY_MAYBE, |item| item.maybe.into_iter().collect());
    let slot = |item: &Item| item.live.then_some(item.slot).into_iter().collect();
    compare_unique(read, state, probe, Item::BY_SLOT, slot);
    compare_many(read, state, probe, Item::BY_LABEL, |item| vec![Folded::new(&item.label)]);
    compare_many(read, state, probe, Item::BY_RANK, |item| vec![Descending(item.rank)]);
    let group_rank = |item: &Item| vec![(item.group.clone(), Descending(item.rank))];
    compare_many(read, state, probe, Item::BY_GROUP_RANK, group_rank);
    let initial = |item: &Item| item.initial().into_iter().collect();
    compare_many(read, state, probe, Item::BY_INITIAL, initial);
    compare_many(read, state, probe, Item::BY_PARITY, |item| vec![item.parity()]);
    compare_prefixes(read, state);
    compare_pairs(read, state);
}

/// What differs between two sorted lists of rows, in the order of `key`.
fn difference<'a, T: PartialEq, K: Ord>(
    before: &'a [Stored<T>],
    after: &'a [Stored<T>],
    key: impl Fn(&'a T) -> K,
) -> Vec<(K, Option<&'a Stored<T>>, Option<&'a Stored<T>>)> {
    let mut keys: Vec<_> = before.iter().chain(after).map(|row| key(&row.value)).collect();
    keys.sort();
    keys.dedup();
    let find =
        |rows: &'a [Stored<T>], wanted: &K| rows.iter().find(|row| key(&row.value) == *wanted);
    let changes = keys.into_iter().map(|key| {
        let (before, after) = (find(before, &key), find(after, &key));
        (key, before, after)
    });
    changes.filter(|(_, before, after)| before != after).collect()
}

fn compare_change<T: Table + PartialEq + Debug>(
    change: &Change,
    before: Option<&Stored<T>>,
    after: Option<&Stored<T>>,
) {
    let kind = match (before, after) {
        (None, _) => ChangeKind::Created,
        (Some(_), Some(_)) => ChangeKind::Updated,
        (Some(_), None) => ChangeKind::Deleted,
    };
    assert_eq!((change.kind(), change.table()), (kind, T::NAME));
    let stored = |row: &Row<T>| (row.created().0, row.modified().0);
    let expected = |row: &Stored<T>| (row.created, row.modified);
    assert_eq!(change.before::<T>().map(stored), before.map(expected));
    assert_eq!(change.after::<T>().map(stored), after.map(expected));
    assert_eq!(change.before::<T>().map(Row::value), before.map(|row| &row.value));
    assert_eq!(change.after::<T>().map(Row::value), after.map(|row| &row.value));
}

/// Compares the net changes of a transaction with the difference of the versions.
pub(crate) fn compare_changes(changes: &[Change], base: &State, now: &State) {
    let items = difference(&base.items, &now.items, |item| item.id);
    let pairs = difference(&base.pairs, &now.pairs, |pair| (&pair.left, &pair.right));
    assert_eq!(changes.len(), items.len() + pairs.len());
    // By table, in the order of the builder, which changes when the database is reloaded.
    assert!(changes.chunk_by(|one, other| one.table() == other.table()).count() <= 2);
    let (item_changes, pair_changes): (Vec<_>, Vec<_>) =
        changes.iter().partition(|change| change.is_in::<Item>());
    assert_eq!(item_changes.len(), items.len());
    for (change, (id, before, after)) in item_changes.iter().zip(items) {
        assert_eq!(decode::<u8>(change.key()), Ok(id));
        compare_change(change, before, after);
    }
    for (change, (key, before, after)) in pair_changes.iter().zip(pairs) {
        let decoded = decode::<(String, String)>(change.key()).expect("a key of the table");
        assert_eq!((&decoded.0, &decoded.1), key);
        compare_change(change, before, after);
    }
}

/// Compares the difference of two snapshots with that of their states. Rows are other rows after a
/// restore, or when they were written twice in one transaction, also if nothing of them differs.
pub(crate) fn compare_diff(newer: (&Snapshot, &State), older: (&Snapshot, &State)) {
    let is_other = |change: &Change| {
        let rows = (change.before::<Item>(), change.after::<Item>());
        let pairs = (change.before::<Pair>(), change.after::<Pair>());
        rows.0 != rows.1 || pairs.0 != pairs.1
    };
    let mut forward: Vec<_> = newer.0.diff_all(older.0).collect();
    let keys = |changes: &[Change]| -> Vec<_> {
        changes.iter().map(|change| (change.is_in::<Item>(), change.key().to_vec())).collect()
    };
    let mut backward: Vec<_> = newer.0.diff_all(older.0).rev().collect();
    backward.reverse();
    assert_eq!(keys(&forward), keys(&backward));
    forward.retain(is_other);
    compare_changes(&forward, older.1, newer.1);
}
