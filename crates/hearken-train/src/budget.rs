//! How large a microbatch may be, so that a run stays within `run.memory_limit_gb`.
//!
//! The sizes of all models follow from their config.json, so that the limit is known to hold before a
//! weight is read.

use std::path::Path;

use hearken_model::{Footprint, Head, ModelConfig, ModelError};
use hearken_tensor::device::Precision;

use crate::config::{
    Dtype, MICROBATCH_TOKENS, ModelSource, RunConfig, ScoreConfig, SourceConfig, TrainConfig,
};
use crate::error::TrainError;
use crate::plan::{MemoryPlan, Recompute, bytes_per_row, megabytes};
use crate::trained_model::is_frozen;

/// A model of a run, and what the run does with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    /// Its folder.
    pub(crate) path: &'a Path,
    pub(crate) head: Head,
    pub(crate) dtype: Dtype,
    pub(crate) purpose: Purpose<'a>,
}

/// What a run does with a model.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose<'a> {
    /// It is trained, but for the parameters that match one of these patterns.
    Train(&'a [String]),
    /// It is read; masters that have rounded copies are dropped.
    Read,
    /// It is read and follows another model, so that its masters stay.
    Follow,
}

impl<'a> Part<'a> {
    /// The model of a configuration, trained.
    pub(crate) fn trained(model: &'a ModelSource, head: Head) -> Self {
        let purpose = Purpose::Train(&model.freeze);
        Self { path: &model.path, head, dtype: model.dtype, purpose }
    }

    /// The reward models among the sources of scores.
    pub(crate) fn scores(scores: &'a [ScoreConfig]) -> impl Iterator<Item = Self> {
        scores.iter().filter_map(|score| match &score.source {
            SourceConfig::Model { path, dtype, .. } => {
                let (dtype, purpose) = (*dtype, Purpose::Read);
                Some(Self { path, head: Head::Score, dtype, purpose })
            }
            _ => None,
        })
    }

    fn footprint(&self) -> Result<Footprint, TrainError> {
        let config = ModelConfig::read(self.path).map_err(ModelError::from)?;
        let is_trained = |name: &str| match self.purpose {
            Purpose::Train(frozen) => !is_frozen(name, frozen),
            Purpose::Read | Purpose::Follow => false,
        };
        let precision = Precision::from(self.dtype);
        let found = Footprint::new(&config, self.head, precision, is_trained);
        let drops = matches!(self.purpose, Purpose::Read);
        // A rounded copy has half the bytes of the masters that are dropped for it.
        let dropped = if drops { 2 * found.copy_bytes.min(found.master_bytes / 2) } else { 0 };
        Ok(Footprint { master_bytes: found.master_bytes - dropped, ..found })
    }
}

/// Bytes of the activations of a microbatch, about, where neither its size nor a memory limit is given.
const ACTIVATION_BYTES: f64 = 512.0 * (1 << 20) as f64;
/// Tokens of a microbatch at least, where the size of activations decides: with fewer, products are
/// slower than they need be.
const TOKENS_MIN: usize = 512;

/// Sets the size of microbatches, and what sampling may cache, by the run's memory limit, or without
/// one so that activations do not take more than a usual machine has to spare. Does nothing where the
/// configuration names a size itself.
///
/// # Errors
/// If a config.json cannot be read, or the models alone need more than the limit.
pub(crate) fn fit(
    train: &mut TrainConfig,
    run: &RunConfig,
    recompute: bool,
    parts: &[Part<'_>],
) -> Result<(), TrainError> {
    if train.microbatch_is_given {
        return Ok(());
    }
    let (mut plan, mut per_row) = (MemoryPlan::default(), 0.0_f64);
    for part in parts {
        let footprint = part.footprint()?;
        if matches!(part.purpose, Purpose::Train(_)) {
            plan = plan.with(MemoryPlan::trained(&footprint));
            per_row = per_row.max(bytes_per_row(&footprint, Recompute::from(recompute)));
        } else {
            plan = plan.beside(&footprint);
        }
    }
    let Some(limit) = run.memory_bytes_max else {
        let tokens = (ACTIVATION_BYTES / per_row) as usize;
        train.microbatch_tokens = tokens.clamp(TOKENS_MIN, MICROBATCH_TOKENS);
        return Ok(());
    };
    let room = limit.saturating_sub(plan.held());
    let tokens = (room as f64 / per_row) as usize;
    if tokens == 0 {
        return Err(TrainError::Other(format!(
            "`run.memory_limit_gb`: found {}, expected at least {}: {}; another {} for each token of \
             a microbatch",
            megabytes(limit),
            megabytes(plan.held() + per_row as u64),
            plan.note(),
            megabytes(per_row as u64),
        )));
    }
    train.microbatch_tokens = tokens;
    train.cache_bytes = train.cache_bytes.min(usize::try_from(room).unwrap_or(usize::MAX));
    Ok(())
}

/// Refuses a run whose largest tree of rows, which is never split, is above the limit.
///
/// # Errors
/// If `plan`, which has the largest microbatch, takes more than `run.memory_limit_gb`, unless the
/// configuration names the size of microbatches.
pub(crate) fn check(
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
    use crate::config::Layers;

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
        let loaded = crate::sft::SftConfig::from_layers(layers_of(dir.path())).unwrap();
        let (mut train, config) = (loaded.config.train.clone(), &loaded.config);
        let part = Part::trained(&config.model, Head::LanguageModel);
        fit(&mut train, &config.run, false, &[part]).unwrap();
        train.microbatch_tokens
    }

    fn layers_of(model: &Path) -> Layers {
        let mut layers = crate::sft::SftConfig::defaults(Path::new("test"));
        let text = format!(
            "[run]\ndir = 'run'\n[model]\npath = '{}'\n[data]\ntrain = 'train.jsonl'\n\
             [train]\nbatch_size = 8\nsteps = 1\n",
            model.display()
        );
        layers.merge(text.parse().unwrap());
        layers
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
