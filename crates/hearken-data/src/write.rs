//! Writing JSON lines: whole files that appear complete or not at all, and logs that grow.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use crate::whole_file::write_whole;

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
/// The file appears whole or not at all, as [`write_whole`] has it. JSON has no NaN and no infinity; they
/// become `null`.
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

/// Writes a file with what `fill` hands to its writer, whole or not at all ([`write_whole`]); gzip where the
/// name ends in `.gz`, zstd where it ends in `.zst`.
///
/// # Errors
/// If the folder is missing or may not be written, the disk is full, or `fill` fails. An existing
/// file at `path` is then untouched.
pub fn write_file<T, E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<T, E> {
    let ends =
        |with: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(with));
    if ends("gz") {
        return write_whole(path, |sink| {
            let mut encoder = GzEncoder::new(sink, Compression::default());
            let filled = fill(&mut encoder)?;
            encoder.finish()?;
            Ok(filled)
        });
    }
    if ends("zst") {
        return write_whole(path, |sink| {
            let mut encoder = zstd::Encoder::new(sink, zstd::DEFAULT_COMPRESSION_LEVEL)?;
            let filled = fill(&mut encoder)?;
            encoder.finish()?;
            Ok(filled)
        });
    }
    write_whole(path, fill)
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
