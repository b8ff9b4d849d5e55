//! The loop: schedule, run, postprocess.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use hearken_data::StopReason;
use hearken_model::cached::CachedInput;
use hearken_model::{
    AdaptedRows, Adapter, AdapterError, Head, KvCache, Model, ModelConfig, Tokenizer,
};
use hearken_tensor::Device;
use hearken_tensor::device::{Rows, View, ViewMut, Write};
use hearken_tensor::draw::DrawRow;
use rayon::prelude::*;

use crate::error::GenerateError;
use crate::request::{CompletionEnded, EngineOptions, EngineStats, SamplingRequest, TokenSampled};
use crate::rows::StepRows;
use crate::sampling::Sampling;
use crate::schedule::{Chunk, Scheduler, pages_needed, pages_of_use};
use crate::sequence::{Extent, OpenSequence, Queued, QueuedPart, Terms, TokenDraw};
use crate::stop::StopRules;
use crate::wishes::{AdapterId, Wishes};

/// What sees each token as it is sampled, and says whether to go on.
pub(crate) type Observer<'a> = &'a mut dyn FnMut(TokenSampled<'_>) -> ControlFlow<()>;

/// A model and the weight of its logits; the weights of all sum to 1.
#[derive(Debug)]
pub(crate) struct Voice<'m, D: Device> {
    pub(crate) model: &'m Model<D>,
    pub(crate) share: f64,
}

/// A model at work on requests that come and go.
///
/// Requests are submitted at any time and wait until there is room; [`Engine::step`] samples one token
/// of every sequence that has entered. An ended sequence leaves at once. The keys and values that it
/// leaves behind, of its prompt and of its completion, serve later prompts that begin like it, page by
/// page, until the pages are needed; those not used for the longest time are given up first.
///
/// What is sampled depends on the model, the prompt, the sampling settings, the request's seed and the
/// sample's index alone: not on what else is in the batch, nor on what is found in the cache, but for
/// the last digits of f32 sums.
///
/// ```
/// # use std::ops::ControlFlow;
/// # use std::path::Path;
/// # use hearken_generate::{Engine, EngineOptions, SamplingRequest, Sampling};
/// # use hearken_model::{Head, Model, ModelConfig};
/// # use hearken_tensor::{Cpu, device::Precision};
/// # let raw = serde_json::json!({
/// #     "model_type": "llama", "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2,
/// #     "num_attention_heads": 2, "intermediate_size": 48, "max_position_embeddings": 64,
/// #     "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "hidden_act": "silu",
/// # });
/// # let config = ModelConfig::from_json(Path::new("config.json"), raw.as_object().unwrap())?;
/// # let model = Model::init(Cpu::new(), config, Head::LanguageModel, Precision::F32, 3);
/// let options = EngineOptions { cache_bytes: 1 << 20, ..EngineOptions::default() };
/// let mut engine = Engine::new(&model, None, options)?;
/// let prompt_ids: Vec<u32> = (0..20).collect();
/// let request = SamplingRequest { prompt_ids, samples: 1, seed: 7 };
/// engine.submit(request.clone(), &Sampling::greedy(4))?;
/// let first = engine.finish(&mut |_| ControlFlow::Continue(()))?;
/// engine.submit(request, &Sampling::greedy(4))?;
/// let second = engine.finish(&mut |_| ControlFlow::Continue(()))?;
/// assert_eq!(first[0].completion.ids, second[0].completion.ids);
/// // A page of 16 tokens was found in the cache.
/// assert_eq!(engine.stats().prompt_tokens - engine.stats().prefill_tokens, 16);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Engine<'m, D: Device> {
    voices: Vec<Voice<'m, D>>,
    tokenizer: Option<&'m Tokenizer>,
    options: EngineOptions,
    /// One of each model; pages have the same numbers in all.
    caches: Vec<KvCache<D>>,
    scheduler: Scheduler<'m, D::Buffer>,
    /// Requests submitted.
    submitted: usize,
    sampled: usize,
    /// Completions that no step has returned yet.
    ended: Vec<CompletionEnded>,
    /// The model with each of its adapters, over the same weights.
    adapters: BTreeMap<AdapterId, Model<D>>,
    /// Adapters that leave when nothing runs through them any more.
    leaving: BTreeSet<AdapterId>,
    /// Adapters that have come so far.
    attached: u64,
}

