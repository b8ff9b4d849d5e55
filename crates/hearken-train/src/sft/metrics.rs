//! What supervised fine-tuning writes to `metrics.jsonl`.

use hearken_run::metrics::Timing;
use hearken_run::run::Update;
use hearken_stats::Estimate;
use serde::Serialize;

use super::TokenSums;
use crate::records::Step;

/// One optimizer step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SftStep {
    /// The optimizer step, from 1.
    pub step: u64,
    /// Passes over the training examples, with the fraction of the current one; of a stream, whole passes.
    pub epoch: f64,
    /// Mean of −log π(token) over the supervised tokens of the batch, before the update. Nats.
    pub loss: f64,
    /// Norm of the gradient over all trained parameters, before clipping.
    pub grad_norm: f64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Share of supervised tokens that are the most probable ones.
    pub mean_token_accuracy: f64,
    /// Mean entropy of the distributions that predict the supervised tokens. Nats.
    pub entropy: f64,
    /// Tokens that went through the model.
    pub tokens: usize,
    /// Tokens that were trained on.
    pub supervised_tokens: usize,
    /// `seconds` and `tokens_per_s`.
    #[serde(flatten)]
    pub timing: Timing,
}

impl SftStep {
    pub(super) fn new(step: Step<TokenSums>) -> Self {
        let Step { sums, update, epoch } = step;
        let Update { step, loss, grad_norm, learning_rate, tokens, timing } = update;
        Self {
            step,
            epoch,
            loss,
            grad_norm,
            learning_rate,
            mean_token_accuracy: sums.hits.value().unwrap_or(0.0),
            entropy: sums.entropy.value().unwrap_or(0.0),
            tokens,
            supervised_tokens: sums.loss.count,
            timing,
        }
    }
}

/// An evaluation on held-out demonstrations. Intervals are 95 % bootstrap intervals that draw whole
/// examples; n counts examples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SftEvaluation {
    /// Mean of −log π(token) over all supervised tokens. Nats.
    pub eval_loss: Estimate,
    /// exp(`eval_loss`).
    pub eval_perplexity: Estimate,
    /// Share of supervised tokens that are the most probable ones.
    pub eval_mean_token_accuracy: Estimate,
}

/// An evaluation with the step after which it was made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct EvaluationRecord {
    step: u64,
    #[serde(flatten)]
    evaluation: SftEvaluation,
}

impl SftEvaluation {
    /// The record of an evaluation after `step`.
    pub fn at(self, step: u64) -> EvaluationRecord {
        EvaluationRecord { step, evaluation: self }
    }
}
