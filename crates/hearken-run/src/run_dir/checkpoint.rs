//! Checkpoints: everything that a run needs to go on, bit for bit.
//!
//! `checkpoints/step-000123/` is a Hugging Face model directory of the first model, or a PEFT directory of its adapter; further models
//! lie in folders of their names; `state/` has the moments of the optimizer and `state.json`.

use std::fs;
use std::path::{Path, PathBuf};

use hearken_config::OptimizerConfig;
use hearken_model::checkpoint::{NoRoom, NumberFormat, WeightFormat};
use hearken_model::tokenizer::Tokenizer;
use hearken_model::{Model, ParamStore};
use hearken_tensor::Device;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::inputs::Fingerprint;
use super::{RunDir, entries, folder_bytes, link_equal, remove_folder};
use crate::average::Average;
use crate::error::{RunDirError, StateError, TrainError};
use crate::metrics::Stopwatch;
use crate::optimizer::{Optimizer, first_bad_value};
use crate::ranks::Ranks;

/// The file of the mean of the weights.
const AVERAGE: &str = "state/ema.safetensors";

/// The version of `state.json`.
const VERSION: u32 = 1;

/// A model with the name of its folder in a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct NamedModel<'a, D: Device> {
    /// The folder inside the checkpoint; the first model's is the checkpoint itself.
    pub name: &'a str,
    /// The model.
    pub model: &'a Model<D>,
}

/// What a trainer goes on with besides its counters, as JSON.
#[derive(Clone, Debug)]
pub struct StateFile {
    /// The name of the file in `state/`.
    pub name: &'static str,
    /// What is in it.
    pub json: Vec<u8>,
}

/// What a checkpoint is made of.
#[derive(Debug)]
pub struct Snapshot<'a, D: Device, C> {
    /// Optimizer steps made.
    pub step: u64,
    /// The trained models, in the optimizer's order.
    pub models: &'a [NamedModel<'a, D>],
    /// Their optimizer, and who else has a part of it; `None` where the run has come to its end and nothing will need its moments.
    pub optimizer: Option<(&'a Optimizer<D>, &'a Ranks)>,
    /// The mean of the first model's weights, where there is one that the run goes on with.
    pub average: Option<&'a Average<D>>,
    /// Saved beside the first model.
    pub tokenizer: Option<&'a Tokenizer>,
    /// The trainer's own counters: data cursor, controllers, best evaluation, cost.
    pub counters: &'a C,
    /// What else the trainer goes on with.
    pub file: Option<&'a StateFile>,
}

/// What is said of a checkpoint beside its files.
#[derive(Clone, Copy, Debug)]
pub struct Files {
    /// Steps made, which its name says.
    pub step: u64,
    /// Updates that the optimizer's moments are of.
    pub optimizer_steps: u64,
    /// Whether the moments are left out.
    pub optimizer_dropped: bool,
    /// What the files take.
    pub bytes: u64,
}

/// Lengths of the logs when a checkpoint was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogBytes {
    /// Of `metrics.jsonl`.
    pub metrics: u64,
    /// Of `samples.jsonl`.
    pub samples: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct CheckpointState {
    version: u32,
    step: u64,
    optimizer_steps: u64,
    /// Whether the optimizer's moments were left out, since the run had come to its end.
    #[serde(default)]
    optimizer_dropped: bool,
    /// What the run reads, as it was; a checkpoint of old says nothing about it.
    #[serde(default)]
    inputs: Vec<Fingerprint>,
    log_bytes: LogBytes,
    counters: Value,
}

/// A checkpoint on the disk.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    state: CheckpointState,
}

impl Checkpoint {
    /// The checkpoint with the highest step in `folder`, if there is one.
    pub(crate) fn latest(folder: &Path) -> Result<Option<Self>, RunDirError> {
        Self::newest(folder)?.map(Self::open).transpose()
    }

    /// The folder of the checkpoint with the highest step.
    fn newest(folder: &Path) -> Result<Option<PathBuf>, RunDirError> {
        if !folder.is_dir() {
            return Ok(None);
        }
        let steps = entries(folder)?.into_iter().filter_map(|path| Some((step_of(&path)?, path)));
        Ok(steps.max().map(|(_, dir)| dir))
    }

