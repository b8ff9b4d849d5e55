//! The run directory: one run's configuration, metrics, samples, checkpoints and models.
//!
//! | entry | what it is |
//! |---|---|
//! | `config.toml` | the resolved configuration |
//! | `metrics.jsonl` | one object per optimizer step, and evaluation records |
//! | `metrics.csv` | the same as a table, where `[log]` asks for it |
//! | `tensorboard/` | the same for TensorBoard, likewise |
//! | `samples.jsonl` | completions written down during training |
//! | `checkpoints/step-000123/` | a model directory with `state/` for resuming |
//! | `best/`, `final/` | model directories |
//! | `lock` | held while a process works here |
//!
//! Opening changes nothing that is there: a run begins (`RunDir::begin`) when everything that it reads has
//! been read and checked. What it replaces then is moved aside.

mod card;
pub mod checkpoint;
mod claim;
pub mod inputs;
mod moved_aside;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use hearken_data::{is_unfinished, sync_all, sync_parent, write_whole};
use hearken_model::checkpoint::{NumberFormat, TensorFiles, WeightFormat};
use hearken_model::config::model_dir;
use toml::Table;

use self::checkpoint::{Checkpoint, Saves};
use self::claim::Role;
use self::inputs::{Fingerprint, Input, InputChanges, changes, inputs};
use self::moved_aside::move_aside;
pub use crate::error::RunDirError;
use crate::metrics::Log;
use crate::metrics_table;
use crate::ranks::Ranks;
pub use card::write_card_of;
pub use claim::{lock, refuse_held};
use hearken_config::{Difference, Frozen, LogConfig, RunConfig};

/// Keys that may differ when a run resumes: how long it is, how often it tells, saves and evaluates,
/// where it lies, how much room it has, and where those who score are found and how long they have.
pub const FREE_KEYS: [&str; 34] = [
    "run.dir",
    "run.save_dtype",
    "run.shard_size_gb",
    "run.disk_limit_gb",
    "run.memory_limit_gb",
    "train.steps",
    "train.epochs",
    "train.environment_steps",
    "train.eval_episodes",
    "train.clip_frames",
    "train.log_every",
    "train.save_every",
    "train.save_minutes",
    "train.keep_optimizer",
    "train.keep_best",
    "train.early_stopping_patience",
    "train.microbatch_tokens",
    "train.eval_every",
    "train.sample_every",
    "log.tensorboard",
    "log.csv",
    "samples.count",
    "samples.temperature",
    "score.url",
    "score.timeout_s",
    "judge.base_url",
    "judge.key_env",
    "judge.timeout_s",
    "judge.retries",
    "judge.parallel",
    "preference.people.store",
    "preference.people.enough",
    "preference.people.wait_s",
    "preference.people.poll_s",
];

/// Whether what lies in a run directory is continued or replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Go on from the last checkpoint, if there is one.
    #[default]
    Resume,
    /// Move the run that is there aside.
    Fresh,
}

/// What a run directory is opened for.
#[derive(Clone, Debug)]
pub enum OpenFor {
    /// For a run, which these processes make together; the first of them alone writes.
    Run(Start, Ranks),
    /// To say what a run would find; nothing is written, and the directory need not be there.
    Look(Start),
}

impl OpenFor {
    fn start(&self) -> Start {
        let (Self::Run(start, _) | Self::Look(start)) = self;
        *start
    }

    /// Who makes the run.
    pub fn ranks(&self) -> Ranks {
        match self {
            Self::Run(_, ranks) => ranks.clone(),
            Self::Look(_) => Ranks::default(),
        }
    }
}

impl From<Start> for OpenFor {
    fn from(start: Start) -> Self {
        Self::Run(start, Ranks::default())
    }
}

/// What a run writes, the configuration last: as long as it is there, the folder is a run's.
const ENTRIES: [&str; 14] = [
    "checkpoints",
    "weights",
    "ahead.jsonl",
    "best",
    "final",
    "metrics.jsonl",
    METRICS_TABLE,
    EVENTS,
    "samples.jsonl",
    "clips",
    "queries",
    "report.html",
    STAGE_FILE,
    "config.toml",
];
/// The metrics as a table.
const METRICS_TABLE: &str = "metrics.csv";
/// The metrics as TensorBoard reads them.
const EVENTS: &str = "tensorboard";
/// The file in which a run of several stages notes what a stage was made from.
pub const STAGE_FILE: &str = "stage.json";

