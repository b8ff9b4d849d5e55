//! Preference optimization of completions that the policy samples during training.
//!
//! ```text
//! prompts ─► sample ─► judge ─► records ─► epochs × minibatches of updates ─┐
//!    ▲                                                                      │
//!    └──────────────────────────── new policy ◄─────────────────────────────┘
//! ```
//!
//! Which completions are sampled, whom they are compared with and what is minimized, a [`Method`] says:
//! online DPO, XPO, Nash-MD, SPIN, best-of-n, RAFT. Scores say which is better, or a judge that sees
//! both. Records and losses are those of offline training.

mod gather;
mod judged;
mod metrics;
mod section;
mod selection;

use std::borrow::Cow;

use hearken_judge::pairwise::PairwiseJudge;
use hearken_objective::Mean;
use hearken_objective::dpo::unpaired::RewardShift;
use hearken_tensor::Device;

use super::batch::{PassOptions, StepBatch, StepResult, step_gradients};
use super::loss::RefLogprobs;
use super::metrics::DpoFigures;
use super::objective::Kind;
use super::reference::{logprobs, portions};
use super::tree::Tree;
use super::{Counters, DpoConfig, within_memory};
use crate::config::{JudgeConfig, Loaded, ScoreReading, open_counting_scores, open_scores};
use crate::error::TrainError;
use crate::metrics::Stopwatch;
use crate::progress::{Progress, StepReport};
use crate::reward_source::WeightedSum;
use crate::rollout::feed::minibatches;
use crate::rollout::opening::Opening;
use crate::rollout::session::Session;
use crate::run_dir::Start;
use crate::trained_model::{Outcome, load_tokenizer};

use gather::Gathered;
pub use metrics::{IterationMetrics, OnlineStep};
pub(super) use section::MethodName;
pub use section::{Labels, Method, OnlineConfig, Selection};

/// A run between two iterations.
struct Online<'a, D: Device> {
    config: &'a DpoConfig,
    how: &'a OnlineConfig,
    session: Session<'a, D, Counters>,
}

/// Runs the configuration with the scores of its `[[score]]` sections and its `[judge]`; see
/// [`run_with`].
///
/// # Errors
/// As [`run_with`]; also if a source or judge cannot be opened, or there is none that counts where the
/// method compares scores.
pub(super) fn run<D: Device>(
    device: D,
    loaded: &Loaded<DpoConfig>,
    online: &OnlineConfig,
    start: Start,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    let config = &within_memory(&loaded.config)?;
    let reading = ScoreReading {
        normalize: online.normalize_scores,
        microbatch_tokens: config.train.microbatch_tokens,
    };
    let mut sources = if online.method == Method::Spin || online.judge.is_some() {
        let tokenizer = load_tokenizer(&config.model.path)?;
        open_scores(&online.scores, &device, tokenizer.as_ref(), reading)?
    } else {
        let file = loaded.frozen.file();
        open_counting_scores(&online.scores, &device, &config.model, reading, file)?
    };
    let mut judge = online.judge.as_ref().map(JudgeConfig::open).transpose()?;
    if judge.is_some() && load_tokenizer(&config.model.path)?.is_none() {
        return Err(TrainError::Other(format!(
            "{}: found no tokenizer.json, expected one: `judge` compares texts",
            config.model.path.display()
        )));
    }
    let opinions = Opinions { sources: &mut sources, judge: judge.as_deref_mut() };
    run_with(device, loaded, start, opinions, progress)
}

/// Who says which completions are better.
pub struct Opinions<'o, 's> {
    /// Scores; where there is a judge they are only measured.
    pub sources: &'o mut WeightedSum<'s>,
    /// Compares two completions.
    pub judge: Option<&'o mut (dyn PairwiseJudge + 's)>,
}

impl<'o, 's> From<&'o mut WeightedSum<'s>> for Opinions<'o, 's> {
    fn from(sources: &'o mut WeightedSum<'s>) -> Self {
        Self { sources, judge: None }
    }
}

