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

use hearken_config::{Frozen, LoadedConfig, SharedSections};
use hearken_model::Model;
use hearken_model::checkpoint::NoRoom;
use hearken_reward_source::scorers::{ScoreReading, look_at_scores, open_scores};
use hearken_reward_source::{RewardSource, WeightedSum};
use hearken_run::error::TrainError;
use hearken_run::metrics::Stopwatch;
use hearken_run::progress::Progress;
use hearken_run::ranks::{Joined, Shares};
use hearken_run::run::{Companion, Frame, Opened, Opening, Run, RunOutcome, Stored, Update, drive};
use hearken_run::run_dir::OpenFor;
use hearken_run::run_dir::checkpoint::{NamedModel, StateFile};
use hearken_run::trained_model::tokenizer_of;
use hearken_tensor::Device;
use serde::Serialize;

use super::feed::{Feed, minibatches};
use super::guard::Signs;
use super::held_out::HeldOutEvaluation;
use super::session::{self, Iterating, RolloutSession};
use super::settings::{Configured, RolloutSettings};
use super::{Heads, Sequence, read_together};

/// Who learns from rollouts.
pub trait RolloutTrainer<D: Device>: Sized {
    /// The name of the algorithm on the screen.
    const STAGE: &'static str;
    /// What checkpoints keep.
    type Own: Stored;
    /// What an iteration learns from.
    type Iteration;
    /// What a step finds.
    type Sums: Joined;
    /// What a step writes to `metrics.jsonl`.
    type Record: Serialize;

    /// What a reader should know before the first step.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// How the figure of a better evaluation compares to that of a worse one.
    const BETTER: Ordering = Ordering::Greater;

    /// The figure of an evaluation that models are compared by; `None` where it has none.
    fn figure(found: &HeldOutEvaluation) -> Option<f64> {
        found.eval_scores.map(|scores| scores.value)
    }

