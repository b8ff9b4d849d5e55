//! How large a microbatch may be, so that a run stays within `run.memory_limit_gb`.
//!
//! The sizes of all models follow from their config.json, so that the limit is known to hold before a
//! weight is read.

use std::path::{Path, PathBuf};

use hearken_config::{
    Base, Dtype, LoraSection, MICROBATCH_TOKENS, MasterWeights, ModelSource, RunConfig,
    SamplingDtype, ScoreConfig, SharedSections, SourceConfig, TrainConfig,
};
use hearken_model::{Footprint, Head, ModelConfig, ModelError};
use hearken_reward_source::judging::LocalJudge;
use hearken_tensor::device::Precision;

use crate::error::TrainError;
use crate::plan::{BUFFERS_PER_BYTE, MemoryPlan, Recompute, bytes_per_row, megabytes};
use crate::trained_model::{is_frozen, new_adapter};

/// A model of a run, and what the run does with it.
#[derive(Clone, Copy, Debug)]
pub struct BudgetModel<'a> {
    /// Its folder.
    pub path: &'a Path,
    /// What stands on the transformer.
    pub head: Head,
    /// What its products read.
    pub dtype: Dtype,
    /// How its weights are held where nothing trains them.
    pub base: Base,
    /// What is trained of its weights.
    pub masters: MasterWeights,
    /// What the run does with it.
    pub purpose: Purpose<'a>,
    /// The adapter that is trained in place of the weights. What has one and is not trained shares the
    /// weights of what is.
    pub lora: Option<&'a LoraSection>,
}

/// What a run does with a model.
#[derive(Clone, Copy, Debug)]
pub enum Purpose<'a> {
    /// It is trained, but for the parameters that match one of these patterns.
    Train(&'a [String]),
    /// It is read; masters that have rounded copies are dropped.
    Read,
    /// It is read and follows another model, so that its masters stay.
    Follow,
}

impl<'a> BudgetModel<'a> {
    /// The model of a configuration, trained.
    pub fn trained(model: &'a ModelSource, head: Head) -> Self {
        let purpose = Purpose::Train(&model.freeze);
        let (dtype, base, lora) = (model.dtype, model.base, model.lora.as_ref());
        let masters = model.masters;
        Self { path: &model.path, head, dtype, base, masters, purpose, lora }
    }

    /// The reward models among the sources of scores.
    pub fn scores(scores: &'a [ScoreConfig]) -> impl Iterator<Item = Self> {
        scores.iter().flat_map(|score| {
            let (paths, dtype, base) = match &score.source {
                SourceConfig::Model { path, dtype, base, .. }
                | SourceConfig::Distance { path, dtype, base, .. }
                | SourceConfig::Process { path, dtype, base, .. } => {
                    (std::slice::from_ref(path), *dtype, *base)
                }
                SourceConfig::Ensemble { paths, dtype, base, .. } => {
                    (paths.as_slice(), *dtype, *base)
                }
                _ => (&[][..], Dtype::default(), Base::default()),
            };
            let (purpose, masters) = (Purpose::Read, MasterWeights::F32);
            let part = move |path| Self {
                path,
                head: Head::Score,
                dtype,
                base,
                masters,
                purpose,
                lora: None,
            };
            paths.iter().map(move |path: &PathBuf| part(path))
        })
    }

    /// A judge in this process.
    pub fn judge(judge: &'a LocalJudge) -> Self {
        let LocalJudge { path, dtype, base } = judge;
        Self {
            path,
            head: Head::LanguageModel,
            dtype: *dtype,
            base: *base,
            masters: MasterWeights::F32,
            purpose: Purpose::Read,
            lora: None,
        }
    }

    /// What the model takes, as its config.json says.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn footprint(&self) -> Result<Footprint, TrainError> {
        let config = ModelConfig::read(self.path).map_err(ModelError::from)?;
        let is_trained = |name: &str| match self.purpose {
            Purpose::Train(frozen) => !is_frozen(name, frozen),
            Purpose::Read | Purpose::Follow => false,
        };
        let precision = Precision::from(self.dtype);
        if let Some(lora) = self.lora {
            let adapter = new_adapter(lora)?;
            let found =
                Footprint::with_adapter(&config, self.head, precision, &adapter, self.base.into());
            return found.map_err(|error| TrainError::Other(format!("`lora.targets`: {error}")));
        }
        Ok(match self.purpose {
            Purpose::Read => Footprint::read(&config, self.head, precision, self.base.into()),
            Purpose::Train(_) | Purpose::Follow => {
                let found = Footprint::new(&config, self.head, precision, is_trained);
                match (&self.purpose, self.masters) {
                    (Purpose::Train(_), MasterWeights::Bf16) => {
                        found.with_rounded_masters(&config, self.head)
                    }
                    _ => found,
                }
            }
        })
    }
}

