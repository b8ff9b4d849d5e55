//! The sections that every trainer shares: read from [`Layers`], checked, and in the form in which
//! the rest of the crate wants them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hearken_data::{OnBadRecord, ReadOptions};
use hearken_generate::EngineOptions;
use hearken_model::Keep;
use hearken_tensor::device::Precision;
use serde::Deserialize;

use super::error::ConfigError;
use super::layers::Layers;

/// One value, or a list of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "text or a list of texts")]
pub enum OneOrMany {
    /// One.
    One(PathBuf),
    /// Any number.
    Many(Vec<PathBuf>),
}

impl OneOrMany {
    /// As a list.
    pub fn into_vec(self) -> Vec<PathBuf> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// `[run]`: where the run lives.
#[derive(Clone, Debug, PartialEq)]
pub struct RunConfig {
    /// The run directory.
    pub dir: PathBuf,
    /// The seed of every random stream.
    pub seed: u64,
    /// The most bytes that the run directory may take.
    pub disk_bytes_max: Option<u64>,
    /// The most bytes of memory that the run is planned for.
    pub memory_bytes_max: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRun {
    dir: Option<PathBuf>,
    seed: u64,
    disk_limit_gb: f64,
    memory_limit_gb: f64,
}

impl RunConfig {
    /// Reads `[run]`.
    ///
    /// # Errors
    /// Names the key that is unknown, missing, or out of range.
    pub fn read(layers: &Layers) -> Result<Self, ConfigError> {
        let raw: RawRun = layers.section("run")?;
        let limit = |key, gb: f64| {
            let holds = gb.is_finite() && 0.0 <= gb;
            layers.check(key, gb, holds, "a number from 0 (no limit)")?;
            #[expect(clippy::cast_sign_loss, reason = "checked to be at least 0")]
            Ok((0.0 < gb).then_some((gb * 1e9) as u64))
        };
        let disk_bytes_max = limit("run.disk_limit_gb", raw.disk_limit_gb)?;
        let memory_bytes_max = limit("run.memory_limit_gb", raw.memory_limit_gb)?;
        let dir =
            raw.dir.ok_or_else(|| layers.missing("run.dir", "the folder that the run writes"))?;
        Ok(Self { dir, seed: raw.seed, disk_bytes_max, memory_bytes_max })
    }
}

/// What matrix products read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// Factors rounded to bfloat16; sums and master weights stay 32-bit.
    Bf16,
}

impl From<Dtype> for Precision {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::Bf16,
        }
    }
}

/// `[model]`: the model to start from.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSource {
    /// A Hugging Face model directory.
    pub path: PathBuf,
    /// What matrix products read.
    pub dtype: Dtype,
    /// Patterns of the names of parameters that stay as they are; `*` stands for any characters.
    pub freeze: Vec<String>,
    /// Keep only the inputs of blocks in the forward pass and compute the rest again in the
    /// backward pass.
    pub recompute: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    path: Option<PathBuf>,
    dtype: Dtype,
    freeze: Vec<String>,
    recompute: bool,
}

impl ModelSource {
    /// Reads `[model]`.
    ///
    /// # Errors
    /// Names the key that is unknown or missing.
    pub fn read(layers: &Layers) -> Result<Self, ConfigError> {
        let raw: RawModel = layers.section("model")?;
        let path = raw.path.ok_or_else(|| {
            layers.missing("model.path", "a folder with config.json and model.safetensors")
        })?;
        let RawModel { dtype, freeze, recompute, .. } = raw;
        Ok(Self { path, dtype, freeze, recompute })
    }

    /// What a forward pass keeps for its backward pass.
    pub(crate) fn keep(&self) -> Keep {
        if self.recompute { Keep::BlockInputs } else { Keep::Activations }
    }
}

/// What happens to a record that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BadRecords {
    /// The first one is an error.
    Stop,
    /// They are counted and left out.
    Skip,
}

/// What happens to an example that is longer than `max_tokens`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Truncation {
    /// The first one is an error.
    Error,
    /// They are counted and left out.
    Drop,
    /// They lose tokens at their start.
    Left,
    /// They lose tokens at their end.
    Right,
}

