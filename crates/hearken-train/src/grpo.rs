//! Reinforcement learning from scores that are compared within the completions of one prompt.
//!
//! ```text
//! prompts ─► sample groups ─► grade ─► credit ─► epochs × minibatches of updates ─┐
//!    ▲                                                                            │
//!    └─────────────────────────── new policy ◄────────────────────────────────────┘
//! ```
//!
//! Per iteration: every prompt gets a group of completions; each is scored; groups whose scores are all
//! equal may leave; advantages come from the scores of the group; the policy follows a surrogate. Which
//! of GRPO, RLOO, DAPO, GSPO … that is, an [`Algorithm`] says: the loop never asks for a name.
//!
//! Checkpoints are made between iterations, where nothing but the policy, the optimizer and a few
//! counters is needed to go on bit for bit. Not here: a critic; see [`crate::ppo`].

mod config;
mod section;
mod kl;
mod feed;
mod grade;
mod credit;
mod update;
mod metrics;

use hearken_generate::Sampling;
use hearken_model::{Gradients, Head, Keep, LoadOptions, Model, Tokenizer};
use hearken_objective::grpo::{Algorithm, Credit, GroupBaseline};
use hearken_objective::kl::KlController;
use hearken_tensor::Device;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, NamedModel, Snapshot};
use crate::config::{Loaded, ScoreReading, open_scores};
use crate::error::TrainError;
use crate::metrics::{Cost, Stopwatch, inference_flops};
use crate::optimizer::{Optimizer, Trained, check_loss};
use crate::order::Cursor;
use crate::plan::{MemoryPlan, parameters_note};
use crate::ppo::{HeldOut, complete_held_out};
use crate::progress::{Progress, StepReport};
use crate::reward_source::WeightedSum;
use crate::rollout::{
    CompletionBatch, ForwardOptions, Heads, SampleOptions, Sequence, completion_microbatches,
    read, sample,
};
use crate::run_dir::{RunDir, Start};
use crate::samples::sample_completions;
use crate::schedule::Schedule;
use crate::seeds::Seeds;
use crate::trained_model::{Outcome, Status, freeze, load_tokenizer};

use credit::{Experience, credit, trained};
use feed::Feed;
use grade::{Graded, Ungraded, grade, groups, kept_before};
use metrics::Gathered;
use update::{StepContext, accumulate, step_counts};

pub use config::{GrpoConfig, GrpoSettings};
pub use kl::KlSteering;
pub use metrics::{ClipMetrics, GrpoStep, IterationMetrics, SamplerMetrics};
pub use section::Groups;

/// What a checkpoint keeps besides weights and moments.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Counters {
    /// The next iteration, from 0.
    iteration: u64,
    /// How far the run is in its prompts.
    cursor: Cursor,
    /// The coefficient of the KL penalty; `None` before the first iteration.
    beta: Option<f64>,
    /// Whether the run has come to its KL limit.
    at_kl_limit: bool,
    /// The best evaluation score so far.
    best: Option<f64>,
    cost: Cost,
}

/// A run between two iterations.
struct Session<'a, D: Device> {
    config: &'a GrpoConfig,
    run: RunDir,
    seeds: Seeds,
    tokenizer: Option<Tokenizer>,
    feed: Feed,
    policy: Model<D>,
    gradients: Gradients<D>,
    reference: Model<D>,
    optimizer: Optimizer<D>,
    schedule: Schedule,
    kl: KlController,
    sampling: Sampling,
    step: u64,
    total: u64,
    counters: Counters,
}

/// Credited rollouts of one iteration.
struct Iteration {
    /// What is trained on.
    experience: Vec<Experience>,
    metrics: IterationMetrics,
    watch: Stopwatch,
}

/// Runs the configuration with the scores of its `[[score]]` sections; see [`run_with`].
///
/// # Errors
/// As [`run_with`]; also if a source cannot be opened, or there is none that counts.
pub fn run<D: Device>(
    device: D,
    loaded: &Loaded<GrpoConfig>,
    start: Start,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    let config = &loaded.config;
    let mut sources = WeightedSum::new();
    if config.rollout.replay.is_none() {
        let tokenizer = load_tokenizer(&config.model.path)?;
        let reading = ScoreReading {
            normalize: config.grpo.normalize_scores,
            microbatch_tokens: config.train.microbatch_tokens,
        };
        sources = open_scores(&config.scores, &device, tokenizer.as_ref(), reading)?;
        if sources.is_silent() {
            return Err(TrainError::Other(format!(
                "{}: found no [[score]] with a weight other than 0, expected at least one: it is \
                 what the policy is trained for",
                loaded.frozen.file().display()
            )));
        }
    }
    run_with(device, loaded, start, &mut sources, progress)
}

