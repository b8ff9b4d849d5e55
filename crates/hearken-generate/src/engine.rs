//! The loop: schedule, run, postprocess.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use hearken_data::{Completion, StopReason};
use hearken_model::cached::CachedInput;
use hearken_model::config::Positions;
use hearken_model::{Head, KvCache, Model, ModelConfig, Tokenizer};
use hearken_tensor::Device;
use hearken_tensor::device::CachedRow;
use rayon::prelude::*;

use crate::error::GenerateError;
use crate::request::{EngineOptions, Event, Request};
use crate::sampling::Sampling;
use crate::schedule::{Chunk, Queued, Scheduler, pages_needed, pages_of_use};
use crate::sequence::Extent;
use crate::stop::StopRules;

/// What sees each token as it is sampled, and says whether to go on.
type Observer<'a> = &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>;

/// Completes every request; [`generate_with`] with the default options.
///
/// # Errors
/// As [`generate_with`].
pub fn generate<D: Device>(
    model: &Model<D>,
    tokenizer: Option<&Tokenizer>,
    requests: &[Request],
    sampling: &Sampling,
    observer: Observer<'_>,
) -> Result<Vec<Vec<Completion>>, GenerateError> {
    generate_with(model, tokenizer, requests, sampling, &EngineOptions::default(), observer)
}

/// Completes every request: `completions[request][sample]`.
///
/// A completion ends at an end token (any that the tokenizer or config.json names; it is part of
/// `ids`), at a stop sequence (all tokens sampled are part of `ids`; see [`crate::completion_text`]),
/// or at its longest: `max_new_tokens`, or what a model with learned positions has room for. The
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
    requests: &[Request],
    sampling: &Sampling,
    options: &EngineOptions,
    observer: Observer<'_>,
) -> Result<Vec<Vec<Completion>>, GenerateError> {
    run(&[Voice { model, share: 1.0 }], tokenizer, requests, sampling, options, observer)
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
    requests: &[Request],
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
    let voices = [Voice { model, share: 1.0 - share }, Voice { model: mixture.model, share }];
    run(&voices, tokenizer, requests, sampling, &EngineOptions::default(), observer)
}

/// A model and the weight of its logits; the weights of all sum to 1.
#[derive(Clone, Copy, Debug)]
struct Voice<'a, D: Device> {
    model: &'a Model<D>,
    share: f64,
}

/// Completes every request by one model, or several that agree on tokens.
fn run<D: Device>(
    voices: &[Voice<'_, D>],
    tokenizer: Option<&Tokenizer>,
    requests: &[Request],
    sampling: &Sampling,
    options: &EngineOptions,
    observer: Observer<'_>,
) -> Result<Vec<Vec<Completion>>, GenerateError> {
    sampling.validate()?;
    options.validate()?;
    if voices.iter().any(|voice| voice.model.head() != Head::LanguageModel) {
        return Err(GenerateError::NotALanguageModel);
    }
    let config = voices[0].model.config();
    let rules = StopRules::new(sampling, tokenizer, &config.eos)?;
    let positions = voices.iter().map(|voice| positions(voice.model.config())).min();
    let positions = positions.expect("at least one model");
    let queue = enqueue(config.vocab, positions, requests, sampling, options.page_len)?;
    let pages = cache_pages(voices, &queue, options)?;
    let mut engine = Engine {
        voices,
        sampling,
        rules: &rules,
        new_tokens: queue_lengths(&queue, requests.len()),
        caches: voices
            .iter()
            .map(|voice| KvCache::new(voice.model, pages, options.page_len))
            .collect(),
        scheduler: Scheduler::new(queue, pages, &rules, *options),
        completions: requests.iter().map(|request| vec![empty(); request.samples]).collect(),
        sampled: 0,
    };
    while !engine.scheduler.is_done() {
        engine.step(observer)?;
    }
    debug_assert_eq!(engine.scheduler.pool.available(), pages, "every page has been released");
    Ok(engine.completions)
}

/// The completion of no tokens.
fn empty() -> Completion {
    Completion { ids: Vec::new(), logprobs: Vec::new(), stop_reason: StopReason::Length }
}

/// The positions that a model knows.
fn positions(config: &ModelConfig) -> usize {
    match config.positions {
        Positions::Learned => config.max_positions,
        Positions::Rotary(_) => usize::MAX,
    }
}

/// Checks the prompts and finds how far their completions can go. Requests for nothing are left out.
fn enqueue<'a>(
    vocab: usize,
    positions: usize,
    requests: &'a [Request],
    sampling: &Sampling,
    page_len: usize,
) -> Result<VecDeque<Queued<'a>>, GenerateError> {
    let mut queue = VecDeque::new();
    for (index, request) in requests.iter().enumerate() {
        let prompt = request.prompt_ids.len();
        if prompt == 0 {
            return Err(GenerateError::EmptyPrompt { request: index });
        }
        let unknown = request.prompt_ids.iter().find(|&&id| vocab <= id as usize);
        if let Some(&id) = unknown {
            return Err(GenerateError::UnknownToken { request: index, id, vocab });
        }
        let Some(left) = positions.checked_sub(prompt) else {
            let tokens = prompt;
            return Err(GenerateError::PromptTooLong { request: index, tokens, positions });
        };
        // The last token needs no position: it does not run.
        let new_tokens = sampling.max_new_tokens.min(left.saturating_add(1));
        if 0 < new_tokens && 0 < request.samples {
            let extent = Extent { prompt, new_tokens, page_len };
            queue.push_back(Queued { index, request, extent });
        }
    }
    Ok(queue)
}

