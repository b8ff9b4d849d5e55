//! How the policy does on held-out prompts.

use std::sync::Arc;

use hearken_model::{Model, Tokenizer};
use hearken_objective::kl::{KlEstimator, ReferenceTerms};
use hearken_stats::{Estimate, mean::normal_mean};
use hearken_tensor::Device;

use super::metrics::PpoEvaluation;
use crate::encode::PromptExample;
use crate::error::TrainError;
use crate::reward_source::WeightedSum;
use crate::rollout::{ForwardOptions, Heads, Rollout, SampleOptions, Sequence, read, sample};

/// Held-out prompts, and how they are completed.
#[derive(Clone, Copy, Debug)]
pub struct HeldOut<'a> {
    /// At least two, for an interval.
    pub prompts: &'a [Arc<PromptExample>],
    /// How completions are sampled.
    pub sample: &'a SampleOptions<'a>,
    /// How they go through the models.
    pub forward: ForwardOptions,
}

/// Per prompt: what the policy wrote and what is thought of it.
#[derive(Clone, Debug)]
pub struct HeldOutCompletions {
    /// One per prompt.
    pub rollouts: Vec<Rollout>,
    /// Weighted sum of the sources.
    pub scores: Vec<f64>,
    /// Each source's own scores.
    pub by_source: Vec<(String, Vec<f64>)>,
    /// KL(π ‖ π_ref): k1 summed over the tokens, in nats.
    pub kl_nats: Vec<f64>,
}

/// Completes held-out prompts and looks at the completions from all sides.
///
/// # Errors
/// Of the sampler and of the sources.
pub fn complete_held_out<D: Device>(
    policy: &Model<D>,
    reference: &Model<D>,
    tokenizer: Option<&Tokenizer>,
    sources: &mut WeightedSum<'_>,
    held_out: HeldOut<'_>,
) -> Result<HeldOutCompletions, TrainError> {
    let rollouts = sample(policy, tokenizer, held_out.prompts, held_out.sample)?;
    let views: Vec<_> = rollouts.iter().map(Rollout::view).collect();
    let scores = sources.score(&views)?;
    let sequences: Vec<Sequence<'_>> = rollouts.iter().map(Rollout::sequence).collect();
    let logprobs = read(policy, &sequences, Heads::LogProbs, held_out.forward).logprobs;
    let ref_logprobs = read(reference, &sequences, Heads::LogProbs, held_out.forward).logprobs;
    let kl_nats = logprobs.iter().zip(&ref_logprobs).map(|(logprobs, ref_logprobs)| {
        let terms = ReferenceTerms { logprobs, ref_logprobs };
        KlEstimator::K1.per_token(terms).iter().sum()
    });
    let kl_nats = kl_nats.collect();
    Ok(HeldOutCompletions { scores: scores.total, by_source: scores.by_source, kl_nats, rollouts })
}

impl HeldOutCompletions {
    /// Means with their intervals; `None` with fewer than two completions.
    pub(crate) fn evaluation(&self, step: u64) -> Option<PpoEvaluation> {
        let lengths: Vec<f64> =
            self.rollouts.iter().map(|rollout| rollout.completion.ids.len() as f64).collect();
        let by_source = |(label, own): &(String, Vec<f64>)| -> Option<(String, Estimate)> {
            Some((format!("eval_scores/{label}"), normal_mean(own)?))
        };
        Some(PpoEvaluation {
            step,
            eval_scores: normal_mean(&self.scores)?,
            eval_kl: normal_mean(&self.kl_nats)?,
            eval_length: normal_mean(&lengths)?,
            sources: self.by_source.iter().filter_map(by_source).collect(),
        })
    }
}
