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
//! of GRPO, RLOO, DAPO, GSPO … that is, an [`Algorithm`](hearken_objective::grpo::Algorithm)
//! says: the loop never asks for a name.
//!
//! Checkpoints are made between iterations, where nothing but the policy, the optimizer and a few
//! counters is needed to go on bit for bit. Not here: a critic; see [`crate::ppo`].

mod config;

mod axes;

mod section;

mod kl;

mod metrics;

mod session;

mod feed;

mod grade;

mod gather;

mod credit;

mod update;

pub(crate) mod benchmark;

use hearken_model::Keep;
use hearken_tensor::Device;

use crate::checkpoint::Checkpoint;
use crate::config::{Loaded, ScoreReading, open_scores};
use crate::error::TrainError;
use crate::metrics::{Cost, Stopwatch, inference_flops};
use crate::optimizer::{Trained, check_loss};
use crate::progress::Progress;
use crate::reward_source::WeightedSum;
use crate::rollout::{CompletionBatch, Heads, Sequence, completion_microbatches, read};
use crate::run_dir::{RunDir, Start};
use crate::trained_model::{Outcome, Status, load_tokenizer};

use credit::{Experience, credit, trained};
use feed::Feed;
use metrics::Gathered;
use session::{Counters, Session};
use update::{StepContext, accumulate, step_counts};

pub use config::{GrpoConfig, GrpoSettings};
pub use kl::KlSteering;
pub use metrics::{ClipMetrics, GrpoStep, IterationMetrics, SamplerMetrics};
pub use section::Groups;

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

impl<D: Device> Session<'_, D> {
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

    /// Operations of the forward passes that make experience of sampled tokens: sampling itself, the
    /// reference, the policy.
    fn reading_flops(&self, sequences: &[Sequence<'_>]) -> f64 {
        let microbatches = completion_microbatches(sequences, self.config.train.microbatch_tokens);
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
        let mut trained = [Trained { model: &mut self.policy, gradients: &self.gradients, lr }];
        let update = self.optimizer.step(&mut trained).map_err(|reason| reason.at(step))?;
        Ok((lr, update.grad_norm))
    }
}
