//! The parts of a configuration that every run that samples reads.

use std::path::PathBuf;

use hearken_config::{
    AtLeastOne, GuardConfig, KlSteering, Named, NonNegative, Positive, RolloutConfig,
    SamplesConfig, ScoreConfig, SharedSections, missing_end,
};
use hearken_objective::reward::MissingEnd;
use schemars::JsonSchema;
use serde::Deserialize;

use super::feed::SampledRecords;

/// The parts of a configuration that every run that samples reads.
#[derive(Clone, Debug)]
pub struct RolloutSettings {
    /// The section of the algorithm, as errors name it.
    pub(crate) section: &'static str,
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

/// Keys that `[ppo]`, `[grpo]` and `[online]` have in common: how an iteration is learned from, and what its scores are.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LearningSettings {
    /// Passes over an iteration's rollouts, or over the records that are made of them.
    pub epochs: AtLeastOne,
    /// Optimizer steps per pass.
    pub minibatches: AtLeastOne,
    /// What is taken from the score of a completion that has no end.
    #[serde(rename = "missing_end_penalty", deserialize_with = "missing_end")]
    #[schemars(with = "NonNegative")]
    pub missing_end: MissingEnd,
    /// The KL of a completion, in nats, above which the run ends.
    #[serde(rename = "kl_limit")]
    pub kl_limit_nats: Option<Positive>,
    /// Whether reward models apply what is stored beside them.
    pub normalize_scores: bool,
}

/// A configuration of a run that samples.
pub trait Configured: Clone {
    /// What every run reads, and what every run that samples reads.
    fn settings(&self) -> (SharedSections, RolloutSettings);
}

/// Keys of `[data]` that say nothing to a run that samples completions of prompts.
pub(crate) const UNREAD: &[&str] = &[
    "data.completion_only",
    "data.step_separator",
    "data.judgements",
    "data.streaming",
    "data.shuffle_buffer",
];

/// The models and records that a run reads which samples, or replays what was sampled.
pub(crate) fn named<'a>(
    shared: &'a mut SharedSections,
    rollout: &'a mut RolloutConfig,
    scores: &'a mut [ScoreConfig],
) -> Vec<Named<'a>> {
    let mut named: Vec<Named<'_>> = shared.model.named().collect();
    match &mut rollout.replay {
        Some(path) => named.push(Named::records("rollout.replay", path)),
        None => named.extend(shared.data.named()),
    }
    named.extend(ScoreConfig::named(scores));
    named
}

/// Whether a reference stays what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Movement {
    /// It does.
    Frozen,
    /// It follows the policy, so that checkpoints have it.
    Following,
}
