//! What supervised fine-tuning writes to `metrics.jsonl`.

use hearken_objective::Mean;
use hearken_objective::cross_entropy::SupervisedLoss;
use hearken_run::metrics::Timing;
use hearken_run::ranks::Joined;
use hearken_run::run::Update;
use hearken_stats::Estimate;
use hearken_tensor::device::HeadOutput;
use serde::{Deserialize, Serialize};

use crate::records::RecordStep;

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
    pub(super) fn new(step: RecordStep<TokenSums>) -> Self {
        let RecordStep { sums, update, epoch } = step;
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

/// Sums over supervised tokens.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct TokenSums {
    pub(super) loss: Mean,
    pub(super) hits: Mean,
    pub(super) entropy: Mean,
}

impl TokenSums {
    pub(super) fn new(output: &HeadOutput) -> Self {
        let logprobs: Vec<f64> = output.logprobs.iter().map(|&logprob| logprob.into()).collect();
        let loss = SupervisedLoss::CrossEntropy.loss(&logprobs);
        Self {
            loss: Mean { sum: loss.sum, count: logprobs.len() },
            hits: output.argmax_hit.iter().map(|&hit| f64::from(u8::from(hit))).collect(),
            entropy: output.entropy.iter().map(|&entropy| f64::from(entropy)).collect(),
        }
    }
}

impl Joined for TokenSums {
    fn join(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl std::ops::AddAssign for TokenSums {
    fn add_assign(&mut self, other: Self) {
        self.loss += other.loss;
        self.hits += other.hits;
        self.entropy += other.entropy;
    }
}