/// A run directory that this process holds. Until `RunDir::begin` nothing in it is changed.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    /// What this process has to do with it.
    role: Role,
    disk_bytes_max: Option<u64>,
    /// The resolved configuration.
    config: String,
    /// Whose configuration it is.
    trainer: &'static str,
    /// The command line that gave it.
    command: String,
    /// Whether what is there is moved aside first.
    replaces: bool,
    /// What is to be said when the run begins.
    notes: Vec<String>,
    /// How the weights of its models are written.
    pub(crate) format: WeightFormat,
    /// What the run reads, as it is now.
    pub(crate) inputs: Vec<Fingerprint>,
    /// What has become of the inputs of the checkpoint, and its step.
    changes: Option<(InputChanges, u64)>,
    /// Whether the next checkpoint is the first one.
    pub(crate) is_first: bool,
    /// Whether the optimizer's moments begin anew.
    without_moments: bool,
    /// When time makes checkpoints.
    pub(crate) saves: Saves,
    /// `metrics.csv`; `None` where it is not asked for.
    table: Option<PathBuf>,
    /// `metrics.jsonl`.
    pub metrics: Log,
    /// `samples.jsonl`.
    pub samples: Log,
}

impl RunDir {
    /// Takes the run directory for this process, and finds the checkpoint to go on from. Nothing that is
    /// there is changed.
    ///
    /// # Errors
    /// If another process holds it, it holds a run with another configuration, or files that are no run's;
    /// if an input lies in it, or the system refuses.
    pub fn open(
        config: &RunConfig,
        logs: LogConfig,
        frozen: &Frozen,
        entry: impl Into<OpenFor>,
    ) -> Result<(Self, Option<Checkpoint>), RunDirError> {
        let (root, entry) = (config.dir.clone(), entry.into());
        let start = entry.start();
        let inputs = inputs(frozen);
        let is_run = refuse_foreign(&root, &ENTRIES)?;
        let role = Role::of(&root, &entry)?;
        if is_run && matches!(role, Role::Writes(_)) {
            remove_leftovers(&root)?;
        }
        let found = if start == Start::Resume && is_run {
            ExistingRun::at(&root)?
        } else {
            ExistingRun::default()
        };
        let is_resumed = found.checkpoint.is_some();
        for input in &inputs {
            refuse_inside(&root, input, is_resumed)?;
        }
        let fingerprints = inputs
            .iter()
            .map(|input| input.fingerprint().map_err(RunDirError::io(&input.path, "be read")));
        let fingerprints: Vec<Fingerprint> = fingerprints.collect::<Result<_, _>>()?;
        let mut notes = Vec::new();
        let difference = found.difference(frozen);
        let replaces = match (&found.checkpoint, difference) {
            _ if start == Start::Fresh => is_run,
            (_, None) => false,
            (Some(_), Some(difference)) => return Err(different(&root, difference)),
            (None, Some(_)) => {
                notes.push(format!(
                    "{}: the run there has no checkpoint; it starts anew with these settings",
                    root.display()
                ));
                found.steps
            }
        };
        notes.extend(found.rounding_notes(frozen));
        let changes = found
            .checkpoint
            .as_ref()
            .map(|checkpoint| (changes(checkpoint.inputs(), &fingerprints), checkpoint.step()));
        let kept = found.checkpoint.as_ref().map(Checkpoint::log_bytes).unwrap_or_default();
        let [metrics, samples] = role.logs(&root, kept, logs.tensorboard)?;
        let run = Self {
            role,
            disk_bytes_max: config.disk_bytes_max,
            config: frozen.to_toml(),
            trainer: frozen.trainer(),
            command: frozen.command().to_owned(),
            replaces,
            notes,
            format: WeightFormat {
                stored: config.save_dtype.map_or_else(|| stored(frozen), NumberFormat::from),
                shard_bytes: config.shard_bytes,
            },
            inputs: fingerprints,
            changes,
            is_first: !is_resumed,
            without_moments: found.checkpoint.as_ref().is_some_and(Checkpoint::has_no_moments),
            saves: Saves::start(),
            table: logs.csv.then(|| root.join(METRICS_TABLE)),
            metrics,
            samples,
            root,
        };
        Ok((run, found.checkpoint))
    }

    /// Refuses to go on from a checkpoint whose inputs have become others, where that makes the run
    /// another one; the rest is said when the run begins.
    ///
    /// # Errors
    /// [`RunDirError::OtherInput`].
    pub fn check_inputs(&mut self) -> Result<(), RunDirError> {
        let Some((changes, step)) = self.changes.take() else { return Ok(()) };
        self.notes.extend(changes.noted);
        match changes.refused {
            None => Ok(()),
            Some(change) => Err(RunDirError::OtherInput { dir: self.root.clone(), change, step }),
        }
    }

