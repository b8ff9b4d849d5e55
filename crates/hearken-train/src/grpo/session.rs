//! A run between two iterations: what it holds, how it opens, and what is done when an iteration
//! has ended.

use hearken_generate::Sampling;
use hearken_model::{Gradients, Head, LoadOptions, Model, Tokenizer};
use hearken_objective::grpo::Algorithm;
use hearken_objective::kl::KlController;
use hearken_tensor::Device;
use serde::{Deserialize, Serialize};

use super::config::GrpoConfig;
use super::feed::Feed;
use super::metrics::GrpoStep;
use crate::checkpoint::{Checkpoint, NamedModel, Snapshot};
use crate::error::TrainError;
use crate::metrics::Cost;
use crate::optimizer::Optimizer;
use crate::order::Cursor;
use crate::plan::{MemoryPlan, parameters_note};
use crate::ppo::{HeldOut, complete_held_out};
use crate::progress::{Progress, StepReport};
use crate::reward_source::WeightedSum;
use crate::rollout::{ForwardOptions, SampleOptions};
use crate::run_dir::RunDir;
use crate::samples::sample_completions;
use crate::schedule::Schedule;
use crate::seeds::Seeds;
use crate::trained_model::{Outcome, Status, freeze};

/// What a checkpoint keeps besides weights and moments.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Counters {
    /// The next iteration, from 0.
    pub(super) iteration: u64,
    /// How far the run is in its prompts.
    pub(super) cursor: Cursor,
    /// The coefficient of the KL penalty; `None` before the first iteration.
    pub(super) beta: Option<f64>,
    /// Whether the run has come to its KL limit.
    pub(super) at_kl_limit: bool,
    /// The best evaluation score so far.
    pub(super) best: Option<f64>,
    pub(super) cost: Cost,
}

/// A run between two iterations.
pub(super) struct Session<'a, D: Device> {
    pub(super) config: &'a GrpoConfig,
    pub(super) run: RunDir,
    pub(super) seeds: Seeds,
    pub(super) tokenizer: Option<Tokenizer>,
    pub(super) feed: Feed,
    pub(super) policy: Model<D>,
    pub(super) gradients: Gradients<D>,
    pub(super) reference: Model<D>,
    pub(super) optimizer: Optimizer<D>,
    pub(super) schedule: Schedule,
    pub(super) kl: KlController,
    pub(super) sampling: Sampling,
    pub(super) step: u64,
    pub(super) total: u64,
    pub(super) counters: Counters,
}

impl<'a, D: Device> Session<'a, D> {
    pub(super) fn open(
        device: D,
        config: &'a GrpoConfig,
        run: RunDir,
        checkpoint: Option<&Checkpoint>,
        inputs: (Option<Tokenizer>, Feed, u64),
    ) -> Result<Self, TrainError> {
        let (tokenizer, feed, total) = inputs;
        let precision = config.model.dtype.into();
        let options = LoadOptions { precision, head: Head::LanguageModel, new_score_head: None };
        let (reference, _) = Model::load(device.clone(), &config.model.path, &options)?;
        let mut policy = match checkpoint {
            Some(checkpoint) => Model::load(device, &checkpoint.model_dir(None), &options)?.0,
            None => reference.duplicate(),
        };
        freeze(&mut policy, &config.model.freeze)?;
        let optimizer = match checkpoint {
            Some(checkpoint) => checkpoint.optimizer(&config.optimizer, &[&policy])?,
            None => Optimizer::new(&config.optimizer, &[&policy]),
        };
        let counters: Counters =
            checkpoint.map(Checkpoint::counters).transpose()?.unwrap_or_default();
        let beta = counters.beta.or(config.grpo.algorithm.kl.beta()).unwrap_or(0.0);
        Ok(Self {
            run,
            seeds: Seeds::new(config.run.seed),
            tokenizer,
            feed,
            gradients: policy.gradients(),
            policy,
            reference,
            optimizer,
            schedule: Schedule::new(&config.optimizer, total),
            kl: config.kl.controller(beta),
            sampling: sampling(config),
            step: checkpoint.map_or(0, Checkpoint::step),
            total,
            counters,
            config,
        })
    }

    /// Batch arithmetic, memory and keys without meaning, before the first step.
    pub(super) fn announce(&self, progress: &mut dyn Progress) {
        let (config, grpo) = (self.config, &self.config.grpo);
        let source = match &self.feed {
            Feed::Replay(_) => "recorded rollouts".to_owned(),
            Feed::Prompts(_) => format!(
                "{} rollouts ({} prompts × {} completions)",
                grpo.prompts * config.rollout.completions,
                grpo.prompts,
                config.rollout.completions
            ),
        };
        progress.note(&format!(
            "{}: {} steps; an iteration: {source}, {} epochs × {} minibatches = {} steps",
            grpo.preset,
            self.total,
            grpo.epochs,
            grpo.minibatches,
            config.steps_per_iteration()
        ));
        progress.note(&format!("policy: {}", parameters_note(&self.policy)));
        let row = self.feed.rows_max(config);
        let rows = config.train.microbatch_tokens.max(row).min(row * grpo.prompts);
        let mut memory = MemoryPlan::new(&self.policy, rows, config.model.recompute.into());
        let (_, reference) = self.reference.parameter_counts();
        memory.weights += 4 * reference as u64;
        progress.note(&memory.note());
        if !grpo.unused.is_empty() {
            let keys = grpo.unused.join("`, `");
            progress.note(&format!("`{keys}`: without effect on this algorithm"));
        }
        if 0 < self.step {
            progress.note(&format!("going on from the checkpoint of step {}", self.step));
        }
    }

