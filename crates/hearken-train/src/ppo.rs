//! Proximal policy optimization of a language model against scores, near a reference.
//!
//! ```text
//! prompts ─► sample ─► score ─► credit ─► epochs × minibatches of updates ─┐
//!    ▲                                                                     │
//!    └───────────────────────── new policy ◄───────────────────────────────┘
//! ```
//!
//! Per iteration: completions are sampled; the score of each falls on its last token, and every token
//! pays for its distance to the reference; advantages are estimated and whitened over the whole
//! iteration; policy and critic follow clipped losses, each a mean over the tokens of an optimizer
//! step. Schulman et al. 2017, arXiv:1707.06347; Ziegler et al. 2019, arXiv:1909.08593.
//!
//! Checkpoints are made between iterations, where nothing but the models, the optimizer and a few
//! counters is needed to go on bit for bit.

mod config;

mod metrics;

mod critic;

mod credit;

mod update;

pub(crate) mod benchmark;

use hearken_model::Head;
use hearken_objective::reward::MissingEnd;
use hearken_tensor::Device;

use crate::budget::{Part, Purpose, Tape, fit};
use crate::config::{Loaded, ScoreReading, open_counting_scores};
use crate::error::TrainError;
use crate::metrics::Stopwatch;
use crate::progress::{Progress, StepReport};
use crate::reward_source::{Scores, WeightedSum};
use crate::rollout::feed::minibatches;
use crate::rollout::opening::Opening;
use crate::rollout::session::Session;
use crate::rollout::{Rollout, Scoring, Sequence, sample_scored, score};
use crate::run_dir::Start;
use crate::trained_model::Outcome;

use credit::{Experience, credit, iteration_metrics};
use update::{StepContext, accumulate, token_weight};

pub use config::{AdvantageScale, CriticSource, PpoConfig, PpoSettings};
pub use metrics::{IterationMetrics, PpoStep};

/// A run between two iterations.
struct Ppo<'a, D: Device> {
    config: &'a PpoConfig,
    session: Session<'a, D>,
}