    /// Begins to write: moves aside what the run replaces, and writes the configuration. Everything that
    /// the run reads has been read by then. Returns what is to be said about it.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn begin(&mut self) -> Result<Vec<String>, RunDirError> {
        let mut notes = std::mem::take(&mut self.notes);
        if matches!(self.role, Role::Follows) {
            return Ok(Vec::new());
        }
        if std::mem::take(&mut self.replaces) {
            let moved = move_aside(&self.root, &ENTRIES).map_err(|(path, source)| {
                RunDirError::Io { path, action: "be moved aside", source }
            })?;
            notes.extend(moved.map(|folder| {
                format!(
                    "{}: what was there is moved to {}, and removed when this run has its first checkpoint",
                    self.root.display(),
                    folder.display()
                )
            }));
        }
        self.role.begin();
        write_atomically(&self.path("config.toml"), self.config.as_bytes())?;
        self.saves = Saves::start();
        Ok(notes)
    }

    /// Whether the directory is only looked at, so that nothing may be written.
    pub fn is_looked_at(&self) -> bool {
        matches!(self.role, Role::Looks)
    }

    /// What a run that goes on from `checkpoint`, or else begins, would do with the directory.
    pub fn intentions(&self, checkpoint: Option<u64>) -> Vec<String> {
        let root = self.root.display();
        let mut told = vec![match checkpoint {
            Some(step) => format!("{root}: goes on from the checkpoint of step {step}"),
            None if self.replaces => {
                let aside = moved_aside::next(&self.root);
                format!("{root}: what is there would be moved to {}", aside.display())
            }
            None if self.root.exists() => format!("{root}: there, and holds no run to go on with"),
            None => format!("{root}: would be made"),
        }];
        told.extend(self.notes.iter().cloned());
        told
    }

    /// Removes what this run replaced, when it has its first checkpoint.
    pub(crate) fn remove_replaced(&mut self) -> Result<(), RunDirError> {
        if !std::mem::take(&mut self.is_first) {
            return Ok(());
        }
        moved_aside::remove(&self.root).map_err(|(path, source)| RunDirError::Io {
            path,
            action: "be removed",
            source,
        })
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

    /// What a run says that goes on after `step` steps.
    pub fn going_on_note(&self, step: u64) -> String {
        let note = format!("going on from the checkpoint of step {step}");
        if !self.without_moments {
            return note;
        }
        format!(
            "{note}; the run was finished and has dropped its optimizer's moments, which begin anew: the \
             longer run is not the one that would not have stopped (`train.keep_optimizer = true` keeps \
             them)"
        )
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
        sync_all(&new).map_err(RunDirError::io(&new, "be written to the disk"))?;
        if target.exists() {
            remove_folder(&old)?;
            fs::rename(&target, &old).map_err(RunDirError::io(&target, "be renamed"))?;
        }
        fs::rename(&new, &target).map_err(RunDirError::io(&new, "be renamed"))?;
        remove_folder(&old)?;
        sync_parent(&target).map_err(RunDirError::io(&target, "be written to the disk"))?;
        Ok(target)
    }

    /// Writes the metrics so far as a table, where that is asked for.
    fn write_table(&self) -> Result<(), RunDirError> {
        let Some(path) = &self.table else { return Ok(()) };
        metrics_table::write(path, || self.metrics.records())
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

    /// By how many bytes the limit is too small for `needed` more.
    pub(crate) fn bytes_short(&self, needed: u64) -> Result<Option<u64>, RunDirError> {
        let Some(limit) = self.disk_bytes_max else { return Ok(None) };
        let wanted = folder_bytes(&self.root)? + needed;
        Ok((limit < wanted).then(|| wanted - limit))
    }
}

/// Names of folders and files that are not complete.
const TEMPORARY: &str = ".writing-";

/// What a run that is there has come to.
#[derive(Debug, Default)]
struct ExistingRun {
    checkpoint: Option<Checkpoint>,
    /// The configuration of the run.
    config: Option<Table>,
    /// Whether its log has steps.
    steps: bool,
}

impl ExistingRun {
    fn at(root: &Path) -> Result<Self, RunDirError> {
        let checkpoint = Checkpoint::latest(&root.join("checkpoints"))?;
        if checkpoint.is_none() && root.join("final").is_dir() {
            return Err(RunDirError::NoCheckpoint { dir: root.into() });
        }
        let config = configuration(root)?;
        let steps = checkpoint.is_some() || has_steps(&root.join("metrics.jsonl"));
        Ok(Self { checkpoint, config, steps })
    }

    fn difference(&self, frozen: &Frozen) -> Option<Difference> {
        frozen.first_difference(self.config.as_ref()?, &FREE_KEYS)
    }

    /// Keys that move the last bits of what comes.
    fn rounding_notes(&self, frozen: &Frozen) -> Vec<String> {
        let Some(stored) = self.config.as_ref().filter(|_| self.checkpoint.is_some()) else {
            return Vec::new();
        };
        let value = |table: &Table, (section, key): (&str, &str)| {
            table.get(section)?.as_table()?.get(key).cloned()
        };
        let keys = [("train", "microbatch_tokens"), ("run", "memory_limit_gb")];
        let note = |at: (&str, &str)| {
            let (old, new) = (value(stored, at)?, value(frozen.table(), at)?);
            let (section, key) = at;
            (old != new).then(|| {
                format!(
                    "`{section}.{key}` was {old} and is {new}: sums are taken in another order, so that \
                     what comes may differ in the last bits"
                )
            })
        };
        keys.into_iter().filter_map(note).collect()
    }
}

/// The format of the weights that the run starts from. Where they cannot be read, loading them says why.
/// The format of the files that a run starts from.
fn stored(frozen: &Frozen) -> NumberFormat {
    let model = frozen.table().get("model").and_then(|model| model.get("path")?.as_str());
    let place = model.map(|path| frozen.place_of(Path::new(path)));
    let folder = place.and_then(|place| model_dir(place).ok());
    let files = folder.and_then(|folder| TensorFiles::open(&folder).ok());
    files.map_or(NumberFormat::F32, |files| files.stored())
}

/// The commits of names of the hub that the newest checkpoint of a run was made from: a run goes on with those.
/// What cannot be read says so when the run opens.
pub fn recorded_commits(root: &Path) -> BTreeMap<PathBuf, String> {
    let checkpoint = Checkpoint::latest(&root.join("checkpoints")).ok().flatten();
    let inputs = checkpoint.as_ref().map(Checkpoint::inputs).unwrap_or_default();
    inputs.iter().filter_map(|input| Some((input.path.clone(), input.commit.clone()?))).collect()
}

fn different(root: &Path, difference: Difference) -> RunDirError {
    let Difference { key, stored, given } = difference;
    RunDirError::Different { dir: root.into(), key, stored, given }
}

/// Whether a log has a record of an optimizer step.
fn has_steps(log: &Path) -> bool {
    let text = fs::read_to_string(log).unwrap_or_default();
    let step = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["step"].as_u64();
    text.lines().filter_map(step).any(|step| 0 < step)
}

/// Refuses a folder that is no run's and holds one of `names`; says whether it is a run's.
///
/// # Errors
/// [`RunDirError::Foreign`], or if the system refuses.
pub fn refuse_foreign(root: &Path, names: &[&'static str]) -> Result<bool, RunDirError> {
    let has_key = |run: &toml::Value| run.get("dir").is_some() && run.get("seed").is_some();
    // A configuration that cannot be read is nobody's yet, and is refused below.
    let config = configuration(root).ok().flatten();
    let is_resolved = config.is_some_and(|table| table.get("run").is_some_and(has_key));
    // A configuration of somebody's own lies without the lock that every run leaves.
    let is_run = is_resolved && (root.join("lock").exists() || root.join("checkpoints").is_dir());
    // A stage's stamp is there before the stage's run is.
    let mut names = names.iter().filter(|name| **name != STAGE_FILE);
    if !is_run && let Some(name) = names.find(|name| root.join(name).symlink_metadata().is_ok()) {
        return Err(RunDirError::Foreign { dir: root.into(), name });
    }
    Ok(is_run)
}

/// Refuses an input in the run directory. A run that goes on may have begun with one beside what it writes.
fn refuse_inside(root: &Path, input: &Input, is_resumed: bool) -> Result<(), RunDirError> {
    // What is not there is not lost; reading it says that it is missing.
    let (Ok(root_path), Ok(path)) = (root.canonicalize(), input.place.canonicalize()) else {
        return Ok(());
    };
    let Ok(inside) = path.strip_prefix(&root_path) else { return Ok(()) };
    if is_resumed && !ENTRIES.iter().any(|entry| inside.starts_with(entry)) {
        return Ok(());
    }
    let (key, path) = (input.key.clone(), input.path.clone());
    Err(RunDirError::InputInside { key, path, dir: root.into() })
}

/// The configuration in a folder; `None` where there is none.
fn configuration(root: &Path) -> Result<Option<Table>, RunDirError> {
    let path = root.join("config.toml");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(RunDirError::io(&path, "be read"))?,
    };
    let parsed = text.parse::<Table>();
    parsed
        .map(Some)
        .map_err(|error| RunDirError::Broken { path: path.clone(), message: format!("{error}") })
}

/// Folders and files that a killed process left incomplete; a model that was moved aside is put back.
fn remove_leftovers(root: &Path) -> Result<(), RunDirError> {
    for parent in [root.to_owned(), root.join("checkpoints")] {
        if !parent.is_dir() {
            continue;
        }
        for path in entries(&parent)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_unfinished(&path) {
                fs::remove_file(&path).map_err(RunDirError::io(&path, "be removed"))?;
            }
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

/// What lies in a folder, by name.
///
/// # Errors
/// If it cannot be read.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>, RunDirError> {
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

/// Writes a file, whole or not at all.
///
/// # Errors
/// If the system refuses; the old file is then still there.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), RunDirError> {
    write_whole(path, |file| file.write_all(bytes)).map_err(RunDirError::io(path, "be written"))
}

/// Makes the weights of a new model folder links to those of other folders of the run, where they are the
/// same bytes, so that they are on the disk once. Where the system has no links they stay copies.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn link_equal(folder: &Path, others: &[PathBuf]) -> Result<(), RunDirError> {
    for path in entries(folder)? {
        let name = path.file_name().unwrap_or_default().to_owned();
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            continue;
        }
        for other in others.iter().map(|other| other.join(&name)) {
            if !other.is_file() || !has_same_bytes(&path, &other)? {
                continue;
            }
            let link = path.with_extension("link");
            if fs::hard_link(&other, &link).is_ok() {
                fs::rename(&link, &path).map_err(RunDirError::io(&link, "be renamed"))?;
            }
            break;
        }
    }
    Ok(())
}

