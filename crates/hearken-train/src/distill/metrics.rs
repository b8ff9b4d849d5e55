//! What distillation writes to `metrics.jsonl`: one record per optimizer step.

use hearken_objective::Mean;
use hearken_objective::distillation::Distance;
use hearken_run::metrics::Timing;
use hearken_run::ranks::Joined;
use hearken_run::run::Update;
use serde::{Deserialize, Serialize};

use super::Completed;
use crate::rollout::Rollout;
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
    /// The optimizer step, from 1.
    pub step: u64,
    /// The iteration, from 0.
    pub iteration: u64,
    /// The pass over the iteration's completions, from 0.
    pub epoch: usize,
    /// The minibatch of that pass, from 0.
    pub minibatch: usize,
    /// The divergence that is minimized, mean over the completions' tokens, before the update. Nats.
    pub loss: f64,
    /// Norm of the gradient over all trained parameters, before clipping.
    pub grad_norm: f64,
    /// Learning rate in this step.
    pub learning_rate: f64,
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
    /// Tokens that went through the student in this step, forward and backward; a shared prompt counts
    /// once.
    pub tokens: usize,
    /// Tokens that were trained on.
    pub completion_tokens: usize,
    /// `seconds` and `tokens_per_s`; the first step of an iteration includes its completions.
    #[serde(flatten)]
    pub timing: Timing,
}

impl DistillStep {
    pub(super) fn new(step: &RolloutStep<'_, Completed, DistillStepSums>) -> Self {
        let RolloutStep { sums, update, iteration, index, epoch, minibatch } = *step;
        let Update { step, loss, grad_norm, learning_rate, tokens, timing } = update;
        let mean = |mean: Mean| mean.value().unwrap_or(0.0);
        Self {
            step,
            iteration: index,
            epoch,
            minibatch,
            loss,
            grad_norm,
            learning_rate,
            forward_kl: mean(sums.forward_kl),
            reverse_kl: mean(sums.reverse_kl),
            entropy: mean(sums.entropy),
            unnamed: sums.unnamed.value(),
            iteration_metrics: iteration.metrics,
            tokens,
            completion_tokens: sums.loss.count,
            timing,
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
