//! Connections to a SQLite file: settings, schema, errors.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::error::StoreError;

/// How long a connection waits for another process.
const BUSY: Duration = Duration::from_secs(30);

/// Bytes of the header of a SQLite file.
const HEADER: usize = 100;

/// "HRKN" in the header of the file.
const APPLICATION: i64 = 0x4852_4b4e;

/// The migrations: the first makes schema 1, each further one the next schema. One that has been
/// released never changes.
const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];

/// Whether a store that is missing is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Create {
    Yes,
    No,
}

/// Opens a file and brings its schema up to date.
pub(super) fn open(path: &Path, create: Create) -> Result<Connection, StoreError> {
    let home = path.display().to_string();
    check_file(path, &home, create)?;
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_CREATE)?;
    prepare(&mut connection, &home, &MIGRATIONS)?;
    Ok(connection)
}

/// Opens one more connection to a store that is open.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    connect(path, OpenFlags::empty())
}

/// Opens one more connection for reading.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path, OpenFlags::empty())?;
    let set = connection.execute_batch("PRAGMA query_only = ON;");
    set.map_err(|error| problem(&path.display().to_string(), &error))?;
    Ok(connection)
}

/// Refuses what SQLite would describe badly: a missing folder, a folder, an emptied file.
fn check_file(path: &Path, home: &str, create: Create) -> Result<(), StoreError> {
    match path.metadata() {
        Ok(it) if it.is_dir() => Err(StoreError::unavailable(home, "is a folder, not a file")),
        Ok(it) if it.len() == 0 && create == Create::No => Err(StoreError::corrupt(
            home,
            &format!("the file is empty, a SQLite database was expected; {RESTORE}"),
        )),
        Ok(it) => check_length(path, home, it.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
                let folder = folder.display();
                return Err(StoreError::unavailable(home, &format!("there is no folder {folder}")));
            }
            match create {
                Create::Yes => Ok(()),
                Create::No => Err(StoreError::Missing { home: home.into() }),
            }
        }
        Err(error) => Err(StoreError::unavailable(home, &error)),
    }
}

/// Refuses a file that is shorter than its header says, which SQLite notices late or, where less than
/// a page is missing, never. With a log next to it, the log may hold the rest.
fn check_length(path: &Path, home: &str, found: u64) -> Result<(), StoreError> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if found == 0 || std::fs::metadata(log).is_ok_and(|log| log.len() > 0) {
        return Ok(());
    }
    let mut header = [0; HEADER];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    let expected = match read {
        // Bytes 16 and 17: the size of a page, 1 for 65,536. Bytes 28 to 31: the number of pages.
        Ok(()) if header.starts_with(b"SQLite format 3\0") => {
            let page = match u64::from(u16::from_be_bytes([header[16], header[17]])) {
                1 => 65_536,
                size => size,
            };
            let pages = [header[28], header[29], header[30], header[31]];
            page * u64::from(u32::from_be_bytes(pages))
        }
        Ok(()) => return Ok(()),
        Err(_) => HEADER as u64,
    };
    match found < expected {
        true => Err(StoreError::corrupt(
            home,
            &format!("the file is cut off: it has {found} bytes of {expected}; {RESTORE}"),
        )),
        false => Ok(()),
    }
}

fn connect(path: &Path, create: OpenFlags) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
    let home = path.display().to_string();
    let settle = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA foreign_keys = OFF;
             PRAGMA cache_size = -65536; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;
             PRAGMA journal_size_limit = 134217728;",
        )?;
        Ok(connection)
    };
    settle().map_err(|error: rusqlite::Error| problem(&home, &error))
}

/// Checks whose file it is and migrates it: whole, or not at all where a step fails or the process ends.
fn prepare(connection: &mut Connection, home: &str, migrations: &[&str]) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| problem(home, &error);
    let known = i64::try_from(migrations.len()).expect("a handful of migrations");
    let found = schema(connection, home)?;
    if found > known {
        return Err(StoreError::TooNew { home: home.into(), found, known });
    }
    // The mode is a property of the file, and the same in all its connections.
    let mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(StoreError::unavailable(
            home,
            &format!("the file system admits journal mode {mode:?} only, \"wal\" is needed"),
        ));
    }
    if found == known {
        return Ok(());
    }
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    // Another process may have been faster.
    let found = schema(&transaction, home)?;
    for (schema, migration) in (1_i64..).zip(migrations).filter(|(schema, _)| *schema > found) {
        transaction.execute_batch(migration).map_err(failed)?;
        transaction.pragma_update(None, "user_version", schema).map_err(failed)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// The schema of the file, 0 where it is new. Refuses the database of another program.
fn schema(connection: &Connection, home: &str) -> Result<i64, StoreError> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let read = || {
        let tables = number("SELECT count(*) FROM sqlite_schema")?;
        Ok((number("PRAGMA user_version")?, number("PRAGMA application_id")?, tables))
    };
    let (version, application, tables) =
        read().map_err(|error: rusqlite::Error| problem(home, &error))?;
    let is_new = version == 0 && application == 0 && tables == 0;
    if is_new || (application == APPLICATION && version > 0) {
        return Ok(version);
    }
    Err(StoreError::Invalid(format!(
        "{home}: a SQLite database of another program, with {tables} tables and indices; a store \
         was expected"
    )))
}

