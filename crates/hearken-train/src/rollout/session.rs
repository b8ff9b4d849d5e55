//! A run that samples, between two iterations: what it holds, and what is done when an iteration has
//! ended. What an iteration does is its algorithm's.

use hearken_generate::{EngineOptions, Sampling};
use hearken_model::{Gradients, Keep, Model, Tokenizer};
use hearken_objective::kl::KlController;
use hearken_tensor::Device;
use serde::{Deserialize, Serialize};

use super::feed::Feed;
use super::held_out::{HeldOut, complete_held_out};
use super::opening::{Movement, Settings};
use super::{CompletionBatch, ForwardOptions, SampleOptions, Sequence, completion_microbatches};
use crate::budget::check;
use crate::checkpoint::{NamedModel, Snapshot};
use crate::config::RolloutConfig;
use crate::error::TrainError;
use crate::metrics::{Cost, Timing, inference_flops};
use crate::optimizer::{Optimizer, Trained, check_loss};
use crate::order::Cursor;
use crate::plan::{MemoryPlan, parameters_note};
use crate::progress::Progress;
use crate::reward_source::WeightedSum;
use crate::run_dir::RunDir;
use crate::samples::sample_completions;
use crate::schedule::Schedule;
use crate::seeds::Seeds;
use crate::trained_model::{Outcome, Status, stopped_note};

/// The folder of a reference that moves, in a checkpoint.
pub(super) const REFERENCE: &str = "reference";

/// What a checkpoint keeps besides weights and moments.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters<E> {
    /// The next iteration, from 0.
    pub(crate) iteration: u64,
    /// How far the run is in its prompts.
    pub(crate) cursor: Cursor,
    /// The coefficient of the KL penalty; `None` before the first iteration.
    pub(crate) beta: Option<f64>,
    /// Whether the run has come to its KL limit.
    pub(crate) at_kl_limit: bool,
    /// Whether an evaluation that was due had no scores.
    #[serde(default)]
    pub(crate) owes_evaluation: bool,
    /// The best evaluation score so far.
    pub(crate) best: Option<f64>,
    pub(crate) cost: Cost,
    /// The algorithm's own.
    #[serde(default)]
    pub(crate) own: E,
}

/// Another model that is trained with the policy.
#[derive(Debug)]
pub(crate) struct Companion<D: Device> {
    /// Its folder in a checkpoint.
    pub(crate) name: &'static str,
    pub(crate) model: Model<D>,
    pub(crate) gradients: Gradients<D>,
}

/// A run between two iterations; `E` is what its algorithm keeps in checkpoints.
pub(crate) struct Session<'a, D: Device, E = ()> {
    pub(crate) settings: Settings<'a>,
    pub(crate) run: RunDir,
    pub(crate) seeds: Seeds,
    pub(crate) tokenizer: Option<Tokenizer>,
    pub(crate) feed: Feed,
    pub(crate) policy: Model<D>,
    pub(crate) gradients: Gradients<D>,
    pub(crate) companion: Option<Companion<D>>,
    pub(crate) reference: Model<D>,
    pub(crate) optimizer: Optimizer<D>,
    pub(crate) schedule: Schedule,
    pub(crate) kl: KlController,
    pub(crate) sampling: Sampling,
    pub(crate) step: u64,
    /// The step of the newest checkpoint.
    pub(crate) saved: Option<u64>,
    pub(crate) total: u64,
    pub(crate) counters: Counters<E>,
}

