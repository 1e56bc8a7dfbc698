//! Applies what an incremental snapshot file says: to a database that goes on, and to one that is
//! loaded from a chain of files.
//!
//! The rows come with the revisions that they had where the file was written, and so do those of
//! the tables and what they have removed: the state is afterwards, byte for byte, the one that the
//! file was saved from. It is known to be by the digests of all tables.
//!
//! A digest is of rows as they are encoded. The state is the base of a file when it has the digest
//! that the file names, as its rows are encoded here; or, in a chain, when the file before says so,
//! of which each row was held to that digest as it stood there. So a chain can be loaded by a
//! program with a table or a field more. What a link makes of a table is reckoned in the bytes of
//! the files as well: the digest before, with the rows that the link puts, without those that it
//! takes out. These are encoded anew; where that does not give the bytes of the files, the digest
//! that the link says cannot be had, and is trusted to be that of which the next link speaks.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::changes::ChangeLog;
use super::digests::digests_of;
use super::draft::{Draft, Drafting};
use super::read::Snapshot;
use super::write::WriteTxn;
use crate::carried::Carried;
use crate::digest::{Digest, TableDigest};
use crate::revision::Revision;
use crate::root::{Contents, Root};
use crate::schema::{Schema, TableSchema};
use crate::snapshot::{
    self, Base, Delta, DeltaTable, Ground, LoadOptions, SaveOptions, Since, SnapshotError, Summary,
};
use crate::table::{KeyedRows, Mode};
use crate::tree::{Doomed, KeptRow, Session};

impl Snapshot {
    /// Writes what has changed since `base`: an incremental snapshot file of the rows that differ,
    /// the keys that are gone and what the tables remember of it.
    ///
    /// `base` is an older version of the same database, with no restore between the two; a view of
    /// a transaction ([`WriteTxn::snapshot`]) is none, because it is not what the commit publishes.
    /// The file fits a database in that state alone, which it names by revision and digest. With
    /// [`keep_digests`](crate::Builder::keep_digests) the time follows the changes; without, every
    /// row of both versions is encoded for their digests.
    ///
    /// ```
    /// # use fsmdb::{Db, SaveOptions, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64, name: String }
    /// let db = Db::builder().table::<Node>().keep_digests().build()?;
    /// # let mut txn = db.write();
    /// # txn.insert(Node { id: 1, name: "alpha".into() })?;
    /// # txn.commit();
    /// let base = db.read();
    /// let mut full = Vec::new();
    /// base.save(&mut full)?;
    ///
    /// let mut txn = db.write();
    /// txn.insert(Node { id: 2, name: "beta".into() })?;
    /// txn.commit();
    /// let mut changes = Vec::new();
    /// let summary = db.read().save_since(&base, &mut changes, SaveOptions::new())?;
    /// assert_eq!(summary.rows, 1);
    ///
    /// let chain = [full.as_slice(), changes.as_slice()];
    /// let copy = Db::builder().table::<Node>().load_chain(chain)?;
    /// assert_eq!(copy.read().table::<Node>().len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SnapshotError::NoBase`] when `base` is newer, of another database, also one with the same
    /// content, or from before a restore; otherwise as [`save_with`](Snapshot::save_with).
    pub fn save_since<W: io::Write>(
        &self,
        base: &Self,
        target: W,
        options: SaveOptions<'_>,
    ) -> Result<Summary, SnapshotError> {
        let (newer, older) = (self.contents(), base.contents());
        let refused = |message: &str| {
            let (revision, message) = (base.revision(), message.to_owned());
            Err(SnapshotError::NoBase { revision, message })
        };
        if newer.schema.fingerprint() != older.schema.fingerprint() {
            return refused("it is of another database");
        }
        if newer.incarnation != older.incarnation {
            return refused("it is of another incarnation");
        }
        if !newer.line.comes_from(older.line) {
            return refused("it is of another database, from before a restore, or a mere view");
        }
        if base.serial() > self.serial() {
            return refused("it is newer");
        }
        let digest = base.digests().map_err(SnapshotError::NoDigest)?.database();
        let digests = self.digests().map_err(SnapshotError::NoDigest)?;
        let base = Base { revision: base.revision(), digest };
        let since = Since { root: older, base, digests };
        snapshot::save(newer, Some(&since), target, options)
    }

