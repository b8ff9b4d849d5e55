//! The sections that every trainer shares, in the form in which the rest of the crate wants them.
//!
//! The documentation of a field is what errors say of a key that is missing, and what the JSON schema
//! says of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hearken_data::feedback::{Combine, Selection};
use hearken_data::{OnBadRecord, ReadOptions};
use hearken_generate::EngineOptions;
use hearken_model::checkpoint::NumberFormat;
use hearken_model::steps::STEP_SEPARATOR;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::error::Complaint;
use super::model::{LoraSection, ModelSource, TemplateConfig};
use super::number::{
    AtLeastOne, BelowOne, Fraction, Limit, NonNegative, Positive, Steps, Warmup, count_unless_zero,
    unless_zero,
};

/// `[run]`: where the run lives.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The folder that the run writes.
    pub dir: PathBuf,
    /// The seed of every random stream.
    pub seed: u64,
    /// The most that the run directory may take, in 10⁹ bytes; 0 is no limit.
    #[serde(rename = "disk_limit_gb", deserialize_with = "gigabytes")]
    #[schemars(with = "NonNegative")]
    pub disk_bytes_max: Option<u64>,
    /// The most memory that the run is planned for, in 10⁹ bytes; 0 is no limit.
    #[serde(rename = "memory_limit_gb", default, deserialize_with = "gigabytes")]
    #[schemars(with = "NonNegative")]
    pub memory_bytes_max: Option<u64>,
    /// In which format the weights of models are written; without it that of the files which the run starts from.
    pub save_dtype: Option<SaveDtype>,
    /// The most that a file of weights takes, in 10⁹ bytes; 0 is no limit.
    #[serde(rename = "shard_size_gb", default = "no_limit", deserialize_with = "shard_bytes")]
    #[schemars(with = "NonNegative")]
    pub shard_bytes: u64,
}

/// A number format of stored weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SaveDtype {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
    /// 16-bit floats of IEEE 754.
    F16,
}

impl From<SaveDtype> for NumberFormat {
    fn from(dtype: SaveDtype) -> Self {
        match dtype {
            SaveDtype::F32 => Self::F32,
            SaveDtype::Bf16 => Self::Bf16,
            SaveDtype::F16 => Self::F16,
        }
    }
}

/// Of runs that write no large files.
fn no_limit() -> u64 {
    u64::MAX
}

fn shard_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Ok(gigabytes(deserializer)?.unwrap_or(u64::MAX))
}

/// A number of gigabytes, in bytes; 0 is no limit.
fn gigabytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let limit: Option<Limit> = unless_zero(deserializer)?;
    Ok(limit.map(|limit| (*limit * 1e9) as u64))
}

/// What happens to a record that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BadRecords {
    /// The first one is an error.
    Stop,
    /// They are counted and left out.
    Skip,
}

/// What happens to an example that is longer than `max_tokens`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
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

/// One file, or a list of them.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "text or a list of texts")]
enum Files {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

fn files<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    Ok(match Files::deserialize(deserializer)? {
        Files::One(one) => vec![one],
        Files::Many(many) => many,
    })
}

/// As [`files`]; an empty list is refused, where none is no key at all.
fn some_files<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    use serde::de::{Error, Unexpected};
    let files = files(deserializer)?;
    let empty =
        || D::Error::invalid_value(Unexpected::Other("an empty list"), &"at least one file");
    if files.is_empty() { Err(empty()) } else { Ok(files) }
}

/// `[[data.mix]]`: one of several sources of training records.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixSource {
    /// A file of records, or a list of files.
    #[serde(deserialize_with = "some_files")]
    #[schemars(with = "Files")]
    pub path: Vec<PathBuf>,
    /// How much of every epoch comes from it, in proportion to the weights of the others.
    pub weight: Positive,
    /// The file's names for columns; without them those of `data.columns`.
    pub columns: Option<BTreeMap<String, String>>,
    /// The most records read from it; 0 is all.
    #[serde(default, deserialize_with = "count_unless_zero")]
    #[schemars(with = "usize")]
    pub limit: Option<usize>,
}

