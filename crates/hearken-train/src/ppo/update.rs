//! The gradient of one optimizer step, microbatch by microbatch.

use hearken_model::{Gradients, Keep, Model, OutputGrads};
use hearken_objective::{
    Mean,
    aggregation::{Aggregation, StepCounts},
    kl::ReferenceTerms,
    surrogate::{PolicyTerms, RatioLevel, Surrogate, TokenLoss, metrics::RatioMetrics},
    value::{ValueTerms, ValuesLoss},
};
use hearken_tensor::Device;
use hearken_tensor::device::PredictionGrad;

use super::{
    config::PpoConfig,
    credit::Experience,
    critic::{Critic, SeparateCritic},
    metrics::StepSums,
};
use crate::config::KlPlacement;
use crate::metrics::training_flops;
use crate::rollout::{CompletionBatch, ForwardOptions, Sequence, completion_microbatches};

/// What stays the same over a step's microbatches.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepContext<'a> {
    pub(super) config: &'a PpoConfig,
    pub(super) forward: ForwardOptions,
    /// The coefficient of the KL penalty in force.
    pub(super) beta: f64,
    /// Weight of a token: one over the tokens of the whole step.
    pub(super) token_weight: f64,
}

/// Adds the gradients of a whole minibatch and returns its sums. What a token weighs is known
/// beforehand, so the split into microbatches changes nothing.
pub(super) fn accumulate<D: Device>(
    policy: &Model<D>,
    gradients: &mut Gradients<D>,
    critic: &mut Critic<D>,
    minibatch: &[&Experience],
    context: StepContext<'_>,
) -> StepSums {
    let sequences: Vec<Sequence<'_>> =
        minibatch.iter().map(|one| one.scored.rollout.sequence()).collect();
    let mut sums = StepSums::default();
    for group in completion_microbatches(&sequences, context.forward.microbatch_tokens) {
        let batch = CompletionBatch::new(&sequences[group.clone()]);
        let microbatch = Microbatch { batch, experience: &minibatch[group], context };
        sums = sums.merge(microbatch.policy(policy, gradients, critic));
        if let Critic::Separate(critic) = critic {
            sums = sums.merge(microbatch.separate_critic(critic));
        }
    }
    sums
}

/// The weight of a token in a step of these completions.
pub(super) fn token_weight(minibatch: &[&Experience]) -> f64 {
    let counts = StepCounts::of(minibatch.iter().map(|one| one.tokens()));
    // The same for every length: the mean runs over tokens.
    Aggregation::PerToken.token_weight(1, counts)
}

struct Microbatch<'a> {
    batch: CompletionBatch,
    experience: &'a [&'a Experience],
    context: StepContext<'a>,
}

