//! What PPO writes to `metrics.jsonl`: one record per optimizer step, under the names of TRL where it
//! has one for the same quantity.

use std::collections::BTreeMap;

use hearken_objective::{Mean, surrogate::metrics::RatioMetrics};
use hearken_run::ranks::Joined;
use serde::{Deserialize, Serialize};

use super::Credited;
use crate::rollout::metrics::{LengthMetrics, RatioSummary, StepCost, StepMetrics};
use crate::rollout::train::RolloutStep;

/// What an iteration's rollouts say, before its first update; the same in all records of an
/// iteration.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PpoIteration {
    /// KL(π ‖ π_ref) of a completion: k1 summed over its tokens, mean over completions. Nats.
    #[serde(rename = "objective/kl")]
    pub kl_k1_nats: f64,
    /// −Σ log π of a completion's tokens, mean over completions: an estimate of the entropy of whole
    /// completions. Nats.
    #[serde(rename = "objective/entropy")]
    pub entropy_nats: f64,
    /// KL penalty of a completion as it enters the rewards, mean; 0 unless it is placed there.
    #[serde(rename = "objective/non_score_reward")]
    pub non_score_reward: f64,
    /// Score plus penalty of a completion, mean.
    #[serde(rename = "objective/rlhf_reward")]
    pub rlhf_reward: f64,
    /// Score of a completion, mean; normalization and a missing end's penalty included.
    #[serde(rename = "objective/scores")]
    pub scores: f64,
    /// Sample standard deviation of these scores; absent with fewer than two.
    #[serde(rename = "objective/scores_std", skip_serializing_if = "Option::is_none")]
    pub scores_std: Option<f64>,
    /// Exact entropy of the distribution of the next token, mean over the completions' tokens. Nats.
    pub entropy: f64,
    /// The coefficient of the KL penalty in force.
    #[serde(rename = "kl/beta")]
    pub beta: f64,
    /// 1 − Var(R − V)/Var(R), with the values before the first update; absent where the returns do
    /// not vary.
    #[serde(rename = "val/explained_variance", skip_serializing_if = "Option::is_none")]
    pub explained_variance: Option<f64>,
    /// How long its completions are.
    #[serde(flatten)]
    pub lengths: LengthMetrics,
    /// Share of completions that ended by themselves.
    #[serde(rename = "completions/share_ended")]
    pub share_ended: f64,
    /// Largest |log π as sampled − log π as recomputed| of a token; absent in replay.
    #[serde(
        rename = "sampling/sampling_logp_difference/max",
        skip_serializing_if = "Option::is_none"
    )]
    pub sampled_difference_max: Option<f64>,
    /// Share of tokens whose weight against the sampler is bounded or 0; absent without a correction.
    #[serde(rename = "sampling/corrected_share", skip_serializing_if = "Option::is_none")]
    pub corrected_share: Option<f64>,
    /// Optimizer steps that the policy has made since it wrote a completion, mean; absent where it writes them at once.
    #[serde(rename = "sampling/staleness", skip_serializing_if = "Option::is_none")]
    pub staleness: Option<f64>,
    /// Mean score of each source, unweighted: `scores/LABEL`.
    #[serde(flatten)]
    pub sources: BTreeMap<String, f64>,
}

/// One optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PpoStep {
    /// Which step it is, and what the update did. The loss is policy + `value_coef` · value − `entropy_coef` · entropy
    /// (+ β · KL where it is placed in the loss), each a mean over the minibatch's tokens.
    #[serde(flatten)]
    pub step: StepMetrics,
    /// Clipped surrogate, mean over tokens.
    #[serde(rename = "loss/policy_avg")]
    pub policy_loss: f64,
    /// Value loss, the ½ included, mean over tokens.
    #[serde(rename = "loss/value_avg")]
    pub value_loss: f64,
    /// k2 of KL(π_old ‖ π_θ), mean over tokens. Nats.
    #[serde(rename = "policy/approxkl_avg")]
    pub approx_kl: f64,
    /// Share of tokens whose clipped ratio stops their gradient.
    #[serde(rename = "policy/clipfrac_avg")]
    pub clip_fraction: f64,
    /// How far the policy is from the one that sampled.
    #[serde(flatten)]
    pub ratios: RatioSummary,
    /// Share of tokens whose value is clipped.
    #[serde(rename = "val/clipfrac_avg")]
    pub value_clip_fraction: f64,
    /// What the iteration's rollouts say.
    #[serde(flatten)]
    pub iteration_metrics: PpoIteration,
    /// How large it was, and how long it took.
    #[serde(flatten)]
    pub cost: StepCost,
}

impl PpoStep {
    pub(super) fn new(step: &RolloutStep<'_, Credited, PpoStepSums>) -> Self {
        let RolloutStep { sums, iteration, .. } = step;
        let mean = |mean: Mean| mean.value().unwrap_or(0.0);
        Self {
            step: StepMetrics::of(step),
            policy_loss: mean(sums.policy),
            value_loss: mean(sums.value),
            approx_kl: mean(sums.ratios.approx_kl_k2),
            clip_fraction: mean(sums.ratios.clipped()),
            ratios: RatioSummary::of(&sums.ratios),
            value_clip_fraction: sums.value_clipped as f64 / sums.value.count.max(1) as f64,
            iteration_metrics: iteration.metrics.clone(),
            cost: StepCost::of(step, sums.policy.count),
        }
    }
}

/// Sums over the tokens of an optimizer step; they add up over microbatches.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct PpoStepSums {
    pub(super) policy: Mean,
    pub(super) value: Mean,
    /// Of the distributions, where the entropy is part of the loss.
    pub(super) entropy: Mean,
    /// Of the penalty, where it is part of the loss.
    pub(super) kl: Mean,
    pub(super) ratios: RatioMetrics,
    pub(super) value_clipped: usize,
}

impl PpoStepSums {
    pub(super) fn merge(self, other: Self) -> Self {
        Self {
            policy: self.policy + other.policy,
            value: self.value + other.value,
            entropy: self.entropy + other.entropy,
            kl: self.kl + other.kl,
            ratios: self.ratios.merge(other.ratios),
            value_clipped: self.value_clipped + other.value_clipped,
        }
    }
}

impl Joined for PpoStepSums {
    fn join(self, other: Self) -> Self {
        self.merge(other)
    }
}
