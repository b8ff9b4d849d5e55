//! How far the policy has moved from its reference, on completions that it samples now.

use hearken_generate::{Sampling, SamplingRequest, generate, unobserved};
use hearken_model::Model;
use hearken_objective::guard::repeated_share;
use hearken_objective::kl::{KlEstimator, ReferenceTerms};
use hearken_run::error::TrainError;
use hearken_stats::mean::mean;
use hearken_tensor::Device;

use crate::rollout::guard::GRAM;

use super::batch::read;
use super::metrics::PolicyKl;
use super::reference::Portions;
use super::tree::{Tree, TreeLabel, TreeReading};

/// How prompts are completed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completing {
    pub(super) max_new_tokens: usize,
    pub(super) seed: u64,
    pub(super) portions: Portions,
}

/// Completes each prompt once and compares both models on what came; `None` with fewer than two
/// completions. Prompts that leave no position for a completion are passed over.
///
/// # Errors
/// If sampling fails.
pub(super) fn from_reference<D: Device>(
    policy: &Model<D>,
    reference: &Model<D>,
    prompts: &[&[u32]],
    how: Completing,
) -> Result<Option<PolicyKl>, TrainError> {
    let positions = policy.config().max_positions;
    let fits = |prompt: &&&[u32]| !prompt.is_empty() && prompt.len() < positions;
    let prompts: Vec<&[u32]> = prompts.iter().filter(fits).copied().collect();
    let sampling = Sampling::plain(how.max_new_tokens);
    let request = |(index, prompt): (usize, &&[u32])| SamplingRequest {
        prompt_ids: prompt.to_vec(),
        samples: 1,
        seed: how.seed.wrapping_add(index as u64),
    };
    let requests: Vec<SamplingRequest> = prompts.iter().enumerate().map(request).collect();
    let merged = policy.for_sampling(None);
    let sampled = merged.as_ref().unwrap_or(policy);
    let completions = generate(sampled, None, &requests, &sampling, &mut unobserved())
        .map_err(|error| TrainError::Generate(error.to_string()))?;
    drop(merged);
    let trees: Vec<Tree> = prompts
        .iter()
        .zip(completions.iter().flatten())
        .map(|(prompt, completion)| Tree::single(prompt, &completion.ids, TreeLabel::GOOD))
        .collect();
    let trees: Vec<&Tree> = trees.iter().collect();
    let reading = TreeReading { prompt: false, branches: 1, temperature: how.portions.temperature };
    let logprobs = |model: &Model<D>| -> Vec<Vec<f64>> {
        let (tokens, _) = read(model, &trees, reading, how.portions.tokens_max);
        tokens.into_iter().flat_map(|tree| tree.branches).map(|tokens| tokens.logprobs).collect()
    };
    let of_policy = logprobs(policy);
    let kl = |(logprobs, ref_logprobs): (&Vec<f64>, &Vec<f64>)| -> f64 {
        KlEstimator::K1.per_completion(ReferenceTerms { logprobs, ref_logprobs })
    };
    let of_reference = logprobs(reference);
    let kl: Vec<f64> = of_policy.iter().zip(&of_reference).map(kl).collect();
    let lengths: Vec<f64> = of_policy.iter().map(|logprobs| logprobs.len() as f64).collect();
    let shares = completions.iter().flatten().map(|one| repeated_share(&one.ids, GRAM));
    let repeated = mean(&shares.collect::<Vec<_>>());
    Ok(mean(&kl).zip(mean(&lengths)).zip(repeated).map(
        |((eval_kl, eval_length), eval_repeated)| PolicyKl { eval_kl, eval_length, eval_repeated },
    ))
}
