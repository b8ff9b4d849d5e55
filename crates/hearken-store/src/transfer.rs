//! Copies: from home to home, to a backup, to plain JSON.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;

use hearken_data::Unfinished;

use crate::error::StoreError;
use crate::ledger::json;
use crate::record::Record;
use crate::sqlite;
use crate::store::{Sink, Store};

/// Records under way from the side that reads to the side that writes.
const UNDER_WAY_MAX: usize = 1024;

/// How many records a copy moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Documents.
    pub documents: u64,
    /// Items.
    pub items: u64,
    /// Assignments.
    pub assignments: u64,
    /// Judgements.
    pub judgements: u64,
    /// Events of the audit log.
    pub events: u64,
}

impl Copied {
    fn count(&mut self, record: &Record) {
        *match record {
            Record::Document(_) => &mut self.documents,
            Record::Item(_) => &mut self.items,
            Record::Assignment(_) => &mut self.assignments,
            Record::Judgement(_) => &mut self.judgements,
            Record::Event(_) => &mut self.events,
        } += 1;
    }
}

/// Copies every record of `from`, which may be in use, to `to`, which must be empty; all or none.
///
/// # Errors
///
/// `to` has records, `from` cannot be read, `to` cannot be written.
pub fn copy(from: &dyn Store, to: &dyn Store) -> Result<Copied, StoreError> {
    if !is_empty(to)? {
        return Err(StoreError::Conflict(format!(
            "{}: the store is not empty, and records are copied to an empty store only",
            to.home()
        )));
    }
    pipe(|sink| from.export(sink), to)
}

/// Whether a store has no record of any kind.
///
/// # Errors
///
/// The home cannot be read.
pub fn is_empty(store: &dyn Store) -> Result<bool, StoreError> {
    let mut found = false;
    let looked = store.export(&mut |_| {
        found = true;
        Err(StoreError::Conflict("one record is enough".into()))
    });
    if found { Ok(false) } else { looked.map(|()| true) }
}

/// Writes records to a new file of JSON lines, one [`Record`] a line; all of them, or only items and
/// judgements. The file appears when it is complete.
///
/// # Errors
///
/// The file exists or cannot be written, the store cannot be read.
pub fn export_json_lines(store: &dyn Store, to: &Path, what: Exported) -> Result<(), StoreError> {
    write_new(to, |part| {
        write_json_lines(part, |sink| {
            store.export(&mut |record| match (what, &record) {
                (Exported::Data, Record::Item(_) | Record::Judgement(_))
                | (Exported::Everything, _) => sink(record),
                (Exported::Data, _) => Ok(()),
            })
        })
    })
}

/// Writes a consistent copy of a whole store to a new SQLite or JSON-lines file, by its ending, while the store is in use.
///
/// # Errors
///
/// The file exists or cannot be written, the home cannot be read.
pub fn backup(store: &dyn Store, to: &Path) -> Result<(), StoreError> {
    write_new(to, |part| {
        if is_json_lines(to) {
            return write_json_lines(part, |sink| store.export(sink));
        }
        match store.backup_whole(part)? {
            true => Ok(()),
            false => write_sqlite(part, |sink| store.export(sink)),
        }
    })
}

/// Which records an export to a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exported {
    /// Items and judgements.
    Data,
    /// Accounts, settings, assignments and the audit log as well.
    Everything,
}

/// Moves what `export` hands out to a store, on two threads.
fn pipe(
    export: impl FnOnce(&mut Sink<'_>) -> Result<(), StoreError> + Send,
    to: &dyn Store,
) -> Result<Copied, StoreError> {
    let (sender, receiver) = sync_channel(UNDER_WAY_MAX);
    let mut copied = Copied::default();
    thread::scope(|scope| {
        scope.spawn(move || {
            let exported = export(&mut |record| {
                let gone = |_| StoreError::Conflict("the other side of the copy stopped".into());
                sender.send(Ok(record)).map_err(gone)
            });
            if let Err(error) = exported {
                // Where nobody receives it, the receiving side has failed first and says why.
                let _ = sender.send(Err(error));
            }
        });
        let mut records = receiver.into_iter().inspect(|record| {
            if let Ok(record) = record {
                copied.count(record);
            }
        });
        to.restore(&mut records)
    })?;
    Ok(copied)
}

pub(crate) fn is_json_lines(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"))
}

fn write_sqlite(
    path: &Path,
    export: impl FnOnce(&mut Sink<'_>) -> Result<(), StoreError> + Send,
) -> Result<(), StoreError> {
    let store = sqlite::open(path, sqlite::Create::Yes)?;
    pipe(export, &store).map(|_| ())
}

fn write_json_lines(
    path: &Path,
    export: impl FnOnce(&mut Sink<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let failed =
        |error: std::io::Error| StoreError::unavailable(&path.display().to_string(), &error);
    let mut file = BufWriter::new(File::create_new(path).map_err(failed)?);
    export(&mut |record| writeln!(file, "{}", json(&record)).map_err(failed))?;
    file.flush().map_err(failed)
}

/// Writes a new file under another name next to it, syncs it, and gives it its name at the end.
fn write_new(
    to: &Path,
    write: impl FnOnce(&Path) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    if to.symlink_metadata().is_ok() {
        return Err(StoreError::Exists { path: to.display().to_string() });
    }
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => StoreError::Exists { path: to.display().to_string() },
        _ => StoreError::unavailable(&to.display().to_string(), &error),
    };
    let part = Unfinished::beside(to).map_err(failed)?;
    if let Err(error) = write(part.path()) {
        remove_remains(part.path());
        return Err(error);
    }
    part.put_new().map_err(failed)
}

/// Removes what SQLite keeps next to an unfinished file; it need not be there.
fn remove_remains(part: &Path) {
    for ending in ["-wal", "-shm", "-journal"] {
        let mut name = part.as_os_str().to_owned();
        name.push(ending);
        let _ = fs::remove_file(name);
    }
}