/// The most tokens of each request's completions.
fn queue_lengths(queue: &VecDeque<Queued<'_>>, requests: usize) -> Vec<usize> {
    let mut lengths = vec![0; requests];
    for queued in queue {
        lengths[queued.index] = queued.extent.new_tokens;
    }
    lengths
}

/// The pages of the cache: what the memory budget lets, but no more than are of use.
fn cache_pages<D: Device>(
    voices: &[Voice<'_, D>],
    queue: &VecDeque<Queued<'_>>,
    options: &EngineOptions,
) -> Result<usize, GenerateError> {
    let bytes = voices.iter().map(|voice| KvCache::bytes(voice.model, 1, options.page_len));
    let page_bytes: usize = bytes.sum();
    let affordable = options.cache_bytes / page_bytes;
    for queued in queue {
        let needed = pages_needed(queued);
        if affordable < needed {
            return Err(GenerateError::CacheTooSmall {
                request: queued.index,
                tokens: queued.extent.prompt + queued.extent.new_tokens,
                needed: needed * page_bytes,
                found: options.cache_bytes,
            });
        }
    }
    Ok(affordable.min(pages_of_use(queue, options.batch_rows_max)))
}

/// Models at work on requests.
struct Engine<'a, D: Device> {
    voices: &'a [Voice<'a, D>],
    sampling: &'a Sampling,
    rules: &'a StopRules<'a>,
    /// The most tokens of each request's completions.
    new_tokens: Vec<usize>,
    /// One of each model; pages have the same numbers in all.
    caches: Vec<KvCache<D>>,
    scheduler: Scheduler<'a>,
    completions: Vec<Vec<Completion>>,
    sampled: usize,
}

impl<D: Device> Engine<'_, D> {
    fn step(&mut self, observer: Observer<'_>) -> Result<(), GenerateError> {
        self.scheduler.admit();
        let chunks = self.scheduler.plan_prefill();
        let logits = self.run(&chunks);
        self.draw(&chunks, &logits);
        self.accept(observer)?;
        for sequence in self.scheduler.retire() {
            let (request, sample) = (sequence.request, sequence.sample);
            self.completions[request][sample] = sequence.finish();
        }
        Ok(())
    }

    /// Runs the last token of every running sequence and the chunks; gives the logits of the former
    /// and those after each prompt that ends, `[rows, V]`.
    fn run(&mut self, chunks: &[Chunk]) -> Vec<f32> {
        let (mut tokens, mut rows, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
        for sequence in &self.scheduler.running {
            let (token, position) = sequence.next_token();
            wanted.push(tokens.len());
            tokens.push(token);
            rows.push(CachedRow { pages: &sequence.pages, position });
        }
        for chunk in chunks {
            let prompt = &self.scheduler.prompts[chunk.prompt];
            let pages = prompt.pages.as_slice();
            tokens.extend(&prompt.request.prompt_ids[chunk.positions.clone()]);
            let positions = chunk.positions.clone();
            rows.extend(positions.map(|at| CachedRow { pages, position: at as u32 }));
            if chunk.completes {
                wanted.push(tokens.len() - 1);
            }
        }
        if tokens.is_empty() {
            return Vec::new();
        }
        let input = CachedInput { tokens: &tokens, rows: &rows };
        let mut mixed: Vec<f32> = Vec::new();
        for (Voice { model, share }, cache) in self.voices.iter().zip(&mut self.caches) {
            let hidden = model.forward_cached(cache, input);
            if wanted.is_empty() {
                continue;
            }
            let logits = model.hidden_logits(&hidden, &wanted);
            if self.voices.len() == 1 {
                return logits;
            }
            // Constants of a row do not matter: logits serve where log-probabilities are meant.
            mixed.resize(logits.len(), 0.0);
            let share = *share as f32;
            mixed.iter_mut().zip(logits).for_each(|(sum, logit)| *sum += share * logit);
        }
        mixed
    }

    /// Starts the samples of prompts that have ended and draws a token for every sequence. Each has
    /// its own random numbers, so the threads among which they are divided do not matter.
    fn draw(&mut self, chunks: &[Chunk], logits: &[f32]) {
        let vocab = self.voices[0].model.config().vocab;
        let decoding = self.scheduler.running.len();
        let (rows, after_prompts) = logits.split_at(decoding * vocab);
        let ended = chunks.iter().filter(|chunk| chunk.completes).map(|chunk| chunk.prompt);
        let completed = ended.zip(after_prompts.chunks_exact(vocab).map(Arc::from));
        for copy in self.scheduler.start(completed) {
            for cache in &mut self.caches {
                cache.copy_page(copy.from, copy.to);
            }
        }
        let sampling = self.sampling;
        self.scheduler.running.par_iter_mut().enumerate().for_each(|(index, sequence)| {
            let row = (index < decoding).then(|| &rows[index * vocab..(index + 1) * vocab]);
            sequence.draw(row, sampling);
        });
    }

    /// Appends what was drawn and reports it.
    fn accept(&mut self, observer: Observer<'_>) -> Result<(), GenerateError> {
        for sequence in &mut self.scheduler.running {
            let (request, sample) = (sequence.request, sequence.sample);
            let token = sequence.ids.len();
            let logprob = sequence.accept(self.rules, self.new_tokens[request]).map_err(|bad| {
                GenerateError::Logits { request, sample, token, id: bad.id, found: bad.value }
            })?;
            self.sampled += 1;
            let (ids, stop_reason) = (sequence.ids.as_slice(), sequence.ended);
            if observer(Event { request, sample, ids, logprob, stop_reason }).is_break() {
                return Err(GenerateError::Stopped { tokens: self.sampled });
            }
        }
        Ok(())
    }
}