    fn open(dir: PathBuf) -> Result<Self, RunDirError> {
        let path = dir.join("state/state.json");
        let bytes = fs::read(&path).map_err(RunDirError::io(&path, "be read"))?;
        let state: CheckpointState =
            serde_json::from_slice(&bytes).map_err(|error| RunDirError::Broken {
                path: path.clone(),
                message: format!("not the state of a run: {error}"),
            })?;
        if state.version != VERSION {
            let message = format!("found version {}, expected {VERSION}", state.version);
            return Err(RunDirError::Broken { path, message });
        }
        Ok(Self { dir, state })
    }

    /// Optimizer steps made.
    pub fn step(&self) -> u64 {
        self.state.step
    }

    /// What the run read, as it was when the checkpoint was made.
    pub(crate) fn inputs(&self) -> &[Fingerprint] {
        &self.state.inputs
    }

    /// Lengths of the logs at the time.
    pub fn log_bytes(&self) -> LogBytes {
        self.state.log_bytes
    }

    /// The folder of the first model (and of the tokenizer), or of the model `name`.
    pub fn model_dir(&self, name: Option<&str>) -> PathBuf {
        name.map_or_else(|| self.dir.clone(), |name| self.dir.join(name))
    }

    /// The trainer's own counters.
    ///
    /// # Errors
    /// If they are not those of this trainer.
    pub fn counters<C: DeserializeOwned>(&self) -> Result<C, StateError> {
        C::deserialize(&self.state.counters).map_err(|error| StateError::Broken {
            path: self.dir.join("state/state.json"),
            message: error.to_string(),
        })
    }

    /// What a trainer goes on with besides its counters; `None` where there is no such file.
    ///
    /// # Errors
    /// If it cannot be read, or is not what this trainer goes on with.
    pub fn state_file<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        let path = self.dir.join("state").join(name);
        if !path.exists() {
            return Ok(None);
        }
        let broken = |message: String| StateError::Broken { path: path.clone(), message };
        let bytes = fs::read(&path).map_err(|error| broken(error.to_string()))?;
        serde_json::from_slice(&bytes).map(Some).map_err(|error| broken(error.to_string()))
    }

    /// Whether the optimizer's moments begin anew, since a finished run left them out.
    pub fn has_no_moments(&self) -> bool {
        self.state.optimizer_dropped
    }

    /// The optimizer, for parameters that were loaded from this checkpoint, the same of them
    /// trained: the part of it that is this process's. A new one where its moments were left out.
    ///
    /// # Errors
    /// If the moments cannot be read or are not those of the parameters.
    pub fn optimizer<D: Device>(
        &self,
        config: &OptimizerConfig,
        stores: &[&ParamStore<D>],
        ranks: &Ranks,
    ) -> Result<Optimizer<D>, StateError> {
        if self.state.optimizer_dropped {
            return Ok(Optimizer::new(config, stores, ranks));
        }
        let path = self.dir.join("state/optimizer.safetensors");
        Optimizer::load(config, ranks, stores, &path, self.state.optimizer_steps)
    }
}

impl Checkpoint {
    /// The mean of the weights `params`, which were loaded from this checkpoint; it begins with them where it was
    /// left out with the optimizer's moments.
    ///
    /// # Errors
    /// If it cannot be read or is not that of the parameters.
    pub(crate) fn average<D: Device>(
        &self,
        params: &ParamStore<D>,
        decay: f64,
    ) -> Result<Average<D>, StateError> {
        match self.state.optimizer_dropped {
            true => Ok(Average::new(params, decay)),
            false => Average::load(params, decay, &self.dir.join(AVERAGE)),
        }
    }
}

impl RunDir {
    /// Writes a checkpoint, whole or not at all, and removes the older ones.
    ///
    /// # Errors
    /// If a parameter is NaN or infinite, the disk limit would be passed, or a file cannot be
    /// written; the checkpoint before is then still there.
    pub fn save_checkpoint<D: Device, C: Serialize>(
        &mut self,
        snapshot: &Snapshot<'_, D, C>,
    ) -> Result<(), TrainError> {
        for named in snapshot.models {
            if let Some(bad) = first_bad_value(named.model.params()) {
                return Err(bad.at(snapshot.step));
            }
        }
        let shard_bytes = self.format.shard_bytes;
        let files = Files {
            step: snapshot.step,
            optimizer_steps: snapshot.optimizer.map_or(0, |(optimizer, _)| optimizer.steps()),
            optimizer_dropped: snapshot.optimizer.is_none(),
            bytes: bytes(snapshot),
        };
        self.save_files(files, snapshot.counters, |dir| write(dir, snapshot, shard_bytes))
    }

