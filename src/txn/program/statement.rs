//! Statements on a table whose type is not known: rows come as bytes, keys as they are encoded.

use std::sync::Arc;

use crate::error::Error;
use crate::key::KeyBuf;
use crate::messagepack::ReadError;
use crate::revision::Revision;
use crate::root::Contents;
use crate::table::Mode;
use crate::tree::{NewRow, RowMeta, Session};
use crate::txn::draft::Draft;

/// Why a row was not put.
pub(super) enum PutError {
    /// Its bytes are no row of the table.
    Decode(ReadError),
    /// The statement was refused.
    Refused(Error),
}

/// Puts the row whose value is encoded as `value`; tells whether it replaced another.
pub(super) fn put<W: Session<Contents>>(
    draft: &mut Draft<W>,
    position: usize,
    value: &[u8],
    mode: Mode,
) -> Result<bool, PutError> {
    let (key, row) = decode(draft, position, value).map_err(PutError::Decode)?;
    let put = draft.put(position, &key, mode, |meta| row.with_meta(meta));
    put.map(|(_, before)| before.is_some()).map_err(PutError::Refused)
}

/// Reads the value of a row of the table at `position`, which has no revisions yet, and its primary
/// key.
pub(super) fn decode<W: Session<Contents>>(
    draft: &Draft<W>,
    position: usize,
    value: &[u8],
) -> Result<(KeyBuf, NewRow), ReadError> {
    let schema = Arc::clone(draft.contents().table(position).schema());
    let none = RowMeta { created: Revision(0), modified: Revision(0) };
    let row = schema.rows.decode_value(value, none)?;
    Ok((schema.key_of(row.borrow()), row))
}