    /// As [`save_since`](Snapshot::save_since), to the file at `path`, as
    /// [`save_to_path`](Snapshot::save_to_path) does.
    ///
    /// # Errors
    ///
    /// As both.
    pub fn save_since_to_path(
        &self,
        base: &Self,
        path: impl AsRef<Path>,
        options: SaveOptions<'_>,
    ) -> Result<Summary, SnapshotError> {
        snapshot::replace(path.as_ref(), |target| self.save_since(base, target, options))
    }
}

impl WriteTxn<'_> {
    /// Applies `delta` to the version that this transaction began with and that `ground` is of, and
    /// commits.
    pub(crate) fn apply_delta(
        mut self,
        delta: Delta,
        mut ground: Ground,
    ) -> Result<Revision, SnapshotError> {
        let (revision, applied) = (delta.revision, delta.applied);
        let is_new = apply(self.draft_mut(), delta, &mut ground)?;
        if is_new {
            self.draft_mut().log.is_link = true;
            self.commit_entry(applied);
        }
        Ok(revision)
    }
}

/// Builds a root of `schema` from a whole file and the incremental ones that follow it.
pub(crate) fn load_chain<R: io::Read>(
    schema: &Arc<Schema>,
    sources: impl IntoIterator<Item = R>,
    mut options: LoadOptions<'_>,
) -> Result<Root, SnapshotError> {
    let mut sources = sources.into_iter();
    let first = sources.next().ok_or(SnapshotError::Empty)?;
    // The next one is not asked for before this one was read: it may not be there yet.
    let mut is_followed = sources.size_hint().1 != Some(0);
    let (mut root, mut told) = snapshot::load(schema, first, &mut options, is_followed)?;
    while let Some(source) = sources.next() {
        is_followed = sources.size_hint().1 != Some(0);
        let delta = snapshot::load_delta(schema, source, &mut options, is_followed)?;
        let ground = ground_of(root.contents(), told.take(), &delta)?;
        let (next, ground) = follow(root, delta, ground)?;
        (root, told) = (next, Some(ground));
    }
    Ok(match options.incarnation {
        Some(incarnation) => root.in_incarnation(incarnation),
        None => root,
    })
}

/// Applies `delta` to a version that nobody has seen yet and that `ground` is of.
fn follow(root: Root, delta: Delta, mut ground: Ground) -> Result<(Root, Ground), SnapshotError> {
    let (revision, applied) = (delta.revision, delta.applied);
    let writer = root.version().store().write();
    let mut draft = Draft::new(root.contents().clone(), writer, ChangeLog::default(), revision);
    let is_new = apply(&mut draft, delta, &mut ground);
    let mut contents = draft.contents.take().expect("nobody else has taken them");
    let mut doomed = Doomed::default();
    match is_new {
        Ok(true) => {
            (contents.revision, contents.applied) = (revision, applied);
            let version = draft.work.publish(&contents, &mut doomed);
            let serial = root.serial();
            drop(root);
            draft.work.finish(&mut doomed);
            Ok((Root::new(contents, version, serial), ground))
        }
        other => {
            draft.work.abort(&contents, &mut doomed);
            drop(contents);
            other.map(|_| (root, ground))
        }
    }
}