    /// Writes a checkpoint whose files `write` puts into a folder, but for `state/state.json`; whole or not at all. The
    /// older ones are removed.
    ///
    /// # Errors
    /// If the disk limit would be passed, `write` fails, or a file cannot be written; the checkpoint before is
    /// then still there.
    pub fn save_files<C: Serialize>(
        &mut self,
        files: Files,
        counters: &C,
        write: impl FnOnce(&Path) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        let folder = self.path("checkpoints");
        let name = format!("step-{:06}", files.step);
        keep_only_newest(&folder)?;
        self.check_room(files.bytes)?;
        let watch = Stopwatch::start();
        let log_bytes = LogBytes { metrics: self.metrics.sync()?, samples: self.samples.sync()? };
        self.write_table()?;
        let state = CheckpointState {
            version: VERSION,
            step: files.step,
            optimizer_steps: files.optimizer_steps,
            optimizer_dropped: files.optimizer_dropped,
            inputs: self.inputs.clone(),
            log_bytes,
            counters: serde_json::to_value(counters).expect("counters are plain structs"),
        };
        let others = [self.path("best")];
        self.replace_folder(&format!("checkpoints/{name}"), |dir| {
            write(dir)?;
            write_state(dir, &state)?;
            Ok::<_, TrainError>(link_equal(dir, &others)?)
        })?;
        keep_only_newest(&folder)?;
        self.saves.made(watch.seconds());
        Ok(self.remove_replaced()?)
    }

    /// Whether the work since the last checkpoint has taken so many minutes that there should be another.
    pub fn is_save_due(&self, minutes: Option<f64>) -> bool {
        minutes.is_some_and(|minutes| self.saves.is_due(60.0 * minutes))
    }

    /// By how many bytes the disk limit is too small for a run that holds `needed` bytes at most, those of
    /// the checkpoints that are there among them.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn saves_short(&self, needed: u64) -> Result<Option<u64>, RunDirError> {
        let checkpoints = folder_bytes(&self.path("checkpoints"))?;
        self.bytes_short(needed.saturating_sub(checkpoints))
    }

    /// Decides whether time makes checkpoints of a run that holds `needed` bytes at most: not where the disk
    /// limit has no room for two of them, so that the one at the end would fail. Returns what is to be said
    /// about it.
    pub(crate) fn plan_saves(
        &mut self,
        needed: u64,
        minutes: Option<f64>,
    ) -> Result<Option<String>, RunDirError> {
        let Some(short) = self.saves_short(needed)? else {
            return Ok(None);
        };
        self.saves = Saves::never();
        Ok(minutes.map(|_| {
            format!(
                "no checkpoints by time (`train.save_minutes`): `run.disk_limit_gb` is {short} bytes short \
                 of room for them"
            )
        }))
    }
}

/// What a run holds on the disk at most: two checkpoints, and `best/` and `final/` beside them.
pub(crate) fn bytes_of_run<D: Device>(models: &[&Model<D>], optimizer: &Optimizer<D>) -> u64 {
    let kept: u64 = models.iter().map(|model| 4 * model.saved_elements() as u64).sum();
    let stores: Vec<_> = models.iter().map(|model| model.params()).collect();
    2 * (kept + optimizer.bytes(&stores)) + 2 * kept
}

/// When time makes checkpoints.
#[derive(Debug)]
pub(crate) struct Saves {
    /// Since the last one, or the start; `None` where time makes none.
    watch: Option<Stopwatch>,
    /// Seconds that the last one took.
    seconds: f64,
}

/// Checkpoints by time take at most this share of the time.
const SAVE_SHARE: f64 = 0.05;

impl Saves {
    pub(crate) fn start() -> Self {
        Self { watch: Some(Stopwatch::start()), seconds: 0.0 }
    }

    fn never() -> Self {
        Self { watch: None, seconds: 0.0 }
    }

    fn made(&mut self, seconds: f64) {
        self.seconds = seconds;
        self.watch = self.watch.map(|_| Stopwatch::start());
    }

    fn is_due(&self, seconds: f64) -> bool {
        let wanted = seconds.max(self.seconds / SAVE_SHARE);
        self.watch.is_some_and(|watch| wanted <= watch.seconds())
    }
}