/// Bytes of the activations of a microbatch, about, where neither its size nor a memory limit is given.
const ACTIVATION_BYTES: f64 = 512.0 * (1 << 20) as f64;
/// Tokens of a microbatch at least, where the size of activations decides: with fewer, products are
/// slower than they need be.
const TOKENS_MIN: usize = 512;

/// What the sampler's cache may take of the memory that a limit leaves beside models.
const CACHE_SHARE: f64 = 0.25;

/// What forward passes keep for their backward passes.
#[derive(Clone, Copy, Debug)]
pub struct Tape {
    blocks: Recompute,
    /// Whether log-probabilities are read before the backward pass, so that it can have their logits.
    logits: bool,
    /// How completions are sampled in between, from a cache of keys and values, if they are.
    samples: Option<SamplingDtype>,
}

impl Tape {
    /// That of a trainer that samples.
    #[must_use]
    pub fn sampling(self, dtype: SamplingDtype) -> Self {
        Self { samples: Some(dtype), ..self }
    }

    /// That of passes of `model`; with `logits`, log-probabilities are read before the backward pass.
    pub fn new(model: &ModelSource, logits: bool) -> Self {
        Self { blocks: model.recompute.into(), logits, samples: None }
    }
}

/// What one row of a microbatch takes, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct RowBytes {
    activations: f64,
    logits: f64,
}

impl RowBytes {
    fn max(self, model: &Footprint, tape: Tape) -> Self {
        let logits = if tape.logits { model.logits_bytes_per_row } else { 0 };
        Self {
            activations: self.activations.max(bytes_per_row(model, tape.blocks)),
            logits: self.logits.max(logits as f64 * BUFFERS_PER_BYTE),
        }
    }

    /// Rows of a microbatch within so many bytes. Logits are not kept for the price of microbatches
    /// in which all products are slower.
    fn rows_within(self, room: f64) -> usize {
        let keeping = (room / (self.activations + self.logits)) as usize;
        if TOKENS_MIN <= keeping { keeping } else { (room / self.activations) as usize }
    }

    /// Bytes for logits that so many rows leave.
    fn logits_within(self, room: f64, rows: usize) -> usize {
        let left = room - self.activations * rows as f64;
        if 0.0 < self.logits { (left.max(0.0) / BUFFERS_PER_BYTE) as usize } else { 0 }
    }
}

