//! The gradient of one optimizer step, microbatch by microbatch.

use hearken_model::{Gradients, Keep, Model, OutputGrads};
use hearken_objective::Mean;
use hearken_objective::aggregation::StepCounts;
use hearken_objective::grpo::{Algorithm, KlPlacement};
use hearken_objective::kl::{KlEstimator, ReferenceTerms};
use hearken_tensor::Device;
use hearken_tensor::device::PredictionGrad;

use super::credit::Experience;
use super::metrics::{Clipping, StepSums};
use crate::metrics::training_flops;
use crate::rollout::{CompletionBatch, ForwardOptions, Sequence, completion_microbatches};

/// What stays the same over a step's microbatches.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepContext<'a> {
    /// With the coefficient of the KL penalty in force.
    pub(super) algorithm: &'a Algorithm,
    pub(super) entropy_coef: f64,
    pub(super) forward: ForwardOptions,
    pub(super) keep: Keep,
    /// Completions and tokens of the whole step.
    pub(super) counts: StepCounts,
}

/// Completions and tokens of a step.
pub(super) fn step_counts(minibatch: &[&Experience]) -> StepCounts {
    StepCounts::of(minibatch.iter().map(|one| one.tokens()))
}

/// Adds the gradients of a whole minibatch and returns its sums. What a token weighs is known
/// beforehand, so the split into microbatches changes nothing.
pub(super) fn accumulate<D: Device>(
    policy: &Model<D>,
    gradients: &mut Gradients<D>,
    minibatch: &[&Experience],
    context: StepContext<'_>,
) -> StepSums {
    let sequences: Vec<Sequence<'_>> =
        minibatch.iter().map(|one| one.graded.rollout.sequence()).collect();
    let mut sums = StepSums::default();
    for group in completion_microbatches(&sequences, context.forward.microbatch_tokens) {
        let batch = CompletionBatch::new(&sequences[group.clone()]);
        let head = context.forward.head(true);
        let mut pass = policy.forward(&batch.batch, context.keep);
        let logits_bytes = context.forward.logits_bytes;
        let output = policy.logprobs_keeping(&mut pass, &batch.predictions, head, logits_bytes);
        sums.entropy += output.entropy.iter().map(|entropy| f64::from(*entropy)).collect();
        sums.rows += batch.batch.rows();
        sums.flops += training_flops(policy, &batch.batch);
        let logprobs = batch.split(&output.logprobs);
        let slopes = losses(&minibatch[group], &logprobs, context, &mut sums);
        let entropy = -context.entropy_coef / context.counts.tokens as f64;
        let to_grad = |logprob| PredictionGrad { logprob, entropy: entropy as f32 };
        let prediction_grads: Vec<PredictionGrad> = slopes.into_iter().map(to_grad).collect();
        let grads = OutputGrads {
            predictions: &batch.predictions,
            prediction_grads: &prediction_grads,
            head: context.forward.head(false),
            scalar_rows: &[],
            scalar_grads: &[],
        };
        policy.backward(pass, &grads, gradients);
    }
    sums
}

/// Adds the losses of completions; returns the derivative with respect to every log-probability.
fn losses(
    experience: &[&Experience],
    logprobs: &[Vec<f64>],
    context: StepContext<'_>,
    sums: &mut StepSums,
) -> Vec<f32> {
    let StepContext { algorithm, counts, .. } = context;
    let clipping = Clipping::of(algorithm);
    let mut slopes = Vec::new();
    for (one, logprobs) in experience.iter().zip(logprobs) {
        let loss = algorithm.loss(one.terms(logprobs));
        let weight = algorithm.aggregation.token_weight(logprobs.len(), counts);
        sums.policy += weight * loss.sum;
        sums.completion_tokens += logprobs.len();
        sums.kl += match algorithm.kl {
            KlPlacement::InLoss { .. } => loss.kl,
            KlPlacement::None | KlPlacement::InReward { .. } => {
                let ref_logprobs = &one.ref_logprobs;
                Mean::of(&KlEstimator::K3.per_token(ReferenceTerms { logprobs, ref_logprobs }))
            }
        };
        sums.observe(one, logprobs, clipping);
        slopes.extend(loss.grad_logprobs.iter().map(|slope| (slope * weight) as f32));
    }
    slopes
}
