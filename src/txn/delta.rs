//! Applies what an incremental snapshot file says: to a database that goes on, and to one that is
//! loaded from a chain of files.
//!
//! The rows come with the revisions that they had where the file was written, and so do those of
//! the tables and what they have removed: the state is afterwards, byte for byte, the one that the
//! file was saved from. It is known to be by the digests of all tables.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::changes::ChangeLog;
use super::digests::digests_of;
use super::draft::{Draft, Drafting};
use super::read::Snapshot;
use super::write::WriteTxn;
use crate::carried::Carried;
use crate::digest::{Digest, Digests};
use crate::revision::Revision;
use crate::root::{Contents, Root};
use crate::schema::{Schema, TableSchema};
use crate::snapshot::{
    self, Base, Delta, DeltaTable, LoadOptions, SaveOptions, Since, SnapshotError, Summary,
};
use crate::table::{KeyedRows, Mode, TableState};
use crate::tree::{Doomed, KeptRow, RowRef, Session};

impl Snapshot {
    /// Writes what has changed since `base`: an incremental snapshot file of the rows that differ,
    /// the keys that are gone and what the tables remember of it.
    ///
    /// `base` is an older version of the same database, and the file fits one in that state alone,
    /// which it names by revision and digest. With
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
    /// [`SnapshotError::NoBase`] when `base` is newer, or of another database or incarnation;
    /// otherwise as [`save_with`](Snapshot::save_with).
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
        if base.revision() > self.revision() {
            return refused("it is newer");
        }
        let carried = (newer.carried.as_ref(), older.carried.as_ref());
        if carried.0.map(Arc::as_ptr) != carried.1.map(Arc::as_ptr) {
            return refused("a restore between the two has brought what the schema does not know");
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
    /// Applies `delta` to the version that this transaction began with, and commits.
    pub(crate) fn apply_delta(mut self, delta: Delta) -> Result<Revision, SnapshotError> {
        let (revision, applied) = (delta.revision, delta.applied);
        let is_new = apply(self.draft_mut(), delta)?;
        if is_new {
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
    let mut root = snapshot::load(schema, first, &mut options)?;
    for source in sources {
        let delta = snapshot::load_delta(schema, source, &mut options)?;
        root = follow(root, delta)?;
    }
    Ok(match options.incarnation {
        Some(incarnation) => root.in_incarnation(incarnation),
        None => root,
    })
}

/// Applies `delta` to a version that nobody has seen yet.
fn follow(root: Root, delta: Delta) -> Result<Root, SnapshotError> {
    let (revision, applied) = (delta.revision, delta.applied);
    let writer = root.version().store().write();
    let mut draft = Draft::new(root.contents().clone(), writer, ChangeLog::default(), revision);
    let is_new = apply(&mut draft, delta);
    let mut contents = draft.contents.take().expect("nobody else has taken them");
    let mut doomed = Doomed::default();
    match is_new {
        Ok(true) => {
            (contents.revision, contents.applied) = (revision, applied);
            let version = draft.work.publish(&contents, &mut doomed);
            let serial = root.serial();
            drop(root);
            draft.work.finish(&mut doomed);
            Ok(Root::new(contents, version, serial))
        }
        other => {
            draft.work.abort(&contents, &mut doomed);
            drop(contents);
            other.map(|_| root)
        }
    }
}

/// Does what `delta` says; says whether there was anything to do.
fn apply<W: Session<Contents>>(draft: &mut Draft<W>, delta: Delta) -> Result<bool, SnapshotError> {
    let digests = check_base(draft.contents(), &delta)?;
    if delta.revision == delta.base.revision {
        // Nothing has happened since, so there is nothing to do, and nothing may be said to be.
        return delta.tables.iter().try_for_each(check_nothing).map(|()| false);
    }
    take_sections(draft.parts().0, delta.sections);
    for table in delta.tables {
        let schema = Arc::clone(draft.contents().table(table.position).schema());
        let before = digests.tables.iter().find(|digest| digest.table == *schema.name);
        let before = before.expect("every table has a digest").digest;
        apply_table(draft, &schema, table, before)?;
    }
    Ok(true)
}

/// Refuses changes between a version and itself.
fn check_nothing(table: &DeltaTable) -> Result<(), SnapshotError> {
    if table.deletes.is_empty() && table.rows.is_empty() {
        return Ok(());
    }
    let message = "it changes rows and leads to the revision that it begins from".to_owned();
    Err(SnapshotError::Malformed { offset: 0, message })
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

/// The digests of the state, which must be that on which `delta` is based.
fn check_base(contents: &Contents, delta: &Delta) -> Result<Digests, SnapshotError> {
    let digests = digests_of(contents, contents.revision).map_err(SnapshotError::NoDigest)?;
    let found = Base { revision: contents.revision, digest: digests.database() };
    if (found, contents.incarnation) == (delta.base, delta.incarnation) {
        return Ok(digests);
    }
    let print = |base: Base, incarnation| {
        format!("revision {} of incarnation {incarnation}, digest {}", base.revision, base.digest)
    };
    let expected = print(delta.base, delta.incarnation);
    Err(SnapshotError::WrongBase { expected, found: print(found, contents.incarnation) })
}

fn apply_table<W: Session<Contents>>(
    draft: &mut Draft<W>,
    schema: &TableSchema,
    delta: DeltaTable,
    before: Digest,
) -> Result<(), SnapshotError> {
    let DeltaTable { position, deletes, rows, modified, removals, promised } = delta;
    let state = draft.contents().table(position);
    let (removed_before, modified_before) = (state.removals().clone(), state.modified());
    if modified < modified_before {
        let table = &schema.name;
        let message = format!("table {table} was modified at {modified_before}, not {modified}");
        return Err(SnapshotError::Malformed { offset: 0, message });
    }
    let mut sum =
        Sum { schema, digest: (!schema.keeps_digest).then_some(before), bytes: Vec::new() };
    for key in deletes {
        let Some(row) = draft.remove(position, &key) else {
            let (table, key) = (schema.name.to_string(), schema.print_key(&key));
            return Err(SnapshotError::NoSuchRow { table, key });
        };
        sum.minus(&row)?;
    }
    if schema.indexes.iter().any(|index| index.unique) {
        // So that rows which swap a unique value do not stand in each other's way.
        for key in rows.iter().flat_map(KeyedRows::keys) {
            if let Some(row) = draft.remove(position, key) {
                sum.minus(&row)?;
            }
        }
    }
    for (key, row) in rows.into_iter().flat_map(KeyedRows::into_pairs) {
        sum.plus(row.borrow())?;
        let put = draft.put(position, &key, Mode::Upsert, |_| row);
        let (_, replaced) = put.map_err(SnapshotError::Rule)?;
        if let Some(row) = replaced {
            sum.minus(&row)?;
        }
    }
    let table = draft.parts().0.table_mut(position);
    table.set_modified(modified);
    table.set_removals(removed_before.followed_by(&removals, schema.tombstones));
    check_promise(table, promised, sum.digest)
}

/// Whether the table has become what it should.
fn check_promise(
    table: &TableState,
    promised: (u64, Digest),
    counted: Option<Digest>,
) -> Result<(), SnapshotError> {
    let name = || table.schema().name.to_string();
    let rows = table.len() as u64;
    if rows != promised.0 {
        return Err(SnapshotError::RowCount { table: name(), found: rows, expected: promised.0 });
    }
    let found = match counted {
        Some(digest) => digest,
        None => table.digest().map_err(SnapshotError::NoDigest)?,
    };
    if found == promised.1 {
        return Ok(());
    }
    Err(SnapshotError::Digest { table: name(), found, expected: promised.1 })
}

/// The digest of a table on the way, where the table itself does not keep it.
struct Sum<'a> {
    schema: &'a TableSchema,
    digest: Option<Digest>,
    bytes: Vec<u8>,
}

impl Sum<'_> {
    fn plus(&mut self, row: RowRef<'_>) -> Result<(), SnapshotError> {
        self.change(row, Digest::plus)
    }

    fn minus(&mut self, row: &KeptRow) -> Result<(), SnapshotError> {
        self.change(row.borrow(), Digest::minus)
    }

    fn change(
        &mut self,
        row: RowRef<'_>,
        change: fn(Digest, Digest) -> Digest,
    ) -> Result<(), SnapshotError> {
        let Some(digest) = &mut self.digest else { return Ok(()) };
        self.bytes.clear();
        let encoded = self.schema.rows.encode_value(row, &mut self.bytes);
        encoded.map_err(|message| {
            let key = self.schema.print_key(&self.schema.key_of(row));
            SnapshotError::RowEncode { table: self.schema.name.to_string(), key, message }
        })?;
        *digest = change(*digest, Digest::of_value(&self.bytes));
        Ok(())
    }
}