    /// The log-probabilities, of what the policy is compared with, of each token of completions; all processes
    /// have those of all.
    ///
    /// # Errors
    /// If whoever says them fails.
    fn ref_logprobs(
        &self,
        session: &RolloutSession<D, Self::Own>,
        sequences: &[Sequence<'_>],
    ) -> Result<Vec<Vec<f64>>, TrainError> {
        let (ranks, forward) = (&session.run.ranks, session.forward_options());
        Ok(read_together(ranks, session.reference(), sequences, Heads::LogProbs, forward).logprobs)
    }

    /// Gets hold of whoever the run asks besides those who sample and score; nobody is asked yet.
    ///
    /// # Errors
    /// If it is known beforehand that they cannot be asked.
    fn open(&mut self, _opening: &Opening<'_>) -> Result<(), TrainError> {
        Ok(())
    }

    /// Adds what is trained with the policy, to it or beside it.
    ///
    /// # Errors
    /// If it cannot be loaded.
    fn accompany(
        &self,
        _policy: &mut Model<D>,
        _opening: &Opening<'_>,
    ) -> Result<Option<Companion<D>>, TrainError> {
        Ok(None)
    }

    /// Samples, scores and credits what an iteration learns from.
    ///
    /// # Errors
    /// If sampling fails, or who scores.
    fn roll_out(
        &mut self,
        at: RolloutSetup<'_, '_, D, Self::Own>,
    ) -> Result<Self::Iteration, TrainError>;

    /// How far the policy is from its reference before an iteration's first update.
    fn kl(iteration: &Self::Iteration) -> MeanKl;

    /// What its completions say of over-optimization; nothing where no score is trained on.
    fn signs(_iteration: &Self::Iteration) -> Option<Signs> {
        None
    }

    /// Which parts of an iteration share a minibatch: neighbors with the same number.
    fn together(iteration: &Self::Iteration) -> Vec<u64>;

    /// The tree of a part, and its tokens: neighbors with one number are computed together.
    fn tree(iteration: &Self::Iteration, index: usize) -> (u64, usize);

    /// Leaves the gradients that this process's share of a step has, which is over the parts with the numbers
    /// `minibatch`; what one loss depends on beyond its own part is that of the whole step.
    fn learn(
        &self,
        session: &mut RolloutSession<D, Self::Own>,
        iteration: &Self::Iteration,
        minibatch: &[usize],
        shares: &Shares,
    ) -> Self::Sums;

    /// The loss of a step of which all processes found `sums`.
    fn loss(&self, session: &RolloutSession<D, Self::Own>, sums: &Self::Sums) -> f64;

    /// What happens once the parameters have changed.
    fn follow(&self, _session: &mut RolloutSession<D, Self::Own>) {}

    /// What a step finds that has nothing to learn from; without it such a step has no record.
    fn of_nothing() -> Option<Self::Sums> {
        None
    }

    /// What is written down of a step.
    fn record(&self, step: RolloutStep<'_, Self::Iteration, Self::Sums>) -> Self::Record;

    /// The numbers that a screen shows of a step.
    fn figures(record: &Self::Record) -> Vec<(&'static str, f64)>;
}

/// A trainer that a configuration alone makes.
pub trait Configurable<D: Device>: RolloutTrainer<D> {
    /// What configures it.
    type Config: Configured;

    /// The configuration with microbatches as large as memory has room for.
    ///
    /// # Errors
    /// If a model's config.json cannot be read, or the models alone need more than the limit.
    fn within_memory(config: &Self::Config) -> Result<Self::Config, TrainError>;

    /// The trainer of a configuration.
    fn new(config: Self::Config) -> Self;
}

/// What an iteration is rolled out with.
pub struct RolloutSetup<'p, 's, D: Device, E> {
    /// The run, at the beginning of the iteration.
    pub session: &'p mut RolloutSession<D, E>,
    /// Who scores.
    pub sources: &'p mut (dyn RewardSource + 's),
    /// Who is told.
    pub progress: &'p mut dyn Progress,
}

/// KL(π ‖ π_ref) of a completion, mean over completions.
#[derive(Clone, Copy, Debug)]
pub struct MeanKl {
    /// The mean, in nats.
    pub nats: f64,
    /// Of how many completions it is the mean.
    pub completions: usize,
}

/// An optimizer step: what its passes found, what the update did, and where in the run it was.
pub struct RolloutStep<'i, I, S> {
    /// What its passes found.
    pub sums: S,
    /// What the optimizer did.
    pub update: Update,
    /// What the iteration learns from.
    pub iteration: &'i I,
    /// The number of the iteration, from 0.
    pub index: u64,
    /// The pass over the iteration, from 0.
    pub epoch: usize,
    /// The minibatch of that pass, from 0.
    pub minibatch: usize,
}

/// A run between two iterations, with those who score it.
pub struct Iterations<'w, 's, D: Device, T: RolloutTrainer<D>> {
    pub(crate) trainer: T,
    /// The run, with the models that it reads.
    pub session: RolloutSession<D, T::Own>,
    sources: &'w mut (dyn RewardSource + 's),
}

