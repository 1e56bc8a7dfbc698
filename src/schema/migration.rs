//! How a row of an older version of its table becomes a row of this one: step by step, without the
//! types that it had before.

use thiserror::Error;

use super::table::Table;
use crate::key::{KeyBuf, KeyReader, print_from};
use crate::limits::{ROW_BYTES_MAX, ROW_DEPTH_MAX};
use crate::messagepack::{self, ReadError};
use crate::tree::{NewRow, RowMeta};
use crate::value::{self, Value, ValueError, ValueReadError};

/// Why [`Table::migrate_row`] did not make a row of the next version.
///
/// Made of a message, of a [`ValueError`], or by naming the version that nobody knows:
///
/// ```
/// use fsmdb::{MigrationError, Value};
///
/// fn migrate(from: u32, row: &mut Value) -> Result<(), MigrationError> {
///     match from {
///         1 => {
///             let minutes = row.remove("minutes").ok_or("there are no minutes")?;
///             let minutes = minutes.as_u64().ok_or_else(|| format!("{minutes:?} minutes"))?;
///             row.set("seconds", 60 * minutes)?;
///             Ok(())
///         }
///         _ => Err(MigrationError::Missing { from }),
///     }
/// }
///
/// let mut row = Value::Map(vec![("minutes".into(), 2.into())]);
/// assert_eq!(migrate(1, &mut row), Ok(()));
/// assert_eq!(row.get("seconds"), Some(&Value::Int(120)));
/// assert_eq!(migrate(1, &mut row).unwrap_err().to_string(), "there are no minutes");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MigrationError {
    /// The table has no migration from this version.
    #[error("there is no migration from version {from}")]
    Missing {
        /// The version.
        from: u32,
    },
    /// The row is not one that the migration can make something of.
    #[error("{message}")]
    Refused {
        /// What is wrong with it.
        message: String,
    },
}

impl From<String> for MigrationError {
    fn from(message: String) -> Self {
        Self::Refused { message }
    }
}

impl From<&str> for MigrationError {
    fn from(message: &str) -> Self {
        Self::Refused { message: message.to_owned() }
    }
}

impl From<ValueError> for MigrationError {
    fn from(error: ValueError) -> Self {
        Self::Refused { message: error.to_string() }
    }
}

/// Why a row of another version is not a row of the schema's. Whoever reads the rows knows the
/// table and the row, and says them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum RowMigrationError {
    /// Rows are not made older.
    #[error("version {found} is newer than version {expected} of the schema")]
    Newer { found: u32, expected: u32 },
    /// Not the fault of the row: the table has no such migration.
    #[error("there is no migration from version {from} to {}", u64::from(*from) + 1)]
    Missing { from: u32 },
    /// The migration of one step refused the row, or left what cannot be written.
    #[error("the migration from version {from} to {} failed: {message}", u64::from(*from) + 1)]
    Failed { from: u32, message: String },
    /// The bytes are no value, before the first step.
    #[error("the row is not a value: {0}")]
    Value(#[source] ValueReadError),
    /// What the last step left is longer than a row may be; the key is that of the row, printed.
    #[error("the row with key {key} needs {bytes} bytes, the limit is {limit}")]
    TooLarge { key: String, bytes: usize, limit: usize },
    /// What the last step left is not a row.
    #[error("what was migrated from version {from} is not a row of version {to}: {error}")]
    Row { from: u32, to: u32, error: ReadError },
}

/// Makes a row of a `T` of the value in `bytes`, which is one of version `from`.
pub(super) fn migrate<T: Table>(
    from: u32,
    bytes: &[u8],
    meta: RowMeta,
) -> Result<NewRow, RowMigrationError> {
    let to = T::VERSION;
    if from > to {
        return Err(RowMigrationError::Newer { found: from, expected: to });
    }
    let unreadable = |error| RowMigrationError::Row { from, to, error };
    if from == to {
        return Ok(NewRow::new(meta, messagepack::read::<T>(bytes).map_err(unreadable)?));
    }
    let mut row = value::read(bytes).map_err(RowMigrationError::Value)?;
    for step in from..to {
        take_step::<T>(step, &mut row)?;
    }
    let mut migrated = Vec::with_capacity(bytes.len());
    let last = to - 1;
    let failed = |message| RowMigrationError::Failed { from: last, message };
    value::write(&row, &mut migrated).map_err(|error| failed(error.to_string()))?;
    // What could not be saved again is no row.
    let checked = messagepack::check_within(ROW_DEPTH_MAX, &migrated);
    checked.map_err(|error| failed(error.to_string()))?;
    let row = messagepack::read::<T>(&migrated).map_err(unreadable)?;
    if migrated.len() > ROW_BYTES_MAX {
        let mut key = KeyBuf::new();
        row.encode_primary_key(&mut key);
        let key = print_from::<T::Key>(&mut KeyReader::new(&key));
        let (bytes, limit) = (migrated.len(), ROW_BYTES_MAX);
        return Err(RowMigrationError::TooLarge { key, bytes, limit });
    }
    Ok(NewRow::new(meta, row))
}

/// Makes a row of version `step + 1` of one of version `step`.
fn take_step<T: Table>(step: u32, row: &mut Value) -> Result<(), RowMigrationError> {
    T::migrate_row(step, row).map_err(|error| match error {
        // A migration may name another version than it was asked for, as one does that calls
        // another; what is missing is this step all the same.
        MigrationError::Missing { .. } => RowMigrationError::Missing { from: step },
        MigrationError::Refused { message } => RowMigrationError::Failed { from: step, message },
    })
}
