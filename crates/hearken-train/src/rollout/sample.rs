//! Sampling completions from the policy.

use std::{ops::ControlFlow, sync::Arc};

use hearken_generate::{Request, Sampling, completion_text, generate};
use hearken_model::{Model, Tokenizer};
use hearken_tensor::Device;

use super::Rollout;
use crate::encode::PromptExample;
use crate::error::TrainError;
use crate::seeds::Seeds;

/// How completions are sampled.
#[derive(Clone, Debug)]
pub struct SampleOptions<'a> {
    /// Temperature, truncation, length, stop sequences.
    pub sampling: &'a Sampling,
    /// Completions per prompt: a group.
    pub completions: usize,
    /// The stream of random numbers: one per (`stream`, `index`, prompt).
    pub seeds: Seeds,
    /// What the sampling is for.
    pub stream: &'a str,
    /// The iteration.
    pub index: u64,
}

/// Completes each prompt `completions` times; rollouts of one prompt follow one another.
///
/// # Errors
/// If the sampler cannot, for example because a prompt leaves no room for a completion.
pub fn sample<D: Device>(
    policy: &Model<D>,
    tokenizer: Option<&Tokenizer>,
    prompts: &[Arc<PromptExample>],
    options: &SampleOptions<'_>,
) -> Result<Vec<Rollout>, TrainError> {
    let request = |(index, prompt): (usize, &Arc<PromptExample>)| Request {
        prompt_ids: prompt.ids.clone(),
        samples: options.completions,
        seed: options.seeds.derive(options.stream, options.index, index as u64),
    };
    let requests: Vec<Request> = prompts.iter().enumerate().map(request).collect();
    let mut go_on = |_: hearken_generate::Event<'_>| ControlFlow::Continue(());
    let groups = generate(policy, tokenizer, &requests, options.sampling, &mut go_on)
        .map_err(|error| TrainError::Generate(error.to_string()))?;
    let mut rollouts = Vec::with_capacity(prompts.len() * options.completions);
    for ((prompt, completions), group) in prompts.iter().zip(groups).zip(0..) {
        rollouts.extend(completions.into_iter().map(|completion| Rollout {
            prompt: Arc::clone(prompt),
            group,
            text: tokenizer.map_or_else(String::new, |tokenizer| {
                completion_text(tokenizer, &completion, &options.sampling.stop)
            }),
            completion,
        }));
    }
    Ok(rollouts)
}
