//! How the policy does on held-out prompts.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearken_model::{Model, Tokenizer};
use hearken_objective::kl::{KlEstimator, ReferenceTerms};
use hearken_reward_source::RewardSource;
use hearken_run::encode::PromptExample;
use hearken_run::error::TrainError;
use hearken_stats::{Estimate, mean::normal_mean};
use hearken_tensor::Device;
use serde::Serialize;

use super::{
    ForwardOptions, Heads, Rollout, SampleOptions, Sequence, read_together, sample_scored,
};

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

/// How the policy does on held-out prompts, each completed once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeldOutEvaluation {
    /// The optimizer step after which it was made.
    pub step: u64,
    /// Score of a completion; absent where nothing scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_scores: Option<Estimate>,
    /// KL(π ‖ π_ref) of a completion: k1 summed over its tokens. Nats.
    pub eval_kl: Estimate,
    /// Tokens of a completion.
    pub eval_length: Estimate,
    /// Score of each source, unweighted: `eval_scores/LABEL`.
    #[serde(flatten)]
    pub sources: BTreeMap<String, Estimate>,
}

/// Completes held-out prompts and looks at the completions from all sides.
///
/// # Errors
/// Of the sampler and of the sources.
pub fn complete_held_out<D: Device>(
    policy: &Model<D>,
    reference: &Model<D>,
    tokenizer: Option<&Tokenizer>,
    sources: &mut dyn RewardSource,
    held_out: HeldOut<'_>,
) -> Result<HeldOutCompletions, TrainError> {
    let read = |sequences: &[Sequence<'_>]| {
        let (ranks, forward) = (held_out.sample.ranks, held_out.forward);
        Ok(read_together(ranks, reference, sequences, Heads::LogProbs, forward).logprobs)
    };
    complete_held_out_beside(policy, read, tokenizer, sources, held_out)
}

/// [`complete_held_out`] beside whatever `reference` says of the completions: log π_ref of each of their tokens.
///
/// # Errors
/// Of the sampler, of the sources and of the reference.
pub(super) fn complete_held_out_beside<D: Device>(
    policy: &Model<D>,
    reference: impl FnOnce(&[Sequence<'_>]) -> Result<Vec<Vec<f64>>, TrainError>,
    tokenizer: Option<&Tokenizer>,
    sources: &mut dyn RewardSource,
    held_out: HeldOut<'_>,
) -> Result<HeldOutCompletions, TrainError> {
    let merged = policy.for_sampling(None);
    let sampled = merged.as_ref().unwrap_or(policy);
    let (rollouts, scores) =
        sample_scored(sampled, tokenizer, held_out.prompts, held_out.sample, sources)?;
    drop(merged);
    let sequences: Vec<Sequence<'_>> = rollouts.iter().map(Rollout::sequence).collect();
    let (ranks, forward) = (held_out.sample.ranks, held_out.forward);
    let logprobs = read_together(ranks, policy, &sequences, Heads::LogProbs, forward).logprobs;
    let ref_logprobs = reference(&sequences)?;
    let kl_nats = logprobs.iter().zip(&ref_logprobs).map(|(logprobs, ref_logprobs)| {
        KlEstimator::K1.per_completion(ReferenceTerms { logprobs, ref_logprobs })
    });
    let kl_nats = kl_nats.collect();
    Ok(HeldOutCompletions { scores: scores.total, by_source: scores.by_source, kl_nats, rollouts })
}

impl HeldOutCompletions {
    /// Means with their intervals; `None` with fewer than two completions.
    pub(crate) fn evaluation(&self, step: u64) -> Option<HeldOutEvaluation> {
        let lengths: Vec<f64> =
            self.rollouts.iter().map(|rollout| rollout.completion.ids.len() as f64).collect();
        let by_source = |(label, own): &(String, Vec<f64>)| -> Option<(String, Estimate)> {
            Some((format!("eval_scores/{label}"), normal_mean(own)?))
        };
        Some(HeldOutEvaluation {
            step,
            eval_scores: normal_mean(&self.scores).filter(|_| !self.by_source.is_empty()),
            eval_kl: normal_mean(&self.kl_nats)?,
            eval_length: normal_mean(&lengths)?,
            sources: self.by_source.iter().filter_map(by_source).collect(),
        })
    }
}