/// `[data]`: what is trained on.
#[derive(Clone, Debug, PartialEq)]
pub struct DataConfig {
    /// Files of training records.
    pub train: Vec<PathBuf>,
    /// Files of evaluation records; may be empty.
    pub eval: Vec<PathBuf>,
    /// The share of prompts held out of `train` for evaluation.
    pub eval_fraction: f64,
    /// Whether every epoch has an order of its own; else the files' order.
    pub shuffle: bool,
    /// The file's names for columns, by the names that this program gives them.
    pub columns: BTreeMap<String, String>,
    /// What happens to bad records.
    pub bad_records: BadRecords,
    /// What happens to long examples.
    pub truncation: Truncation,
    /// The most tokens of an example; `None` is what the model has positions for.
    pub tokens_max: Option<usize>,
    /// The most records read from the training files together.
    pub limit: Option<usize>,
    /// Whether only completions are trained on, where prompt and completion are known.
    pub completion_only: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawData {
    train: Option<OneOrMany>,
    eval: Option<OneOrMany>,
    eval_fraction: f64,
    shuffle: bool,
    columns: BTreeMap<String, String>,
    on_bad_record: BadRecords,
    truncation: Truncation,
    max_tokens: usize,
    limit: usize,
    #[serde(default = "yes")]
    completion_only: bool,
}

/// Trainers without completions of their own leave `completion_only` out of their files.
fn yes() -> bool {
    true
}

impl DataConfig {
    /// Reads `[data]`.
    ///
    /// # Errors
    /// Names the key that is unknown, missing, out of range, or contradicts another.
    pub fn read(layers: &Layers) -> Result<Self, ConfigError> {
        let raw: RawData = layers.section("data")?;
        let fraction = raw.eval_fraction;
        let holds = (0.0..1.0).contains(&fraction);
        layers.check("data.eval_fraction", fraction, holds, "a number from 0 to less than 1")?;
        if raw.eval.is_some() && 0.0 < fraction {
            let reason = "evaluation records come from files of their own or from the training \
                          files; remove one of the two";
            return Err(layers.exclusive("data.eval", "data.eval_fraction", reason));
        }
        let train = raw
            .train
            .ok_or_else(|| layers.missing("data.train", "a file of records, or a list of files"))?
            .into_vec();
        layers.check("data.train", "an empty list", !train.is_empty(), "at least one file")?;
        Ok(Self {
            train,
            eval: raw.eval.map_or_else(Vec::new, OneOrMany::into_vec),
            eval_fraction: fraction,
            shuffle: raw.shuffle,
            columns: raw.columns,
            bad_records: raw.on_bad_record,
            truncation: raw.truncation,
            tokens_max: (0 < raw.max_tokens).then_some(raw.max_tokens),
            limit: (0 < raw.limit).then_some(raw.limit),
            completion_only: raw.completion_only,
        })
    }

    /// How the files are read.
    pub fn read_options(&self) -> ReadOptions {
        ReadOptions {
            columns: self.columns.clone(),
            on_bad_record: match self.bad_records {
                BadRecords::Stop => OnBadRecord::Stop,
                BadRecords::Skip => OnBadRecord::Skip,
            },
            ..ReadOptions::default()
        }
    }
}

/// How the learning rate changes over a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// It stays.
    Constant,
    /// It falls to 0 along a line.
    Linear,
    /// It falls to 0 along half a cosine.
    Cosine,
}

/// `[optimizer]`: AdamW and its learning rate.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerConfig {
    /// The largest learning rate.
    pub lr: f64,
    /// Decay of the first and of the second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay of the parameters with two or more dimensions.
    pub weight_decay: f64,
    /// The norm above which gradients are scaled down.
    pub grad_norm_max: Option<f64>,
    /// How the learning rate changes.
    pub schedule: ScheduleKind,
    /// Optimizer steps over which it rises from 0 first.
    pub warmup_steps: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOptimizer {
    lr: f64,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    max_grad_norm: f64,
    schedule: ScheduleKind,
    warmup_steps: u64,
}

impl OptimizerConfig {
    /// Reads `[optimizer]`.
    ///
    /// # Errors
    /// Names the key that is unknown or out of range.
    pub fn read(layers: &Layers) -> Result<Self, ConfigError> {
        let raw: RawOptimizer = layers.section("optimizer")?;
        let from_zero = |x: f64| x.is_finite() && 0.0 <= x;
        let number = "a number from 0";
        layers.check("optimizer.lr", raw.lr, from_zero(raw.lr), number)?;
        for beta in raw.betas {
            let holds = (0.0..1.0).contains(&beta);
            layers.check("optimizer.betas", beta, holds, "two numbers from 0 to less than 1")?;
        }
        layers.check("optimizer.eps", raw.eps, from_zero(raw.eps), number)?;
        let decay = raw.weight_decay;
        layers.check("optimizer.weight_decay", decay, from_zero(decay), number)?;
        let norm = raw.max_grad_norm;
        layers.check("optimizer.max_grad_norm", norm, from_zero(norm), number)?;
        Ok(Self {
            lr: raw.lr,
            betas: raw.betas,
            eps: raw.eps,
            weight_decay: decay,
            grad_norm_max: (0.0 < norm).then_some(norm),
            schedule: raw.schedule,
            warmup_steps: raw.warmup_steps,
        })
    }
}

/// How long a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// This many optimizer steps.
    Steps(u64),
    /// This many passes over the training examples.
    Epochs(u64),
}

impl Length {
    /// The number of optimizer steps of a run whose epochs take `steps_per_epoch`.
    pub fn steps(self, steps_per_epoch: u64) -> u64 {
        match self {
            Self::Steps(steps) => steps,
            Self::Epochs(epochs) => epochs * steps_per_epoch,
        }
    }
}

/// The most tokens of a microbatch where neither they nor a memory limit are given.
pub(crate) const MICROBATCH_TOKENS: usize = 4096;