const RESTORE: &str = "restore the newest backup with `hearken store restore BACKUP NEW-STORE`, or \
                       save what can be read with `sqlite3 FILE .recover`";

/// What SQLite says, as an error of the home.
pub(super) fn problem(home: &str, error: &rusqlite::Error) -> StoreError {
    let code = match error {
        rusqlite::Error::SqliteFailure(failure, _) => Some(failure.code),
        rusqlite::Error::SqlInputError { error, .. } => Some(error.code),
        _ => None,
    };
    match code {
        Some(ErrorCode::DatabaseCorrupt) => {
            let size = std::fs::metadata(home).map_or(0, |file| file.len());
            StoreError::corrupt(
                home,
                &format!("the file is damaged or cut off at {size} bytes ({error}); {RESTORE}"),
            )
        }
        Some(ErrorCode::NotADatabase) => StoreError::corrupt(
            home,
            &format!("the file is no SQLite database, or its start is damaged; {RESTORE}"),
        ),
        Some(ErrorCode::DiskFull) => StoreError::unavailable(
            home,
            "the disk is full; nothing of this request was stored; make room and try again",
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::unavailable(
            home,
            &format!("another process has kept it locked for {} s", BUSY.as_secs()),
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            StoreError::unavailable(home, &format!("it cannot be opened for writing: {error}"))
        }
        _ => StoreError::unavailable(home, &error),
    }
}

#[cfg(test)]
mod tests {
    use hearken_data::feedback::{Candidate, Item, Task};

    use super::*;

    const SECOND: &str = "ALTER TABLE items ADD COLUMN note TEXT NOT NULL DEFAULT 'none';
                          CREATE INDEX items_note ON items (note);";
    const BROKEN: &str =
        "ALTER TABLE items ADD COLUMN note TEXT; ALTER TABLE nowhere ADD COLUMN x;";

    /// A store of schema 1 with one item.
    fn store(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("store.db");
        let store = crate::open(path.to_str().unwrap()).unwrap();
        let candidates = vec![Candidate::text("a"), Candidate::text("b")];
        store.add_items(&[Item::new(Task::Pairwise, vec![], candidates)]).unwrap();
        path
    }

    fn upgrade(path: &Path, migrations: &[&str]) -> Result<Connection, StoreError> {
        let mut connection = connect(path, OpenFlags::empty())?;
        prepare(&mut connection, "store", migrations)?;
        Ok(connection)
    }

    fn notes(connection: &Connection) -> rusqlite::Result<String> {
        connection.query_row("SELECT group_concat(note) FROM items", [], |row| row.get(0))
    }

    #[test]
    fn an_upgrade_runs_the_missing_steps_once_and_keeps_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = store(folder.path());
        for _ in 0..2 {
            let connection = upgrade(&path, &[MIGRATIONS[0], SECOND]).unwrap();
            assert_eq!(schema(&connection, "store").unwrap(), 2);
            assert_eq!(notes(&connection).unwrap(), "none");
        }
        // This program knows schema 1 only.
        let error = crate::open(path.to_str().unwrap()).err().unwrap();
        assert!(matches!(error, StoreError::TooNew { found: 2, known: 1, .. }), "{error}");
        assert!(error.to_string().contains("store.db"), "{error}");
    }

    #[test]
    fn an_upgrade_that_fails_leaves_the_store_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = store(folder.path());
        // The second step succeeds, the third fails in its middle.
        let error =
            upgrade(&path, &[MIGRATIONS[0], "CREATE TABLE more (x)", BROKEN]).err().unwrap();
        assert!(error.to_string().contains("nowhere"), "{error}");
        let connection = connect(&path, OpenFlags::empty()).unwrap();
        assert_eq!(schema(&connection, "store").unwrap(), 1);
        assert!(notes(&connection).is_err());
        let more = "SELECT count(*) FROM sqlite_schema WHERE name = 'more'";
        assert_eq!(connection.query_row(more, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
        let store = crate::open(path.to_str().unwrap()).unwrap();
        assert_eq!(store.counts().unwrap().items, 1);
    }

    /// A process that dies in an upgrade has committed nothing.
    #[test]
    fn an_upgrade_that_is_cut_off_leaves_the_store_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = store(folder.path());
        let mut connection = connect(&path, OpenFlags::empty()).unwrap();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        transaction.execute_batch(SECOND).unwrap();
        transaction.pragma_update(None, "user_version", 2).unwrap();
        drop(transaction);
        assert_eq!(schema(&connection, "store").unwrap(), 1);
        assert_eq!(crate::open(path.to_str().unwrap()).unwrap().counts().unwrap().items, 1);
    }
}
