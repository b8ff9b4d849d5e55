//! The preference store: items, assignments, judgements, and the small records around them.
//!
//! [`open`] gives a [`Store`], whose home is a file of JSON lines, a SQLite file or a PostgreSQL
//! database. What was appended stays as it is; what a method has acknowledged is on the disk.
//!
//! Not here: HTTP, accounts, what to label next, any statistics.
#![deny(missing_docs)]

mod store;

mod error;
mod record;

mod ledger;
mod write;
mod writer;

mod better;
mod changes;
mod jsonl;
mod kept;
mod place;
mod postgres;
mod sqlite;
mod training;
mod transfer;

use std::path::Path;

pub use changes::{Change, Changed, Comment, ItemChange, add_change, all_changes, changes_after};
pub use error::StoreError;
pub use place::{Everything, everything, is_database, open_records, read_records, shown};
pub use record::{
    Added, Assignment, AssignmentState, Claim, Claimed, Counts, Document, Event, Expected, Placed,
    Record, Submitted, Taken,
};
pub use store::{RestoredRecords, Sink, Store};
pub use training::{Selected, select};
pub use transfer::{Copied, Exported, backup, copy, export_json_lines, is_empty};

use sqlite::Create;

/// Opens the store at `url`, and makes it where there is none: a path that ends in `.jsonl` is a
/// file of JSON lines, `postgres://…` or `postgresql://…` a PostgreSQL database, any other path a
/// SQLite file.
///
/// # Errors
///
/// The home cannot be reached, is damaged, in use, of another program, or of a later version.
pub fn open(url: &str) -> Result<Box<dyn Store>, StoreError> {
    open_home(url, Create::Yes)
}

/// Opens the store at `url` as [`open`] does, but makes nothing.
///
/// # Errors
///
/// As for [`open`], and where there is no store.
pub fn open_existing(url: &str) -> Result<Box<dyn Store>, StoreError> {
    open_home(url, Create::No)
}

fn open_home(url: &str, create: Create) -> Result<Box<dyn Store>, StoreError> {
    if postgres::is_address(url) {
        return Ok(Box::new(postgres::open(url, create)?));
    }
    if url.is_empty() || url.contains("://") {
        let shown = url.split_once("://").map_or(url, |(scheme, _)| scheme);
        return Err(StoreError::Invalid(format!(
            "no home of a store is called {shown:?}; expected a file FILE.jsonl, a SQLite file, or \
             postgres://USER@HOST/DATABASE"
        )));
    }
    let path = Path::new(url);
    match transfer::is_json_lines(path) {
        true => Ok(Box::new(jsonl::open(path, create)?)),
        false => Ok(Box::new(sqlite::open(path, create)?)),
    }
}
