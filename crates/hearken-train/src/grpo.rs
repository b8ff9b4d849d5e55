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
//! of GRPO, RLOO, DAPO, GSPO … that is, an [`Algorithm`]
//! says: the loop never asks for a name.
//!
//! Checkpoints are made between iterations, where nothing but the policy, the optimizer and a few
//! counters is needed to go on bit for bit. Not here: a critic; see [`crate::ppo`].

mod config;

mod axes;

mod section;

mod kl;

mod metrics;

mod grade;

mod gather;

mod credit;

mod update;

pub(crate) mod benchmark;

use hearken_model::Head;
use hearken_objective::grpo::Algorithm;
use hearken_tensor::Device;

use crate::budget::{Part, Purpose, Tape, fit};
use crate::config::{Loaded, ScoreReading, open_counting_scores};
use crate::error::TrainError;
use crate::metrics::Stopwatch;
use crate::progress::{Progress, StepReport};
use crate::reward_source::WeightedSum;
use crate::rollout::feed::minibatches;
use crate::rollout::opening::Opening;
use crate::rollout::session::Session;
use crate::rollout::{Heads, Sequence, read};
use crate::run_dir::Start;
use crate::trained_model::Outcome;

use credit::{Experience, credit, trained};
use metrics::Gathered;
use update::{StepContext, accumulate, step_counts};

pub use config::{GrpoConfig, GrpoSettings};
pub use metrics::{ClipMetrics, GrpoStep, IterationMetrics, SamplerMetrics};
pub use section::Groups;

/// A run between two iterations.
struct Grpo<'a, D: Device> {
    config: &'a GrpoConfig,
    session: Session<'a, D>,
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
    let config = &within_memory(&loaded.config)?;
    let mut sources = WeightedSum::new();
    if config.rollout.replay.is_none() {
        let reading = ScoreReading {
            normalize: config.grpo.normalize_scores,
            microbatch_tokens: config.train.microbatch_tokens,
        };
        let file = loaded.frozen.file();
        sources = open_counting_scores(&config.scores, &device, &config.model, reading, file)?;
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
    let config = &within_memory(&loaded.config)?;
    let opening = Opening::new(config.settings(), &loaded.frozen, start, progress)?;
    if let Some(outcome) = opening.already_finished::<()>(progress)? {
        return Ok(outcome);
    }
    let mut grpo = Grpo::open(device, config, opening)?;
    grpo.announce(progress)?;
    progress.stage("grpo", Some(grpo.session.total));
    grpo.session.evaluate_at_start(sources)?;
    while !grpo.session.is_finished() {
        let first_step = grpo.session.step;
        let before = grpo.session.counters;
        let iteration = grpo.roll_out(sources, progress);
        let iteration = grpo.session.or_keep(before, iteration)?;
        let (kl_nats, count) = (iteration.metrics.kl_k1_nats, iteration.metrics.sampled);
        if grpo.session.is_at_kl_limit(kl_nats, progress) {
            grpo.session.counters.at_kl_limit = true;
        } else {
            grpo.update(&iteration, progress)?;
            grpo.session.kl.observe(kl_nats, count);
            grpo.session.counters.iteration += 1;
        }
        let stop = progress.stop_requested();
        grpo.session.after_iteration(first_step, stop, sources)?;
        if stop && !grpo.session.is_finished() {
            return Ok(grpo.session.stopped(progress));
        }
    }
    grpo.session.finish()
}

/// The configuration with microbatches as large as memory has room for.
fn within_memory(config: &GrpoConfig) -> Result<GrpoConfig, TrainError> {
    let mut fitted = config.clone();
    let policy = Part::trained(&config.model, Head::LanguageModel);
    let mut parts = vec![policy, Part { purpose: Purpose::Read, ..policy }];
    parts.extend(Part::scores(&config.scores));
    fit(&mut fitted.train, &config.run, Tape::new(&config.model, true).sampling(), &parts)?;
    Ok(fitted)
}

impl<'a, D: Device> Grpo<'a, D> {
    fn open(device: D, config: &'a GrpoConfig, opening: Opening<'a>) -> Result<Self, TrainError> {
        Ok(Self { config, session: opening.session(device, |_, _| Ok(None))? })
    }

    /// What the run is about to do, and keys without meaning.
    fn announce(&self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        progress.note(&format!("algorithm: {}", self.config.grpo.preset));
        self.session.announce(progress)?;
        let unused = &self.config.grpo.unused;
        if !unused.is_empty() {
            let keys = unused.join("`, `");
            progress.note(&format!("`{keys}`: without effect on this algorithm"));
        }
        Ok(())
    }

    /// The algorithm with the coefficient of the KL penalty in force.
    fn algorithm(&self) -> Algorithm {
        let algorithm = self.config.grpo.algorithm;
        Algorithm { kl: algorithm.kl.with_beta(self.session.kl.beta()), ..algorithm }
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
                self.session.counters.iteration
            ));
            kept.clone_from(&sampled);
        }
        let sequences: Vec<Sequence<'_>> = kept.iter().map(|one| one.rollout.sequence()).collect();
        let session = &mut self.session;
        session.counters.cost.flops += session.reading_flops(&sequences);
        let forward = session.forward_options();
        let reading = read(&session.policy, &sequences, Heads::LogProbs, forward);
        let ref_logprobs = read(&session.reference, &sequences, Heads::LogProbs, forward).logprobs;
        let algorithm = self.algorithm();
        let credited = credit(kept, reading, ref_logprobs, &algorithm);
        let filter = self.config.grpo.groups;
        let mut experience = trained(&credited, filter, algorithm.overlong);
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
            let (seeds, pass) = (self.session.seeds, self.session.pass(epoch));
            let parts = minibatches(&groups, grpo.minibatches, seeds, pass);
            // Where groups were dropped there may be fewer rollouts than minibatches.
            let parts = parts.iter().filter(|part| !part.is_empty());
            for (minibatch, part) in parts.enumerate() {
                if self.session.step == self.session.total {
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
        let algorithm = self.algorithm();
        let (config, session) = (self.config, &mut self.session);
        let context = StepContext {
            algorithm: &algorithm,
            entropy_coef: config.grpo.entropy_coef,
            forward: session.forward_options(),
            keep: session.keep(),
            counts: step_counts(minibatch),
        };
        session.gradients.zero();
        let sums = accumulate(&session.policy, &mut session.gradients, minibatch, context);
        let mean = |mean: hearken_objective::Mean| mean.value().unwrap_or(0.0);
        let loss = sums.policy - config.grpo.entropy_coef * mean(sums.entropy);
        let (learning_rate, grad_norm) = session.apply(loss, None)?;
        let timing = watch.timing(sums.rows as u64);
        session.book(sums.rows, sums.flops, timing);
        let record = GrpoStep {
            step: session.step,
            iteration: session.counters.iteration,
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
        session.log(&record)?;
        Ok(record)
    }

    fn report(&self, record: &GrpoStep, progress: &mut dyn Progress) {
        let iteration = &record.iteration_metrics;
        progress.step(&StepReport {
            step: record.step,
            total: self.session.total,
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
}