/// What the judgements on one pair become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Votes {
    /// What most of them say.
    #[default]
    Majority,
    /// The share of votes, as a probability.
    Probability,
    /// The probability by a model of the annotators.
    Model,
    /// Each a record of its own.
    Each,
}

/// `[data.judgements]`: of stores of judgements, which become records.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JudgementsConfig {
    /// What the judgements on one pair become.
    pub votes: Votes,
    /// Annotators whose judgements are left out.
    pub exclude_annotators: Vec<String>,
    /// The fewest votes on a pair.
    #[serde(rename = "min_votes")]
    pub votes_min: AtLeastOne,
    /// The least share of the votes on a pair that says the same.
    #[serde(rename = "min_agreement")]
    pub agreement_min: Fraction,
    /// Whether judgements on gold and screening items are taken.
    pub gold: bool,
    /// Whether judgements by language models are taken.
    pub ai: bool,
}

impl Default for JudgementsConfig {
    fn default() -> Self {
        Self {
            votes: Votes::Majority,
            exclude_annotators: Vec::new(),
            votes_min: AtLeastOne::new(1).expect("1 is at least 1"),
            agreement_min: Fraction::new(0.0).expect("0 lies between 0 and 1"),
            gold: false,
            ai: false,
        }
    }
}

impl JudgementsConfig {
    fn selection(&self) -> Selection {
        Selection {
            combine: match self.votes {
                Votes::Majority => Combine::Majority,
                Votes::Probability => Combine::Probability,
                Votes::Model => Combine::Model,
                Votes::Each => Combine::Each,
            },
            exclude_annotators: self.exclude_annotators.clone(),
            votes_min: *self.votes_min,
            agreement_min: *self.agreement_min,
            gold: self.gold,
            ai: self.ai,
        }
    }
}

/// `[data]`: what is trained on.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// A file of records, or a list of files.
    #[serde(default, deserialize_with = "some_files")]
    #[schemars(with = "Option<Files>")]
    pub train: Vec<PathBuf>,
    /// Several sources with weights, in place of `train`.
    #[serde(default)]
    pub mix: Vec<MixSource>,
    /// Files of evaluation records; may be empty.
    #[serde(default, deserialize_with = "files")]
    #[schemars(with = "Option<Files>")]
    pub eval: Vec<PathBuf>,
    /// The share of prompts held out of `train` for evaluation.
    pub eval_fraction: BelowOne,
    /// Whether every epoch has an order of its own; else the files' order.
    pub shuffle: bool,
    /// Whether records are read as they are wanted, and not all before the first step.
    #[serde(default)]
    pub streaming: bool,
    /// How many records are held at a time where they are read as they are wanted, to be drawn from at random.
    #[serde(default = "shuffle_buffer")]
    pub shuffle_buffer: AtLeastOne,
    /// The file's names for columns, by the names that this program gives them.
    pub columns: BTreeMap<String, String>,
    /// What happens to bad records.
    #[serde(rename = "on_bad_record")]
    pub bad_records: BadRecords,
    /// What happens to long examples.
    pub truncation: Truncation,
    /// The most tokens of an example; 0 is what the model has positions for.
    #[serde(rename = "max_tokens", deserialize_with = "count_unless_zero")]
    #[schemars(with = "usize")]
    pub tokens_max: Option<usize>,
    /// The most records read from the training files together; 0 is all.
    #[serde(deserialize_with = "count_unless_zero")]
    #[schemars(with = "usize")]
    pub limit: Option<usize>,
    /// Whether only completions are trained on, where prompt and completion are known.
    #[serde(default = "yes")]
    pub completion_only: bool,
    /// What stands behind each step of a solution: a text, or a token by its name.
    #[serde(default = "step_separator")]
    pub step_separator: String,
    /// Of stores of judgements, which become records.
    #[serde(default)]
    pub judgements: JudgementsConfig,
}

