//! Who works in a run directory.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::checkpoint::LogBytes;
use super::{EVENTS, OpenFor};
use crate::error::RunDirError;
use crate::metrics::Log;

/// Takes a folder for this process, until the file is dropped or the process ends.
///
/// # Errors
/// If another process holds it, or the system refuses.
pub fn lock(root: &Path) -> Result<File, RunDirError> {
    let path = root.join("lock");
    let at = |action| RunDirError::io(&path, action);
    let mut options = File::options();
    let opened = options.create(true).truncate(false).read(true).write(true).open(&path);
    let mut file = opened.map_err(at("be opened"))?;
    match patient_lock(&file) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(held(root, &mut file)),
        Err(TryLockError::Error(source)) => return Err(at("be locked")(source)),
    }
    file.set_len(0).map_err(at("be written"))?;
    file.rewind().map_err(at("be written"))?;
    writeln!(file, "{}", std::process::id()).map_err(at("be written"))?;
    Ok(file)
}

/// Refuses a folder that another process holds, without taking it.
///
/// # Errors
/// [`RunDirError::Locked`].
pub fn refuse_held(root: &Path) -> Result<(), RunDirError> {
    // Where there is no lock to read, nobody holds the folder.
    let Ok(mut file) = File::open(root.join("lock")) else { return Ok(()) };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Err(held(root, &mut file)),
        _ => Ok(()),
    }
}

/// The error about a folder whose lock another process holds.
fn held(root: &Path, lock: &mut File) -> RunDirError {
    let mut pid = String::new();
    match lock.read_to_string(&mut pid) {
        Err(error) => RunDirError::io(&root.join("lock"), "be read")(error),
        Ok(_) => RunDirError::Locked { dir: root.into(), pid: pid.trim().into() },
    }
}

/// A process that this one starts holds, until its program runs, what is open here: a lock that was just
/// let go may still be held for that moment.
fn patient_lock(file: &File) -> Result<(), TryLockError> {
    for _ in 0..20 {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            other => return other,
        }
    }
    file.try_lock()
}

/// What a process has to do with a run directory.
#[derive(Debug)]
pub(super) enum Role {
    /// It holds the folder.
    Writes(Claim),
    /// Another process of the same run holds it.
    Follows,
    /// It says what a run would find.
    Looks,
}

impl Role {
    pub(super) fn of(root: &Path, entry: &OpenFor) -> Result<Self, RunDirError> {
        Ok(match entry {
            OpenFor::Run(_, ranks) if ranks.is_first() => Self::Writes(Claim::take(root)?),
            OpenFor::Run(..) => Self::Follows,
            OpenFor::Look(_) => {
                refuse_held(root)?;
                Self::Looks
            }
        })
    }

    /// Notes that the run has begun, so that its folder stays.
    ///
    /// # Panics
    /// If this process does not write it.
    pub(super) fn begin(&mut self) {
        let Self::Writes(claim) = self else {
            unreachable!("what is only looked at does not begin")
        };
        claim.begun = true;
    }

    /// The logs of metrics and samples, which go on behind what was `kept`.
    pub(super) fn logs(
        &self,
        root: &Path,
        kept: LogBytes,
        has_events: bool,
    ) -> Result<[Log; 2], RunDirError> {
        let metrics = Log::open(&root.join("metrics.jsonl"), kept.metrics)?;
        let samples = Log::open(&root.join("samples.jsonl"), kept.samples)?;
        Ok(match (self, has_events) {
            (Self::Follows, _) => [metrics.of_follower(), samples.of_follower()],
            (_, true) => [metrics.with_events(root.join(EVENTS)), samples],
            (_, false) => [metrics, samples],
        })
    }
}

/// A folder that this process holds.
#[derive(Debug)]
pub(super) struct Claim {
    root: PathBuf,
    made_folder: bool,
    made_lock: bool,
    /// Whether a run has begun there; if not, nothing is left behind.
    begun: bool,
    /// Held, not read: the lock ends with the file.
    _lock: File,
}

impl Claim {
    fn take(root: &Path) -> Result<Self, RunDirError> {
        let (made_folder, made_lock) = (!root.exists(), !root.join("lock").exists());
        fs::create_dir_all(root).map_err(RunDirError::io(root, "be created"))?;
        let lock = lock(root)?;
        Ok(Self { root: root.to_owned(), made_folder, made_lock, begun: false, _lock: lock })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.begun || !self.made_lock {
            return;
        }
        // What cannot be removed is an empty folder, or a lock that nobody holds.
        let _ = fs::remove_file(self.root.join("lock"));
        if self.made_folder {
            let _ = fs::remove_dir(&self.root);
        }
    }
}
