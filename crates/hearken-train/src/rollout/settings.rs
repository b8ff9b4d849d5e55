//! The parts of a configuration that every run that samples reads.

use std::path::PathBuf;

use hearken_config::{
    DataConfig, GuardConfig, KlSteering, Length, RolloutConfig, SamplesConfig, ScoreConfig,
};
use hearken_run::run;

use super::feed::SampledRecords;

/// The parts of a configuration that every run that samples reads.
#[derive(Clone, Debug)]
pub struct RolloutSettings {
    /// The section of the algorithm, as errors name it.
    pub(crate) section: &'static str,
    /// What prompts are read from, unless rollouts are replayed.
    pub(crate) data: DataConfig,
    pub(crate) length: Option<Length>,
    /// `[rollout]`: how completions are sampled.
    pub rollout: RolloutConfig,
    pub(crate) samples: SamplesConfig,
    /// What the records are.
    pub(crate) asked: SampledRecords,
    /// The reference before the first step; `None` where there is none in this process.
    pub(crate) reference: Option<PathBuf>,
    /// The key that names it, in errors.
    pub(crate) reference_key: &'static str,
    pub(crate) movement: Movement,
    /// The coefficient of the KL penalty before the first iteration.
    pub(crate) beta: f64,
    /// How it moves.
    pub(crate) steering: KlSteering,
    /// The KL of a completion, in nats, above which the run ends.
    pub(crate) kl_limit_nats: Option<f64>,
    /// Prompts per iteration.
    pub prompts: usize,
    /// Passes over an iteration's rollouts.
    pub epochs: usize,
    /// Optimizer steps per pass.
    pub minibatches: usize,
    /// `[[score]]`: who scores them.
    pub scores: Vec<ScoreConfig>,
    /// `[guard]`: what is watched; `None` where no score is trained on.
    pub(crate) guard: Option<GuardConfig>,
    /// Whether reward models apply what is stored beside them.
    pub(crate) normalize_scores: bool,
    /// Whether at least one score must count.
    pub needs_scores: bool,
}

/// A configuration of a run that samples.
pub trait Configured: Clone {
    /// What every run reads, and what every run that samples reads.
    fn settings(&self) -> (run::RunSettings, RolloutSettings);
}

/// Whether a reference stays what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Movement {
    /// It does.
    Frozen,
    /// It follows the policy, so that checkpoints have it.
    Following,
}