impl RunDir {
    /// Replaces the model directory `name`, in the format that `run.save_dtype` says or else that of the files
    /// which the run started from, with a card; `more` may add files to it. Returns the value, if there is one, for
    /// which the format has no room, so that all are f32.
    ///
    /// # Errors
    /// If the disk limit would be passed, a file cannot be written, or `more` fails; what was there
    /// before is then still there.
    pub fn save_model<D: Device>(
        &self,
        name: &str,
        model: &Model<D>,
        tokenizer: Option<&Tokenizer>,
        more: impl FnOnce(&Path) -> Result<(), TrainError>,
    ) -> Result<Option<NoRoom>, TrainError> {
        let bytes = if model.adapter().is_some() { 4 } else { self.format.stored.bytes() };
        self.check_room((bytes * model.saved_elements()) as u64)?;
        let mut others = vec![self.path("best"), self.path("final")];
        others.extend(Checkpoint::newest(&self.path("checkpoints"))?);
        let mut no_room = None;
        self.replace_folder(name, |dir| {
            no_room = model.save_trained(dir, self.format)?;
            link_equal(dir, &others)?;
            if let Some(tokenizer) = tokenizer {
                tokenizer.save(dir)?;
            }
            more(dir)?;
            Ok::<_, TrainError>(self.write_card(dir, no_room.as_ref())?)
        })?;
        Ok(no_room)
    }
}

fn write<D: Device, C>(
    dir: &Path,
    snapshot: &Snapshot<'_, D, C>,
    shard_bytes: u64,
) -> Result<(), TrainError> {
    // Rounded, a run would not go on from what it trained.
    let format = WeightFormat { stored: NumberFormat::F32, shard_bytes };
    for (index, named) in snapshot.models.iter().enumerate() {
        let target = if index == 0 { dir.to_owned() } else { dir.join(named.name) };
        fs::create_dir_all(&target).map_err(RunDirError::io(&target, "be created"))?;
        named.model.save_trained(&target, format)?;
    }
    if let Some(tokenizer) = snapshot.tokenizer {
        tokenizer.save(dir)?;
    }
    let folder = dir.join("state");
    fs::create_dir_all(&folder).map_err(RunDirError::io(&folder, "be created"))?;
    let stores: Vec<_> = snapshot.models.iter().map(|named| named.model.params()).collect();
    if let Some((optimizer, ranks)) = snapshot.optimizer {
        optimizer.save(&folder.join("optimizer.safetensors"), &stores, ranks)?;
    }
    if let Some(average) = snapshot.average {
        average.save(&dir.join(AVERAGE))?;
    }
    if let Some(StateFile { name, json }) = snapshot.file {
        let path = folder.join(name);
        fs::write(&path, json).map_err(RunDirError::io(&path, "be written"))?;
    }
    Ok(())
}

fn write_state(dir: &Path, state: &CheckpointState) -> Result<(), TrainError> {
    let folder = dir.join("state");
    fs::create_dir_all(&folder).map_err(RunDirError::io(&folder, "be created"))?;
    let path = folder.join("state.json");
    let text = serde_json::to_vec_pretty(state).expect("the state is a plain struct");
    Ok(fs::write(&path, text).map_err(RunDirError::io(&path, "be written"))?)
}

/// What a checkpoint takes on the disk, but for tokenizer and counters, which are small.
fn bytes<D: Device, C>(snapshot: &Snapshot<'_, D, C>) -> u64 {
    let stores: Vec<_> = snapshot.models.iter().map(|named| named.model.params()).collect();
    let values = snapshot.models.iter().map(|named| 4 * named.model.saved_elements() as u64);
    let moments = snapshot.optimizer.map_or(0, |(optimizer, _)| optimizer.bytes(&stores));
    let file = snapshot.file.map_or(0, |file| file.json.len() as u64);
    values.sum::<u64>() + moments + file + snapshot.average.map_or(0, Average::bytes)
}

fn step_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()
}

fn keep_only_newest(folder: &Path) -> Result<(), RunDirError> {
    if !folder.is_dir() {
        return Ok(());
    }
    let mut steps: Vec<(u64, PathBuf)> =
        entries(folder)?.into_iter().filter_map(|path| Some((step_of(&path)?, path))).collect();
    steps.sort();
    steps.pop();
    steps.iter().try_for_each(|(_, path)| remove_folder(path))
}
