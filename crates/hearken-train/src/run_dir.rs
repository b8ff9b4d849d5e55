//! The run directory: one run's configuration, metrics, samples, checkpoints and models.
//!
//! | entry | what it is |
//! |---|---|
//! | `config.toml` | the resolved configuration |
//! | `metrics.jsonl` | one object per optimizer step, and evaluation records |
//! | `samples.jsonl` | completions written down during training |
//! | `checkpoints/step-000123/` | a model directory with `state/` for resuming |
//! | `best/`, `final/` | model directories |
//! | `lock` | held while a process works here |

pub mod checkpoint;

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Table;

use self::checkpoint::Checkpoint;
use crate::config::{Frozen, RunConfig};
pub use crate::error::RunDirError;
use crate::metrics::Log;

/// Keys that may differ when a run resumes: how long it is, how often it tells, saves and evaluates,
/// where it lies, how much room it has, and where those who score are found and how long they have.
pub const FREE_KEYS: [&str; 15] = [
    "run.dir",
    "run.disk_limit_gb",
    "train.steps",
    "train.epochs",
    "train.log_every",
    "train.save_every",
    "train.eval_every",
    "train.sample_every",
    "score.url",
    "score.timeout_s",
    "judge.base_url",
    "judge.key_env",
    "judge.timeout_s",
    "judge.retries",
    "judge.parallel",
];

/// Whether what lies in a run directory is continued or removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Go on from the last checkpoint, if there is one.
    #[default]
    Resume,
    /// Remove the run that is there.
    Fresh,
}

/// A run directory that this process holds.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    disk_bytes_max: Option<u64>,
    /// Held, not read: the lock ends with the file.
    _lock: File,
    /// `metrics.jsonl`.
    pub metrics: Log,
    /// `samples.jsonl`.
    pub samples: Log,
}

impl RunDir {
    /// Takes the run directory for this process, and finds the checkpoint to go on from. The logs
    /// are cut back to where they were at that checkpoint.
    ///
    /// # Errors
    /// If another process holds it, it holds a run with another configuration, or the system refuses.
    pub fn open(
        config: &RunConfig,
        frozen: &Frozen,
        start: Start,
    ) -> Result<(Self, Option<Checkpoint>), RunDirError> {
        let root = config.dir.clone();
        fs::create_dir_all(&root).map_err(RunDirError::io(&root, "be created"))?;
        let lock = lock(&root)?;
        if start == Start::Fresh {
            clear(&root)?;
        }
        check_configuration(&root, frozen)?;
        write_atomically(&root.join("config.toml"), frozen.to_toml().as_bytes())?;
        remove_leftovers(&root)?;
        let checkpoint = Checkpoint::latest(&root.join("checkpoints"))?;
        let kept = checkpoint.as_ref().map(Checkpoint::log_bytes).unwrap_or_default();
        let metrics = Log::open(&root.join("metrics.jsonl"), kept.metrics)?;
        let samples = Log::open(&root.join("samples.jsonl"), kept.samples)?;
        let disk_bytes_max = config.disk_bytes_max;
        Ok((Self { root, disk_bytes_max, _lock: lock, metrics, samples }, checkpoint))
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path inside the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Whether the run has come to its end: there is a `final/`.
    pub fn has_final(&self) -> bool {
        self.root.join("final").is_dir()
    }

    /// Replaces the folder `name` by what `write` puts into a new one; at no moment is there half of
    /// it.
    ///
    /// # Errors
    /// What `write` returns, or that the system refuses.
    pub fn replace_folder<E: From<RunDirError>>(
        &self,
        name: &str,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let target = self.root.join(name);
        let parent = target.parent().expect("a name inside the run directory").to_owned();
        fs::create_dir_all(&parent).map_err(RunDirError::io(&parent, "be created"))?;
        let leaf = target.file_name().expect("a name inside the run directory").to_string_lossy();
        let new = parent.join(format!("{TEMPORARY}{leaf}"));
        let old = parent.join(format!("{TEMPORARY}old-{leaf}"));
        remove_folder(&new)?;
        fs::create_dir_all(&new).map_err(RunDirError::io(&new, "be created"))?;
        if let Err(error) = write(&new) {
            // The half that was written is of no use; the first error is the one that counts.
            let _ = fs::remove_dir_all(&new);
            return Err(error);
        }
        sync_folder(&new)?;
        if target.exists() {
            remove_folder(&old)?;
            fs::rename(&target, &old).map_err(RunDirError::io(&target, "be renamed"))?;
        }
        fs::rename(&new, &target).map_err(RunDirError::io(&new, "be renamed"))?;
        remove_folder(&old)?;
        sync(&parent)?;
        Ok(target)
    }

    /// Refuses `needed` bytes more if they pass the limit.
    ///
    /// # Errors
    /// [`RunDirError::DiskLimit`].
    pub fn check_room(&self, needed: u64) -> Result<(), RunDirError> {
        let Some(limit) = self.disk_bytes_max else { return Ok(()) };
        let used = folder_bytes(&self.root)?;
        if used + needed <= limit {
            return Ok(());
        }
        Err(RunDirError::DiskLimit { dir: self.root.clone(), needed, used, limit })
    }
}

/// Names of folders and files that are not complete.
const TEMPORARY: &str = ".writing-";

/// Takes a folder for this process, until the file is dropped or the process ends.
///
/// # Errors
/// If another process holds it, or the system refuses.
pub(crate) fn lock(root: &Path) -> Result<File, RunDirError> {
    let path = root.join("lock");
    let at = |action| RunDirError::io(&path, action);
    let mut options = File::options();
    let opened = options.create(true).truncate(false).read(true).write(true).open(&path);
    let mut file = opened.map_err(at("be opened"))?;
    match patient_lock(&file) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(at("be read"))?;
            return Err(RunDirError::Locked { dir: root.into(), pid: pid.trim().into() });
        }
        Err(TryLockError::Error(source)) => return Err(at("be locked")(source)),
    }
    file.set_len(0).map_err(at("be written"))?;
    file.rewind().map_err(at("be written"))?;
    writeln!(file, "{}", std::process::id()).map_err(at("be written"))?;
    Ok(file)
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