impl<'m, D: Device> Engine<'m, D> {
    /// An engine without requests. Its cache has `options.cache_bytes`; memory that no sequence has
    /// used is not taken. The tokenizer is needed only for stop sequences.
    ///
    /// # Errors
    /// If an option is out of its range, the model is a scorer, or the device has no room for the cache.
    pub fn new(
        model: &'m Model<D>,
        tokenizer: Option<&'m Tokenizer>,
        options: EngineOptions,
    ) -> Result<Self, GenerateError> {
        options.validate()?;
        let voices = vec![Voice { model, share: 1.0 }];
        let (mut engine, affordable) = Self::without_cache(voices, tokenizer, options)?;
        engine.open(affordable)?;
        Ok(engine)
    }

    /// An engine with requests that are all known beforehand and numbered from 0. Its cache is no
    /// larger than they can fill.
    ///
    /// # Errors
    /// As [`Engine::new`] and [`Engine::submit`].
    pub fn with_requests(
        model: &'m Model<D>,
        tokenizer: Option<&'m Tokenizer>,
        requests: &[SamplingRequest],
        sampling: &Sampling,
        options: &EngineOptions,
    ) -> Result<Self, GenerateError> {
        let voices = vec![Voice { model, share: 1.0 }];
        Self::of_voices(voices, tokenizer, requests, sampling, options)
    }

    /// [`Engine::with_requests`] for one model, or several that agree on tokens.
    pub(crate) fn of_voices(
        voices: Vec<Voice<'m, D>>,
        tokenizer: Option<&'m Tokenizer>,
        requests: &[SamplingRequest],
        sampling: &Sampling,
        options: &EngineOptions,
    ) -> Result<Self, GenerateError> {
        sampling.validate()?;
        options.validate()?;
        let (mut engine, affordable) = Self::without_cache(voices, tokenizer, *options)?;
        let rules = StopRules::new(sampling, tokenizer, &engine.config().eos)?;
        let wishes = Wishes::default();
        let terms = Arc::new(Terms { sampling: sampling.clone(), rules, wishes });
        let mut queue = Vec::with_capacity(requests.len());
        for (index, request) in requests.iter().enumerate() {
            let request = Arc::new(request.clone());
            queue.extend(queued(&engine.voices, index, request, Arc::clone(&terms), options)?);
        }
        // What the memory budget lets, but no more than are of use.
        engine.open(affordable.min(pages_of_use(&queue, options.batch_rows_max)))?;
        for queued in queue {
            engine.scheduler.enqueue(queued);
        }
        engine.submitted = requests.len();
        Ok(engine)
    }

    /// An engine before [`Engine::open`], and the pages that `options.cache_bytes` has room for.
    fn without_cache(
        voices: Vec<Voice<'m, D>>,
        tokenizer: Option<&'m Tokenizer>,
        options: EngineOptions,
    ) -> Result<(Self, usize), GenerateError> {
        if voices.iter().any(|voice| voice.model.head() != Head::LanguageModel) {
            return Err(GenerateError::NotALanguageModel);
        }
        let affordable = options.cache_bytes / page_bytes(&voices, &options);
        let scheduler = Scheduler::new(VecDeque::new(), 0, options);
        let caches = Vec::new();
        let engine = Self {
            voices,
            tokenizer,
            options,
            caches,
            scheduler,
            submitted: 0,
            sampled: 0,
            ended: Vec::new(),
            adapters: BTreeMap::new(),
            leaving: BTreeSet::new(),
            attached: 0,
        };
        Ok((engine, affordable))
    }

    /// Gives an engine without requests its cache.
    ///
    /// # Errors
    /// If the device has no room for it.
    fn open(&mut self, pages: usize) -> Result<(), GenerateError> {
        let cache = |voice: &Voice<'m, D>| KvCache::new(voice.model, pages, self.options.page_len);
        self.caches = self.voices.iter().map(cache).collect::<Result<_, _>>()?;
        self.scheduler = Scheduler::new(VecDeque::new(), pages, self.options);
        Ok(())
    }

