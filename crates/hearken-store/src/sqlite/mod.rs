//! A store in a SQLite file: one writer, several readers, a write-ahead log that is synced with
//! every commit.

mod checkpoint;
mod connect;
mod home;
mod reads;

use std::path::Path;

use rusqlite::Row;
use serde::de::DeserializeOwned;

pub(crate) use connect::Create;

use crate::error::StoreError;
use crate::kept::SharedStore;
use crate::writer::StoreWriter;

/// A store in a SQLite file.
pub(crate) type SqliteStore = SharedStore<reads::SqliteReads, home::SqliteHome>;

pub(crate) fn open(path: &Path, create: Create) -> Result<SqliteStore, StoreError> {
    let connection = connect::open(path, create)?;
    let writer = StoreWriter::start(home::SqliteHome::new(connection, path)?);
    Ok(SharedStore { reads: reads::SqliteReads::new(path), writer })
}

/// A record that this program wrote.
fn parse<T: DeserializeOwned>(home: &str, what: &str, body: &str) -> Result<T, StoreError> {
    serde_json::from_str(body).map_err(|error| {
        let start: String = body.chars().take(60).collect();
        StoreError::corrupt(
            home,
            &format!("a stored {what} cannot be read: {error}, in {start:?}…"),
        )
    })
}

/// SQLite's integers have a sign; places and versions stay far below its limit.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Column `index` of a row, which holds no negative number.
fn unsigned(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(index)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(index, number))
}
