//! What trainers that sample write to `metrics.jsonl` alike, as parts of their records.

use hearken_objective::Mean;
use hearken_objective::surrogate::metrics::RatioMetrics;
use hearken_run::metrics::Timing;
use serde::Serialize;

use super::Rollout;
use super::guard::repeated;
use super::train::RolloutStep;

/// Which step of a run a record is about, and what the update did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepMetrics {
    /// The optimizer step, from 1.
    pub step: u64,
    /// The iteration, from 0.
    pub iteration: u64,
    /// The pass over what the iteration learns from, from 0.
    pub epoch: usize,
    /// The minibatch of that pass, from 0.
    pub minibatch: usize,
    /// What is minimized, over the minibatch, before the update.
    pub loss: f64,
    /// Norm of the gradient over all trained parameters, before clipping; those of a critic count.
    pub grad_norm: f64,
    /// Learning rate of the policy in this step.
    pub learning_rate: f64,
}

impl StepMetrics {
    pub(crate) fn of<I, S>(step: &RolloutStep<'_, I, S>) -> Self {
        Self {
            step: step.update.step,
            iteration: step.index,
            epoch: step.epoch,
            minibatch: step.minibatch,
            loss: step.update.loss,
            grad_norm: step.update.grad_norm,
            learning_rate: step.update.learning_rate,
        }
    }
}

/// How large a step was, and how long it took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepCost {
    /// Tokens that went through the policy in this step, forward and backward; a shared prompt counts once.
    pub tokens: usize,
    /// Tokens that were trained on.
    pub completion_tokens: usize,
    /// `seconds` and `tokens_per_s`; the first step of an iteration includes its rollouts.
    #[serde(flatten)]
    pub timing: Timing,
}

impl StepCost {
    pub(crate) fn of<I, S>(step: &RolloutStep<'_, I, S>, completion_tokens: usize) -> Self {
        Self { tokens: step.update.tokens, completion_tokens, timing: step.update.timing }
    }
}

/// The ratios π_θ/π_old of a step, over what they cover: tokens or completions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RatioSummary {
    /// Their mean.
    #[serde(rename = "val/ratio")]
    pub ratio: f64,
    /// The largest: how stale the rollouts are.
    #[serde(rename = "val/ratio_max")]
    pub ratio_max: f64,
    /// The least.
    #[serde(rename = "val/ratio_min")]
    pub ratio_min: f64,
}

impl RatioSummary {
    /// Of a step that learns from nothing, what holds before the first update.
    pub(crate) fn of(ratios: &RatioMetrics) -> Self {
        Self {
            ratio: ratios.ratio.value().unwrap_or(1.0),
            ratio_max: ratios.ratio_max.unwrap_or(1.0),
            ratio_min: ratios.ratio_min.unwrap_or(1.0),
        }
    }
}

/// How long the completions of an iteration are, and how much in them is said again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LengthMetrics {
    /// Mean number of tokens of a completion, a sampled end token included.
    #[serde(rename = "completions/mean_length")]
    pub mean: f64,
    /// Tokens of the shortest completion.
    #[serde(rename = "completions/min_length")]
    pub min: usize,
    /// Tokens of the longest completion.
    #[serde(rename = "completions/max_length")]
    pub max: usize,
    /// Share of a completion's 4-grams of tokens that stand in it before, mean.
    #[serde(rename = "completions/repeated_share")]
    pub repeated_share: f64,
}

impl LengthMetrics {
    pub(crate) fn of<'r>(rollouts: impl Iterator<Item = &'r Rollout> + Clone) -> Self {
        let lengths = || rollouts.clone().map(|one| one.completion.ids.len());
        Self {
            mean: lengths().map(|tokens| tokens as f64).collect::<Mean>().value().unwrap_or(0.0),
            min: lengths().min().unwrap_or(0),
            max: lengths().max().unwrap_or(0),
            repeated_share: repeated(rollouts),
        }
    }
}