impl Microbatch<'_> {
    /// The policy's pass; the value head's too, if the critic is one.
    fn policy<D: Device>(
        &self,
        policy: &Model<D>,
        gradients: &mut Gradients<D>,
        critic: &Critic<D>,
    ) -> StepSums {
        let StepContext { config, forward, token_weight, .. } = self.context;
        let head = forward.head(config.ppo.entropy_coef != 0.0);
        let pass = policy.forward(&self.batch.batch, self.keep());
        let output = policy.logprobs(&pass, &self.batch.predictions, head);
        let mut sums = StepSums {
            entropy: output.entropy.iter().map(|entropy| f64::from(*entropy)).collect(),
            rows: self.batch.batch.rows(),
            flops: training_flops(policy, &self.batch.batch),
            ..StepSums::default()
        };
        let logprob_grads = self.policy_losses(&self.batch.split(&output.logprobs), &mut sums);
        let entropy = (-config.ppo.entropy_coef * token_weight) as f32;
        let prediction_grads: Vec<PredictionGrad> =
            logprob_grads.into_iter().map(|logprob| PredictionGrad { logprob, entropy }).collect();
        let (scalar_rows, scalar_grads) = match critic {
            Critic::Separate(_) => (Vec::new(), Vec::new()),
            Critic::ValueHead => {
                let rows = self.batch.rows();
                let values = self.batch.split(&policy.scalars(&pass, &rows));
                (rows, self.value_losses(&values, &mut sums))
            }
        };
        let grads = OutputGrads {
            predictions: &self.batch.predictions,
            prediction_grads: &prediction_grads,
            head: forward.head(false),
            scalar_rows: &scalar_rows,
            scalar_grads: &scalar_grads,
        };
        policy.backward(pass, &grads, gradients);
        sums
    }

    fn separate_critic<D: Device>(&self, critic: &mut SeparateCritic<D>) -> StepSums {
        let pass = critic.model.forward(&self.batch.batch, self.keep());
        let rows = self.batch.rows();
        let values = self.batch.split(&critic.model.scalars(&pass, &rows));
        let flops = training_flops(&critic.model, &self.batch.batch);
        let mut sums = StepSums { flops, ..StepSums::default() };
        let scalar_grads = self.value_losses(&values, &mut sums);
        let grads = OutputGrads {
            scalar_rows: &rows,
            scalar_grads: &scalar_grads,
            ..OutputGrads::default()
        };
        critic.model.backward(pass, &grads, &mut critic.gradients);
        sums
    }

    /// Clipped surrogate, and the KL where it is a term of the loss; returns the derivative with
    /// respect to every log-probability.
    fn policy_losses(&self, logprobs: &[Vec<f64>], sums: &mut StepSums) -> Vec<f32> {
        let StepContext { config, beta, token_weight, .. } = self.context;
        let surrogate = Surrogate::Clipped { clip: config.ppo.clip };
        let kl_in_loss = config.kl.placement == KlPlacement::Loss;
        let mut grads = Vec::with_capacity(self.batch.predictions.len());
        for (one, logprobs) in self.experience.iter().zip(logprobs) {
            let terms = PolicyTerms {
                logprobs,
                old_logprobs: &one.old_logprobs,
                advantages: &one.advantages,
            };
            let TokenLoss { sum, mut grad_logprobs, .. } = surrogate.loss(RatioLevel::Token, terms);
            sums.policy += Mean { sum, count: logprobs.len() };
            sums.ratios = sums.ratios.merge(RatioMetrics::of(terms, config.ppo.clip));
            if kl_in_loss {
                let ref_logprobs = &one.scored.ref_logprobs;
                let terms = ReferenceTerms { logprobs, ref_logprobs };
                sums.kl += Mean::of(&config.kl.estimator.per_token(terms));
                let slopes = config.kl.estimator.gradient(terms);
                grad_logprobs.iter_mut().zip(slopes).for_each(|(grad, slope)| *grad += beta * slope);
            }
            grads.extend(grad_logprobs.iter().map(|grad| (grad * token_weight) as f32));
        }
        grads
    }

    /// Value loss; returns its derivative, coefficient included, with respect to every value.
    fn value_losses(&self, values: &[Vec<f64>], sums: &mut StepSums) -> Vec<f32> {
        let StepContext { config, token_weight, .. } = self.context;
        let weight = config.ppo.value_coef * token_weight;
        let mut grads = Vec::with_capacity(self.batch.predictions.len());
        for (one, values) in self.experience.iter().zip(values) {
            let terms =
                ValueTerms { values, old_values: &one.old_values, returns: &one.returns };
            let ValuesLoss { sum, grad_values, clipped } = config.ppo.value_loss.loss(terms);
            sums.value += Mean { sum, count: values.len() };
            sums.value_clipped += clipped;
            grads.extend(grad_values.iter().map(|grad| (grad * weight) as f32));
        }
        grads
    }

    fn keep(&self) -> Keep {
        if self.context.config.model.recompute { Keep::BlockInputs } else { Keep::Activations }
    }
}