/// Runs the configuration to its end, or until `progress` asks to stop; goes on from the last
/// checkpoint where there is one. Scores come from `sources`, or from the replayed file.
///
/// # Errors
/// If an input is not usable, a source fails, a file cannot be written, or a number becomes NaN or
/// infinite.
pub fn run_with<D: Device>(
    device: D,
    loaded: &Loaded<GrpoConfig>,
    start: Start,
    sources: &mut WeightedSum<'_>,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    let config = &loaded.config;
    let (run, checkpoint) = RunDir::open(&config.run, &loaded.frozen, start)?;
    progress.stage("read data", None);
    let tokenizer = load_tokenizer(&config.model.path)?;
    let feed = Feed::open(config, tokenizer.as_ref(), progress)?;
    let total = feed.steps(config);
    if let Some(outcome) = already_finished(&run, checkpoint.as_ref(), total, progress)? {
        return Ok(outcome);
    }
    let mut session =
        Session::open(device, config, run, checkpoint.as_ref(), (tokenizer, feed, total))?;
    session.announce(progress);
    progress.stage("grpo", Some(total));
    if session.step == 0 {
        session.evaluate(sources)?;
    }
    while session.step < total && !session.counters.at_kl_limit {
        let first_step = session.step;
        let iteration = session.roll_out(sources, progress)?;
        let kl_nats = iteration.metrics.kl_k1_nats;
        if session.is_at_kl_limit(kl_nats, progress) {
            session.counters.at_kl_limit = true;
        } else {
            session.update(&iteration, progress)?;
            session.kl.observe(kl_nats, iteration.metrics.sampled);
            session.counters.iteration += 1;
        }
        let stop = progress.stop_requested();
        session.after_iteration(first_step, stop, sources)?;
        if stop && !session.is_finished() {
            progress.note(&session.stopped_note());
            return Ok(session.outcome(Status::Stopped));
        }
    }
    session.run.save_model("final", &session.policy, session.tokenizer.as_ref(), |_| Ok(()))?;
    Ok(session.outcome(Status::Finished))
}

fn already_finished(
    run: &RunDir,
    checkpoint: Option<&Checkpoint>,
    total: u64,
    progress: &mut dyn Progress,
) -> Result<Option<Outcome>, TrainError> {
    let Some(checkpoint) = checkpoint.filter(|_| run.has_final()) else { return Ok(None) };
    let counters: Counters = checkpoint.counters()?;
    let steps = checkpoint.step();
    if steps < total && !counters.at_kl_limit {
        return Ok(None);
    }
    progress.note(&format!("{}: finished after {steps} steps already", run.root().display()));
    let model_dir = run.path("final");
    Ok(Some(Outcome { status: Status::AlreadyFinished, steps, cost: counters.cost, model_dir }))
}

