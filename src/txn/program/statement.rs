//! Statements on a table whose type is not known: rows come as bytes, keys as they are encoded.
//!
//! They are those of `TableMut`, and as there user code runs before the first change.

use std::sync::Arc;

use crate::error::Error;
use crate::key::KeyBuf;
use crate::messagepack::ReadError;
use crate::table::Mode;
use crate::tree::{NewRow, Place, RowMeta, RowRef};
use crate::txn::WriteTxn;

/// Why a row was not put.
pub(super) enum PutError {
    /// Its bytes are no row of the table.
    Decode(ReadError),
    /// The statement was refused.
    Refused(Error),
}

/// Puts the row whose value is encoded as `value`; tells whether it replaced another.
pub(super) fn put(
    txn: &mut WriteTxn<'_>,
    position: usize,
    value: &[u8],
    mode: Mode,
) -> Result<bool, PutError> {
    let revision = txn.revision();
    let table = txn.contents().table(position);
    let (mut key, mut place) = (KeyBuf::new(), Place::default());
    let mut claimed = Ok(());
    // The key says which row is replaced, and that says since when there is one.
    let row = decode(txn, position, value, |found| {
        key = found.clone();
        claimed = table.claim(&key, mode, &mut place);
        let before = claimed.as_ref().ok().and_then(|()| table.row_at(&place));
        let created = before.map_or(revision, |before| before.meta().created);
        RowMeta { created, modified: revision }
    })
    .map_err(PutError::Decode)?;
    claimed.map_err(PutError::Refused)?;

    let (contents, writer, _) = txn.parts();
    contents.table_mut(position).ready(writer, &mut place);
    let mut planner = txn.writer.take_scratch();
    let table = txn.contents().table(position);
    table.plan_put(&mut planner, &place, &key, row.borrow()).map_err(PutError::Refused)?;

    let (contents, writer, log) = txn.parts();
    let table = contents.table_mut(position);
    let before = table.row_at(&place).map(RowRef::keep);
    table.put(writer, &planner, &place, &key, row, revision);
    log.push(position, &key, before);
    writer.put_scratch(planner);
    Ok(before.is_some())
}

/// Reads the value of a row of the table at `position`.
pub(super) fn decode(
    txn: &WriteTxn<'_>,
    position: usize,
    value: &[u8],
    mut meta: impl FnMut(&KeyBuf) -> RowMeta,
) -> Result<NewRow, ReadError> {
    let schema = Arc::clone(txn.contents().table(position).schema());
    schema.rows.decode_value(value, &mut meta)
}

/// Deletes the row at `key`; tells whether there was one.
pub(super) fn delete(txn: &mut WriteTxn<'_>, position: usize, key: &[u8]) -> bool {
    let revision = txn.revision();
    let mut place = Place::default();
    let table = txn.contents().table(position);
    table.find(key, &mut place);
    if table.row_at(&place).is_none() {
        return false;
    }
    let (contents, writer, _) = txn.parts();
    contents.table_mut(position).ready(writer, &mut place);
    let mut planner = txn.writer.take_scratch();
    txn.contents().table(position).plan_delete(&mut planner, &place, key);

    let (contents, writer, log) = txn.parts();
    let table = contents.table_mut(position);
    let before = table.row_at(&place).map(RowRef::keep);
    table.delete(writer, &planner, &place, revision);
    log.push(position, key, before);
    writer.put_scratch(planner);
    true
}
