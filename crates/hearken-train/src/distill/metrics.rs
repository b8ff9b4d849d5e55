//! What distillation writes to `metrics.jsonl`: one record per optimizer step.

use hearken_objective::Mean;
use hearken_objective::distillation::Distance;
use hearken_run::ranks::Joined;
use serde::{Deserialize, Serialize};

use super::Completed;
use crate::rollout::Rollout;
use crate::rollout::metrics::{StepCost, StepMetrics};
use crate::rollout::train::RolloutStep;

/// What an iteration's completions are; the same in all records of an iteration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct DistillIteration {
    /// Share of the completions that the student wrote: all, or none.
    pub on_policy: f64,
    /// Mean number of tokens of a completion, an end token included.
    #[serde(rename = "completions/mean_length")]
    pub length_mean: f64,
    /// Share of completions that have an end.
    #[serde(rename = "completions/share_ended")]
    pub share_ended: f64,
}

impl DistillIteration {
    pub(super) fn of(rollouts: &[Rollout], is_on_policy: bool) -> Self {
        let lengths: Mean = rollouts.iter().map(|one| one.completion.ids.len() as f64).collect();
        let ended: Mean = rollouts.iter().map(|one| f64::from(u8::from(one.ended()))).collect();
        Self {
            on_policy: f64::from(u8::from(is_on_policy)),
            length_mean: lengths.value().unwrap_or(0.0),
            share_ended: ended.value().unwrap_or(0.0),
        }
    }
}

/// One optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DistillStep {
    /// Which step it is, and what the update did. The loss is the divergence that is minimized, mean over the
    /// completions' tokens. Nats.
    #[serde(flatten)]
    pub step: StepMetrics,
    /// KL(teacher ‖ student) of the next token, mean over the completions' tokens. Nats.
    pub forward_kl: f64,
    /// KL(student ‖ teacher) of the next token, mean over the completions' tokens. Nats.
    pub reverse_kl: f64,
    /// Entropy of the student's distribution of the next token, mean over the completions' tokens. Nats.
    pub entropy: f64,
    /// What a teacher behind a server gives to tokens that it does not name, mean over the completions' tokens;
    /// absent where the teacher is in this process.
    #[serde(rename = "teacher/unnamed", skip_serializing_if = "Option::is_none")]
    pub unnamed: Option<f64>,
    /// What the iteration's completions are.
    #[serde(flatten)]
    pub iteration_metrics: DistillIteration,
    /// How large it was, and how long it took.
    #[serde(flatten)]
    pub cost: StepCost,
}

impl DistillStep {
    pub(super) fn new(step: &RolloutStep<'_, Completed, DistillStepSums>) -> Self {
        let RolloutStep { sums, iteration, .. } = step;
        let mean = |mean: Mean| mean.value().unwrap_or(0.0);
        Self {
            step: StepMetrics::of(step),
            forward_kl: mean(sums.forward_kl),
            reverse_kl: mean(sums.reverse_kl),
            entropy: mean(sums.entropy),
            unnamed: sums.unnamed.value(),
            iteration_metrics: iteration.metrics,
            cost: StepCost::of(step, sums.loss.count),
        }
    }
}

/// Sums over the tokens of an optimizer step.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct DistillStepSums {
    pub(super) loss: Mean,
    pub(super) forward_kl: Mean,
    pub(super) reverse_kl: Mean,
    pub(super) entropy: Mean,
    /// Of teachers behind a server.
    pub(super) unnamed: Mean,
}

impl DistillStepSums {
    /// Takes note of a token.
    pub(super) fn push(&mut self, distance: Distance) {
        self.loss.push(distance.loss);
        self.forward_kl.push(distance.forward_kl);
        self.reverse_kl.push(distance.reverse_kl);
        self.entropy.push(distance.entropy);
    }
}

impl Joined for DistillStepSums {
    fn join(self, other: Self) -> Self {
        Self {
            loss: self.loss + other.loss,
            forward_kl: self.forward_kl + other.forward_kl,
            reverse_kl: self.reverse_kl + other.reverse_kl,
            entropy: self.entropy + other.entropy,
            unnamed: self.unnamed + other.unnamed,
        }
    }
}
