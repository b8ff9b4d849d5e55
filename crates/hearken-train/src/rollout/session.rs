//! A run that samples, between two iterations: what it holds besides the run itself, and how it opens.
//! What an iteration does is its algorithm's.

use std::path::Path;
use std::sync::Arc;

use hearken_config::{RolloutConfig, SharedSections};
use hearken_generate::{EngineOptions, Sampling, unobserved};
use hearken_model::{Masters, Model, Tokenizer};
use hearken_objective::Mean;
use hearken_objective::guard::Watched;
use hearken_objective::kl::KlController;
use hearken_reward_source::judging::local_judges;
use hearken_reward_source::{BatchScores, RewardSource};
use hearken_run::budget::{BudgetModel, check};
use hearken_run::encode::PromptExample;
use hearken_run::error::TrainError;
use hearken_run::metrics::inference_flops;
use hearken_run::plan::{MemoryPlan, parameters_note};
use hearken_run::progress::Progress;
use hearken_run::run::{Companion, Opening, Run, Stored, TrainerState, load_language_model};
use hearken_run::run_dir::checkpoint::{NamedModel, StateFile};
use hearken_run::trained_model::load_tokenizer;
use hearken_tensor::Device;
use serde::{Deserialize, Serialize};

use super::ahead::{Ahead, Pending};
use super::feed::Feed;
use super::guard::{Signs, look};
use super::held_out::{HeldOut, HeldOutEvaluation, complete_held_out_beside};
use super::sample::{own_requests, sample_scored_by};
use super::served::{ServedPolicy, Servers};
use super::settings::{Movement, RolloutSettings};
use super::source::{Local, RolloutSource};
use super::{
    CompletionBatch, ForwardOptions, Rollout, RolloutOrigin, SampleOptions, Sequence,
    completion_microbatches,
};

/// The folder of a reference that moves, in a checkpoint.
const REFERENCE: &str = "reference";
/// The stream of random numbers of what is trained on.
pub(crate) const ROLLOUT: &str = "rollout";

/// What a checkpoint keeps of a run that samples; `E` is the algorithm's own.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Iterating<E> {
    /// The next iteration, from 0.
    pub(crate) iteration: u64,
    /// The coefficient of the KL penalty; `None` before there is a run.
    pub(crate) beta: Option<f64>,
    /// Whether the run has come to its KL limit.
    pub(crate) at_kl_limit: bool,
    /// What is remembered of the signs of over-optimization.
    #[serde(default)]
    pub(crate) watched: Watched,
    /// Whether they have ended the run.
    #[serde(default)]
    pub(crate) is_stopped: bool,
    /// What they have multiplied the learning rate by; `None` is nothing.
    #[serde(default)]
    pub(crate) slowed: Option<f64>,
    #[serde(default)]
    pub(crate) own: E,
}

impl<E: Stored> TrainerState for Iterating<E> {
    fn is_over(&self) -> bool {
        self.at_kl_limit || self.is_stopped
    }

    fn rate(&self) -> f64 {
        self.slowed.unwrap_or(1.0)
    }
}

/// A run between two iterations; `E` is what its algorithm keeps in checkpoints.
pub struct RolloutSession<D: Device, E = ()> {
    /// Its model is the policy.
    pub run: Run<D, Iterating<E>>,
    /// What the configuration says of sampling.
    pub settings: RolloutSettings,
    /// Where rollouts come from.
    pub feed: Feed,
    /// Who samples in place of this process.
    servers: Option<Arc<Servers>>,
    /// What was sampled before it is trained on.
    ahead: Ahead,
    /// What the policy is compared with, where that is in this process.
    pub(crate) reference: Option<Model<D>>,
    pub(crate) kl: KlController,
    /// How completions are sampled.
    pub sampling: Sampling,
}