/// Removes what a run has written to a folder, unless a process works there; makes the folder where there
/// is none.
///
/// # Errors
/// If another process holds it, or the system refuses.
pub(crate) fn empty(root: &Path) -> Result<(), RunDirError> {
    fs::create_dir_all(root).map_err(RunDirError::io(root, "be created"))?;
    let _held = lock(root)?;
    clear(root)
}

/// Removes what a run writes, and nothing else that may lie there.
fn clear(root: &Path) -> Result<(), RunDirError> {
    for name in ["checkpoints", "best", "final"] {
        remove_folder(&root.join(name))?;
    }
    for name in ["config.toml", "metrics.jsonl", "samples.jsonl", "report.html"] {
        let path = root.join(name);
        if path.exists() {
            fs::remove_file(&path).map_err(RunDirError::io(&path, "be removed"))?;
        }
    }
    Ok(())
}

fn check_configuration(root: &Path, frozen: &Frozen) -> Result<(), RunDirError> {
    let path = root.join("config.toml");
    if !path.exists() {
        return Ok(());
    }
    let text = fs::read_to_string(&path).map_err(RunDirError::io(&path, "be read"))?;
    let stored: Table = text
        .parse()
        .map_err(|error| RunDirError::Broken { path: path.clone(), message: format!("{error}") })?;
    match frozen.first_difference(&stored, &FREE_KEYS) {
        None => Ok(()),
        Some(difference) => Err(RunDirError::Different {
            dir: root.into(),
            key: difference.key,
            stored: difference.stored,
            given: difference.given,
        }),
    }
}

/// Folders and files that a killed process left incomplete; a model that was moved aside is put back.
fn remove_leftovers(root: &Path) -> Result<(), RunDirError> {
    for parent in [root.to_owned(), root.join("checkpoints")] {
        if !parent.is_dir() {
            continue;
        }
        for path in entries(&parent)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(leaf) = name.strip_prefix(TEMPORARY) else { continue };
            match leaf.strip_prefix("old-") {
                Some(kept) if !parent.join(kept).exists() => {
                    let target = parent.join(kept);
                    fs::rename(&path, &target).map_err(RunDirError::io(&path, "be renamed"))?;
                }
                _ if path.is_dir() => remove_folder(&path)?,
                _ => fs::remove_file(&path).map_err(RunDirError::io(&path, "be removed"))?,
            }
        }
    }
    Ok(())
}

pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, RunDirError> {
    let at = |action| RunDirError::io(folder, action);
    let listed = fs::read_dir(folder).map_err(at("be read"))?;
    let paths: Result<Vec<PathBuf>, io::Error> =
        listed.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(at("be read"))?;
    paths.sort();
    Ok(paths)
}

pub(crate) fn remove_folder(path: &Path) -> Result<(), RunDirError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(RunDirError::io(path, "be removed")(error))
        }
        _ => Ok(()),
    }
}

/// Writes a file beside its place and moves it there.
///
/// # Errors
/// If the system refuses; the old file is then still there.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), RunDirError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!("{TEMPORARY}{name}"));
    fs::write(&new, bytes).map_err(RunDirError::io(&new, "be written"))?;
    sync(&new)?;
    fs::rename(&new, path).map_err(RunDirError::io(&new, "be renamed"))?;
    // The rename lasts once the folder is on the disk.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync(parent.unwrap_or(Path::new(".")))
}

fn sync(path: &Path) -> Result<(), RunDirError> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(RunDirError::io(path, "be written to the disk"))
}

fn sync_folder(folder: &Path) -> Result<(), RunDirError> {
    for path in entries(folder)? {
        if path.is_dir() { sync_folder(&path)? } else { sync(&path)? }
    }
    sync(folder)
}

fn folder_bytes(folder: &Path) -> Result<u64, RunDirError> {
    let mut bytes = 0;
    for path in entries(folder)? {
        bytes += if path.is_dir() {
            folder_bytes(&path)?
        } else {
            fs::metadata(&path).map_err(RunDirError::io(&path, "be read"))?.len()
        };
    }
    Ok(bytes)
}