/// `[train]`: the loop.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// Examples per optimizer step.
    pub batch_size: usize,
    /// How long the run is; `None` where neither `steps` nor `epochs` is given.
    pub length: Option<Length>,
    /// The most tokens of one forward and backward pass; a larger tree is a pass of its own.
    pub microbatch_tokens: usize,
    /// Whether the configuration names that number, so that no memory limit changes it.
    pub microbatch_is_given: bool,
    /// The most bytes of logits that a forward pass leaves to its backward pass.
    pub logits_bytes: usize,
    /// The most bytes of keys and values while completions are sampled.
    pub cache_bytes: usize,
    /// Optimizer steps from one metrics record to the next.
    pub log_every: u64,
    /// Optimizer steps from one checkpoint to the next; `None` where steps make none.
    pub save_every: Option<u64>,
    /// Minutes of work from one checkpoint to the next; `None` where time makes none.
    pub save_minutes: Option<f64>,
    /// Optimizer steps from one evaluation to the next; `None` evaluates at both ends of the run.
    pub eval_every: Option<u64>,
    /// Optimizer steps from one set of samples to the next; `None` takes none.
    pub sample_every: Option<u64>,
    /// Whether the model with the best evaluation is kept as `best/`.
    pub keep_best: bool,
    /// Whether the last checkpoint of a finished run has the optimizer's moments.
    pub keep_optimizer: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTrain {
    batch_size: usize,
    steps: Option<u64>,
    epochs: Option<u64>,
    microbatch_tokens: usize,
    log_every: u64,
    save_every: u64,
    save_minutes: f64,
    #[serde(default)]
    eval_every: u64,
    #[serde(default)]
    sample_every: u64,
    #[serde(default)]
    keep_best: bool,
    keep_optimizer: bool,
}

impl TrainConfig {
    /// Reads `[train]`.
    ///
    /// # Errors
    /// Names the key that is unknown, out of range, or contradicts another.
    pub fn read(layers: &Layers) -> Result<Self, ConfigError> {
        let raw: RawTrain = layers.section("train")?;
        let positive = "an integer from 1";
        layers.check("train.batch_size", raw.batch_size, 0 < raw.batch_size, positive)?;
        let is_given = 0 < raw.microbatch_tokens;
        let tokens = if is_given { raw.microbatch_tokens } else { MICROBATCH_TOKENS };
        layers.check("train.log_every", raw.log_every, 0 < raw.log_every, positive)?;
        let length = match (raw.steps, raw.epochs) {
            (Some(_), Some(_)) => {
                let reason = "both say how long the run is; remove one of the two";
                return Err(layers.exclusive("train.steps", "train.epochs", reason));
            }
            (Some(steps), None) => {
                layers.check("train.steps", steps, 0 < steps, positive)?;
                Some(Length::Steps(steps))
            }
            (None, Some(epochs)) => {
                layers.check("train.epochs", epochs, 0 < epochs, positive)?;
                Some(Length::Epochs(epochs))
            }
            (None, None) => None,
        };
        let every = |steps: u64| (0 < steps).then_some(steps);
        let minutes = raw.save_minutes;
        let holds = minutes.is_finite() && 0.0 <= minutes;
        layers.check("train.save_minutes", minutes, holds, "a number from 0 (none by time)")?;
        Ok(Self {
            batch_size: raw.batch_size,
            length,
            microbatch_tokens: tokens,
            microbatch_is_given: is_given,
            logits_bytes: 0,
            cache_bytes: EngineOptions::default().cache_bytes,
            log_every: raw.log_every,
            save_every: every(raw.save_every),
            save_minutes: (0.0 < minutes).then_some(minutes),
            eval_every: every(raw.eval_every),
            sample_every: every(raw.sample_every),
            keep_best: raw.keep_best,
            keep_optimizer: raw.keep_optimizer,
        })
    }

    /// The length of a run that must be told it.
    ///
    /// # Errors
    /// If neither `train.steps` nor `train.epochs` is given.
    pub fn required_length(&self, layers: &Layers) -> Result<Length, ConfigError> {
        let expected = "the number of optimizer steps (or `train.epochs`, of passes over the data)";
        self.length.ok_or_else(|| layers.missing("train.steps", expected))
    }
}

/// `[samples]`: completions written down during training.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplesConfig {
    /// How many prompts are completed each time.
    pub count: usize,
    /// The most tokens of a completion.
    pub max_new_tokens: usize,
    /// Sampling temperature; 0 is greedy.
    pub temperature: f64,
}

impl SamplesConfig {
    /// Reads `[samples]`.
    ///
    /// # Errors
    /// Names the key that is unknown or out of range.
    pub fn read(layers: &Layers) -> Result<Self, ConfigError> {
        let read: Self = layers.section("samples")?;
        let positive = "an integer from 1";
        let tokens = read.max_new_tokens;
        layers.check("samples.max_new_tokens", tokens, 0 < tokens, positive)?;
        let holds = read.temperature.is_finite() && 0.0 <= read.temperature;
        layers.check("samples.temperature", read.temperature, holds, "a number from 0")?;
        Ok(read)
    }
}