/// `contents` as the base of `delta`: by what the file before it in a chain has told, or by its
/// rows as they are encoded here. Rows are encoded only if the revision is the right one.
pub(crate) fn ground_of(
    contents: &Contents,
    told: Option<Ground>,
    delta: &Delta,
) -> Result<Ground, SnapshotError> {
    let print = |revision: Revision, incarnation, digest: Option<Digest>| {
        let digest = digest.map_or(String::new(), |digest| format!(", digest {digest}"));
        format!("revision {revision} of incarnation {incarnation}{digest}")
    };
    let Base { revision, digest } = delta.base;
    let wrong = |found| {
        let expected = print(revision, delta.incarnation, Some(digest));
        let found = print(contents.revision, contents.incarnation, found);
        Err(SnapshotError::WrongBase { expected, found })
    };
    let told_digest = told.as_ref().map(|told| told.digests.database());
    if (contents.revision, contents.incarnation) != (revision, delta.incarnation) {
        return wrong(told_digest);
    }
    if let Some(told) = told.filter(|_| told_digest == Some(digest)) {
        return Ok(told);
    }
    let mut digests = digests_of(contents, revision).map_err(SnapshotError::NoDigest)?;
    // Who wrote the file may not have known a table that is empty here.
    digests.tables.retain(|table| table.rows > 0 || find(&delta.digests.tables, table).is_some());
    if digests.database() != digest {
        return wrong(told_digest.or(Some(digests.database())));
    }
    Ok(Ground { digests, is_same: contents.tables().map(|_| true).collect() })
}

/// The one of `tables`, which are in the order of names, that has the name of `table`.
fn find<'a>(tables: &'a [TableDigest], table: &TableDigest) -> Option<&'a TableDigest> {
    let found = tables.binary_search_by(|found| found.table.cmp(&table.table));
    found.ok().map(|place| &tables[place])
}

/// Does what `delta` says to contents that `ground` is of; says whether there was anything to do.
/// The ground is then that of what they have become.
fn apply<W: Session<Contents>>(
    draft: &mut Draft<W>,
    delta: Delta,
    ground: &mut Ground,
) -> Result<bool, SnapshotError> {
    check_tables(draft.contents(), &delta, ground)?;
    if delta.revision == delta.base.revision {
        // Nothing has happened since, so there is nothing to do, and nothing may be said to be.
        let names = draft.contents().schema.tables();
        let named = |table: &DeltaTable| check_nothing(&names[table.position].name, table);
        return delta.tables.iter().try_for_each(named).map(|()| false);
    }
    take_sections(draft.parts().0, delta.sections);
    for table in delta.tables {
        let schema = Arc::clone(draft.contents().table(table.position).schema());
        apply_table(draft, &schema, table, ground)?;
    }
    // The plan of the last statement has a key and values, which the writer may have erased.
    drop(draft.work.take_scratch());
    ground.digests = delta.digests;
    Ok(true)
}

/// Refuses a file with other tables than the state that it names, and one that says something new
/// of what it cannot change.
fn check_tables(contents: &Contents, delta: &Delta, ground: &Ground) -> Result<(), SnapshotError> {
    let (before, after) = (&ground.digests.tables, &delta.digests.tables);
    let alone = before.iter().find(|table| find(after, table).is_none());
    let alone = alone.or_else(|| after.iter().find(|table| find(before, table).is_none()));
    if let Some(TableDigest { table, .. }) = alone {
        return Err(SnapshotError::OtherTables { table: table.clone() });
    }
    for (before, after) in before.iter().zip(after) {
        let is_known = contents.schema.position_of(&before.table).is_some();
        if !is_known || delta.revision == delta.base.revision {
            let TableDigest { table, rows, digest } = before;
            check_promise(table, (*rows, Some(*digest)), (after.rows, after.digest))?;
        }
    }
    Ok(())
}

/// Refuses changes between a version and itself.
fn check_nothing(name: &str, table: &DeltaTable) -> Result<(), SnapshotError> {
    if table.deletes.is_empty() && table.rows.is_empty() {
        return Ok(());
    }
    let message = format!("table {name} changes, and the file leads to the revision of its base");
    Err(SnapshotError::Malformed { offset: table.offset, message })
}