/// What a run that samples needs besides its device and its algorithm.
pub struct Inputs<'a, 's> {
    /// The configuration as it was read.
    pub frozen: &'a Frozen,
    /// Whether the run directory is opened to run there, or to look.
    pub entry: OpenFor,
    /// Who scores.
    pub sources: &'a mut (dyn RewardSource + 's),
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
            loaded: &hearken_config::LoadedConfig<$config>,
            entry: impl Into<hearken_run::run_dir::OpenFor>,
            progress: &mut dyn hearken_run::progress::Progress,
        ) -> Result<hearken_run::run::RunOutcome, hearken_run::error::TrainError> {
            $crate::rollout::train::run::<D, $trainer>(device, loaded, entry, progress)
        }

        /// Runs the configuration to its end, or until `progress` asks to stop; goes on from the last
        /// checkpoint where there is one. Scores come from `sources`, or from the replayed file.
        ///
        /// # Errors
        /// If an input is not usable, a source fails, a file cannot be written, or a number becomes NaN
        /// or infinite.
        pub fn run_with<D: hearken_tensor::Device>(
            device: D,
            loaded: &hearken_config::LoadedConfig<$config>,
            entry: impl Into<hearken_run::run_dir::OpenFor>,
            sources: &mut dyn hearken_reward_source::RewardSource,
            progress: &mut dyn hearken_run::progress::Progress,
        ) -> Result<hearken_run::run::RunOutcome, hearken_run::error::TrainError> {
            let config = <$trainer as $crate::rollout::train::Configurable<D>>::within_memory(
                &loaded.config,
            )?;
            let frozen = &loaded.frozen;
            let entry = entry.into();
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
    loaded: &LoadedConfig<T::Config>,
    entry: impl Into<OpenFor>,
    progress: &mut dyn Progress,
) -> Result<RunOutcome, TrainError> {
    let config = T::within_memory(&loaded.config)?;
    let (run, settings) = config.settings();
    let mut sources = open_sources(&run, &settings, &device, loaded.frozen.file())?;
    let inputs = Inputs { frozen: &loaded.frozen, entry: entry.into(), sources: &mut sources };
    train_configured::<D, T>(device, config, inputs, progress)
}

/// The sources of a run that samples; of a replayed one none. Errors name `file`.
///
/// # Errors
/// As [`open_scores`]; also if there must be a score that counts, and none does.
pub(crate) fn open_sources<D: Device>(
    run: &SharedSections,
    settings: &RolloutSettings,
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
    let tokenizer = tokenizer_of(&run.model)?;
    let sources = open_scores(&settings.scores, device, tokenizer.as_ref(), reading)?;
    refuse_silence(settings, file)?;
    Ok(sources)
}

/// Opens the sources of a run that samples and closes them, without starting a program; of a replayed run
/// there are none. Errors name `file`.
///
/// # Errors
/// As [`open_scores`], but for programs that are there and do not work; also if there must be a score that
/// counts, and none does.
pub fn look_at_sources<D: Device>(
    run: &SharedSections,
    settings: &RolloutSettings,
    device: &D,
    file: &Path,
) -> Result<(), TrainError> {
    if settings.rollout.replay.is_some() {
        return Ok(());
    }
    let tokenizer = tokenizer_of(&run.model)?;
    let microbatch_tokens = run.train.microbatch_tokens;
    let reading = ScoreReading { normalize: settings.normalize_scores, microbatch_tokens };
    look_at_scores(&settings.scores, device, tokenizer.as_ref(), reading)?;
    refuse_silence(settings, file)
}

/// Refuses a run that scores and that no score counts for.
fn refuse_silence(settings: &RolloutSettings, file: &Path) -> Result<(), TrainError> {
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
) -> Result<RunOutcome, TrainError> {
    let settings = config.settings();
    train(device, T::new(config), settings, inputs, progress)
}

