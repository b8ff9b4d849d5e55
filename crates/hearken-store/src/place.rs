//! Where records are: in a store, or in a file that is none.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use hearken_data::feedback::formats::{holds_judgements, judgements_in, records_of};
use hearken_data::feedback::{Item, Judgement};
use hearken_data::{
    BadRecord, ReadError, ReadOptions, ReadReport, Record, RecordKind, Records, Source,
};

use crate::error::StoreError;
use crate::store::Store;
use crate::training::select;
use crate::{open_existing, postgres};

/// Records that are read at once.
const CHUNK: usize = 10_000;

/// Whether a name is that of a store in a database: an address of PostgreSQL, or a SQLite file. A store
/// of JSON lines is a file like others.
pub fn is_database(place: &str) -> bool {
    const SQLITE: &[u8; 16] = b"SQLite format 3\0";
    if postgres::is_address(place) {
        return true;
    }
    // What is no file, such as a pipe, can be read once only.
    if !Path::new(place).is_file() {
        return false;
    }
    let mut start = [0; SQLITE.len()];
    let read = File::open(place).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *SQLITE
}

/// Every item and every judgement of a store, judgements in the order in which they were appended.
///
/// # Errors
///
/// The store cannot be read.
pub fn everything(store: &dyn Store) -> Result<(Vec<Item>, Vec<Judgement>), StoreError> {
    let (mut items, mut judgements) = (Vec::new(), Vec::new());
    let mut after = 0;
    loop {
        let some = store.items(after, CHUNK)?;
        let Some(last) = some.last() else { break };
        after = last.place;
        items.extend(some.into_iter().map(|placed| placed.record));
    }
    after = 0;
    loop {
        let some = store.judgements(after, CHUNK)?;
        let Some(last) = some.last() else { break };
        after = last.place;
        judgements.extend(some.into_iter().map(|placed| placed.record));
    }
    Ok((items, judgements))
}

/// The records of a file as [`hearken_data::read`] gives them, one by one, or those that the judgements of a store
/// amount to: the records of a file to which they were exported in TRL's format for records of `T`. A
/// store may be in use.
///
/// # Errors
///
/// As for a file; the store cannot be read.
pub fn open_records<T: Record>(
    place: &Path,
    options: &ReadOptions,
) -> Result<Records<T>, ReadError> {
    let shown = shown(place);
    let (items, judgements) = match place.to_str().filter(|place| is_database(place)) {
        Some(name) => {
            let all = open_existing(name).and_then(|store| everything(&*store));
            all.map_err(|error| unreadable(&shown, &error))?
        }
        None if place.is_file() && holds_judgements(place, options)? => judgements_in(place)?,
        None => return Records::open(place, options),
    };
    let kind = T::FROM_JUDGEMENTS.filter(|kind| *kind != RecordKind::Prompts);
    let Some(kind) = kind else { return records_of(&shown, &items, &judgements, options) };
    let selected = select(&items, &judgements, &options.judgements, kind);
    let selected = selected.map_err(|what| bad(&shown, what))?;
    let records = records_of(&shown, &selected.items, &selected.judgements, options)?;
    Ok(records.leaving_out(selected.left_out))
}

/// A place as messages name it: an address of PostgreSQL without its password.
pub fn shown(place: &Path) -> PathBuf {
    let address = place.to_str().filter(|name| postgres::is_address(name));
    address.map_or_else(|| place.to_owned(), |address| postgres::shown(address).into())
}

/// All of [`open_records`].
///
/// # Errors
///
/// As there; there is no usable record.
pub fn read_records<T: Record>(
    place: &Path,
    options: &ReadOptions,
) -> Result<(Vec<T>, ReadReport), ReadError> {
    open_records(place, options)?.all()
}

fn unreadable(place: &Path, error: &StoreError) -> ReadError {
    bad(place, error.to_string())
}

fn bad(place: &Path, what: String) -> ReadError {
    let at = Source { path: place.into(), line: 0 };
    ReadError::Bad { at, reason: BadRecord::Unfit { what } }
}
