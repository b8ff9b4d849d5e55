//! Completions as lines of a file, for labelling and training.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::options::Log;

/// The file, and how much is in it.
#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
}

/// A file of completions. What is in it stays: where it grows too large it is put aside.
#[derive(Debug)]
pub(crate) struct CompletionLog {
    log: Log,
    open: Mutex<Open>,
}

impl CompletionLog {
    /// Opens the file, or makes it; what it holds stays.
    pub(crate) fn open(log: Log) -> io::Result<Self> {
        let open = Mutex::new(open(&log.path)?);
        Ok(Self { log, open })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// It cannot be written, or the file cannot be put aside.
    pub(crate) fn write(&self, line: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(line)?;
        line.push(b'\n');
        let mut now = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = line.len() as u64;
        if 0 < now.bytes && self.log.bytes_max < now.bytes + bytes {
            fs::rename(&self.log.path, aside(&self.log.path)?)?;
            *now = open(&self.log.path)?;
        }
        // In one write, so that a kill leaves whole lines.
        now.file.write_all(&line)?;
        now.bytes += bytes;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Open> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok(Open { file, bytes })
}

/// `completions.jsonl` becomes `completions.1.jsonl`, the next `completions.2.jsonl`, ….
fn aside(path: &Path) -> io::Result<PathBuf> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map_or(String::new(), |of| format!(".{}", of.display()));
    for number in 1_u64.. {
        let candidate = path.with_file_name(format!("{stem}.{number}{extension}"));
        if !candidate.try_exists()? {
            return Ok(candidate);
        }
    }
    unreachable!("a file has a number that is free")
}
