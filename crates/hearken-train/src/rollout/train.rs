//! Learning from rollouts, iteration after iteration.
//!
//! ```text
//! roll out ─► epochs × minibatches of updates ─┐
//!    ▲                                         │
//!    └────────────── new policy ◄──────────────┘
//! ```
//!
//! A [`RolloutTrainer`] says what an iteration samples and what a minibatch of it teaches. Checkpoints
//! are made between iterations, where nothing but the models, the optimizer and a few counters is needed
//! to go on bit for bit.

use std::cmp::Ordering;
use std::path::Path;

use hearken_model::Model;
use hearken_tensor::Device;
use serde::Serialize;

use super::feed::{Feed, minibatches};
use super::session::{self, Iterating, Session};
use super::settings::{Configured, Settings};
use crate::config::{Frozen, Loaded};
use crate::error::TrainError;
use crate::metrics::Stopwatch;
use crate::progress::Progress;
use crate::reward_source::{RewardSource, WeightedSum};
use crate::run::{
    self, Companion, Frame, Learned, Opened, Opening, Outcome, Run, Stored, Update, drive,
};
use crate::run_dir::checkpoint::NamedModel;
use crate::run_dir::{Entry, Start};
use crate::scorers::{ScoreReading, look_at_scores, open_scores};
use crate::trained_model::load_tokenizer;

/// Who learns from rollouts.
pub(crate) trait RolloutTrainer<D: Device>: Sized {
    /// The name of the algorithm on the screen.
    const STAGE: &'static str;
    /// What checkpoints keep.
    type Own: Stored;
    /// What an iteration learns from.
    type Iteration;
    /// What a step finds.
    type Sums;
    /// What a step writes to `metrics.jsonl`.
    type Record: Serialize;

    /// What a reader should know before the first step.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Adds what is trained with the policy, to it or beside it.
    fn accompany(
        &self,
        _policy: &mut Model<D>,
        _opening: &Opening<'_>,
    ) -> Result<Option<Companion<D>>, TrainError> {
        Ok(None)
    }

    /// Samples, scores and credits what an iteration learns from.
    fn roll_out(&mut self, at: Place<'_, '_, D, Self::Own>) -> Result<Self::Iteration, TrainError>;

    /// How far the policy is from its reference before an iteration's first update.
    fn kl(iteration: &Self::Iteration) -> MeanKl;

    /// Which parts of an iteration share a minibatch: neighbors with the same number.
    fn together(iteration: &Self::Iteration) -> Vec<u64>;

    /// Leaves the gradients of a step over the parts with the numbers `minibatch`.
    fn learn(
        &self,
        session: &mut Session<D, Self::Own>,
        iteration: &Self::Iteration,
        minibatch: &[usize],
    ) -> Learned<Self::Sums>;

    /// What happens once the parameters have changed.
    fn follow(&self, _session: &mut Session<D, Self::Own>) {}

    /// What a step finds that has nothing to learn from; without it such a step has no record.
    fn of_nothing() -> Option<Self::Sums> {
        None
    }

    fn record(&self, step: Step<'_, Self::Iteration, Self::Sums>) -> Self::Record;

    /// The numbers that a screen shows of a step.
    fn figures(record: &Self::Record) -> Vec<(&'static str, f64)>;
}

/// A trainer that a configuration alone makes.
pub(crate) trait Configurable<D: Device>: RolloutTrainer<D> {
    type Config: Configured;

    /// The configuration with microbatches as large as memory has room for.
    fn within_memory(config: &Self::Config) -> Result<Self::Config, TrainError>;

    fn new(config: Self::Config) -> Self;
}

/// What an iteration is rolled out with.
pub(crate) struct Place<'p, 's, D: Device, E> {
    pub(crate) session: &'p mut Session<D, E>,
    pub(crate) sources: &'p mut (dyn RewardSource + 's),
    pub(crate) progress: &'p mut dyn Progress,
}

/// KL(π ‖ π_ref) of a completion, mean over completions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MeanKl {
    pub(crate) nats: f64,
    pub(crate) completions: usize,
}