    /// The model, the first of several, or that with an adapter.
    ///
    /// # Errors
    /// If there is no such adapter.
    pub(crate) fn model(&self, adapter: Option<AdapterId>) -> Result<&Model<D>, GenerateError> {
        match adapter {
            None => Ok(self.voices[0].model),
            Some(id) => self.adapters.get(&id).ok_or(GenerateError::NoAdapter),
        }
    }

    /// Adds an adapter: requests that name it run through it, in one batch with those that do not, and find nothing in the
    /// cache that others left there. `base` is where the engine's model was read.
    ///
    /// # Errors
    /// If it does not fit the model, or holds more than factors.
    ///
    /// # Panics
    /// If the engine has several models, or its model has an adapter itself.
    pub fn attach(&mut self, adapter: &Adapter, base: &Path) -> Result<AdapterId, AdapterError> {
        assert_eq!(self.voices.len(), 1, "models of an engine with adapters");
        let adapted = self.voices[0].model.with_adapter(adapter, base)?;
        let id = AdapterId(self.attached);
        self.attached += 1;
        self.adapters.insert(id, adapted);
        Ok(id)
    }

    /// Takes an adapter away, once nothing runs through it any more.
    pub fn detach(&mut self, adapter: AdapterId) {
        self.leaving.insert(adapter);
        self.let_leave();
    }

    fn let_leave(&mut self) {
        let Self { leaving, adapters, scheduler, .. } = self;
        leaving.retain(|&id| {
            let is_used = scheduler.uses(id);
            if !is_used {
                adapters.remove(&id);
            }
            is_used
        });
    }

