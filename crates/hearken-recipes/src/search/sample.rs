//! Whole completions.

use std::ops::ControlFlow;

use hearken_data::StopReason;
use hearken_generate::{
    EngineOptions, GenerateError, Sampling, SamplingRequest, TokenSampled, completion_text,
    generate_with,
};
use hearken_model::{Model, Tokenizer};
use hearken_tensor::Device;

use super::SampledAnswer;

/// What is drawn for each prompt.
#[derive(Clone, Debug)]
pub struct SampleSettings<'a> {
    /// The prompts, as tokens.
    pub prompts: &'a [Vec<u32>],
    /// Completions of each.
    pub samples: usize,
    /// How they are sampled.
    pub sampling: &'a Sampling,
    /// A seed for each prompt.
    pub seeds: &'a [u64],
}

/// Completions of every prompt: `answers[prompt][sample]`. `observer` sees every token and may break off.
///
/// # Errors
/// As [`generate_with`].
pub fn sample<D: Device>(
    model: &Model<D>,
    tokenizer: &Tokenizer,
    draw: &SampleSettings<'_>,
    observer: &mut dyn FnMut(TokenSampled<'_>) -> ControlFlow<()>,
) -> Result<Vec<Vec<SampledAnswer>>, GenerateError> {
    let requests: Vec<SamplingRequest> = draw
        .prompts
        .iter()
        .zip(draw.seeds)
        .map(|(prompt, &seed)| SamplingRequest {
            prompt_ids: prompt.clone(),
            samples: draw.samples,
            seed,
        })
        .collect();
    let options = EngineOptions::default();
    let completions =
        generate_with(model, Some(tokenizer), &requests, draw.sampling, &options, observer)?;
    let answer = |completion: hearken_data::Completion| SampledAnswer {
        text: completion_text(tokenizer, &completion, &draw.sampling.stop),
        ended: matches!(completion.stop_reason, StopReason::EndOfText | StopReason::StopSequence),
        ids: completion.ids,
    };
    let of_prompt =
        |completions: Vec<_>| completions.into_iter().map(answer).collect::<Vec<SampledAnswer>>();
    Ok(completions.into_iter().map(of_prompt).collect())
}