/// Trainers that do not stream have no `shuffle_buffer`.
fn shuffle_buffer() -> AtLeastOne {
    AtLeastOne::new(1).expect("one is at least one")
}

/// Trainers without completions of their own do not have `completion_only`.
fn yes() -> bool {
    true
}

/// Trainers that read no steps do not have `step_separator`.
fn step_separator() -> String {
    STEP_SEPARATOR.to_owned()
}

impl DataConfig {
    /// Checks what its keys say together.
    ///
    /// # Errors
    /// If there is no file to train on, or keys contradict each other or those of `[train]`.
    pub fn check(&self, train: &TrainConfig) -> Result<(), Complaint> {
        if self.train.is_empty() && self.mix.is_empty() {
            let expected =
                "a file of records, or a list of files (or several with weights, [[data.mix]])";
            return Err(Complaint::missing("data.train", expected));
        }
        if !self.train.is_empty() && !self.mix.is_empty() {
            let reason =
                "both say what is trained on; what is in `data.train` can be one of [[data.mix]]";
            return Err(Complaint::exclusive("data.mix", "data.train", reason));
        }
        if self.limit.is_some() && !self.mix.is_empty() {
            let reason = "a source has a `limit` of its own";
            return Err(Complaint::exclusive("data.limit", "data.mix", reason));
        }
        Complaint::unless(
            !self.step_separator.is_empty(),
            "data.step_separator",
            "an empty text",
            "a text or the name of a token",
        )?;
        if self.streaming && train.epochs.is_some() {
            let reason = "how many records there are is not known before the end of a stream: give `train.steps`, or \
                          set `data.streaming = false`";
            return Err(Complaint::exclusive("data.streaming", "train.epochs", reason));
        }
        if !self.eval.is_empty() && 0.0 < *self.eval_fraction {
            let reason = "evaluation records come from files of their own or from the training \
                          files; remove one of the two";
            return Err(Complaint::exclusive("data.eval", "data.eval_fraction", reason));
        }
        if let Some(key) = train.needs_evaluations()
            && self.eval.is_empty()
            && *self.eval_fraction == 0.0
        {
            let expected =
                format!("files of evaluation records, or `data.eval_fraction`: `{key}` needs them");
            return Err(Complaint::missing("data.eval", &expected));
        }
        Ok(())
    }

    /// Every file or store of training records, in order.
    pub fn training_files(&self) -> impl Iterator<Item = &PathBuf> {
        self.train.iter().chain(self.mix.iter().flat_map(|source| &source.path))
    }

    /// How the files are read.
    pub fn read_options(&self) -> ReadOptions {
        ReadOptions {
            columns: self.columns.clone(),
            on_bad_record: match self.bad_records {
                BadRecords::Stop => OnBadRecord::Stop,
                BadRecords::Skip => OnBadRecord::Skip,
            },
            judgements: self.judgements.selection(),
            ..ReadOptions::default()
        }
    }
}

/// How the learning rate changes over a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// The largest learning rate.
    pub lr: NonNegative,
    /// Decay of the first and of the second moment.
    #[serde(deserialize_with = "betas")]
    pub betas: [BelowOne; 2],
    /// Added to the root of the second moment.
    pub eps: NonNegative,
    /// Decoupled weight decay of the parameters with two or more dimensions.
    pub weight_decay: NonNegative,
    /// The norm above which gradients are scaled down; 0 is never.
    #[serde(rename = "max_grad_norm", deserialize_with = "unless_zero")]
    #[schemars(with = "NonNegative")]
    pub grad_norm_max: Option<NonNegative>,
    /// How the learning rate changes.
    pub schedule: ScheduleKind,
    /// Optimizer steps over which it rises from 0 first.
    pub warmup_steps: Warmup,
}

