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

mod session;

mod feed;

mod critic;

mod credit;

mod update;

mod evaluation;

pub(crate) mod benchmark;

use hearken_tensor::Device;

use crate::checkpoint::Checkpoint;
use crate::config::{Loaded, ScoreReading, open_scores};
use crate::error::TrainError;
use crate::metrics::{Cost, Stopwatch, inference_flops};
use crate::optimizer::{Trained, check_loss};
use crate::progress::Progress;
use crate::reward_source::WeightedSum;
use crate::rollout::{
    CompletionBatch, Rollout, SampleOptions, Scoring, Sequence, completion_microbatches, sample,
    score,
};
use crate::run_dir::{RunDir, Start};
use crate::trained_model::{Outcome, Status, load_tokenizer};

use credit::{Experience, credit, iteration_metrics};
use critic::Critic;
use feed::Feed;
use session::{Counters, Session};
use update::{StepContext, accumulate, token_weight};

pub(crate) use session::sampling;

pub use config::{AdvantageScale, CriticSource, PpoConfig, PpoSettings};
pub use evaluation::{HeldOut, HeldOutCompletions, complete_held_out};
pub use metrics::{IterationMetrics, PpoEvaluation, PpoStep};

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
    let config = &loaded.config;
    let mut sources = WeightedSum::new();
    if config.rollout.replay.is_none() {
        let tokenizer = load_tokenizer(&config.model.path)?;
        let reading = ScoreReading {
            normalize: config.ppo.normalize_scores,
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
    loaded: &Loaded<PpoConfig>,
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
    progress.stage("ppo", Some(total));
    if session.step == 0 {
        session.evaluate(sources)?;
    }
    while session.step < total && !session.counters.at_kl_limit {
        let first_step = session.step;
        let iteration = session.roll_out(sources)?;
        let (kl_nats, count) = (iteration.metrics.kl_k1_nats, iteration.experience.len());
        if session.is_at_kl_limit(kl_nats, progress) {
            session.counters.at_kl_limit = true;
        } else {
            session.update(&iteration, progress)?;
            session.kl.observe(kl_nats, count);
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

impl<D: Device> Session<'_, D> {
    /// Samples (or replays), scores and credits the rollouts of an iteration.
    fn roll_out(&mut self, sources: &mut WeightedSum<'_>) -> Result<Iteration, TrainError> {
        let watch = Stopwatch::start();
        let (rollouts, recorded) = self.rollouts()?;
        let forward = self.forward_options();
        let scoring = Scoring {
            reference: &self.reference,
            forward,
            missing_end: self.config.ppo.missing_end,
        };
        let (scored, summary) = score(rollouts, recorded, sources, &scoring)?;
        let sequences: Vec<Sequence<'_>> =
            scored.iter().map(|one| one.rollout.sequence()).collect();
        self.counters.cost.flops += self.reading_flops(&sequences);
        let reading = self.critic.read(&self.policy, &sequences, forward);
        let (beta, entropy) = (self.kl.beta(), reading.entropy);
        let experience = credit(scored, reading, beta, self.config);
        let metrics = iteration_metrics(&experience, &summary, entropy, beta, self.config);
        Ok(Iteration { experience, metrics, watch })
    }

    fn rollouts(&mut self) -> Result<(Vec<Rollout>, Option<Vec<f64>>), TrainError> {
        let iteration = self.counters.iteration;
        match &mut self.feed {
            Feed::Replay(iterations) => {
                let (rollouts, scores) = feed::recorded(iterations, iteration);
                Ok((rollouts, Some(scores)))
            }
            Feed::Prompts(feed) => {
                let prompts = feed.next(&mut self.counters.cursor);
                let options = SampleOptions {
                    sampling: &self.sampling,
                    completions: self.config.rollout.completions,
                    seeds: self.seeds,
                    stream: "rollout",
                    index: iteration,
                };
                let tokenizer = self.tokenizer.as_ref();
                Ok((sample(&self.policy, tokenizer, &prompts, &options)?, None))
            }
        }
    }

    /// Operations of the forward passes that make experience of sampled tokens: sampling itself,
    /// the reference, the policy, and a critic of its own.
    fn reading_flops(&self, sequences: &[Sequence<'_>]) -> f64 {
        let groups = completion_microbatches(sequences, self.config.train.microbatch_tokens);
        let flops = groups.into_iter().map(|group| {
            let batch = CompletionBatch::new(&sequences[group]).batch;
            let critic = self.critic.model().map_or(0.0, |critic| inference_flops(critic, &batch));
            3.0 * inference_flops(&self.policy, &batch) + critic
        });
        flops.sum()
    }

    /// Epochs and minibatches, each an optimizer step; ends early where the run does.
    fn update(
        &mut self,
        iteration: &Iteration,
        progress: &mut dyn Progress,
    ) -> Result<(), TrainError> {
        let ppo = &self.config.ppo;
        let mut watch = iteration.watch;
        for epoch in 0..ppo.epochs {
            let pass = self.counters.iteration * ppo.epochs as u64 + epoch as u64;
            let count = iteration.experience.len();
            let parts = feed::minibatches(count, ppo.minibatches, self.seeds, pass);
            for (minibatch, part) in parts.iter().enumerate() {
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
    ) -> Result<PpoStep, TrainError> {
        let (config, step) = (self.config, self.step + 1);
        let beta = self.kl.beta();
        let forward = self.forward_options();
        let context = StepContext { config, forward, beta, token_weight: token_weight(minibatch) };
        self.gradients.zero();
        if let Critic::Separate(critic) = &mut self.critic {
            critic.gradients.zero();
        }
        let sums =
            accumulate(&self.policy, &mut self.gradients, &mut self.critic, minibatch, context);
        let mean = |mean: hearken_objective::Mean| mean.value().unwrap_or(0.0);
        let (policy_loss, value_loss) = (mean(sums.policy), mean(sums.value));
        let loss = policy_loss + config.ppo.value_coef * value_loss
            - config.ppo.entropy_coef * mean(sums.entropy)
            + beta * mean(sums.kl);
        let (lr, grad_norm) = self.apply(step, loss)?;
        self.step = step;
        let timing = watch.timing(sums.rows as u64);
        self.counters.cost.add(Cost {
            tokens: sums.rows as u64,
            flops: sums.flops,
            seconds: timing.seconds,
        });
        let record = PpoStep {
            step,
            iteration: self.counters.iteration,
            epoch,
            minibatch: index,
            loss,
            grad_norm,
            learning_rate: lr,
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
        if step.is_multiple_of(config.train.log_every) {
            self.run.metrics.append(&record)?;
        }
        Ok(record)
    }

    /// The update of all trained parameters; returns learning rate and gradient norm.
    fn apply(&mut self, step: u64, loss: f64) -> Result<(f64, f64), TrainError> {
        let models: Vec<_> = std::iter::once(&self.policy).chain(self.critic.model()).collect();
        check_loss(loss, &models).map_err(|reason| reason.at(step))?;
        let lr = self.schedule.learning_rate(step);
        let critic_lr = self
            .config
            .ppo
            .critic_lr
            .map_or(lr, |critic_lr| critic_lr * self.schedule.factor(step));
        let mut trained = vec![Trained { model: &mut self.policy, gradients: &self.gradients, lr }];
        if let Critic::Separate(critic) = &mut self.critic {
            let (model, gradients) = (&mut critic.model, &critic.gradients);
            trained.push(Trained { model, gradients, lr: critic_lr });
        }
        let update = self.optimizer.step(&mut trained).map_err(|reason| reason.at(step))?;
        Ok((lr, update.grad_norm))
    }
}