    pub(super) fn report(&self, record: &GrpoStep, progress: &mut dyn Progress) {
        let iteration = &record.iteration_metrics;
        progress.step(&StepReport {
            step: record.step,
            total: self.total,
            tokens: record.tokens as u64,
            tokens_per_s: record.timing.tokens_per_s,
            loss: record.loss,
            figures: &[
                ("reward", iteration.reward),
                ("kl", iteration.kl_k1_nats),
                ("flat", iteration.frac_reward_zero_std),
                ("length", iteration.length_mean),
            ],
        });
    }

    /// Whether an iteration's KL is above the limit, so that the run must not train on it.
    pub(super) fn is_at_kl_limit(&self, kl_nats: f64, progress: &mut dyn Progress) -> bool {
        let Some(limit) = self.config.grpo.kl_limit_nats.filter(|limit| *limit < kl_nats) else {
            return false;
        };
        progress.note(&format!(
            "step {}: the rollouts of iteration {} have a KL of {kl_nats:.3} nats to the \
             reference, above `grpo.kl_limit` = {limit}: the run ends here",
            self.step, self.counters.iteration
        ));
        true
    }

    pub(super) fn is_finished(&self) -> bool {
        self.total <= self.step || self.counters.at_kl_limit
    }

    /// Evaluation, samples and checkpoint, where they have come due since `first_step`.
    pub(super) fn after_iteration(
        &mut self,
        first_step: u64,
        stop: bool,
        sources: &mut WeightedSum<'_>,
    ) -> Result<(), TrainError> {
        let step = self.step;
        let due = |every: Option<u64>| every.is_some_and(|every| first_step / every < step / every);
        let (train, end) = (&self.config.train, self.is_finished());
        if due(train.eval_every) || end {
            self.evaluate(sources)?;
        }
        if due(train.sample_every) {
            self.write_samples()?;
        }
        if due(train.save_every) || end || stop {
            self.counters.beta = Some(self.kl.beta());
            self.run.save_checkpoint(&Snapshot {
                step,
                models: &[NamedModel { name: "policy", model: &self.policy }],
                optimizer: &self.optimizer,
                tokenizer: self.tokenizer.as_ref(),
                counters: &self.counters,
            })?;
        }
        Ok(())
    }

    /// Completes the held-out prompts; keeps the policy if it is the best so far.
    pub(super) fn evaluate(&mut self, sources: &mut WeightedSum<'_>) -> Result<(), TrainError> {
        if self.feed.eval().is_empty() {
            return Ok(());
        }
        let sample = SampleOptions {
            sampling: &self.sampling,
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
        let score = evaluation.eval_scores.value;
        if self.config.train.keep_best && self.counters.best.is_none_or(|best| best < score) {
            self.counters.best = Some(score);
            self.run.save_model("best", &self.policy, tokenizer, |_| Ok(()))?;
        }
        Ok(())
    }

    pub(super) fn write_samples(&mut self) -> Result<(), TrainError> {
        let Some(tokenizer) = &self.tokenizer else { return Ok(()) };
        let prompts = self.feed.sample_prompts(self.config.samples.count);
        let seed = self.seeds.derive("samples", 0, 0);
        let samples =
            sample_completions(&self.policy, tokenizer, &prompts, &self.config.samples, seed)?;
        samples.iter().try_for_each(|sample| self.run.samples.append(&sample.at(self.step)))?;
        Ok(())
    }

    /// The algorithm with the coefficient of the KL penalty in force.
    pub(super) fn algorithm(&self) -> Algorithm {
        let algorithm = self.config.grpo.algorithm;
        Algorithm { kl: algorithm.kl.with_beta(self.kl.beta()), ..algorithm }
    }

    pub(super) fn forward_options(&self) -> ForwardOptions {
        ForwardOptions {
            temperature: self.config.rollout.temperature,
            microbatch_tokens: self.config.train.microbatch_tokens,
        }
    }

    pub(super) fn stopped_note(&self) -> String {
        let path = self.run.root().display();
        format!(
            "stopped after step {} of {}; {path} has a checkpoint, and the same command goes on \
             from there",
            self.step, self.total
        )
    }

    pub(super) fn outcome(&self, status: Status) -> Outcome {
        let model_dir = self.run.path("final");
        Outcome { status, steps: self.step, cost: self.counters.cost, model_dir }
    }
}

/// How `[rollout]` samples.
fn sampling(config: &GrpoConfig) -> Sampling {
    let rollout = &config.rollout;
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