    fn config(&self) -> &'m ModelConfig {
        self.voices[0].model.config()
    }

    /// Adds a request; returns its number, which counts requests from 0. One that asks for nothing, no
    /// samples or no tokens, ends without an event.
    ///
    /// # Errors
    /// If a setting is out of its range, the prompt is empty, too long or holds unknown tokens, one
    /// sequence alone does not fit into the cache, or there are stop sequences but no tokenizer.
    pub fn submit(
        &mut self,
        request: SamplingRequest,
        sampling: &Sampling,
    ) -> Result<usize, GenerateError> {
        self.submit_with(request, sampling, Wishes::default())
    }

    /// [`Engine::submit`] for a request that wants more.
    ///
    /// # Errors
    /// As there, and if a wish is out of its range, or names an adapter that is not there.
    pub fn submit_with(
        &mut self,
        request: SamplingRequest,
        sampling: &Sampling,
        wishes: Wishes,
    ) -> Result<usize, GenerateError> {
        sampling.validate()?;
        wishes.validate(self.config().vocab)?;
        self.model(wishes.adapter)?;
        let rules = StopRules::new(sampling, self.tokenizer, &self.config().eos)?;
        let terms = Arc::new(Terms { sampling: sampling.clone(), rules, wishes });
        let (index, request) = (self.submitted, Arc::new(request));
        let queued = queued(&self.voices, index, request, terms, &self.options)?;
        if let Some(queued) = queued {
            self.scheduler.enqueue(queued);
        }
        self.submitted += 1;
        Ok(index)
    }

    /// Removes a request with all of its samples; whether there was anything of it. Its pages are free
    /// at once.
    pub fn cancel(&mut self, request: usize) -> bool {
        self.scheduler.cancel(request)
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.scheduler.is_done() && self.ended.is_empty()
    }

    /// What has been done, and how full the cache is.
    pub fn stats(&self) -> EngineStats {
        let Scheduler { pool, prompt_tokens, prefill_tokens, preempted, .. } = &self.scheduler;
        EngineStats {
            prompt_tokens: *prompt_tokens,
            prefill_tokens: *prefill_tokens,
            sampled_tokens: self.sampled,
            pages_in_use: pool.owned(),
            pages_kept: pool.kept(),
            preempted: *preempted,
        }
    }

    /// Steps until there is nothing to do; returns what has ended, in the order in which it did.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn finish(
        &mut self,
        observer: Observer<'_>,
    ) -> Result<Vec<CompletionEnded>, GenerateError> {
        let mut ended = Vec::new();
        while !self.is_idle() {
            ended.extend(self.step(observer)?);
        }
        Ok(ended)
    }

    /// Lets requests enter, runs a part of the prompts that have not run, and samples a token for every
    /// sequence whose prompt has; returns the completions that end with it.
    ///
    /// `observer` sees every token as it is sampled, in a fixed order. Where it breaks off, the token's
    /// request is cancelled.
    ///
    /// # Errors
    /// If a logit is NaN or infinite; that request is cancelled.
    pub fn step(&mut self, observer: Observer<'_>) -> Result<Vec<CompletionEnded>, GenerateError> {
        self.scheduler.admit();
        let chunks = self.scheduler.plan_prefill();
        let logits = self.run(&chunks);
        self.draw(&chunks, logits.as_ref());
        let accepted = self.accept(observer);
        let ended = self.scheduler.retire().into_iter().map(|sequence| CompletionEnded {
            request: sequence.request,
            sample: sequence.sample,
            completion: sequence.finish(),
        });
        self.ended.extend(ended);
        self.let_leave();
        // Where one request fails, what others have come to is returned by the next step.
        accepted?;
        Ok(std::mem::take(&mut self.ended))
    }

    /// Runs the last token of every running sequence and the chunks; gives the logits of the former
    /// and those after each prompt that ends, `[rows, V]`, if there are any.
    fn run(&mut self, chunks: &[Chunk]) -> Option<D::Buffer> {
        let rows = StepRows::new(&self.scheduler, chunks);
        if rows.tokens.is_empty() {
            return None;
        }
        let adapted = rows.adapted.iter().map(|(id, rows)| {
            let model =
                self.adapters.get(id).expect("an adapter stays while anything runs through it");
            AdaptedRows { rows: rows.clone(), model }
        });
        let adapted: Vec<_> = adapted.collect();
        let input = CachedInput { tokens: &rows.tokens, rows: &rows.places };
        let mut mixed: Vec<f32> = Vec::new();
        for (Voice { model, share }, cache) in self.voices.iter().zip(&mut self.caches) {
            let hidden = model.forward_cached(cache, input, &adapted);
            if rows.wanted.is_empty() {
                continue;
            }
            let logits = model.hidden_logits(&hidden, &rows.wanted);
            if self.voices.len() == 1 {
                return Some(logits);
            }
            // Constants of a row do not matter: logits serve where log-probabilities are meant.
            let (logits, share) = (model.device().read(&logits), *share as f32);
            mixed.resize(logits.len(), 0.0);
            mixed.iter_mut().zip(&*logits).for_each(|(sum, logit)| *sum += share * logit);
        }
        let device = self.voices[0].model.device();
        (!mixed.is_empty()).then(|| device.upload(&mixed))
    }

    /// Starts the samples of prompts that have ended and draws a token for every sequence. `logits` are
    /// those of [`Engine::run`].
    fn draw(&mut self, chunks: &[Chunk], logits: Option<&D::Buffer>) {
        let (device, vocab) = (self.voices[0].model.device(), self.voices[0].model.config().vocab);
        let row_of = |row: usize| Rows { offset: row * vocab, ..Rows::dense(1, vocab) };
        let decoding = self.scheduler.running.len();
        let ended = chunks.iter().filter(|chunk| chunk.completes).map(|chunk| chunk.prompt);
        let completed = ended.zip(decoding..).map(|(prompt, row)| {
            let logits = logits.expect("a prompt that ends has a row");
            let mut own = device.scratch(vocab);
            let out = ViewMut::new(&mut own, Rows::dense(1, vocab));
            device.gather_rows(logits, &device.ids(&[row as u32]), out, Write::Overwrite);
            (prompt, Arc::new(own))
        });
        for copy in self.scheduler.start(completed) {
            for cache in &mut self.caches {
                cache.copy_page(copy.from, copy.to);
            }
        }
        // What guides a completion may take long to say what comes next.
        let running = &mut self.scheduler.running;
        let wanted = running.par_iter_mut().map(OpenSequence::wanted);
        let (firsts, wanted): (Vec<_>, Vec<_>) = wanted.unzip();
        let rows = firsts.iter().zip(wanted).enumerate().map(|(row, (first, wanted))| {
            let TokenDraw { choice, added, allowed, likeliest } = wanted;
            let logits = match first {
                Some(first) => View::new(&**first, Rows::dense(1, vocab)),
                None => View::new(logits.expect("a running sequence has a row"), row_of(row)),
            };
            DrawRow { logits, choice, added, allowed, likeliest }
        });
        let drawn = device.wait(device.draw(rows.collect()));
        running.iter_mut().zip(drawn).for_each(|(sequence, drawn)| sequence.take(drawn));
    }

    /// Appends what was drawn and reports it. Requests that the observer has enough of are cancelled.
    fn accept(&mut self, observer: Observer<'_>) -> Result<(), GenerateError> {
        let (mut unwanted, mut broken) = (Vec::new(), None);
        for sequence in &mut self.scheduler.running {
            let (request, sample) = (sequence.request, sequence.sample);
            let token = sequence.ids.len();
            let logprob = match sequence.accept() {
                Ok(logprob) => logprob,
                Err(bad) => {
                    let (id, found) = (bad.id, bad.value);
                    let error = GenerateError::Logits { request, sample, token, id, found };
                    broken.get_or_insert(error);
                    unwanted.push(request);
                    continue;
                }
            };
            self.sampled += 1;
            if unwanted.contains(&request) {
                continue;
            }
            let (ids, stop_reason) = (sequence.ids.as_slice(), sequence.ended);
            let report = sequence.report.as_ref();
            if observer(TokenSampled { request, sample, ids, logprob, stop_reason, report })
                .is_break()
            {
                unwanted.push(request);
            }
        }
        for request in unwanted {
            self.scheduler.cancel(request);
        }
        broken.map_or(Ok(()), Err)
    }
}

