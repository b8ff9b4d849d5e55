//! Requests that are all known beforehand.

use std::ops::ControlFlow;

use hearken_data::{Completion, StopReason};
use hearken_model::{Model, Tokenizer};
use hearken_tensor::Device;

use crate::engine::{Engine, Observer, Voice};
use crate::error::GenerateError;
use crate::request::{EngineOptions, SamplingRequest, TokenSampled};
use crate::sampling::Sampling;

/// Completes every request; [`generate_with`] with the default options.
///
/// # Errors
/// As [`generate_with`].
pub fn generate<D: Device>(
    model: &Model<D>,
    tokenizer: Option<&Tokenizer>,
    requests: &[SamplingRequest],
    sampling: &Sampling,
    observer: Observer<'_>,
) -> Result<Vec<Vec<Completion>>, GenerateError> {
    generate_with(model, tokenizer, requests, sampling, &EngineOptions::default(), observer)
}

/// Completes every request: `completions[request][sample]`.
///
/// A completion ends at an end token (any that the tokenizer or config.json names; it is part of
/// `ids`), at a stop sequence (all tokens sampled are part of `ids`; see [`crate::completion_text`]),
/// or at its longest: `max_new_tokens`, or what the model has positions for beside the prompt. The
/// tokenizer is needed only for stop sequences.
///
/// The log-probability of each token is that of the tempered distribution, softmax(logits /
/// temperature), whatever top-k, top-p and min-p cut off; at temperature 0 it is that at temperature
/// 1.
///
/// `observer` sees every token as it is sampled, tokens of one step in a fixed order. If it breaks
/// off, there are no results but [`GenerateError::Stopped`].
///
/// # Errors
/// If an option is out of its range, a prompt is empty, too long or holds unknown tokens, one
/// sequence alone does not fit into `cache_bytes`, the model is a scorer, there are stop sequences
/// but no tokenizer, a logit is NaN or infinite, or the observer stops.
pub fn generate_with<D: Device>(
    model: &Model<D>,
    tokenizer: Option<&Tokenizer>,
    requests: &[SamplingRequest],
    sampling: &Sampling,
    options: &EngineOptions,
    observer: Observer<'_>,
) -> Result<Vec<Vec<Completion>>, GenerateError> {
    run(vec![Voice { model, share: 1.0 }], tokenizer, requests, sampling, options, observer)
}

/// A second model that has a say in every token.
#[derive(Clone, Copy, Debug)]
pub struct Mixture<'a, D: Device> {
    /// It knows the same tokens as the first.
    pub model: &'a Model<D>,
    /// Its share, from 0 to 1.
    pub share: f64,
}

/// Completes every request from the geometric mixture of two models, token by token:
///
/// ```text
/// π(a | s) ∝ π_model(a | s)^{1 − share} · π_mixture(a | s)^{share}
/// ```
///
/// Otherwise as [`generate`]; the log-probabilities are the mixture's. `cache_bytes` is for both.
///
/// # Errors
/// As [`generate_with`]; also if the vocabularies differ in size, or the share is not from 0 to 1.
pub fn generate_mixed<D: Device>(
    model: &Model<D>,
    mixture: &Mixture<'_, D>,
    tokenizer: Option<&Tokenizer>,
    requests: &[SamplingRequest],
    sampling: &Sampling,
    observer: Observer<'_>,
) -> Result<Vec<Vec<Completion>>, GenerateError> {
    let share = mixture.share;
    if !(0.0..=1.0).contains(&share) {
        let (option, expected) = ("the share of the mixture", "a number from 0 to 1");
        return Err(GenerateError::Option { option, found: share, expected });
    }
    let (found, expected) = (mixture.model.config().vocab, model.config().vocab);
    if found != expected {
        return Err(GenerateError::Vocabularies { found, expected });
    }
    let voices = vec![Voice { model, share: 1.0 - share }, Voice { model: mixture.model, share }];
    run(voices, tokenizer, requests, sampling, &EngineOptions::default(), observer)
}

/// Completes every request by one model, or several that agree on tokens.
fn run<D: Device>(
    voices: Vec<Voice<'_, D>>,
    tokenizer: Option<&Tokenizer>,
    requests: &[SamplingRequest],
    sampling: &Sampling,
    options: &EngineOptions,
    observer: Observer<'_>,
) -> Result<Vec<Vec<Completion>>, GenerateError> {
    let mut engine = Engine::of_voices(voices, tokenizer, requests, sampling, options)?;
    let mut completions: Vec<Vec<Completion>> =
        requests.iter().map(|request| vec![empty(); request.samples]).collect();
    let (mut tokens, mut is_stopped) = (0, false);
    while !engine.is_idle() {
        let ended = engine.step(&mut |event: TokenSampled<'_>| {
            if is_stopped {
                return ControlFlow::Break(());
            }
            tokens += 1;
            let flow = observer(event);
            is_stopped = flow.is_break();
            flow
        })?;
        if is_stopped {
            return Err(GenerateError::Stopped { tokens });
        }
        for ended in ended {
            completions[ended.request][ended.sample] = ended.completion;
        }
    }
    debug_assert_eq!(engine.stats().pages_in_use, 0, "every page has been released");
    Ok(completions)
}

/// The completion of no tokens.
fn empty() -> Completion {
    Completion { ids: Vec::new(), logprobs: Vec::new(), stop_reason: StopReason::Length }
}