/// The size of microbatches, which logits they keep, and what sampling may cache, by the run's
/// memory limit, or without one so that activations do not take more than a usual machine has to spare.
/// A size that the configuration names itself stays.
///
/// # Errors
/// If a config.json cannot be read, or the models alone need more than the limit.
pub fn fit(
    shared: &SharedSections,
    tape: Tape,
    parts: &[BudgetModel<'_>],
) -> Result<SharedSections, TrainError> {
    let SharedSections { run, train, .. } = shared;
    let (mut plan, mut per_row) = (MemoryPlan::default(), RowBytes::default());
    let mut sampled = 0;
    let shares =
        |part: &BudgetModel<'_>| part.lora.is_some() && !matches!(part.purpose, Purpose::Train(_));
    for part in parts.iter().filter(|part| !shares(part)) {
        let footprint = part.footprint()?;
        if matches!(part.purpose, Purpose::Train(_)) {
            // The first that is trained is the one whose mean is taken.
            let averages = train.ema.is_some() && plan == MemoryPlan::default();
            plan = plan.with(MemoryPlan::trained(&footprint));
            plan = if averages { plan.with_average(&footprint) } else { plan };
            let bytes = |dtype: SamplingDtype| footprint.sampled_bytes(dtype.int8());
            sampled = tape.samples.map_or(0, |dtype| bytes(dtype).max(sampled));
            per_row = per_row.max(&footprint, tape);
        } else {
            plan = plan.beside(&footprint);
        }
    }
    let mut fitted = train.clone();
    let room = match run.memory_bytes_max {
        None => ACTIVATION_BYTES,
        Some(limit) => {
            let room = limit.saturating_sub(plan.held() + sampled as u64) as f64;
            let cache = if tape.samples.is_some() { CACHE_SHARE * room } else { 0.0 };
            fitted.cache_bytes = train.cache_bytes.min(cache as usize);
            room - cache
        }
    };
    if !train.microbatch_is_given {
        let tokens = per_row.rows_within(room);
        match run.memory_bytes_max {
            None => fitted.microbatch_tokens = tokens.clamp(TOKENS_MIN, MICROBATCH_TOKENS),
            Some(limit) if tokens == 0 => {
                return Err(too_small(limit, &plan, per_row.activations as u64));
            }
            Some(_) => fitted.microbatch_tokens = tokens,
        }
    }
    fitted.logits_bytes = per_row.logits_within(room, fitted.microbatch_tokens);
    Ok(SharedSections { train: fitted, ..shared.clone() })
}

/// The limit that does not even leave room for one row.
fn too_small(limit: u64, plan: &MemoryPlan, per_row: u64) -> TrainError {
    TrainError::Other(format!(
        "`run.memory_limit_gb`: found {}, expected at least {}: {}; another {} for each token of a \
         microbatch",
        megabytes(limit),
        megabytes(plan.held() + per_row),
        plan.note(),
        megabytes(per_row),
    ))
}

/// Refuses a run whose largest tree of rows, which is never split, is above the limit.
///
/// # Errors
/// If `plan`, which has the largest microbatch, takes more than `run.memory_limit_gb`, unless the
/// configuration names the size of microbatches.
pub fn check(
    plan: &MemoryPlan,
    run: &RunConfig,
    train: &TrainConfig,
    rows: usize,
) -> Result<(), TrainError> {
    let is_derived = !train.microbatch_is_given;
    match run.memory_bytes_max.filter(|_| is_derived && train.microbatch_tokens < rows) {
        None => Ok(()),
        Some(limit) => Err(TrainError::Other(format!(
            "`run.memory_limit_gb`: found {}, which leaves room for microbatches of {} tokens; \
             expected room for {rows}, the longest example: {}",
            megabytes(limit),
            train.microbatch_tokens,
            plan.note(),
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use toml::{Table, Value};

    /// The size of microbatches for a model of this width and depth, without a limit.
    fn default_tokens(width: usize, layers: usize) -> usize {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({
            "model_type": "llama", "vocab_size": 1000, "hidden_size": width,
            "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 4,
            "intermediate_size": 3 * width, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
            "tie_word_embeddings": true, "hidden_act": "silu",
        });
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let path = dir.path().display().to_string();
        // The defaults of supervised fine-tuning.
        let mut sections: Table = include_str!("../../../configs/sft.toml").parse().unwrap();
        sections.remove("samples");
        let mut give = |section: &str, key: &str, value: Value| {
            sections[section].as_table_mut().unwrap().insert(key.to_owned(), value);
        };
        give("run", "dir", "run".into());
        give("model", "path", path.into());
        give("train", "batch_size", 8.into());
        give("train", "steps", 1.into());
        let mut shared: SharedSections = sections.try_into().unwrap();
        shared.settle(false).unwrap();
        let part = BudgetModel::trained(&shared.model, Head::LanguageModel);
        fit(&shared, Tape::new(&shared.model, false), &[part]).unwrap().train.microbatch_tokens
    }

    #[test]
    fn logits_are_kept_where_microbatches_stay_large_enough() {
        let per_row = RowBytes { activations: 3000.0, logits: 1000.0 };
        let just = 4000.0 * TOKENS_MIN as f64;
        assert_eq!(per_row.rows_within(just), TOKENS_MIN);
        assert_eq!(per_row.logits_within(just, TOKENS_MIN), 800 * TOKENS_MIN);
        let short = just - 4000.0;
        assert!(TOKENS_MIN < per_row.rows_within(short));
        assert!(per_row.logits_within(short, per_row.rows_within(short)) < 3000);
        // What a size of one's own leaves is taken, and where there is nothing to keep, nothing.
        assert_eq!(per_row.logits_within(400_000.0, 100), 80_000);
        assert_eq!(per_row.logits_within(100_000.0, 100), 0);
        assert_eq!(RowBytes { logits: 0.0, ..per_row }.logits_within(400_000.0, 100), 0);
    }

    #[test]
    fn without_a_limit_activations_stay_within_what_a_machine_can_spare() {
        assert_eq!(default_tokens(64, 2), MICROBATCH_TOKENS);
        let (middling, large) = (default_tokens(512, 12), default_tokens(2048, 24));
        assert!((TOKENS_MIN + 1..MICROBATCH_TOKENS).contains(&middling), "{middling}");
        assert_eq!(large, TOKENS_MIN);
        // Half the blocks, about twice the rows.
        assert!(
            (1.7..2.1).contains(&(default_tokens(768, 10) as f64 / default_tokens(768, 20) as f64))
        );
    }
}