/// Credited rollouts of one iteration.
struct Iteration {
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
    loaded: &Loaded<PpoConfig>,
    start: Start,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    let config = &within_memory(&loaded.config)?;
    let mut sources = WeightedSum::new();
    if config.rollout.replay.is_none() {
        let reading = ScoreReading {
            normalize: config.ppo.normalize_scores,
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
    loaded: &Loaded<PpoConfig>,
    start: Start,
    sources: &mut WeightedSum<'_>,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    let config = &within_memory(&loaded.config)?;
    let opening = Opening::new(config.settings(), &loaded.frozen, start, progress)?;
    if let Some(outcome) = opening.already_finished::<()>(progress)? {
        return Ok(outcome);
    }
    let mut ppo = Ppo::open(device, config, opening)?;
    ppo.session.announce(progress)?;
    progress.stage("ppo", Some(ppo.session.total));
    ppo.session.evaluate_at_start(sources)?;
    while !ppo.session.is_finished() {
        let first_step = ppo.session.step;
        let before = ppo.session.counters;
        let iteration = ppo.roll_out(sources);
        let iteration = ppo.session.or_keep(before, iteration)?;
        let (kl_nats, count) = (iteration.metrics.kl_k1_nats, iteration.experience.len());
        if ppo.session.is_at_kl_limit(kl_nats, progress) {
            ppo.session.counters.at_kl_limit = true;
        } else {
            ppo.update(&iteration, progress)?;
            ppo.session.kl.observe(kl_nats, count);
            ppo.session.counters.iteration += 1;
        }
        let stop = progress.stop_requested();
        ppo.session.after_iteration(first_step, stop, sources)?;
        if stop && !ppo.session.is_finished() {
            return Ok(ppo.session.stopped(progress));
        }
    }
    ppo.session.finish()
}

/// The configuration with microbatches as large as memory has room for.
fn within_memory(config: &PpoConfig) -> Result<PpoConfig, TrainError> {
    let mut fitted = config.clone();
    let policy = Part::trained(&config.model, Head::LanguageModel);
    let mut parts = vec![policy, Part { purpose: Purpose::Read, ..policy }];
    if let CriticSource::Checkpoint(path) = &config.ppo.critic {
        parts.push(Part { path, head: Head::Score, purpose: Purpose::Train(&[]), ..policy });
    }
    parts.extend(Part::scores(&config.scores));
    fit(&mut fitted.train, &config.run, Tape::new(&config.model, true).sampling(), &parts)?;
    Ok(fitted)
}

impl<'a, D: Device> Ppo<'a, D> {
    fn open(device: D, config: &'a PpoConfig, opening: Opening<'a>) -> Result<Self, TrainError> {
        let accompany = |policy: &mut _, opening: &_| critic::open(config, policy, opening);
        Ok(Self { config, session: opening.session(device, accompany)? })
    }

    /// Samples (or replays), scores and credits the rollouts of an iteration.
    fn roll_out(&mut self, sources: &mut WeightedSum<'_>) -> Result<Iteration, TrainError> {
        let watch = Stopwatch::start();
        let (rollouts, scores, missing_end) = self.rollouts(sources)?;
        let session = &mut self.session;
        let forward = session.forward_options();
        let scoring = Scoring { reference: &session.reference, forward, missing_end };
        let (scored, summary) = score(rollouts, scores, &scoring);
        let sequences: Vec<Sequence<'_>> =
            scored.iter().map(|one| one.rollout.sequence()).collect();
        session.counters.cost.flops += session.reading_flops(&sequences);
        let critic = session.companion.as_ref();
        let reading = critic::read_both(&session.policy, critic, &sequences, forward);
        let (beta, entropy) = (session.kl.beta(), reading.entropy);
        let experience = credit(scored, reading, beta, self.config);
        let metrics = iteration_metrics(&experience, &summary, entropy, beta, self.config);
        Ok(Iteration { experience, metrics, watch })
    }

    /// Rollouts with their scores, and what a missing end does to these.
    fn rollouts(
        &mut self,
        sources: &mut WeightedSum<'_>,
    ) -> Result<(Vec<Rollout>, Scores, MissingEnd), TrainError> {
        let session = &mut self.session;
        if let Some(recorded) = session.feed.recorded(session.counters.iteration) {
            let (rollouts, total) = recorded.iter().cloned().unzip();
            // A recorded score is what the record says it is: penalties are in it already.
            return Ok((rollouts, Scores { total, by_source: Vec::new() }, MissingEnd::Keep));
        }
        let prompts = session.feed.next(session.settings.prompts, &mut session.counters.cursor);
        let options = session.sample_options("rollout");
        let tokenizer = session.tokenizer.as_ref();
        let (rollouts, scores) =
            sample_scored(&session.policy, tokenizer, &prompts, &options, sources)?;
        Ok((rollouts, scores, self.config.ppo.missing_end))
    }

    /// Epochs and minibatches, each an optimizer step; ends early where the run does.
    fn update(
        &mut self,
        iteration: &Iteration,
        progress: &mut dyn Progress,
    ) -> Result<(), TrainError> {
        let mut watch = iteration.watch;
        // Completions of one prompt need not share a minibatch.
        let apart: Vec<u64> = (0..iteration.experience.len() as u64).collect();
        for epoch in 0..self.config.ppo.epochs {
            let (seeds, pass) = (self.session.seeds, self.session.pass(epoch));
            let parts = minibatches(&apart, self.config.ppo.minibatches, seeds, pass);
            for (minibatch, part) in parts.iter().enumerate() {
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
    ) -> Result<PpoStep, TrainError> {
        let (config, session) = (self.config, &mut self.session);
        let beta = session.kl.beta();
        let forward = session.forward_options();
        let context = StepContext { config, forward, beta, token_weight: token_weight(minibatch) };
        session.gradients.zero();
        if let Some(critic) = &mut session.companion {
            critic.gradients.zero();
        }
        let (gradients, critic) = (&mut session.gradients, session.companion.as_mut());
        let sums = accumulate(&session.policy, gradients, critic, minibatch, context);
        let mean = |mean: hearken_objective::Mean| mean.value().unwrap_or(0.0);
        let (policy_loss, value_loss) = (mean(sums.policy), mean(sums.value));
        let loss = policy_loss + config.ppo.value_coef * value_loss
            - config.ppo.entropy_coef * mean(sums.entropy)
            + beta * mean(sums.kl);
        let (learning_rate, grad_norm) = session.apply(loss, config.ppo.critic_lr)?;
        let timing = watch.timing(sums.rows as u64);
        session.book(sums.rows, sums.flops, timing);
        let record = PpoStep {
            step: session.step,
            iteration: session.counters.iteration,
            epoch,
            minibatch: index,
            loss,
            grad_norm,
            learning_rate,
            policy_loss,
            value_loss,
            approx_kl: mean(sums.ratios.approx_kl_k2),
            clip_fraction: mean(sums.ratios.clipped()),
            ratio: mean(sums.ratios.ratio),
            ratio_max: sums.ratios.ratio_max.unwrap_or(1.0),
            ratio_min: sums.ratios.ratio_min.unwrap_or(1.0),
            value_clip_fraction: sums.value_clipped as f64 / sums.value.count.max(1) as f64,
            iteration_metrics: metrics.clone(),
            tokens: sums.rows,
            completion_tokens: sums.policy.count,
            timing,
        };
        session.log(&record)?;
        Ok(record)
    }

    fn report(&self, record: &PpoStep, progress: &mut dyn Progress) {
        let iteration = &record.iteration_metrics;
        progress.step(&StepReport {
            step: record.step,
            total: self.session.total,
            tokens: record.tokens as u64,
            tokens_per_s: record.timing.tokens_per_s,
            loss: record.loss,
            figures: &[
                ("score", iteration.scores),
                ("kl", iteration.kl_k1_nats),
                ("clipped", record.clip_fraction),
                ("length", iteration.length_mean),
            ],
        });
    }
}
