//! The digest of a table: kept by each statement, or added up from the rows.
//!
//! To encode a row runs user code. Statements do it while they plan, so that what is refused, and
//! what panics, has changed nothing (invariant 3 of the room).

use super::bulk::KeyedRows;
use super::state::TableState;
use crate::digest::Digest;
use crate::error::Error;
use crate::limits::{DIGEST_BUFFER_BYTES, ROW_BYTES_MAX};
use crate::tree::RowRef;

impl TableState {
    /// The digest of the rows: O(1) where it is kept, otherwise O(rows).
    ///
    /// # Errors
    ///
    /// [`Error::RowEncode`] or [`Error::RowTooLarge`] naming the first row without an encoding.
    pub(crate) fn digest(&self) -> Result<Digest, Error> {
        self.digest.map_or_else(|| self.sum_of_rows(), Ok)
    }

    /// The digest of the rows as they are, whatever is kept.
    pub(super) fn sum_of_rows(&self) -> Result<Digest, Error> {
        let (mut sum, mut encoding) = (Digest::default(), Vec::new());
        let mut rows = self.rows().keyed();
        while let Some((key, row)) = rows.next() {
            sum = sum.plus(self.digest_of(key, row, &mut encoding)?);
        }
        Ok(sum)
    }

    /// The digest that the table has once it is filled with `rows`.
    pub(super) fn sum_of(&self, rows: &KeyedRows) -> Result<Digest, Error> {
        let (mut sum, mut encoding) = (Digest::default(), Vec::new());
        for (key, row) in rows.iter() {
            sum = sum.plus(self.digest_of(key, row.borrow(), &mut encoding)?);
        }
        Ok(sum)
    }

    /// The digest that the table has, if it keeps one, once `after` has taken the place of `before`
    /// at the primary key `key`.
    ///
    /// # Panics
    ///
    /// When `before` has no encoding any more, because that is not a pure function of the row.
    pub(super) fn plan_digest(
        &self,
        encoding: &mut Vec<u8>,
        key: &[u8],
        before: Option<RowRef<'_>>,
        after: Option<RowRef<'_>>,
    ) -> Result<Option<Digest>, Error> {
        let Some(mut sum) = self.digest else { return Ok(None) };
        if let Some(after) = after {
            sum = sum.plus(self.digest_of(key, after, encoding)?);
        }
        if let Some(before) = before {
            let digest = self.digest_of(key, before, encoding);
            sum = sum.minus(digest.unwrap_or_else(|error| panic!("{error}; it could be once")));
        }
        encoding.clear();
        encoding.shrink_to(DIGEST_BUFFER_BYTES);
        Ok(Some(sum))
    }

    /// The digest of `row`, whose primary key is `key`, by way of its `encoding`.
    fn digest_of(
        &self,
        key: &[u8],
        row: RowRef<'_>,
        encoding: &mut Vec<u8>,
    ) -> Result<Digest, Error> {
        encoding.clear();
        let named = || (self.schema.name.to_string(), self.schema.print_key(key));
        self.schema.rows.encode_value(row, encoding).map_err(|message| {
            let (table, key) = named();
            Error::RowEncode { table, key, message }
        })?;
        if encoding.len() > ROW_BYTES_MAX {
            let (table, key) = named();
            let (bytes, limit) = (encoding.len(), ROW_BYTES_MAX);
            return Err(Error::RowTooLarge { table, key, bytes, limit });
        }
        Ok(Digest::of_value(encoding))
    }
}