/// An optimizer step: what its passes found, what the update did, and where in the run it was.
pub(crate) struct Step<'i, I, S> {
    pub(crate) sums: S,
    pub(crate) update: Update,
    pub(crate) iteration: &'i I,
    /// The number of the iteration, from 0.
    pub(crate) index: u64,
    /// The pass over the iteration, from 0.
    pub(crate) epoch: usize,
    /// The minibatch of that pass, from 0.
    pub(crate) minibatch: usize,
}

/// A run between two iterations, with those who score it.
pub(crate) struct Iterations<'w, 's, D: Device, T: RolloutTrainer<D>> {
    pub(crate) trainer: T,
    pub(crate) session: Session<D, T::Own>,
    sources: &'w mut (dyn RewardSource + 's),
}

/// What a run that samples needs besides its device and its algorithm.
pub(crate) struct Inputs<'a, 's> {
    pub(crate) frozen: &'a Frozen,
    pub(crate) entry: Entry,
    pub(crate) sources: &'a mut (dyn RewardSource + 's),
}

/// Defines a trainer's public functions `run` and `run_with`.
macro_rules! run_rollouts {
    ($config:ty, $trainer:ty) => {
        /// Runs the configuration with the scores of its `[[score]]` sections; see [`run_with`].
        ///
        /// # Errors
        /// As [`run_with`]; also if a source cannot be opened, or there is none that counts.
        pub fn run<D: hearken_tensor::Device>(
            device: D,
            loaded: &$crate::config::Loaded<$config>,
            start: $crate::run_dir::Start,
            progress: &mut dyn $crate::progress::Progress,
        ) -> Result<$crate::run::Outcome, $crate::error::TrainError> {
            $crate::rollout::train::run::<D, $trainer>(device, loaded, start, progress)
        }

        /// Runs the configuration to its end, or until `progress` asks to stop; goes on from the last
        /// checkpoint where there is one. Scores come from `sources`, or from the replayed file.
        ///
        /// # Errors
        /// If an input is not usable, a source fails, a file cannot be written, or a number becomes NaN
        /// or infinite.
        pub fn run_with<D: hearken_tensor::Device>(
            device: D,
            loaded: &$crate::config::Loaded<$config>,
            start: $crate::run_dir::Start,
            sources: &mut dyn $crate::reward_source::RewardSource,
            progress: &mut dyn $crate::progress::Progress,
        ) -> Result<$crate::run::Outcome, $crate::error::TrainError> {
            let config = <$trainer as $crate::rollout::train::Configurable<D>>::within_memory(
                &loaded.config,
            )?;
            let frozen = &loaded.frozen;
            let entry = start.into();
            let inputs = $crate::rollout::train::Inputs { frozen, entry, sources };
            $crate::rollout::train::train_configured::<D, $trainer>(
                device, config, inputs, progress,
            )
        }
    };
}
pub(crate) use run_rollouts;

/// Runs a trainer with the scores of its configuration.
pub(crate) fn run<D: Device, T: Configurable<D>>(
    device: D,
    loaded: &Loaded<T::Config>,
    start: Start,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    let config = T::within_memory(&loaded.config)?;
    let (run, settings) = config.settings();
    let mut sources = open_sources(&run, &settings, &device, loaded.frozen.file())?;
    let inputs = Inputs { frozen: &loaded.frozen, entry: start.into(), sources: &mut sources };
    train_configured::<D, T>(device, config, inputs, progress)
}