/// Loads the models of a run of `total` steps over `feed`; `accompany` adds what is trained with the
/// policy, to it or beside it.
pub(super) fn open<D: Device, E: Stored>(
    device: D,
    opening: Opening<'_>,
    settings: RolloutSettings,
    feed: Feed,
    total: u64,
    accompany: impl FnOnce(&mut Model<D>, &Opening<'_>) -> Result<Option<Companion<D>>, TrainError>,
) -> Result<RolloutSession<D, E>, TrainError> {
    let servers = Servers::open(&settings.rollout)?.map(Arc::new);
    let iterations = settings.rollout.ahead.unwrap_or(0) as u64;
    let root = &opening.settings.run.dir;
    let ahead = Ahead::open(iterations, root, opening.checkpoint.as_ref())?;
    let movement = settings.movement;
    let (mut policy, reference) = if let Some(source) = &settings.reference {
        let (policy, reference) = with_reference(device, &opening, source, movement)?;
        let tokenizer = opening.tokenizer.as_ref();
        same_tokens(settings.reference_key, source, &reference, &policy, tokenizer)?;
        (policy, Some(reference))
    } else {
        (opening.load(device, &opening.model_dir())?, None)
    };
    opening.freeze(&mut policy)?;
    let companion = accompany(&mut policy, &opening)?;
    let mut run: Run<D, Iterating<E>> = opening.run(policy, companion, total)?;
    feed.check(run.counters.cursor)?;
    let beta = run.counters.own.beta.get_or_insert(settings.beta);
    Ok(RolloutSession {
        kl: settings.steering.controller(*beta),
        sampling: sampling(&settings.rollout),
        servers,
        ahead,
        run,
        settings,
        feed,
        reference,
    })
}

/// The policy, and the reference in `source`, each as the run goes on with it.
fn with_reference<D: Device>(
    device: D,
    opening: &Opening<'_>,
    source: &Path,
    movement: Movement,
) -> Result<(Model<D>, Model<D>), TrainError> {
    let model = &opening.settings.model;
    let load =
        |device: D, dir: &Path, masters: Masters| load_language_model(device, model, dir, masters);
    if model.lora.is_some() {
        return adapted(device, opening, source, movement);
    }
    let checkpoint = opening.checkpoint.as_ref();
    let mut reference = match (checkpoint, movement) {
        (Some(checkpoint), Movement::Following) => {
            load(device.clone(), &checkpoint.model_dir(Some(REFERENCE)), Masters::Keep)?
        }
        (None, _) if *source == model.path => load(device.clone(), source, opening.masters())?,
        (_, Movement::Following) => load(device.clone(), source, Masters::Keep)?,
        (_, Movement::Frozen) => load(device.clone(), source, model.base.into())?,
    };
    reference.set_trainable(|_| false);
    let policy = match checkpoint {
        Some(checkpoint) => load(device, &checkpoint.model_dir(None), opening.masters())?,
        None if *source == model.path => reference.duplicate(),
        None => load(device, &model.path, opening.masters())?,
    };
    if movement == Movement::Frozen {
        reference.hold(model.base.into());
    }
    Ok((policy, reference))
}

/// The base of the adapter that is trained, and the reference, which shares it where it is of the same model.
fn adapted<D: Device>(
    device: D,
    opening: &Opening<'_>,
    source: &Path,
    movement: Movement,
) -> Result<(Model<D>, Model<D>), TrainError> {
    let model = &opening.settings.model;
    let base = opening.load(device.clone(), &model.path)?;
    let reference = match (&model.lora, movement) {
        // It becomes the policy, adapter and all, from time to time.
        (Some(lora), Movement::Following) => {
            let mut reference = base.duplicate();
            let name = opening.checkpoint.is_some().then_some(REFERENCE);
            let start = lora.init.as_deref();
            opening.adapt(&mut reference, &model.path, name, start, lora)?;
            reference.set_trainable(|_| false);
            reference
        }
        _ if *source == model.path => opening.reference_of(&base)?,
        _ => load_language_model(device, model, source, model.base.into())?,
    };
    Ok((base, reference))
}

impl<D: Device, E: Stored> RolloutSession<D, E> {
    /// Batch arithmetic and memory, before the first step.
    ///
    /// # Errors
    /// If the completions of one prompt do not fit into the run's memory limit.
    pub(super) fn announce(&self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        let RolloutSettings { prompts, epochs, minibatches, rollout, .. } = &self.settings;
        let SharedSections { train, run, .. } = &self.run.settings;
        let (prompts, completions) = (*prompts, *rollout.completions);
        let row = self.feed.rows_max(&self.settings);
        let source = match &self.feed {
            Feed::Replay(_) => "recorded rollouts".to_owned(),
            Feed::Prompts(_) => format!(
                "{} rollouts ({prompts} prompts × {completions} completions)",
                prompts * completions,
            ),
        };
        progress.note(&format!(
            "{} steps; an iteration: {source}, {epochs} epochs × {minibatches} minibatches = {} \
             steps",
            self.run.total,
            epochs * minibatches
        ));
        if let Some(note) = self.feed.repeats_note(prompts) {
            progress.note(&note);
        }
        if !rollout.servers.is_empty() {
            let servers = rollout.servers.join(", ");
            progress.note(&format!("completions are sampled by {servers}"));
        }
        if let Some(ahead) = rollout.ahead {
            progress.note(&format!("completions are sampled {ahead} iterations ahead of training"));
        }
        progress.note(&format!("policy: {}", parameters_note(&self.run.model)));
        if let Some(Companion { name, model, .. }) = &self.run.companion {
            progress.note(&format!("{name}: {}", parameters_note(model)));
        }
        let memory = self.memory()?;
        progress.note(&memory.note());
        self.run.note_resumed(progress);
        check(&memory, run, train, row)
    }

    /// What the run takes in memory.
    ///
    /// # Errors
    /// If the config.json of a reward model cannot be read.
    pub fn memory(&self) -> Result<MemoryPlan, TrainError> {
        let (prompts, completions) = (self.settings.prompts, *self.settings.rollout.completions);
        let SharedSections { train, model, .. } = &self.run.settings;
        let row = self.feed.rows_max(&self.settings);
        let rows = train.microbatch_tokens.max(row).min(row * prompts);
        let (recompute, policy) = (model.recompute.into(), self.run.model.footprint());
        let mut memory = MemoryPlan::trained(&policy)
            .with_rows(&policy, rows, recompute)
            .with_logits(&policy, rows, train.logits_bytes);
        if train.ema.is_some() {
            memory = memory.with_average(&policy);
        }
        if let Some(Companion { model, .. }) = &self.run.companion {
            let footprint = model.footprint();
            let plan = MemoryPlan::trained(&footprint).with_rows(&footprint, rows, recompute);
            memory = memory.with(plan);
        }
        // The reference of an adapter is its base.
        let is_base = model.lora.is_some() && self.settings.reference.as_ref() == Some(&model.path);
        if let Some(reference) = self.reference.as_ref().filter(|_| !is_base) {
            memory = memory.beside(&reference.footprint());
        }
        if let Feed::Prompts(_) = &self.feed {
            for reward_model in BudgetModel::scores(&self.settings.scores) {
                memory = memory.beside(&reward_model.footprint()?);
            }
            for judge in &local_judges(&self.settings.scores)? {
                memory = memory.beside(&BudgetModel::judge(judge).footprint()?);
            }
            // Prompts are shared by their completions, which decode at most so many at a time.
            let at_once = (prompts * completions).min(self.engine_options().batch_rows_max);
            let groups = at_once.div_ceil(completions);
            let cache = (groups * row * policy.cache_bytes_per_position) as u64;
            let cache = cache.min(train.cache_bytes as u64);
            let sampled = policy.sampled_bytes(self.settings.rollout.dtype.int8());
            memory = memory.with_cache(cache + sampled as u64);
        }
        Ok(memory.shared_by(self.run.ranks.size()))
    }

    /// How much the sampler takes at once.
    pub fn engine_options(&self) -> EngineOptions {
        let cache_bytes = self.run.settings.train.cache_bytes;
        EngineOptions { cache_bytes, ..EngineOptions::default() }
    }

    /// Whether an iteration's KL is above the limit, so that the run must not train on it.
    pub(super) fn is_at_kl_limit(&self, kl_nats: f64, progress: &mut dyn Progress) -> bool {
        let Some(limit) = self.settings.kl_limit_nats.filter(|limit| *limit < kl_nats) else {
            return false;
        };
        progress.note(&format!(
            "step {}: the rollouts of iteration {} have a KL of {kl_nats:.3} nats to the \
             reference, above `{}.kl_limit` = {limit}: the run ends here",
            self.run.step,
            self.iteration(),
            self.settings.section
        ));
        true
    }

    /// Watches an iteration that is about to be trained on; whether that ends the run.
    pub(super) fn is_stopped_by(&mut self, signs: &Signs, progress: &mut dyn Progress) -> bool {
        let Some(guard) = &self.settings.guard else { return false };
        let (watched, scores) = (&self.run.counters.own.watched, &self.settings.scores);
        let found = look(watched, signs, self.run.step, self.iteration(), guard, scores, progress);
        let kept = &mut self.run.counters.own;
        kept.watched = found.watched;
        kept.is_stopped = found.ends;
        if found.factor < 1.0 {
            kept.slowed = Some(kept.rate() * found.factor);
        }
        found.ends
    }

    /// The iteration, from 0.
    pub(crate) fn iteration(&self) -> u64 {
        self.run.counters.own.iteration
    }

    /// Ends an iteration whose `completions` have this mean KL to the reference.
    pub(crate) fn end_iteration(&mut self, kl_nats: f64, completions: usize) {
        self.kl.observe(kl_nats, completions);
        let kept = &mut self.run.counters.own;
        kept.beta = Some(self.kl.beta());
        kept.iteration += 1;
        let next = kept.iteration;
        self.ahead.made.retain(|iteration, _| next <= *iteration);
    }

    /// What this iteration learns from: recorded rollouts, or completions of the next prompts; with their
    /// scores.
    pub(crate) fn rollouts(
        &mut self,
        sources: &mut dyn RewardSource,
    ) -> Result<(Vec<Rollout>, BatchScores), TrainError> {
        if let Some(recorded) = self.recorded(sources)? {
            return Ok(recorded);
        }
        let prompts = self.next_prompts(self.settings.prompts);
        self.sample(&prompts, ROLLOUT, sources)
    }

    /// The recorded rollouts of this iteration and their scores; `None` where they are sampled.
    pub(crate) fn recorded(
        &self,
        sources: &mut dyn RewardSource,
    ) -> Result<Option<(Vec<Rollout>, BatchScores)>, TrainError> {
        let Some(mut replay) = self.feed.replay() else { return Ok(None) };
        replay.rollouts(&[], &self.sample_options(ROLLOUT), sources).map(Some)
    }

    /// The next prompts.
    pub(crate) fn next_prompts(&mut self, count: usize) -> Vec<Arc<PromptExample>> {
        self.feed.next(count, &mut self.run.counters.cursor)
    }

    /// Completions of `prompts` by the policy, with their scores: by that of an earlier iteration where they are made
    /// ahead. `stream` names the random numbers.
    pub(crate) fn sample(
        &mut self,
        prompts: &[Arc<PromptExample>],
        stream: &str,
        sources: &mut dyn RewardSource,
    ) -> Result<(Vec<Rollout>, BatchScores), TrainError> {
        if 0 < self.ahead.iterations && stream == ROLLOUT {
            return self.made_ahead(prompts, sources);
        }
        let (model, options) = (&self.run.model, self.sample_options(stream));
        let Some(servers) = &self.servers else {
            return self.source(model).rollouts(prompts, &options, sources);
        };
        let (tokenizer, dir) = (self.run.tokenizer.as_ref(), &self.run.dir);
        ServedPolicy { servers, model, tokenizer, dir }.rollouts(prompts, &options, sources)
    }

    /// Completions that were made ahead, with their scores; those of later iterations are begun.
    fn made_ahead(
        &mut self,
        prompts: &[Arc<PromptExample>],
        sources: &mut dyn RewardSource,
    ) -> Result<(Vec<Rollout>, BatchScores), TrainError> {
        let now = self.iteration();
        let completions = *self.settings.rollout.completions;
        self.ahead.made.retain(|_, made| made.fits(prompts.len(), completions));
        // An iteration makes one step at least.
        let left = self.run.total.saturating_sub(self.run.step + 1);
        let mut cursor = self.run.counters.cursor;
        for iteration in now..=now + self.ahead.iterations.min(left) {
            let later = match iteration == now {
                true => None,
                false => Some(self.feed.next(prompts.len(), &mut cursor)),
            };
            if !self.ahead.has(iteration) {
                self.make_ahead(iteration, later.as_deref().unwrap_or(prompts))?;
            }
        }
        let Some(made) = self.ahead.made.get(&now) else {
            let missing = format!("the completions of iteration {now} are not there");
            return Err(TrainError::Generate(missing));
        };
        let options = SampleOptions { version: made.version, ..self.sample_options(ROLLOUT) };
        let mut sampler = made.sampler(options.ranks);
        let tokenizer = self.run.tokenizer.as_ref();
        sample_scored_by(&mut sampler, tokenizer, prompts, &options, sources)
    }

    /// Completes the prompts of an iteration by the policy of now, or has servers begin with them once they have
    /// done what was asked before.
    fn make_ahead(
        &mut self,
        iteration: u64,
        prompts: &[Arc<PromptExample>],
    ) -> Result<(), TrainError> {
        self.settle()?;
        let options = SampleOptions { index: iteration, ..self.sample_options(ROLLOUT) };
        let (requests, version) = (own_requests(prompts, &options), options.version);
        let model = &self.run.model;
        let Some(servers) = &self.servers else {
            let own = self.source(model).complete(&requests, &options);
            let ranks = self.run.ranks.clone();
            return self.ahead.keep(iteration, version, prompts.len(), own, &ranks);
        };
        let (tokenizer, dir) = (self.run.tokenizer.as_ref(), &self.run.dir);
        let order = ServedPolicy { servers, model, tokenizer, dir }.order(&options)?;
        let work = move || match requests.is_empty() {
            true => Ok(Vec::new()),
            false => order.complete(&requests, &mut unobserved()),
        };
        let thread = std::thread::spawn(work);
        self.ahead.pending = Some(Pending { iteration, version, prompts: prompts.len(), thread });
        Ok(())
    }

    /// Waits for completions that are being made ahead, so that a checkpoint has them.
    ///
    /// # Errors
    /// If a prompt could not be completed.
    pub(super) fn settle(&mut self) -> Result<(), TrainError> {
        self.ahead.settle(&self.run.ranks)
    }

    /// What a checkpoint has of completions that were made ahead.
    pub(super) fn state_file(&mut self) -> Option<StateFile> {
        self.ahead.file()
    }

    /// Optimizer steps that the policy has made since it wrote these, mean; `None` where it writes them at once.
    pub(crate) fn staleness<'r>(&self, of: impl IntoIterator<Item = &'r Rollout>) -> Option<f64> {
        let version = |rollout: &Rollout| match rollout.origin {
            RolloutOrigin::Sampled { version } => self.run.step.saturating_sub(version) as f64,
            RolloutOrigin::Recorded => 0.0,
        };
        let mean: Mean = of.into_iter().map(version).collect();
        mean.value().filter(|_| 0 < self.ahead.iterations)
    }

    /// What happened to those who sample since the last time.
    pub(super) fn news(&self) -> Vec<String> {
        self.servers.as_deref().map_or_else(Vec::new, Servers::news)
    }

    /// Completions of a model, which reads the policy's tokens.
    pub(crate) fn source<'m>(&'m self, model: &'m Model<D>) -> Local<'m, D> {
        let dtype = self.settings.rollout.dtype;
        Local { model, tokenizer: self.run.tokenizer.as_ref(), dtype }
    }

    /// The models that a checkpoint has besides those that are trained, with the run.
    pub fn saved(&mut self) -> (&mut Run<D, Iterating<E>>, Option<NamedModel<'_, D>>) {
        let moves = self.settings.movement == Movement::Following;
        let reference = self.reference.as_ref().filter(|_| moves);
        (&mut self.run, reference.map(|model| NamedModel { name: REFERENCE, model }))
    }

    /// The model that the policy is compared with.
    ///
    /// # Panics
    /// If there is none in this process.
    pub(crate) fn reference(&self) -> &Model<D> {
        self.reference.as_ref().expect("a run with a reference of its own")
    }

    /// Moves the reference towards the policy, all the way with `mix` 1.
    pub(crate) fn move_reference(&mut self, mix: f64) {
        let policy = self.run.model.params();
        let reference = self.reference.as_mut().expect("a run with a reference of its own");
        reference.params_mut().move_towards(policy, mix);
    }

    /// Completes the held-out prompts, of which `reference` says the log-probabilities of what the policy is compared
    /// with; `None` with fewer than two.
    pub(super) fn evaluate(
        &self,
        sources: &mut dyn RewardSource,
        reference: impl FnOnce(&[Sequence<'_>]) -> Result<Vec<Vec<f64>>, TrainError>,
    ) -> Result<Option<HeldOutEvaluation>, TrainError> {
        if self.feed.eval().is_empty() {
            return Ok(None);
        }
        let sample =
            SampleOptions { completions: 1, index: 0, ..self.sample_options("evaluation") };
        let held_out =
            HeldOut { prompts: self.feed.eval(), sample: &sample, forward: self.forward_options() };
        let (run, tokenizer) = (&self.run, self.run.tokenizer.as_ref());
        let completions =
            complete_held_out_beside(&run.model, reference, tokenizer, sources, held_out)?;
        Ok(completions.evaluation(run.step))
    }

    pub(super) fn write_samples(&mut self) -> Result<(), TrainError> {
        let prompts = self.feed.sample_prompts(self.settings.samples.count);
        let seed = self.run.seeds.derive("samples", 0, 0);
        self.run.write_samples(&prompts, &self.settings.samples, seed)
    }

    /// How log-probabilities of completions are read.
    pub fn forward_options(&self) -> ForwardOptions {
        let train = &self.run.settings.train;
        ForwardOptions {
            temperature: *self.settings.rollout.temperature,
            microbatch_tokens: train.microbatch_tokens,
            logits_bytes: train.logits_bytes,
        }
    }

    /// How this iteration's prompts are completed.
    pub fn sample_options<'s>(&'s self, stream: &'s str) -> SampleOptions<'s> {
        SampleOptions {
            sampling: &self.sampling,
            engine: self.engine_options(),
            completions: *self.settings.rollout.completions,
            seeds: self.run.seeds,
            stream,
            index: self.iteration(),
            version: self.run.step,
            ranks: &self.run.ranks,
        }
    }

    /// Books the forward passes that make experience of sampled tokens: sampling itself, the reference,
    /// the policy, and a companion.
    pub(crate) fn book_reading(&mut self, sequences: &[Sequence<'_>]) {
        let tokens_max = self.run.settings.train.microbatch_tokens;
        let flops = completion_microbatches(sequences, tokens_max).into_iter().map(|range| {
            let batch = CompletionBatch::new(&sequences[range]).batch;
            let companion = self.run.companion.as_ref();
            let companion = companion.map_or(0.0, |other| inference_flops(&other.model, &batch));
            3.0 * inference_flops(&self.run.model, &batch) + companion
        });
        let flops: f64 = flops.sum();
        self.run.counters.cost.flops += flops;
    }
}

/// Refuses a reference that reads other tokens than the policy.
fn same_tokens<D: Device>(
    key: &str,
    source: &Path,
    reference: &Model<D>,
    policy: &Model<D>,
    tokenizer: Option<&Tokenizer>,
) -> Result<(), TrainError> {
    let (found, expected) = (reference.config().vocab, policy.config().vocab);
    let own = load_tokenizer(source)?.as_ref().map(Tokenizer::fingerprint);
    let of_policy = tokenizer.map(Tokenizer::fingerprint);
    let differs = own.zip(of_policy).is_some_and(|(own, of_policy)| own != of_policy);
    if found == expected && !differs {
        return Ok(());
    }
    Err(TrainError::Other(format!(
        "`{key}`: {} has another tokenizer or vocabulary ({found} tokens) than the policy ({expected}), \
         expected the same",
        source.display()
    )))
}

/// How `[rollout]` samples.
pub fn sampling(rollout: &RolloutConfig) -> Sampling {
    Sampling {
        temperature: *rollout.temperature,
        top_p: *rollout.top_p,
        top_k: rollout.top_k,
        min_p: *rollout.min_p,
        max_new_tokens: *rollout.max_new_tokens,
        stop: rollout.stop.clone(),
        ignore_eos: false,
    }
}