fn betas<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[BelowOne; 2], D::Error> {
    use serde::de::{Error, Unexpected};
    let [first, second] = <[f64; 2]>::deserialize(deserializer)?;
    let read = |beta: f64| {
        let expected = &"two numbers from 0 to less than 1";
        let found = beta.to_string();
        let error = || D::Error::invalid_value(Unexpected::Other(&found), expected);
        BelowOne::new(beta).ok_or_else(error)
    };
    Ok([read(first)?, read(second)?])
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
pub const MICROBATCH_TOKENS: usize = 4096;

/// `[train]`: the loop.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Examples per optimizer step.
    pub batch_size: AtLeastOne,
    /// Optimizer steps of the run.
    pub steps: Option<Steps>,
    /// Passes over the training examples.
    pub epochs: Option<Steps>,
    /// The most tokens of one forward and backward pass; a larger tree is a pass of its own. 0 is what
    /// memory has room for.
    pub microbatch_tokens: usize,
    /// Optimizer steps from one metrics record to the next.
    pub log_every: Steps,
    /// Optimizer steps from one checkpoint to the next; 0 leaves it to `save_minutes`.
    #[serde(deserialize_with = "count_unless_zero")]
    #[schemars(with = "u64")]
    pub save_every: Option<u64>,
    /// Minutes of work from one checkpoint to the next; 0 makes none by time.
    #[serde(deserialize_with = "unless_zero")]
    #[schemars(with = "NonNegative")]
    pub save_minutes: Option<NonNegative>,
    /// Optimizer steps from one evaluation to the next; 0 evaluates at both ends of the run.
    #[serde(deserialize_with = "count_unless_zero")]
    #[schemars(with = "u64")]
    pub eval_every: Option<u64>,
    /// Optimizer steps from one set of samples to the next; 0 takes none.
    #[serde(default, deserialize_with = "count_unless_zero")]
    #[schemars(with = "u64")]
    pub sample_every: Option<u64>,
    /// Whether the model with the best evaluation is kept as `best/`.
    pub keep_best: bool,
    /// Evaluations in a row without a better one after which the run ends; 0 is never.
    #[serde(deserialize_with = "count_unless_zero")]
    #[schemars(with = "u64")]
    pub early_stopping_patience: Option<u64>,
    /// The figure of evaluations by which models are compared; without it that of the trainer.
    pub metric_for_best_model: Option<String>,
    /// Whether a higher value of that figure is the better one.
    pub greater_is_better: Option<bool>,
    /// Whether the last checkpoint of a finished run has the optimizer's moments.
    pub keep_optimizer: bool,
    /// The decay of a running mean of the weights, which is evaluated, sampled from and saved in their place.
    pub ema: Option<BelowOne>,
    /// Whether the configuration names the size of microbatches, so that no memory limit changes it.
    #[serde(skip)]
    pub microbatch_is_given: bool,
    /// The most bytes of logits that a forward pass leaves to its backward pass.
    #[serde(skip)]
    pub logits_bytes: usize,
    /// The most bytes of keys and values while completions are sampled.
    #[serde(skip)]
    pub cache_bytes: usize,
}

impl TrainConfig {
    /// Checks what its keys say together, and notes whether microbatches have a size.
    ///
    /// # Errors
    /// If the length is given in steps and in epochs.
    pub fn settle(&mut self) -> Result<(), Complaint> {
        if self.steps.is_some() && self.epochs.is_some() {
            let reason = "both say how long the run is; remove one of the two";
            return Err(Complaint::exclusive("train.steps", "train.epochs", reason));
        }
        self.check_evaluations()?;
        self.microbatch_is_given = 0 < self.microbatch_tokens;
        if !self.microbatch_is_given {
            self.microbatch_tokens = MICROBATCH_TOKENS;
        }
        self.cache_bytes = EngineOptions::default().cache_bytes;
        Ok(())
    }

