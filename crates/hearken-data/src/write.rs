//! Writing JSON lines: whole files that appear complete or not at all, and logs that grow.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be written: {error}", path.display())]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// What the operating system or the serializer says.
    pub error: io::Error,
}

/// Writes one JSON object per line and returns how many; gzip where the name ends in `.gz`.
///
/// The file appears complete or not at all: the lines go to a temporary file in the same folder,
/// which is flushed to disk and then renamed. JSON has no NaN and no infinity; they become `null`.
///
/// # Errors
/// If the folder is missing or may not be written, the disk is full, or a record cannot be
/// serialized. An existing file at `path` is then untouched.
pub fn write_jsonl<T: Serialize>(
    path: &Path,
    records: impl IntoIterator<Item = T>,
) -> Result<usize, WriteError> {
    write_file(path, |sink| lines_into(sink, records))
        .map_err(|error: io::Error| WriteError { path: path.into(), error })
}

/// Writes a file with what `fill` hands to its writer; gzip where the name ends in `.gz`.
///
/// The file appears complete or not at all: what is written goes to a temporary file in the same
/// folder, which is flushed to disk and then renamed.
///
/// # Errors
/// If the folder is missing or may not be written, the disk is full, or `fill` fails. An existing
/// file at `path` is then untouched.
pub fn write_file<T, E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<T, E> {
    let temporary = temporary_beside(path);
    let written = write_new(&temporary, is_gzip(path), fill)
        .and_then(|filled| Ok(fs::rename(&temporary, path).map(|()| filled)?));
    if written.is_ok() {
        sync_folder(path);
    } else {
        // What went wrong matters more than whether the leftover could be removed.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn is_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
}

/// A name in the same folder that no other write of this or another process uses.
fn temporary_beside(path: &Path) -> PathBuf {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".{name}.{}.{write}.tmp", std::process::id()))
}

fn write_new<T, E: From<io::Error>>(
    path: &Path,
    gzip: bool,
    fill: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<T, E> {
    let mut file = BufWriter::new(OpenOptions::new().write(true).create_new(true).open(path)?);
    let (filled, file) = if gzip {
        let mut encoder = GzEncoder::new(file, Compression::default());
        (fill(&mut encoder)?, encoder.finish()?)
    } else {
        (fill(&mut file)?, file)
    };
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(filled)
}

fn lines_into<T: Serialize>(
    sink: &mut dyn Write,
    records: impl IntoIterator<Item = T>,
) -> io::Result<usize> {
    let mut count = 0;
    for record in records {
        serde_json::to_writer(&mut *sink, &record)?;
        sink.write_all(b"\n")?;
        count += 1;
    }
    Ok(count)
}

/// Makes the rename durable where the system lets a folder be opened; the file itself is complete
/// either way.
fn sync_folder(path: &Path) {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Ok(folder) = File::open(parent.unwrap_or(Path::new("."))) {
        let _ = folder.sync_all();
    }
}

/// A log of JSON lines, such as metrics, that grows while a run goes on. Every line reaches the
/// operating system before [`append`](Self::append) returns.
///
/// ```
/// use hearken_data::JsonLinesAppender;
/// use serde_json::json;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("metrics.jsonl");
/// let mut metrics = JsonLinesAppender::open(&path)?;
/// metrics.append(&json!({"iteration": 0, "score": 0.5}))?;
/// assert_eq!(std::fs::read_to_string(&path)?, "{\"iteration\":0,\"score\":0.5}\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct JsonLinesAppender {
    path: PathBuf,
    file: File,
}

impl JsonLinesAppender {
    /// Opens a log, or starts it. A last line that a killed process left without its end is
    /// completed if it is whole JSON, and removed if not.
    ///
    /// # Errors
    /// If the file cannot be opened, read or written.
    pub fn open(path: &Path) -> Result<Self, WriteError> {
        let opened = || {
            let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
            mend_last_line(&mut file)?;
            Ok(file)
        };
        match opened() {
            Ok(file) => Ok(Self { path: path.into(), file }),
            Err(error) => Err(WriteError { path: path.into(), error }),
        }
    }

    /// Appends one line.
    ///
    /// # Errors
    /// If it cannot be written or serialized.
    pub fn append<T: Serialize>(&mut self, record: &T) -> Result<(), WriteError> {
        let mut append = || {
            let mut line = serde_json::to_vec(record)?;
            line.push(b'\n');
            // One call, so that a kill in between leaves at most one partial line.
            self.file.write_all(&line)?;
            self.file.flush()
        };
        append().map_err(|error| WriteError { path: self.path.clone(), error })
    }
}

fn mend_last_line(file: &mut File) -> io::Result<()> {
    let tail = last_line(file)?;
    if tail.is_empty() {
        return Ok(());
    }
    if serde_json::from_slice::<serde::de::IgnoredAny>(&tail).is_ok() {
        return file.write_all(b"\n");
    }
    let length = file.metadata()?.len();
    file.set_len(length - tail.len() as u64)
}

/// What follows the last line end.
fn last_line(file: &mut File) -> io::Result<Vec<u8>> {
    const CHUNK_BYTES: u64 = 4096;
    let mut tail = Vec::new();
    let mut start = file.metadata()?.len();
    while 0 < start {
        let chunk_start = start.saturating_sub(CHUNK_BYTES);
        file.seek(SeekFrom::Start(chunk_start))?;
        let mut chunk = Vec::new();
        Read::by_ref(file).take(start - chunk_start).read_to_end(&mut chunk)?;
        let line_end = chunk.iter().rposition(|byte| *byte == b'\n');
        let from = line_end.map_or(0, |end| end + 1);
        tail.splice(0..0, chunk.drain(from..));
        if line_end.is_some() {
            break;
        }
        start = chunk_start;
    }
    Ok(tail)
}