/// Checks a request and finds how far its completions can go; `None` if it asks for nothing.
fn queued<'m, D: Device>(
    voices: &[Voice<'m, D>],
    index: usize,
    request: Arc<SamplingRequest>,
    terms: Arc<Terms<'m>>,
    options: &EngineOptions,
) -> Result<Option<Queued<'m, D::Buffer>>, GenerateError> {
    let (tokens, vocab) = (request.prompt_ids.len(), voices[0].model.config().vocab);
    let positions = voices.iter().map(|voice| voice.model.config().max_positions).min();
    let positions = positions.expect("at least one model");
    if tokens == 0 {
        return Err(GenerateError::EmptyPrompt { request: index });
    }
    if let Some(&id) = request.prompt_ids.iter().find(|&&id| vocab <= id as usize) {
        return Err(GenerateError::UnknownToken { request: index, id, vocab });
    }
    // Prompt and completion together have a position each, so that what is written can be read again.
    let Some(left) = positions.checked_sub(tokens).filter(|&left| 0 < left) else {
        return Err(GenerateError::PromptTooLong { request: index, tokens, positions });
    };
    let asked = terms.sampling.max_new_tokens;
    let (new_tokens, cut_off) = match asked <= left {
        true => (asked, StopReason::Length),
        false => (left, StopReason::Positions),
    };
    if new_tokens == 0 || request.samples == 0 {
        return Ok(None);
    }
    let EngineOptions { page_len, reserved_tokens: reserved, .. } = *options;
    let extent = Extent { prompt: tokens, new_tokens, cut_off, reserved, page_len };
    let queued = Queued { index, request, terms, extent, part: QueuedPart::SamplesFrom(0) };
    let (needed, found) =
        (pages_needed(&queued) * page_bytes(voices, options), options.cache_bytes);
    if found < needed {
        let tokens = tokens + new_tokens;
        return Err(GenerateError::CacheTooSmall { request: index, tokens, needed, found });
    }
    Ok(Some(queued))
}

/// Bytes of a page in all caches together.
fn page_bytes<D: Device>(voices: &[Voice<'_, D>], options: &EngineOptions) -> usize {
    voices.iter().map(|voice| KvCache::bytes(voice.model, 1, options.page_len)).sum()
}
