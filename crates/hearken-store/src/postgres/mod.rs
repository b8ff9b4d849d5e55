//! A store in a PostgreSQL database, for several processes on several machines.
//!
//! The tables are in the schema `hearken`. Each transaction that writes holds one advisory lock, so
//! that claims cannot exceed an overlap and places appear in their order; it carries all requests
//! that have arrived at its process in the meantime, so that the lock is no bottleneck.

mod address;
mod facts;
mod home;
mod reads;
mod schema;
mod session;

use postgres::Row;
use serde::de::DeserializeOwned;

use crate::error::StoreError;
use crate::kept::SharedStore;
use crate::record::Document;
use crate::sqlite::Create;
use crate::writer::StoreWriter;

/// A store in a PostgreSQL database.
pub(crate) type PostgresStore = SharedStore<reads::PostgresReads, home::PostgresHome>;

pub(crate) fn is_address(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// An address as messages show it.
pub(crate) fn shown(url: &str) -> String {
    address::Address::parse(url)
        .map_or_else(|_| "the address of a PostgreSQL store".to_owned(), |address| address.shown)
}

pub(crate) fn open(url: &str, create: Create) -> Result<PostgresStore, StoreError> {
    let address = address::Address::parse(url)?;
    // On a thread of its own: connecting waits for the network, which is not possible on a thread
    // that runs other tasks meanwhile.
    let prepared = std::thread::scope(|scope| {
        scope.spawn(|| schema::prepare(&address, create)).join().expect("connecting does not panic")
    })?;
    let reads = reads::PostgresReads::new(address.clone());
    Ok(SharedStore {
        reads,
        writer: StoreWriter::start(home::PostgresHome::new(address, prepared)),
    })
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

/// A row of kind, key, version, body.
fn document(home: &str, row: &Row) -> Result<Document, StoreError> {
    Ok(Document {
        kind: row.get(0),
        key: row.get(1),
        version: row.get::<_, i64>(2).unsigned_abs(),
        body: parse(home, "document", row.get(3))?,
    })
}
