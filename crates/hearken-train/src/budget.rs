//! How large a microbatch may be, so that a run stays within `run.memory_limit_gb`.
//!
//! The sizes of all models follow from their config.json, so that the limit is known to hold before a
//! weight is read.

use std::path::Path;

use hearken_model::{Footprint, Head, ModelConfig, ModelError};
use hearken_tensor::device::Precision;

use crate::config::{Dtype, ModelSource, RunConfig, ScoreConfig, SourceConfig, TrainConfig};
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

/// Sets the size of microbatches, and what sampling may cache, by the run's memory limit. Does nothing
/// where there is no limit, or where the configuration names a size itself.
///
/// # Errors
/// If a config.json cannot be read, or the models alone need more than the limit.
pub(crate) fn fit(
    train: &mut TrainConfig,
    run: &RunConfig,
    recompute: bool,
    parts: &[Part<'_>],
) -> Result<(), TrainError> {
    let Some(limit) = run.memory_bytes_max.filter(|_| !train.microbatch_is_given) else {
        return Ok(());
    };
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