/// The sources of a run that samples; of a replayed one none. Errors name `file`.
///
/// # Errors
/// As [`open_scores`]; also if there must be a score that counts, and none does.
pub(crate) fn open_sources<D: Device>(
    run: &run::Settings,
    settings: &Settings,
    device: &D,
    file: &Path,
) -> Result<WeightedSum<'static>, TrainError> {
    if settings.rollout.replay.is_some() {
        return Ok(WeightedSum::new());
    }
    let reading = ScoreReading {
        normalize: settings.normalize_scores,
        microbatch_tokens: run.train.microbatch_tokens,
    };
    let tokenizer = load_tokenizer(&run.model.path)?;
    let sources = open_scores(&settings.scores, device, tokenizer.as_ref(), reading)?;
    refuse_silence(settings, file)?;
    Ok(sources)
}

/// [`open_sources`] without starting a program.
///
/// # Errors
/// As [`open_sources`], but for programs that are there and do not work.
pub(crate) fn look_at_sources<D: Device>(
    run: &run::Settings,
    settings: &Settings,
    device: &D,
    file: &Path,
) -> Result<(), TrainError> {
    if settings.rollout.replay.is_some() {
        return Ok(());
    }
    let tokenizer = load_tokenizer(&run.model.path)?;
    let microbatch_tokens = run.train.microbatch_tokens;
    let reading = ScoreReading { normalize: settings.normalize_scores, microbatch_tokens };
    look_at_scores(&settings.scores, device, tokenizer.as_ref(), reading)?;
    refuse_silence(settings, file)
}

/// Refuses a run that scores and that no score counts for.
fn refuse_silence(settings: &Settings, file: &Path) -> Result<(), TrainError> {
    let is_silent = settings.scores.iter().all(|score| *score.weight == 0.0);
    if settings.needs_scores && is_silent {
        return Err(TrainError::Other(format!(
            "{}: found no [[score]] with a weight other than 0, expected at least one: it is what \
             the policy is trained for",
            file.display()
        )));
    }
    Ok(())
}

/// Runs the trainer of a configuration that fits into memory.
pub(crate) fn train_configured<D: Device, T: Configurable<D>>(
    device: D,
    config: T::Config,
    inputs: Inputs<'_, '_>,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    let settings = config.settings();
    train(device, T::new(config), settings, inputs, progress)
}

/// Runs a trainer to its end, or until `progress` asks to stop.
pub(crate) fn train<D: Device, T: RolloutTrainer<D>>(
    device: D,
    trainer: T,
    settings: (run::Settings, Settings),
    inputs: Inputs<'_, '_>,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    match Iterations::open(device, trainer, settings, inputs, progress)? {
        Opened::Finished(outcome) => Ok(outcome),
        Opened::Ready(mut iterations) => {
            iterations.announce(progress)?;
            drive(&mut iterations, T::STAGE, progress)
        }
    }
}

impl<'w, 's, D: Device, T: RolloutTrainer<D>> Iterations<'w, 's, D, T> {
    /// Reads prompts or recorded rollouts, then the models.
    pub(crate) fn open(
        device: D,
        trainer: T,
        (run, settings): (run::Settings, Settings),
        inputs: Inputs<'w, 's>,
        progress: &mut dyn Progress,
    ) -> Result<Opened<Self>, TrainError> {
        let Inputs { frozen, entry, sources } = inputs;
        let mut opening = Opening::new(run, frozen, entry, progress)?;
        let feed = Feed::open(&settings, &mut opening)?;
        let total = feed.steps(&settings);
        if let Some(outcome) = opening.already_finished::<Iterating<T::Own>>(total)? {
            return Ok(Opened::Finished(outcome));
        }
        let accompany =
            |policy: &mut Model<D>, opening: &Opening<'_>| trainer.accompany(policy, opening);
        let session = session::open(device, opening, (settings, feed, total), accompany)?;
        Ok(Opened::Ready(Self { trainer, session, sources }))
    }

    /// What a reader should know before the first step.
    ///
    /// # Errors
    /// If the completions of one prompt do not fit into the run's memory limit.
    pub(crate) fn announce(&self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        self.trainer.notes().iter().for_each(|note| progress.note(note));
        self.session.announce(progress)
    }