    /// Whether what compares models says by what, and when.
    fn check_evaluations(&self) -> Result<(), Complaint> {
        match (&self.metric_for_best_model, self.greater_is_better) {
            (Some(_), None) => {
                let expected = "true or false: whether a higher `train.metric_for_best_model` is the better one";
                return Err(Complaint::missing("train.greater_is_better", expected));
            }
            (None, Some(_)) => {
                let expected = "the figure of evaluations that `train.greater_is_better` is about";
                return Err(Complaint::missing("train.metric_for_best_model", expected));
            }
            _ => {}
        }
        if self.early_stopping_patience.is_some() && self.eval_every.is_none() {
            let expected = "optimizer steps from one evaluation to the next: \
                            `train.early_stopping_patience` counts them";
            return Err(Complaint::unexpected("train.eval_every", 0, expected));
        }
        Ok(())
    }

    /// The key that needs evaluations, where one does.
    pub fn needs_evaluations(&self) -> Option<&'static str> {
        let patience = self.early_stopping_patience.map(|_| "train.early_stopping_patience");
        patience.or(self.metric_for_best_model.as_ref().map(|_| "train.metric_for_best_model"))
    }

    /// How long the run is; `None` where neither `steps` nor `epochs` is given.
    pub fn length(&self) -> Option<Length> {
        let steps = self.steps.map(|steps| Length::Steps(*steps));
        steps.or(self.epochs.map(|epochs| Length::Epochs(*epochs)))
    }

    /// The length of a run that must be told it.
    ///
    /// # Errors
    /// If neither steps nor epochs are given.
    pub fn required_length(&self) -> Result<Length, Complaint> {
        let expected = "the number of optimizer steps (or `train.epochs`, of passes over the data)";
        self.length().ok_or_else(|| Complaint::missing("train.steps", expected))
    }

    /// The length of a run over records.
    ///
    /// # Panics
    /// If the configuration was not checked to have one.
    pub fn known_length(&self) -> Length {
        self.length().expect("a configuration that was read says how long the run is")
    }
}

/// `[log]`: what is written beside `metrics.jsonl`, out of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Whether TensorBoard finds the metrics in `tensorboard/`.
    pub tensorboard: bool,
    /// Whether the metrics are a table too, `metrics.csv`.
    pub csv: bool,
}

/// `[samples]`: completions written down during training.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SamplesConfig {
    /// How many prompts are completed each time.
    pub count: usize,
    /// The most tokens of a completion.
    pub max_new_tokens: AtLeastOne,
    /// Sampling temperature; 0 is greedy.
    pub temperature: NonNegative,
}

/// The sections that every trainer of a language model reads, one by one under their own names.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SharedSections {
    /// `[run]`: the folder, the seed, limits.
    pub run: RunConfig,
    /// `[model]`: what the run starts from; the reference too, where there is one.
    pub model: ModelSource,
    /// `[template]`: how messages become tokens.
    pub template: TemplateConfig,
    /// `[lora]`: an adapter in place of the weights.
    pub lora: LoraSection,
    /// `[data]`: the records that are learned from, or the prompts that are completed.
    pub data: DataConfig,
    /// `[optimizer]`: AdamW and its learning rate.
    pub optimizer: OptimizerConfig,
    /// `[train]`: batch, length, and when something is written.
    pub train: TrainConfig,
    /// `[log]`: what is written besides `metrics.jsonl`.
    pub log: LogConfig,
}

impl SharedSections {
    /// Checks what several keys of `[model]`, `[lora]`, `[template]` and `[train]` say together; `is_held`: whether
    /// a model that stays as it is is held beside the trained one.
    ///
    /// # Errors
    /// Names the key that is missing, or contradicts another.
    pub fn settle(&mut self, is_held: bool) -> Result<(), Complaint> {
        self.model.settle(&self.lora, &self.template, is_held)?;
        self.train.settle()
    }

    /// Checks that there are records, and how long the run is.
    ///
    /// # Errors
    /// As [`SharedSections::settle`].
    pub fn check_records(&self) -> Result<(), Complaint> {
        self.data.check(&self.train)?;
        self.train.required_length().map(|_| ())
    }
}