impl<'a, D: Device> Session<'a, D> {
    fn open(
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
    fn announce(&self, progress: &mut dyn Progress) {
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

    /// Samples (or replays), grades and credits the rollouts of an iteration.
    fn roll_out(
        &mut self,
        sources: &mut WeightedSum<'_>,
        progress: &mut dyn Progress,
    ) -> Result<Iteration, TrainError> {
        let watch = Stopwatch::start();
        let (sampled, mut kept) = self.gather(sources)?;
        if kept.is_empty() {
            progress.note(&format!(
                "iteration {}: no group's scores differ, so that there is nothing to learn from; \
                 its rollouts are trained on as they are",
                self.counters.iteration
            ));
            kept.clone_from(&sampled);
        }
        let sequences: Vec<Sequence<'_>> = kept.iter().map(|one| one.rollout.sequence()).collect();
        self.counters.cost.flops += self.reading_flops(&sequences);
        let forward = self.forward_options();
        let reading = read(&self.policy, &sequences, Heads::LogProbs, forward);
        let ref_logprobs = read(&self.reference, &sequences, Heads::LogProbs, forward).logprobs;
        let algorithm = self.algorithm();
        let credited = credit(kept, reading, ref_logprobs, &algorithm);
        let filter = self.config.grpo.groups;
        let mut experience = trained(credited.clone(), filter, algorithm.overlong);
        if experience.is_empty() {
            // A step needs tokens; advantages of 0 leave the policy to its KL penalty.
            experience.clone_from(&credited);
        }
        let gathered = Gathered {
            sampled: &sampled,
            experience: &credited,
            trained: experience.len(),
            source_names: &sources.names(),
            beta: algorithm.kl.beta().unwrap_or(0.0),
        };
        let metrics = gathered.metrics();
        Ok(Iteration { experience, metrics, watch })
    }

    /// Everything that was sampled and graded, and what of it advantages are computed of.
    fn gather(
        &mut self,
        sources: &mut WeightedSum<'_>,
    ) -> Result<(Vec<Graded>, Vec<Graded>), TrainError> {
        let (settings, iteration) = (&self.config.grpo, self.counters.iteration);
        let wanted = settings.prompts;
        if let Feed::Replay(iterations) = &self.feed {
            let index = (iteration % iterations.len() as u64) as usize;
            let graded = grade::recorded(&iterations[index].rollouts, settings);
            let kept = kept_before(&graded, settings.groups);
            return Ok((graded, kept));
        }
        let rounds = match settings.groups {
            Groups::Resample { rounds } => rounds,
            _ => 0,
        };
        let (mut all, mut kept): (Vec<Graded>, Vec<Graded>) = (Vec::new(), Vec::new());
        let mut missing = wanted;
        for round in 0..=rounds as u64 {
            let ungraded = self.sample_groups(missing, round)?;
            let mut graded = grade(ungraded, sources, settings)?;
            let first = groups(&all).count() as u64;
            graded.iter_mut().for_each(|one| one.rollout.group += first);
            kept.extend(kept_before(&graded, settings.groups));
            all.extend(graded);
            missing = wanted.saturating_sub(groups(&kept).count());
            if missing == 0 {
                break;
            }
        }
        Ok((all, kept))
    }

    /// Completions of the next `prompts` prompts, and a greedy one each if the algorithm asks for it.
    fn sample_groups(&mut self, prompts: usize, round: u64) -> Result<Ungraded, TrainError> {
        let Feed::Prompts(feed) = &self.feed else {
            unreachable!("recorded rollouts are not sampled");
        };
        let prompts = feed.next(prompts, &mut self.counters.cursor);
        let stream = if round == 0 { "rollout".to_owned() } else { format!("rollout/{round}") };
        let options = SampleOptions {
            sampling: &self.sampling,
            completions: self.config.rollout.completions,
            seeds: self.seeds,
            stream: &stream,
            index: self.counters.iteration,
        };
        let tokenizer = self.tokenizer.as_ref();
        let rollouts = sample(&self.policy, tokenizer, &prompts, &options)?;
        let needs_greedy =
            self.config.grpo.algorithm.credit == Credit::Group(GroupBaseline::Greedy);
        let mut greedy = Vec::new();
        if needs_greedy {
            let sampling = Sampling { temperature: 0.0, ..self.sampling.clone() };
            let options = SampleOptions { sampling: &sampling, completions: 1, ..options };
            greedy = sample(&self.policy, tokenizer, &prompts, &options)?;
        }
        Ok(Ungraded { rollouts, greedy })
    }

    /// Operations of the forward passes that make experience of sampled tokens: sampling itself, the
    /// reference, the policy.
    fn reading_flops(&self, sequences: &[Sequence<'_>]) -> f64 {
        let microbatches =
            completion_microbatches(sequences, self.config.train.microbatch_tokens);
        let flops = microbatches.into_iter().map(|range| {
            let batch = CompletionBatch::new(&sequences[range]).batch;
            3.0 * inference_flops(&self.policy, &batch)
        });
        flops.sum()
    }

    /// Epochs and minibatches, each an optimizer step; ends early where the run does.
    fn update(
        &mut self,
        iteration: &Iteration,
        progress: &mut dyn Progress,
    ) -> Result<(), TrainError> {
        let grpo = &self.config.grpo;
        let mut watch = iteration.watch;
        let of = |one: &Experience| one.graded.rollout.group;
        let groups: Vec<u64> = iteration.experience.iter().map(of).collect();
        for epoch in 0..grpo.epochs {
            let pass = self.counters.iteration * grpo.epochs as u64 + epoch as u64;
            let parts = feed::minibatches(&groups, grpo.minibatches, self.seeds, pass);
            // Where groups were dropped there may be fewer rollouts than minibatches.
            let parts = parts.iter().filter(|part| !part.is_empty());
            for (minibatch, part) in parts.enumerate() {
                if self.step == self.total {
                    return Ok(());
                }
                let chosen: Vec<&Experience> =
                    part.iter().map(|&index| &iteration.experience[index]).collect();
                let place = (epoch, minibatch);
                let record = self.optimizer_step(&chosen, &iteration.metrics, place, watch)?;
                watch = Stopwatch::start();
                self.report(&record, progress);
            }
        }
        Ok(())
    }

    fn optimizer_step(
        &mut self,
        minibatch: &[&Experience],
        metrics: &IterationMetrics,
        (epoch, index): (usize, usize),
        watch: Stopwatch,
    ) -> Result<GrpoStep, TrainError> {
        let (config, step) = (self.config, self.step + 1);
        let algorithm = self.algorithm();
        let context = StepContext {
            algorithm: &algorithm,
            entropy_coef: config.grpo.entropy_coef,
            forward: self.forward_options(),
            keep: if config.model.recompute { Keep::BlockInputs } else { Keep::Activations },
            counts: step_counts(minibatch),
        };
        self.gradients.zero();
        let sums = accumulate(&self.policy, &mut self.gradients, minibatch, context);
        let mean = |mean: hearken_objective::Mean| mean.value().unwrap_or(0.0);
        let loss = sums.policy - config.grpo.entropy_coef * mean(sums.entropy);
        let (learning_rate, grad_norm) = self.apply(step, loss)?;
        self.step = step;
        let timing = watch.timing(sums.rows as u64);
        self.counters.cost.add(Cost {
            tokens: sums.rows as u64,
            flops: sums.flops,
            seconds: timing.seconds,
        });
        let record = GrpoStep {
            step,
            iteration: self.counters.iteration,
            epoch,
            minibatch: index,
            loss,
            grad_norm,
            learning_rate,
            kl: mean(sums.kl),
            entropy: mean(sums.entropy),
            approx_kl: mean(sums.ratios.approx_kl_k2),
            ratio: mean(sums.ratios.ratio),
            ratio_max: sums.ratios.ratio_max.unwrap_or(1.0),
            ratio_min: sums.ratios.ratio_min.unwrap_or(1.0),
            clipped: sums.clipped(algorithm.surrogate),
            cispo_clipped: sums.cispo_clipped(algorithm.surrogate),
            iteration_metrics: metrics.clone(),
            tokens: sums.rows,
            completion_tokens: sums.completion_tokens,
            timing,
        };
        if step.is_multiple_of(config.train.log_every) {
            self.run.metrics.append(&record)?;
        }
        Ok(record)
    }

    /// The update of all trained parameters; returns learning rate and gradient norm.
    fn apply(&mut self, step: u64, loss: f64) -> Result<(f64, f64), TrainError> {
        check_loss(loss, &[&self.policy]).map_err(|reason| reason.at(step))?;
        let lr = self.schedule.learning_rate(step);
        let mut trained =
            [Trained { model: &mut self.policy, gradients: &self.gradients, lr }];
        let update = self.optimizer.step(&mut trained).map_err(|reason| reason.at(step))?;
        Ok((lr, update.grad_norm))
    }

    fn report(&self, record: &GrpoStep, progress: &mut dyn Progress) {
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
    fn is_at_kl_limit(&self, kl_nats: f64, progress: &mut dyn Progress) -> bool {
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

    fn is_finished(&self) -> bool {
        self.total <= self.step || self.counters.at_kl_limit
    }

    /// Evaluation, samples and checkpoint, where they have come due since `first_step`.
    fn after_iteration(
        &mut self,
        first_step: u64,
        stop: bool,
        sources: &mut WeightedSum<'_>,
    ) -> Result<(), TrainError> {
        let step = self.step;
        let due =
            |every: Option<u64>| every.is_some_and(|every| first_step / every < step / every);
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
    fn evaluate(&mut self, sources: &mut WeightedSum<'_>) -> Result<(), TrainError> {
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
        let held_out = HeldOut {
            prompts: self.feed.eval(),
            sample: &sample,
            forward: self.forward_options(),
        };
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

    fn write_samples(&mut self) -> Result<(), TrainError> {
        let Some(tokenizer) = &self.tokenizer else { return Ok(()) };
        let prompts = self.feed.sample_prompts(self.config.samples.count);
        let seed = self.seeds.derive("samples", 0, 0);
        let samples =
            sample_completions(&self.policy, tokenizer, &prompts, &self.config.samples, seed)?;
        samples.iter().try_for_each(|sample| self.run.samples.append(&sample.at(self.step)))?;
        Ok(())
    }

    /// The algorithm with the coefficient of the KL penalty in force.
    fn algorithm(&self) -> Algorithm {
        let algorithm = self.config.grpo.algorithm;
        Algorithm { kl: algorithm.kl.with_beta(self.kl.beta()), ..algorithm }
    }

    fn forward_options(&self) -> ForwardOptions {
        ForwardOptions {
            temperature: self.config.rollout.temperature,
            microbatch_tokens: self.config.train.microbatch_tokens,
        }
    }

    fn stopped_note(&self) -> String {
        let path = self.run.root().display();
        format!(
            "stopped after step {} of {}; {path} has a checkpoint, and the same command goes on \
             from there",
            self.step, self.total
        )
    }

    fn outcome(&self, status: Status) -> Outcome {
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