/// Runs a configuration with `dpo.online` to its end, or until `progress` asks to stop; goes on from
/// the last checkpoint where there is one. What is better, `opinions` say.
///
/// # Errors
/// If an input is not usable, a source or judge fails, a file cannot be written, or a number becomes NaN or
/// infinite.
///
/// # Panics
/// If the configuration has no `dpo.online`.
pub fn run_with<D: Device>(
    device: D,
    loaded: &Loaded<DpoConfig>,
    start: Start,
    opinions: Opinions<'_, '_>,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    let Opinions { sources, mut judge } = opinions;
    let config = &within_memory(&loaded.config)?;
    let how = config.online.as_ref().expect("a configuration with `dpo.online`");
    let opening = Opening::new(config.sampling_settings(how), &loaded.frozen, start, progress)?;
    if let Some(outcome) = opening.already_finished::<Counters>(progress)? {
        return Ok(outcome);
    }
    let session = opening.session(device, |_, _| Ok(None))?;
    let mut online = Online { config, how, session };
    online.announce(progress)?;
    progress.stage("dpo", Some(online.session.total));
    online.session.evaluate_at_start(sources)?;
    while !online.session.is_finished() {
        let first_step = online.session.step;
        let watch = Stopwatch::start();
        online.renew_reference();
        let before = online.session.counters;
        let opinions = Opinions { sources, judge: judge.as_deref_mut() };
        let gathered = online.gather(opinions);
        let gathered = online.session.or_keep(before, gathered)?;
        if online.session.is_at_kl_limit(gathered.metrics.kl_k1_nats, progress) {
            online.session.counters.at_kl_limit = true;
        } else {
            online.update(&gathered, watch, progress)?;
            online.session.counters.iteration += 1;
        }
        let stop = progress.stop_requested();
        online.session.after_iteration(first_step, stop, sources)?;
        if stop && !online.session.is_finished() {
            return Ok(online.session.stopped(progress));
        }
    }
    online.session.finish()
}