/// Runs a trainer to its end, or until `progress` asks to stop.
pub(crate) fn train<D: Device, T: RolloutTrainer<D>>(
    device: D,
    trainer: T,
    settings: (SharedSections, RolloutSettings),
    inputs: Inputs<'_, '_>,
    progress: &mut dyn Progress,
) -> Result<RunOutcome, TrainError> {
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
    ///
    /// # Errors
    /// If an input is not usable, or the run directory is not.
    pub fn open(
        device: D,
        mut trainer: T,
        (run, settings): (SharedSections, RolloutSettings),
        inputs: Inputs<'w, 's>,
        progress: &mut dyn Progress,
    ) -> Result<Opened<Self>, TrainError> {
        let Inputs { frozen, entry, sources } = inputs;
        let mut opening = Opening::new(run, frozen, entry, progress)?;
        let feed = Feed::open(&settings, &mut opening)?;
        let total = feed.steps(&settings, opening.settings.train.length());
        if let Some(outcome) = opening.already_finished::<Iterating<T::Own>>(total)? {
            return Ok(Opened::Finished(outcome));
        }
        trainer.open(&opening)?;
        let accompany =
            |policy: &mut Model<D>, opening: &Opening<'_>| trainer.accompany(policy, opening);
        let session = session::open(device, opening, settings, feed, total, accompany)?;
        Ok(Opened::Ready(Self { trainer, session, sources }))
    }

    /// What a reader should know before the first step.
    ///
    /// # Errors
    /// If the completions of one prompt do not fit into the run's memory limit.
    pub fn announce(&self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        self.trainer.notes().iter().for_each(|note| progress.note(note));
        self.session.announce(progress)
    }

    /// One iteration; ends early where the run does.
    ///
    /// # Errors
    /// If sampling fails, or who scores, a file cannot be written, or a number is NaN or infinite.
    pub fn iterate(&mut self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        let watch = Stopwatch::start();
        let Self { trainer, session, sources } = self;
        let place = RolloutSetup { session, sources: &mut **sources, progress };
        let iteration = trainer.roll_out(place)?;
        session.news().iter().for_each(|news| progress.note(news));
        let MeanKl { nats, completions } = T::kl(&iteration);
        if session.is_at_kl_limit(nats, progress) {
            session.run.counters.own.at_kl_limit = true;
            return Ok(());
        }
        if T::signs(&iteration).is_some_and(|signs| session.is_stopped_by(&signs, progress)) {
            return Ok(());
        }
        self.update(&iteration, watch, progress)?;
        self.session.end_iteration(nats, completions);
        self.session.settle()?;
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
                let parts: Vec<_> = part.iter().map(|&at| T::tree(iteration, at)).collect();
                let shares = session.run.ranks.shares_together(&parts);
                let own = trainer.learn(session, iteration, part, &shares);
                let sums = session.run.ranks.join(own);
                let loss = trainer.loss(session, &sums);
                let applied = session.run.apply(loss)?;
                trainer.follow(session);
                let update = session.run.end_step(applied, watch);
                let index = session.iteration();
                let record = trainer.record(RolloutStep {
                    sums,
                    update,
                    iteration,
                    index,
                    epoch,
                    minibatch,
                });
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
        let record =
            trainer.record(RolloutStep { sums, update, iteration, index, epoch, minibatch });
        session.run.report(&record, &update, &T::figures(&record), progress)
    }
}

impl<D: Device, T: RolloutTrainer<D>> Frame<D> for Iterations<'_, '_, D, T> {
    type Kept = Iterating<T::Own>;
    const BETTER: Ordering = T::BETTER;

    fn run(&mut self) -> &mut Run<D, Self::Kept> {
        &mut self.session.run
    }

    fn saved(&mut self) -> (&mut Run<D, Self::Kept>, Option<NamedModel<'_, D>>) {
        self.session.saved()
    }

    fn state_file(&mut self) -> Option<StateFile> {
        self.session.state_file()
    }

    fn advance(&mut self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        self.iterate(progress)
    }

    fn evaluate(&mut self) -> Result<Option<f64>, TrainError> {
        let Self { trainer, session, sources } = self;
        let reference = |sequences: &[Sequence<'_>]| trainer.ref_logprobs(session, sequences);
        let Some(found) = session.evaluate(&mut **sources, reference)? else { return Ok(None) };
        session.run.dir.metrics.append(&found)?;
        Ok(T::figure(&found))
    }

    fn write_samples(&mut self) -> Result<(), TrainError> {
        self.session.write_samples()
    }

    fn save_model(&mut self, name: &str) -> Result<Option<NoRoom>, TrainError> {
        self.session.run.save_model(name)
    }
}
