//! The gradient of one optimizer step, microbatch by microbatch.

use hearken_model::OutputGrads;
use hearken_objective::Mean;
use hearken_objective::aggregation::StepCounts;
use hearken_objective::grpo::{Algorithm, KlPlacement};
use hearken_objective::kl::{KlEstimator, ReferenceTerms};
use hearken_run::ranks::Shares;
use hearken_tensor::Device;
use hearken_tensor::device::PredictionGrad;

use super::credit::Experience;
use super::metrics::{Clipping, GrpoStepSums};
use crate::rollout::session::RolloutSession;
use crate::rollout::{CompletionBatch, Sequence, completion_microbatches};

/// Adds the gradients of this process's share of a minibatch and returns its sums. What a token weighs is known
/// beforehand, so the split into shares and microbatches changes nothing. `algorithm` has the coefficient of the
/// KL penalty in force.
pub(super) fn accumulate<D: Device>(
    session: &mut RolloutSession<D>,
    minibatch: &[&Experience],
    shares: &Shares,
    algorithm: &Algorithm,
    entropy_coef: f64,
) -> GrpoStepSums {
    let forward = session.forward_options();
    let run = &mut session.run;
    let counts = StepCounts::of(minibatch.iter().map(|one| one.tokens()));
    let minibatch = &shares.pick(minibatch);
    let entropy = (-entropy_coef / counts.tokens as f64) as f32;
    let sequences: Vec<Sequence<'_>> =
        minibatch.iter().map(|one| one.graded.rollout.sequence()).collect();
    let mut sums = GrpoStepSums::default();
    for group in completion_microbatches(&sequences, forward.microbatch_tokens) {
        let completions = CompletionBatch::new(&sequences[group.clone()]);
        let predictions = &completions.predictions;
        let mut pass = run.forward(&completions.batch);
        let (head, logits_bytes) = (forward.head(true), forward.logits_bytes);
        let output = run.model.logprobs_keeping(&mut pass, predictions, head, logits_bytes);
        sums.entropy += output.entropy.iter().map(|entropy| f64::from(*entropy)).collect();
        let logprobs = completions.split(&output.logprobs);
        let slopes = losses(&minibatch[group], &logprobs, algorithm, counts, &mut sums);
        let to_grad = |logprob| PredictionGrad { logprob, entropy };
        let grads = OutputGrads {
            predictions,
            prediction_grads: &slopes.into_iter().map(to_grad).collect::<Vec<_>>(),
            head: forward.head(false),
            ..OutputGrads::default()
        };
        run.backward(pass, &grads);
    }
    sums
}

/// Adds the losses of completions; returns the derivative with respect to every log-probability.
fn losses(
    experience: &[&Experience],
    logprobs: &[Vec<f64>],
    algorithm: &Algorithm,
    counts: StepCounts,
    sums: &mut GrpoStepSums,
) -> Vec<f32> {
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