impl<D: Device> Online<'_, D> {
    fn announce(&self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        self.session.announce(progress)?;
        if self.config.dpo.objective.couples_batch() {
            progress.note("the loss couples the records of a step: each goes forward twice");
        }
        for key in &self.config.dpo.unused {
            progress.note(&format!("`{key}` means nothing to this loss and is not used"));
        }
        Ok(())
    }

    /// SPIN plays against the policy as it is before the iteration.
    fn renew_reference(&mut self) {
        if self.how.method == Method::Spin {
            self.session.reference.move_towards(&self.session.policy, 1.0);
        }
    }

    /// Epochs and minibatches, each an optimizer step; ends early where the run does.
    fn update(
        &mut self,
        gathered: &Gathered,
        mut watch: Stopwatch,
        progress: &mut dyn Progress,
    ) -> Result<(), TrainError> {
        let apart: Vec<u64> = (0..gathered.trees.len() as u64).collect();
        for epoch in 0..self.how.epochs {
            let (seeds, pass) = (self.session.seeds, self.session.pass(epoch));
            let parts = minibatches(&apart, self.how.minibatches, seeds, pass);
            // Where a judge has no opinion there may be fewer records than minibatches.
            let parts = parts.iter().filter(|part| !part.is_empty());
            for (minibatch, part) in parts.enumerate() {
                if self.session.step == self.session.total {
                    return Ok(());
                }
                let trees: Vec<&Tree> = part.iter().map(|&index| &gathered.trees[index]).collect();
                let place = (epoch, minibatch);
                let record = self.optimizer_step(trees, &gathered.metrics, place, watch)?;
                watch = Stopwatch::start();
                self.report(&record, progress);
            }
        }
        Ok(())
    }

    fn optimizer_step(
        &mut self,
        trees: Vec<&Tree>,
        metrics: &IterationMetrics,
        (epoch, minibatch): (usize, usize),
        watch: Stopwatch,
    ) -> Result<OnlineStep, TrainError> {
        let objective = &self.config.dpo.objective;
        let session = &mut self.session;
        let references = if objective.needs_reference() {
            logprobs(&session.reference, &trees, portions(self.config))
        } else {
            vec![RefLogprobs::new(); trees.len()]
        };
        let references = references.into_iter().map(Cow::Owned).collect();
        let options = PassOptions::new(&self.config.train, session.keep());
        let value = session.counters.own.reward_shift;
        let mut shift = objective.shift_decay.map(|decay| RewardShift { decay, value });
        let branches = objective.grad_reading().branches;
        let tokens: usize = trees.iter().map(|tree| tree.rows(branches)).sum();
        let batch = StepBatch { trees, references };
        let gradients = &mut session.gradients;
        let found =
            step_gradients(&session.policy, objective, &batch, options, &mut shift, gradients);
        let (learning_rate, grad_norm) = session.apply(found.loss, None)?;
        session.counters.own.reward_shift = shift.map_or(0.0, RewardShift::delta);
        let sync = self.config.dpo.reference.sync;
        if let Some(sync) = sync.filter(|sync| session.step.is_multiple_of(sync.every)) {
            session.reference.move_towards(&session.policy, sync.mix);
        }
        let timing = watch.timing(tokens as u64);
        session.book(tokens, found.flops, timing);
        let terms = Terms::of(&objective.kind, &found);
        let record = OnlineStep {
            step: session.step,
            iteration: session.counters.iteration,
            epoch,
            minibatch,
            loss: found.loss,
            grad_norm,
            learning_rate,
            pair_loss: terms.pair,
            exploration_loss: terms.exploration,
            score_loss: terms.score,
            kl_loss: terms.kl,
            figures: DpoFigures::new(&found.losses, found.nll_loss),
            entropy: found.entropy(objective),
            mean_token_accuracy: found.token_accuracy(),
            reward_shift: shift.map(RewardShift::delta),
            iteration_metrics: metrics.clone(),
            tokens,
            timing,
        };
        session.log(&record)?;
        Ok(record)
    }

    fn report(&self, record: &OnlineStep, progress: &mut dyn Progress) {
        let iteration = &record.iteration_metrics;
        let mut figures = vec![("kl", iteration.kl_k1_nats), ("length", iteration.length_mean)];
        figures.extend(iteration.scores.map(|scores| ("score", scores)));
        figures.extend(iteration.win_probability.map(|wins| ("wins", wins)));
        figures.extend(record.figures.accuracy.map(|accuracy| ("accuracy", accuracy)));
        progress.step(&StepReport {
            step: record.step,
            total: self.session.total,
            tokens: record.tokens as u64,
            tokens_per_s: record.timing.tokens_per_s,
            loss: record.loss,
            figures: &figures,
        });
    }
}

/// The terms of a loss that has two, means over records.
#[derive(Clone, Copy, Debug, Default)]
struct Terms {
    pair: Option<f64>,
    exploration: Option<f64>,
    score: Option<f64>,
    kl: Option<f64>,
}

impl Terms {
    fn of(kind: &Kind, found: &StepResult) -> Self {
        let trees = &found.losses.trees;
        let second = trees.iter().filter_map(|tree| tree.second).collect::<Mean>().value();
        let losses = trees.iter().map(|tree| tree.loss).collect::<Mean>().value();
        match (kind, losses, second) {
            (Kind::Nash(nash), Some(loss), Some(kl)) => {
                Self { score: Some(nash.beta * kl - loss), kl: Some(kl), ..Self::default() }
            }
            (Kind::Paired(_), Some(loss), Some(term)) => {
                Self { pair: Some(loss - term), exploration: Some(term), ..Self::default() }
            }
            _ => Self::default(),
        }
    }
}