fn has_same_bytes(one: &Path, other: &Path) -> Result<bool, RunDirError> {
    let open = |path: &Path| {
        let file = File::open(path).map_err(RunDirError::io(path, "be read"))?;
        let bytes = file.metadata().map_err(RunDirError::io(path, "be read"))?.len();
        Ok::<_, RunDirError>((BufReader::with_capacity(COMPARED_BYTES, file), bytes))
    };
    let ((mut one_file, one_bytes), (mut other_file, other_bytes)) = (open(one)?, open(other)?);
    if one_bytes != other_bytes {
        return Ok(false);
    }
    loop {
        let read = one_file.fill_buf().map_err(RunDirError::io(one, "be read"))?;
        let mut same = vec![0; read.len()];
        other_file.read_exact(&mut same).map_err(RunDirError::io(other, "be read"))?;
        if read != same {
            return Ok(false);
        }
        let bytes = read.len();
        if bytes == 0 {
            return Ok(true);
        }
        one_file.consume(bytes);
    }
}

/// Bytes of two files that are compared at a time.
const COMPARED_BYTES: usize = 1 << 20;

/// Bytes of the files in a folder, each counted once however many names it has; none where there is no
/// folder.
pub(crate) fn folder_bytes(folder: &Path) -> Result<u64, RunDirError> {
    let mut seen = BTreeSet::new();
    add_bytes(folder, &mut seen)
}

fn add_bytes(folder: &Path, seen: &mut BTreeSet<(u64, u64)>) -> Result<u64, RunDirError> {
    let mut bytes = 0;
    if !folder.exists() {
        return Ok(0);
    }
    for path in entries(folder)? {
        if path.is_dir() {
            bytes += add_bytes(&path, seen)?;
            continue;
        }
        let found = fs::metadata(&path).map_err(RunDirError::io(&path, "be read"))?;
        if is_first_name(&found, seen) {
            bytes += found.len();
        }
    }
    Ok(bytes)
}

/// Whether a file has not been seen under another name.
#[cfg(unix)]
fn is_first_name(file: &fs::Metadata, seen: &mut BTreeSet<(u64, u64)>) -> bool {
    use std::os::unix::fs::MetadataExt;

    file.nlink() == 1 || seen.insert((file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn is_first_name(_: &fs::Metadata, _: &mut BTreeSet<(u64, u64)>) -> bool {
    true
}