impl<D: Device, E: Serialize + Copy> Session<'_, D, E> {
    /// Batch arithmetic and memory, before the first step.
    ///
    /// # Errors
    /// If the completions of one prompt do not fit into the run's memory limit.
    pub(crate) fn announce(&self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        let Settings { prompts, epochs, minibatches, rollout, train, model, .. } = self.settings;
        let source = match &self.feed {
            Feed::Replay(_) => "recorded rollouts".to_owned(),
            Feed::Prompts(_) => format!(
                "{} rollouts ({prompts} prompts × {} completions)",
                prompts * rollout.completions,
                rollout.completions
            ),
        };
        progress.note(&format!(
            "{} steps; an iteration: {source}, {epochs} epochs × {minibatches} minibatches = {} \
             steps",
            self.total,
            epochs * minibatches
        ));
        progress.note(&format!("policy: {}", parameters_note(&self.policy)));
        let row = self.feed.rows_max(&self.settings);
        let rows = train.microbatch_tokens.max(row).min(row * prompts);
        let (recompute, policy) = (model.recompute.into(), self.policy.footprint());
        let mut memory = MemoryPlan::trained(&policy)
            .with_rows(&policy, rows, recompute)
            .with_logits(&policy, rows, train.logits_bytes);
        if let Some(Companion { name, model, .. }) = &self.companion {
            progress.note(&format!("{name}: {}", parameters_note(model)));
            let footprint = model.footprint();
            let plan = MemoryPlan::trained(&footprint).with_rows(&footprint, rows, recompute);
            memory = memory.with(plan);
        }
        memory = memory.beside(&self.reference.footprint());
        if let Feed::Prompts(_) = &self.feed {
            // Prompts are shared by their completions, which decode at most so many at a time.
            let at_once = (prompts * rollout.completions).min(self.engine_options().batch_rows_max);
            let groups = at_once.div_ceil(rollout.completions);
            let cache = (groups * row * policy.cache_bytes_per_position) as u64;
            memory = memory.with_cache(cache.min(train.cache_bytes as u64));
        }
        progress.note(&memory.note());
        if 0 < self.step {
            progress.note(&format!("going on from the checkpoint of step {}", self.step));
        }
        check(&memory, self.settings.run, train, row)
    }

    /// How much the sampler takes at once.
    pub(crate) fn engine_options(&self) -> EngineOptions {
        let cache_bytes = self.settings.train.cache_bytes;
        EngineOptions { cache_bytes, ..EngineOptions::default() }
    }

    /// Whether an iteration's KL is above the limit, so that the run must not train on it.
    pub(crate) fn is_at_kl_limit(&self, kl_nats: f64, progress: &mut dyn Progress) -> bool {
        let Some(limit) = self.settings.kl_limit_nats.filter(|limit| *limit < kl_nats) else {
            return false;
        };
        progress.note(&format!(
            "step {}: the rollouts of iteration {} have a KL of {kl_nats:.3} nats to the \
             reference, above `{}.kl_limit` = {limit}: the run ends here",
            self.step, self.counters.iteration, self.settings.section
        ));
        true
    }

    /// The pass over an iteration's rollouts with a number that no other pass of the run has.
    pub(crate) fn pass(&self, epoch: usize) -> u64 {
        self.counters.iteration * self.settings.epochs as u64 + epoch as u64
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.total <= self.step || self.counters.at_kl_limit
    }

    /// Evaluation, samples and checkpoint, where they have come due since `first_step`.
    pub(crate) fn after_iteration(
        &mut self,
        first_step: u64,
        stop: bool,
        sources: &mut WeightedSum<'_>,
    ) -> Result<(), TrainError> {
        let step = self.step;
        let due = |every: Option<u64>| every.is_some_and(|every| first_step / every < step / every);
        let (train, end) = (self.settings.train, self.is_finished());
        if due(train.sample_every) {
            self.write_samples()?;
        }
        if due(train.eval_every) || end {
            let evaluated = self.evaluate(sources);
            let owing = Counters { owes_evaluation: true, ..self.counters };
            self.or_keep(owing, evaluated)?;
        }
        if due(train.save_every) || end || stop {
            self.save_checkpoint()?;
        }
        Ok(())
    }

    /// The evaluation before the first step, or the one that a resumed run owes.
    pub(crate) fn evaluate_at_start(
        &mut self,
        sources: &mut WeightedSum<'_>,
    ) -> Result<(), TrainError> {
        if self.step == 0 {
            return self.evaluate(sources);
        }
        if !self.counters.owes_evaluation {
            return Ok(());
        }
        let evaluated = self.evaluate(sources);
        self.or_keep(self.counters, evaluated)?;
        self.counters.owes_evaluation = false;
        self.save_checkpoint()
    }

    /// What needed scores. Where these failed, the run is kept as of its last step, with the counters
    /// `before` what failed, so that nothing else need be done again; the error says how to go on.
    pub(crate) fn or_keep<T>(
        &mut self,
        before: Counters<E>,
        result: Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        let error = match result {
            Err(error @ (TrainError::Reward(_) | TrainError::Judge(_))) => Box::new(error),
            other => return other,
        };
        if self.step == 0 {
            return Err(*error);
        }
        self.counters = before;
        if self.saved != Some(self.step)
            && let Err(refused) = self.save_checkpoint()
        {
            return Err(TrainError::NotKept { error, checkpoint: Box::new(refused) });
        }
        Err(TrainError::Kept { error, run: self.run.root().to_owned(), step: self.step })
    }

    fn save_checkpoint(&mut self) -> Result<(), TrainError> {
        self.counters.beta = Some(self.kl.beta());
        let policy = NamedModel { name: "policy", model: &self.policy };
        let companion = self.companion.as_ref();
        let companion = companion.map(|other| NamedModel { name: other.name, model: &other.model });
        let mut models: Vec<_> = std::iter::once(policy).chain(companion).collect();
        if self.settings.reference.1 == Movement::Following {
            models.push(NamedModel { name: REFERENCE, model: &self.reference });
        }
        self.run.save_checkpoint(&Snapshot {
            step: self.step,
            models: &models,
            optimizer: &self.optimizer,
            tokenizer: self.tokenizer.as_ref(),
            counters: &self.counters,
        })?;
        self.saved = Some(self.step);
        Ok(())
    }

    /// Completes the held-out prompts; keeps the policy if it is the best so far.
    pub(crate) fn evaluate(&mut self, sources: &mut WeightedSum<'_>) -> Result<(), TrainError> {
        if self.feed.eval().is_empty() {
            return Ok(());
        }
        let sample = SampleOptions {
            sampling: &self.sampling,
            engine: self.engine_options(),
            completions: 1,
            seeds: self.seeds,
            stream: "evaluation",
            index: 0,
        };
        let held_out =
            HeldOut { prompts: self.feed.eval(), sample: &sample, forward: self.forward_options() };
        let tokenizer = self.tokenizer.as_ref();
        let completions =
            complete_held_out(&self.policy, &self.reference, tokenizer, sources, held_out)?;
        let Some(evaluation) = completions.evaluation(self.step) else { return Ok(()) };
        self.run.metrics.append(&evaluation)?;
        let Some(score) = evaluation.eval_scores.map(|scores| scores.value) else { return Ok(()) };
        if self.settings.train.keep_best && self.counters.best.is_none_or(|best| best < score) {
            self.counters.best = Some(score);
            self.run.save_model("best", &self.policy, tokenizer, |_| Ok(()))?;
        }
        Ok(())
    }

    fn write_samples(&mut self) -> Result<(), TrainError> {
        let Some(tokenizer) = &self.tokenizer else { return Ok(()) };
        let samples = self.settings.samples;
        let prompts = self.feed.sample_prompts(samples.count);
        let seed = self.seeds.derive("samples", 0, 0);
        let samples = sample_completions(&self.policy, tokenizer, &prompts, samples, seed)?;
        samples.iter().try_for_each(|sample| self.run.samples.append(&sample.at(self.step)))?;
        Ok(())
    }

    pub(crate) fn keep(&self) -> Keep {
        self.settings.model.keep()
    }

    pub(crate) fn forward_options(&self) -> ForwardOptions {
        ForwardOptions {
            temperature: self.settings.rollout.temperature,
            microbatch_tokens: self.settings.train.microbatch_tokens,
            logits_bytes: self.settings.train.logits_bytes,
        }
    }

    /// How this iteration's prompts are completed.
    pub(crate) fn sample_options<'s>(&'s self, stream: &'s str) -> SampleOptions<'s> {
        SampleOptions {
            sampling: &self.sampling,
            engine: self.engine_options(),
            completions: self.settings.rollout.completions,
            seeds: self.seeds,
            stream,
            index: self.counters.iteration,
        }
    }

    /// Operations of the forward passes that make experience of sampled tokens: sampling itself, the
    /// reference, the policy, and a companion.
    pub(crate) fn reading_flops(&self, sequences: &[Sequence<'_>]) -> f64 {
        let tokens_max = self.settings.train.microbatch_tokens;
        let flops = completion_microbatches(sequences, tokens_max).into_iter().map(|range| {
            let batch = CompletionBatch::new(&sequences[range]).batch;
            let companion = self.companion.as_ref();
            let companion = companion.map_or(0.0, |other| inference_flops(&other.model, &batch));
            3.0 * inference_flops(&self.policy, &batch) + companion
        });
        flops.sum()
    }

    /// The update of all trained parameters for a step's `loss`; returns learning rate and gradient
    /// norm. A companion has its own largest rate, or the policy's.
    pub(crate) fn apply(
        &mut self,
        loss: f64,
        companion_lr: Option<f64>,
    ) -> Result<(f64, f64), TrainError> {
        let step = self.step + 1;
        let models: Vec<_> = std::iter::once(&self.policy)
            .chain(self.companion.as_ref().map(|other| &other.model))
            .collect();
        check_loss(loss, &models).map_err(|reason| reason.at(step))?;
        let lr = self.schedule.learning_rate(step);
        let mut trained = vec![Trained { model: &mut self.policy, gradients: &self.gradients, lr }];
        if let Some(Companion { model, gradients, .. }) = &mut self.companion {
            let lr = companion_lr.map_or(lr, |largest| largest * self.schedule.factor(step));
            trained.push(Trained { model, gradients, lr });
        }
        let update = self.optimizer.step(&mut trained).map_err(|reason| reason.at(step))?;
        self.step = step;
        Ok((lr, update.grad_norm))
    }

    /// Appends a step's record where it is due.
    pub(crate) fn log(&mut self, record: &impl Serialize) -> Result<(), TrainError> {
        if self.step.is_multiple_of(self.settings.train.log_every) {
            self.run.metrics.append(record)?;
        }
        Ok(())
    }

    /// Books the cost of a step.
    pub(crate) fn book(&mut self, tokens: usize, flops: f64, timing: Timing) {
        let (tokens, seconds) = (tokens as u64, timing.seconds);
        self.counters.cost.add(Cost { tokens, flops, seconds });
    }

    /// The end of a run that was asked to stop.
    pub(crate) fn stopped(&self, progress: &mut dyn Progress) -> Outcome {
        progress.note(&stopped_note(&self.run, self.step, self.total));
        self.outcome(Status::Stopped)
    }

    /// The end of a run: its policy as `final/`.
    pub(crate) fn finish(&self) -> Result<Outcome, TrainError> {
        self.run.save_model("final", &self.policy, self.tokenizer.as_ref(), |_| Ok(()))?;
        Ok(self.outcome(Status::Finished))
    }

    fn outcome(&self, status: Status) -> Outcome {
        let model_dir = self.run.path("final");
        Outcome { status, steps: self.step, cost: self.counters.cost, model_dir }
    }
}

/// How `[rollout]` samples.
pub(crate) fn sampling(rollout: &RolloutConfig) -> Sampling {
    Sampling {
        temperature: rollout.temperature,
        top_p: rollout.top_p,
        top_k: rollout.top_k,
        min_p: rollout.min_p,
        max_new_tokens: rollout.max_new_tokens,
        stop: rollout.stop.clone(),
        ignore_eos: false,
    }
}
