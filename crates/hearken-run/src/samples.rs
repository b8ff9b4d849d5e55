//! Completions written down while a policy is trained.

use hearken_config::SamplesConfig;
use hearken_data::StopReason;
use hearken_generate::{Sampling, SamplingRequest, completion_text, generate, unobserved};
use hearken_model::{Model, Tokenizer};
use hearken_tensor::Device;
use serde::Serialize;

use crate::error::TrainError;

/// One completion, as a reader wants to see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// The prompt's text.
    pub prompt: String,
    /// The completion's text.
    pub completion: String,
    /// Tokens of the completion.
    pub tokens: usize,
    /// Why it ends.
    pub stop_reason: StopReason,
}

/// A line of `samples.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SampleRecord<'a> {
    /// Optimizer steps made.
    pub step: u64,
    /// The sample.
    #[serde(flatten)]
    pub sample: &'a Sample,
}

impl Sample {
    /// The record of a sample after `step`.
    pub fn at(&self, step: u64) -> SampleRecord<'_> {
        SampleRecord { step, sample: self }
    }
}

/// Completes each prompt once. Prompts that leave no position for a completion are passed over.
///
/// # Errors
/// If sampling fails.
pub fn sample_completions<D: Device>(
    model: &Model<D>,
    tokenizer: &Tokenizer,
    prompts: &[&[u32]],
    config: &SamplesConfig,
    seed: u64,
) -> Result<Vec<Sample>, TrainError> {
    let positions = model.config().max_positions;
    let fits = |prompt: &&&[u32]| !prompt.is_empty() && prompt.len() < positions;
    let prompts: Vec<&[u32]> = prompts.iter().filter(fits).copied().collect();
    let temperature = *config.temperature;
    let sampling = Sampling { temperature, ..Sampling::plain(*config.max_new_tokens) };
    let request = |(index, prompt): (usize, &&[u32])| SamplingRequest {
        prompt_ids: prompt.to_vec(),
        samples: 1,
        seed: seed.wrapping_add(index as u64),
    };
    let requests: Vec<SamplingRequest> = prompts.iter().enumerate().map(request).collect();
    let merged = model.for_sampling(None);
    let model = merged.as_ref().unwrap_or(model);
    let completions = generate(model, Some(tokenizer), &requests, &sampling, &mut unobserved())
        .map_err(|error| TrainError::Generate(error.to_string()))?;
    let sample = |(prompt, completion): (&&[u32], &hearken_data::Completion)| Sample {
        prompt: tokenizer.decode(prompt),
        completion: completion_text(tokenizer, completion, &[]),
        tokens: completion.ids.len(),
        stop_reason: completion.stop_reason,
    };
    Ok(prompts.iter().zip(completions.iter().flatten()).map(sample).collect())
}
