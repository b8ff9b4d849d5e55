//! A store in a file of JSON lines, which any editor can read: one record a line, in the order in
//! which they came.
//!
//! Records are appended and synced. An assignment that changes gets a new line, and the last one
//! holds. So does a document; its old line is overwritten with spaces, so that what was erased is
//! gone from the file.

mod file;
mod home;
mod index;
mod line;
mod load;
mod reads;

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use hearken_data::feedback::Judgement;
use serde_json::json;

use crate::error::StoreError;
use crate::kept::SharedStore;
use crate::ledger::LedgerChanges;
use crate::record::{Event, Placed};
use crate::sqlite::Create;
use crate::writer::{Home, StoreWriter};
use file::{LockedFile, Spot};
use index::Index;
use line::Line;
use load::{End, LoadedFile};

/// A store in a file of JSON lines.
pub(crate) type JsonlStore = SharedStore<reads::JsonlReads, home::JsonlHome>;

/// What readers and the writer share.
pub(crate) struct SharedFile {
    file: LockedFile,
    index: RwLock<Index>,
}

impl SharedFile {
    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn open(path: &Path, create: Create) -> Result<JsonlStore, StoreError> {
    let file = LockedFile::open(path, create)?;
    let LoadedFile { index, mut bytes, replaced, end } = load::load(&file, file.bytes()?)?;
    let notice = match end {
        End::Complete => None,
        End::NoLineBreak => {
            file.write_at(b"\n", bytes)?;
            bytes += 1;
            None
        }
        End::Torn { line, bytes: torn } => {
            file.cut(bytes)?;
            Some((line, torn))
        }
    };
    replaced.into_iter().try_for_each(|spot| file.blank(spot))?;
    let shared = Arc::new(SharedFile { file, index: RwLock::new(index) });
    let mut home = home::JsonlHome::new(Arc::clone(&shared), bytes);
    let notices = notice
        .map(|(line, torn)| keep_notice(&shared, &mut home, line, &torn))
        .transpose()?
        .into_iter()
        .collect();
    let reads = reads::JsonlReads::new(shared, notices);
    Ok(SharedStore { reads, writer: StoreWriter::start(home) })
}

/// Writes to the audit log that an unfinished last line was cut off, and gives the sentence for it.
fn keep_notice(
    shared: &SharedFile,
    home: &mut home::JsonlHome,
    line: usize,
    torn: &[u8],
) -> Result<String, StoreError> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let start: String = String::from_utf8_lossy(torn).chars().take(200).collect();
    let event = Event {
        at: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        actor: "store".into(),
        action: "store.unfinished_line_removed".into(),
        details: json!({ "line": line, "bytes": torn.len(), "start": start }),
    };
    let place = shared.index().events.len() as u64 + 1;
    let events = vec![Placed { place, record: event }];
    home.begin()?;
    home.flush(LedgerChanges { events, ..LedgerChanges::default() })?;
    home.commit()?;
    Ok(format!(
        "{}:{line}: the last line was unfinished ({} bytes) and was removed: the program ended while \
         it wrote it, before it was acknowledged",
        shared.file.name(),
        torn.len()
    ))
}

/// The judgement of a line.
fn judgement(file: &LockedFile, spot: Spot) -> Result<Judgement, StoreError> {
    match file.read(spot)? {
        Line::Judgement(judgement) => Ok(judgement),
        _ => Err(changed(file)),
    }
}

/// A line is another one than when it was read first.
fn changed(file: &LockedFile) -> StoreError {
    StoreError::unavailable(
        &file.name(),
        "another program has changed the file while it was in use; open the store again",
    )
}
