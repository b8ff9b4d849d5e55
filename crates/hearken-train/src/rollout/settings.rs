//! The parts of a configuration that every run that samples reads.

use std::path::PathBuf;

use super::feed::Asked;
use crate::config::{DataConfig, KlSteering, Length, RolloutConfig, SamplesConfig, ScoreConfig};
use crate::run;

/// The parts of a configuration that every run that samples reads.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The section of the algorithm, as errors name it.
    pub(crate) section: &'static str,
    /// `None` where rollouts are replayed.
    pub(crate) data: Option<DataConfig>,
    pub(crate) length: Option<Length>,
    pub(crate) rollout: RolloutConfig,
    pub(crate) samples: SamplesConfig,
    /// What the records are.
    pub(crate) asked: Asked,
    /// The reference before the first step.
    pub(crate) reference: PathBuf,
    pub(crate) movement: Movement,
    /// The coefficient of the KL penalty before the first iteration.
    pub(crate) beta: f64,
    /// How it moves.
    pub(crate) steering: KlSteering,
    /// The KL of a completion, in nats, above which the run ends.
    pub(crate) kl_limit_nats: Option<f64>,
    /// Prompts per iteration.
    pub(crate) prompts: usize,
    /// Passes over an iteration's rollouts.
    pub(crate) epochs: usize,
    /// Optimizer steps per pass.
    pub(crate) minibatches: usize,
    pub(crate) scores: Vec<ScoreConfig>,
    /// Whether reward models apply what is stored beside them.
    pub(crate) normalize_scores: bool,
    /// Whether at least one score must count.
    pub(crate) needs_scores: bool,
}

/// A configuration of a run that samples.
pub(crate) trait Configured: Clone {
    fn settings(&self) -> (run::Settings, Settings);
}

/// Whether a reference stays what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Movement {
    /// It does.
    Frozen,
    /// It follows the policy, so that checkpoints have it.
    Following,
}