    /// One iteration; ends early where the run does.
    pub(crate) fn iterate(&mut self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        let watch = Stopwatch::start();
        let Self { trainer, session, sources } = self;
        let place = Place { session, sources: &mut **sources, progress };
        let iteration = trainer.roll_out(place)?;
        let MeanKl { nats, completions } = T::kl(&iteration);
        let (nats, completions) = session.run.ranks.weighted(nats, completions);
        if session.is_at_kl_limit(nats, progress) {
            session.run.counters.own.at_kl_limit = true;
            return Ok(());
        }
        self.update(&iteration, watch, progress)?;
        self.session.end_iteration(nats, completions);
        Ok(())
    }

    /// Epochs and minibatches, each an optimizer step.
    fn update(
        &mut self,
        iteration: &T::Iteration,
        mut watch: Stopwatch,
        progress: &mut dyn Progress,
    ) -> Result<(), TrainError> {
        let Self { trainer, session, .. } = self;
        let together = T::together(iteration);
        if together.is_empty() {
            return self.pass_over(iteration, watch, progress);
        }
        let (epochs, count) = (session.settings.epochs, session.settings.minibatches);
        for epoch in 0..epochs {
            // A number that no other pass of the run has.
            let pass = session.iteration() * epochs as u64 + epoch as u64;
            let parts = minibatches(&together, count, session.run.seeds, pass);
            // Where groups were dropped or a judge has no opinion, there may be too little for all.
            let parts = parts.iter().filter(|part| !part.is_empty());
            for (minibatch, part) in parts.enumerate() {
                if session.run.step == session.run.total {
                    return Ok(());
                }
                session.run.begin_step();
                let Learned { loss, sums } = trainer.learn(session, iteration, part);
                let applied = session.run.apply(loss)?;
                trainer.follow(session);
                let update = session.run.end_step(applied, watch);
                let index = session.iteration();
                let record =
                    trainer.record(Step { sums, update, iteration, index, epoch, minibatch });
                watch = Stopwatch::start();
                session.run.report(&record, &update, &T::figures(&record), progress)?;
            }
        }
        Ok(())
    }
}

impl<D: Device, T: RolloutTrainer<D>> Iterations<'_, '_, D, T> {
    /// The one step of an iteration that leaves nothing to learn from: neither weights nor moments
    /// change, and a run of such iterations ends.
    fn pass_over(
        &mut self,
        iteration: &T::Iteration,
        watch: Stopwatch,
        progress: &mut dyn Progress,
    ) -> Result<(), TrainError> {
        let Self { trainer, session, .. } = self;
        session.run.begin_step();
        let applied = session.run.pass_over();
        let update = session.run.end_step(applied, watch);
        let (index, epoch, minibatch) = (session.iteration(), 0, 0);
        let Some(sums) = T::of_nothing() else { return Ok(()) };
        let record = trainer.record(Step { sums, update, iteration, index, epoch, minibatch });
        session.run.report(&record, &update, &T::figures(&record), progress)
    }
}

impl<D: Device, T: RolloutTrainer<D>> Frame<D> for Iterations<'_, '_, D, T> {
    type Kept = Iterating<T::Own>;
    const BETTER: Ordering = Ordering::Greater;

    fn run(&mut self) -> &mut Run<D, Self::Kept> {
        &mut self.session.run
    }

    fn saved(&mut self) -> (&mut Run<D, Self::Kept>, Option<NamedModel<'_, D>>) {
        self.session.saved()
    }

    fn advance(&mut self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        self.iterate(progress)
    }

    fn evaluate(&mut self) -> Result<Option<f64>, TrainError> {
        let found = self.session.evaluate(self.sources)?;
        Ok(found.and_then(|found| found.eval_scores).map(|scores| scores.value))
    }

    fn write_samples(&mut self) -> Result<(), TrainError> {
        self.session.write_samples()
    }

    fn save_model(&mut self, name: &str) -> Result<(), TrainError> {
        self.session.run.save_model(name)
    }
}
