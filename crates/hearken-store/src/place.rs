//! Where records are: in a store, or in a file that is none.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use hearken_data::feedback::formats::{Format, holds_judgements, judgements_in, records_of};
use hearken_data::feedback::{Item, Judgement};
use hearken_data::{
    BadRecord, ReadError, ReadOptions, ReadReport, Record, RecordKind, Records, Source,
};

use crate::changes::{Changed, all_changes, changes_in};
use crate::error::StoreError;
use crate::store::Store;
use crate::training::select;
use crate::{open_existing, postgres};

/// Records that are read at once.
const CHUNK: usize = 10_000;

/// What was changed, by item.
type PlaceChanges = HashMap<String, Changed>;

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

/// What a store has to say: everything but what is about items that were withdrawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Everything {
    /// The items, with what was changed about them.
    pub items: Vec<Item>,
    /// The judgements, in the order in which they were appended.
    pub judgements: Vec<Judgement>,
    /// Judgements on items that were withdrawn.
    pub withdrawn: usize,
}

impl Everything {
    /// What records come to with changes by item.
    fn of(items: Vec<Item>, judgements: Vec<Judgement>, changes: &PlaceChanges) -> Self {
        if changes.is_empty() {
            return Self { items, judgements, withdrawn: 0 };
        }
        let is_in = |item: &str| changes.get(item).is_none_or(|changed| !changed.withdrawn);
        let all = judgements.len();
        let judgements: Vec<Judgement> =
            judgements.into_iter().filter(|judgement| is_in(&judgement.item)).collect();
        let items = items.into_iter().filter(|item| is_in(&item.id)).map(|mut item| {
            if let Some(changed) = changes.get(&item.id) {
                changed.apply(&mut item);
            }
            item
        });
        Self { items: items.collect(), withdrawn: all - judgements.len(), judgements }
    }

    /// What items and judgements of a file come to with the changes that stand in it: a file of JSON lines may be a store.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn of_file(
        path: &Path,
        items: Vec<Item>,
        judgements: Vec<Judgement>,
    ) -> Result<Self, StoreError> {
        let is_lines = path.extension().is_some_and(|ending| ending == "jsonl");
        let changes = match is_lines && path.is_file() {
            true => changes_in(path).map_err(|error| {
                StoreError::unavailable(&path.display().to_string(), &error.to_string())
            })?,
            false => PlaceChanges::new(),
        };
        Ok(Self::of(items, judgements, &changes))
    }

    /// What was left out, as reports say it: none or one.
    pub fn left_out(&self) -> Option<(String, usize)> {
        (0 < self.withdrawn).then(|| ("on a withdrawn item".to_owned(), self.withdrawn))
    }
}

/// Every item and every judgement of a store.
///
/// # Errors
///
/// The store cannot be read.
pub fn everything(store: &dyn Store) -> Result<Everything, StoreError> {
    let changes = all_changes(store)?;
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
    Ok(Everything::of(items, judgements, &changes))
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
    let all = match place.to_str().filter(|place| is_database(place)) {
        Some(name) => {
            let all = open_existing(name).and_then(|store| everything(&*store));
            all.map_err(|error| unreadable(&shown, &error))?
        }
        None => match format_of_judgements(place, options)? {
            Some(format) => {
                let (items, judgements) = judgements_in(place, format)?;
                let all = match format {
                    Format::Hearken => Everything::of_file(place, items, judgements),
                    _ => Ok(Everything::of(items, judgements, &PlaceChanges::new())),
                };
                all.map_err(|error| unreadable(&shown, &error))?
            }
            None => return Records::open(place, options),
        },
    };
    let kind = T::FROM_JUDGEMENTS.filter(|kind| *kind != RecordKind::Prompts);
    let Some(kind) = kind else {
        return records_of(&shown, &all.items, &all.judgements, options);
    };
    let selected = select(&all.items, &all.judgements, &options.judgements, kind);
    let mut selected = selected.map_err(|what| bad(&shown, what))?;
    selected.left_out.extend(all.left_out());
    let records = records_of(&shown, &selected.items, &selected.judgements, options)?;
    Ok(records.leaving_out(selected.left_out))
}

/// The format of a file that holds judgements; what is no file, such as a pipe, can be read once only.
fn format_of_judgements(place: &Path, options: &ReadOptions) -> Result<Option<Format>, ReadError> {
    if place.is_file() { holds_judgements(place, options) } else { Ok(None) }
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
