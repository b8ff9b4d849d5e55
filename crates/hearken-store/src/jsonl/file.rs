//! The file: exclusive, appended to, read at any place.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::line::{self, Line};
use crate::error::StoreError;
use crate::sqlite::Create;

/// A piece of the file: a line without its line break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) offset: u64,
    pub(super) bytes: u32,
}

/// A file that no other process may open as a store while this value lives.
pub(super) struct LockedFile {
    file: File,
    path: PathBuf,
}

impl LockedFile {
    pub(super) fn open(path: &Path, create: Create) -> Result<Self, StoreError> {
        let home = path.display().to_string();
        let mut options = File::options();
        let file = match options.read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => match create {
                Create::No => return Err(StoreError::Missing { home }),
                Create::Yes => options
                    .create(true)
                    .open(path)
                    .and_then(|file| hearken_data::sync_parent(path).map(|()| file))
                    .map_err(|error| StoreError::unavailable(&home, &error))?,
            },
            Err(error) => return Err(StoreError::unavailable(&home, &error)),
        };
        match lock(&file) {
            Ok(()) => Ok(Self { file, path: path.into() }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { holder: holder(&file), home }),
            Err(TryLockError::Error(error)) => {
                Err(StoreError::unavailable(&home, &format!("it cannot be locked: {error}")))
            }
        }
    }

    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn bytes(&self) -> Result<u64, StoreError> {
        Ok(self.file.metadata().map_err(|error| self.problem(&error))?.len())
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), StoreError> {
        write_all_at(&self.file, bytes, offset).map_err(|error| self.problem(&error))
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|error| self.problem(&error))
    }

    pub(super) fn cut(&self, bytes: u64) -> Result<(), StoreError> {
        self.file.set_len(bytes).map_err(|error| self.problem(&error))
    }

    /// Reads a line that was read or written before.
    pub(super) fn read(&self, spot: Spot) -> Result<Line, StoreError> {
        let mut bytes = vec![0; spot.bytes as usize];
        read_exact_at(&self.file, &mut bytes, spot.offset).map_err(|error| self.problem(&error))?;
        serde_json::from_slice(&bytes).map_err(|_| {
            // Somebody wrote to the file in the meantime: the line number has to be counted.
            let number = self.line_number(spot.offset);
            line::parse(&self.name(), number, &bytes)
                .err()
                .unwrap_or_else(|| StoreError::corrupt(&self.name(), "a line has changed"))
        })
    }

    /// Overwrites a line with spaces.
    pub(super) fn blank(&self, spot: Spot) -> Result<(), StoreError> {
        self.write_at(&vec![b' '; spot.bytes as usize], spot.offset)
    }

    fn line_number(&self, offset: u64) -> usize {
        let mut start = vec![0; usize::try_from(offset).unwrap_or(0)];
        match read_exact_at(&self.file, &mut start, 0) {
            Ok(()) => start.split(|byte| *byte == b'\n').count(),
            Err(_) => 0,
        }
    }

    fn problem(&self, error: &io::Error) -> StoreError {
        let problem = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "the disk is full; nothing of this request was stored; make room and try again"
                    .into()
            }
            io::ErrorKind::UnexpectedEof => {
                "the file is shorter than it was: another program has changed it".into()
            }
            _ => error.to_string(),
        };
        StoreError::unavailable(&self.name(), &problem)
    }
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, offset)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
        }
    }
    Ok(())
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                bytes = &mut bytes[count..];
                offset += count as u64;
            }
        }
    }
    Ok(())
}

#[cfg(unix)]
fn inode(file: &File) -> Option<u64> {
    Some(std::os::unix::fs::MetadataExt::ino(&file.metadata().ok()?))
}

#[cfg(not(unix))]
fn inode(_: &File) -> Option<u64> {
    None
}

/// Locks a file. A process that this one starts holds, until its program runs, what is open here: a lock
/// that was just let go may still be held for that moment.
fn lock(file: &File) -> Result<(), TryLockError> {
    for _ in 0..20 {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            other => return other,
        }
    }
    file.try_lock()
}

/// Who has locked a file, as far as the system tells: Linux lists locks by process and inode.
fn holder(file: &File) -> String {
    let process = || {
        let inode = inode(file)?.to_string();
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        let line = locks.lines().find(|line| {
            let mut fields = line.split_whitespace();
            line.contains("FLOCK")
                && fields.nth(5).and_then(|it| it.rsplit(':').next()) == Some(&inode)
        })?;
        let id: u32 = line.split_whitespace().nth(4)?.parse().ok()?;
        let name = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        Some(match name.trim() {
            "" => format!("process {id}"),
            name => format!("process {id} ({name})"),
        })
    };
    process().unwrap_or_else(|| "another process".into())
}