/// Carries the sections of the file in the place of those that were carried.
fn take_sections(contents: &mut Contents, sections: Vec<(String, Arc<[u8]>)>) {
    let before = contents.carried.as_deref();
    if before.map_or(sections.is_empty(), |before| before.sections == sections) {
        return;
    }
    let tables = before.map(|before| before.tables.clone()).unwrap_or_default();
    let carried = Carried { tables, sections };
    contents.carried = (!carried.is_empty()).then(|| Arc::new(carried));
}

fn apply_table<W: Session<Contents>>(
    draft: &mut Draft<W>,
    schema: &TableSchema,
    delta: DeltaTable,
    ground: &mut Ground,
) -> Result<(), SnapshotError> {
    let DeltaTable { position, deletes, rows, put, modified, removals, promised, .. } = delta;
    let state = draft.contents().table(position);
    let (removed_before, modified_before) = (state.removals().clone(), state.modified());
    if modified < modified_before {
        let table = &schema.name;
        let message = format!("table {table} was modified at {modified_before}, not {modified}");
        return Err(SnapshotError::Malformed { offset: delta.offset, message });
    }
    let is_same = &mut ground.is_same[position];
    let mut taken = Taken { schema, reckons: *is_same, rows: 0, digest: Digest::default() };
    for key in deletes.iter() {
        let Some(row) = draft.remove(position, key) else {
            let (table, key) = (schema.name.to_string(), schema.print_key(key));
            return Err(SnapshotError::NoSuchRow { table, key });
        };
        taken.add(&row)?;
    }
    if schema.indexes.iter().any(|index| index.unique) {
        // So that rows which swap a unique value do not stand in each other's way.
        for key in rows.iter().flat_map(KeyedRows::keys) {
            if let Some(row) = draft.remove(position, key) {
                taken.add(&row)?;
            }
        }
    }
    for (key, row) in rows.into_iter().flat_map(KeyedRows::into_pairs) {
        let put = draft.put(position, &key, Mode::Upsert, |_| row);
        let (_, replaced) = put.map_err(SnapshotError::Rule)?;
        if let Some(row) = replaced {
            taken.add(&row)?;
        }
    }
    let table = draft.parts().0.table_mut(position);
    table.set_modified(modified);
    table.set_removals(removed_before.followed_by(&removals, schema.tombstones));
    let before = ground.digests.tables.iter().find(|digest| digest.table == *schema.name);
    let before = before.expect("the file and its base have the same tables").digest;
    let is_known = *is_same || taken.rows == 0;
    let digest = is_known.then(|| before.plus(put).minus(taken.digest));
    *is_same &= delta.is_same;
    check_promise(&schema.name, (table.len() as u64, digest), promised)
}

/// Whether a table has become what it should, as far as that can be known.
fn check_promise(
    name: &str,
    (rows, digest): (u64, Option<Digest>),
    promised: (u64, Digest),
) -> Result<(), SnapshotError> {
    let table = || name.to_owned();
    if rows != promised.0 {
        return Err(SnapshotError::RowCount { table: table(), found: rows, expected: promised.0 });
    }
    match digest.filter(|digest| *digest != promised.1) {
        Some(found) => Err(SnapshotError::Digest { table: table(), found, expected: promised.1 }),
        None => Ok(()),
    }
}

/// The rows that a link takes out of a table, by deleting or replacing them.
struct Taken<'a> {
    schema: &'a TableSchema,
    /// Whether their digest is reckoned.
    reckons: bool,
    rows: usize,
    digest: Digest,
}

impl Taken<'_> {
    fn add(&mut self, row: &KeptRow) -> Result<(), SnapshotError> {
        self.rows += 1;
        if !self.reckons {
            return Ok(());
        }
        let (row, mut bytes) = (row.borrow(), Vec::new());
        let encoded = self.schema.rows.encode_value(row, &mut bytes);
        encoded.map_err(|message| {
            let key = self.schema.print_key(&self.schema.key_of(row));
            SnapshotError::RowEncode { table: self.schema.name.to_string(), key, message }
        })?;
        self.digest = self.digest.plus(Digest::of_value(&bytes));
        Ok(())
    }
}
