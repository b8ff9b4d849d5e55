//! Learning from records that are known before the first step.
//!
//! ```text
//! records ─► next batch ─► gradients ─► update ─┐
//!    ▲                                          │
//!    └────────── epoch after epoch ◄────────────┘
//! ```
//!
//! A [`RecordTrainer`] says what a batch of records teaches; what there is besides is a [`Run`].

use std::cmp::Ordering;

use hearken_config::{LoadedConfig, SamplesConfig, SharedSections};
use hearken_model::Model;
use hearken_model::checkpoint::NoRoom;
use hearken_run::budget::check;
use hearken_run::error::TrainError;
use hearken_run::metrics::Stopwatch;
use hearken_run::mix::Mix;
use hearken_run::order::{Cursor, EpochOrder};
use hearken_run::plan::{BatchPlan, MemoryPlan, parameters_note};
use hearken_run::progress::Progress;
use hearken_run::ranks::{Joined, Shares};
use hearken_run::run::RunOutcome;
use hearken_run::run::{Frame, Opened, Opening, Run, TrainerState, Update, drive};
use hearken_run::run_dir::OpenFor;
use hearken_run::run_dir::checkpoint::NamedModel;
use hearken_run::stream::Drawn;
use hearken_tensor::Device;
use serde::Serialize;

/// An evaluation with the step after which it was made: a line of `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct EvaluationRecord<E> {
    /// Optimizer steps by then.
    pub step: u64,
    /// What was found.
    #[serde(flatten)]
    pub evaluation: E,
}

/// Writes down an evaluation; gives its loss, by which models are compared.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn write_evaluation<D: Device, K: TrainerState, E: Serialize>(
    run: &mut Run<D, K>,
    evaluation: E,
    loss: f64,
) -> Result<Option<f64>, TrainError> {
    run.dir.metrics.append(&EvaluationRecord { step: run.step, evaluation })?;
    Ok(Some(loss))
}

/// A configuration of a run over records.
pub trait Configured: Clone {
    /// What every run reads, and what is sampled now and then, where something is.
    fn settings(&self) -> (SharedSections, Option<SamplesConfig>);
}

/// An optimizer step: what its passes found, what the update did, and how many times the records have
/// been passed over by then.
#[derive(Clone, Copy, Debug)]
pub struct RecordStep<S> {
    /// What its passes found.
    pub sums: S,
    /// What the optimizer did.
    pub update: Update,
    /// Passes over the records by then, with a fraction.
    pub epoch: f64,
}

/// The training records of a trainer.
#[derive(Clone, Debug)]
pub struct TrainingRows<'a> {
    /// Rows of each.
    pub rows: Vec<usize>,
    /// Their sources, if they are mixed.
    pub mix: &'a Mix,
    /// Where they are the first of a stream, the most rows that one of those to come can have.
    pub rows_max: Option<usize>,
}

/// Who learns from records.
pub trait RecordTrainer<D: Device>: Sized {
    /// The name of the algorithm on the screen.
    const STAGE: &'static str;
    /// What configures it.
    type Config: Configured;
    /// What checkpoints keep.
    type Kept: TrainerState;
    /// What a step finds.
    type Sums: Joined;
    /// What a step writes to `metrics.jsonl`.
    type Record: Serialize;

    /// The configuration with microbatches as large as memory has room for.
    ///
    /// # Errors
    /// If a model's config.json cannot be read, or the models alone need more than the limit.
    fn within_memory(config: &Self::Config) -> Result<Self::Config, TrainError>;

    /// Reads the records.
    ///
    /// # Errors
    /// If a file cannot be read, or has a record that is not usable.
    fn read(config: Self::Config, opening: &mut Opening<'_>) -> Result<Self, TrainError>;

    /// How large the training records are, and where they come from.
    fn training(&self) -> TrainingRows<'_>;

    /// Rows of the evaluation records together.
    fn evaluation_rows(&self) -> usize;

    /// Rows that must be read once before the first step.
    fn rows_read_first(&self) -> usize {
        0
    }

    /// Loads the model, and whatever else the records are read with.
    ///
    /// # Errors
    /// If a model cannot be loaded, or does not fit the records.
    fn load(&mut self, device: D, opening: &mut Opening<'_>) -> Result<Model<D>, TrainError>;

    /// A model that is read in every step and saved in checkpoints.
    fn follower(&self) -> Option<NamedModel<'_, D>> {
        None
    }

    /// What a reader should know before the first step.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Reads the records of the next step, where they are read as they are wanted: how many they are.
    ///
    /// # Errors
    /// If a file cannot be read, or has a record that is not usable.
    fn draw(&mut self, _run: &mut Run<D, Self::Kept>) -> Result<Option<Drawn>, TrainError> {
        Ok(None)
    }

    /// A model that is read in every step and kept nowhere.
    fn reader(&self) -> Option<&Model<D>> {
        None
    }

    /// Rows of the training record with a number.
    fn rows(&self, index: usize) -> usize;

    /// Leaves the gradients that this process's share of a step has, which is over the records with the numbers
    /// `batch`; what one loss depends on beyond its own record is that of the whole step.
    fn learn(&self, run: &mut Run<D, Self::Kept>, batch: &[usize], shares: &Shares) -> Self::Sums;

    /// The loss of a step of which all processes found `sums`.
    fn loss(&self, sums: &Self::Sums) -> f64;

    /// What happens once the parameters have changed.
    fn follow(&mut self, _run: &Run<D, Self::Kept>) {}

    /// What is written down of a step.
    fn record(&self, step: RecordStep<Self::Sums>) -> Self::Record;

    /// The numbers that a screen shows of a step.
    fn figures(record: &Self::Record) -> Vec<(&'static str, f64)>;

    /// Writes an evaluation, where there are records for it; returns its loss.
    ///
    /// # Errors
    /// If a file cannot be written, or a number is NaN or infinite.
    fn evaluate(&self, run: &mut Run<D, Self::Kept>) -> Result<Option<f64>, TrainError>;

    /// Prompts to complete.
    fn prompts(&self, _count: usize) -> Vec<&[u32]> {
        Vec::new()
    }

    /// Saves what was trained as the folder `name` of the run directory.
    ///
    /// # Errors
    /// If a file cannot be written.
    fn save_model(
        &self,
        run: &Run<D, Self::Kept>,
        name: &str,
    ) -> Result<Option<NoRoom>, TrainError> {
        run.save_model(name)
    }
}

/// A run over records between two optimizer steps.
pub struct RecordTraining<D: Device, T: RecordTrainer<D>> {
    /// Who learns.
    pub trainer: T,
    /// The run.
    pub run: Run<D, T::Kept>,
    /// Which records make the next batch.
    pub order: EpochOrder,
    /// Training records; `None` of a stream.
    examples: Option<usize>,
    samples: Option<SamplesConfig>,
}

/// Runs a trainer to its end, or until `progress` asks to stop.
pub(crate) fn train<D: Device, T: RecordTrainer<D>>(
    device: D,
    loaded: &LoadedConfig<T::Config>,
    entry: impl Into<OpenFor>,
    progress: &mut dyn Progress,
) -> Result<RunOutcome, TrainError> {
    match RecordTraining::<D, T>::open(device, loaded, entry, progress)? {
        Opened::Finished(outcome) => Ok(outcome),
        Opened::Ready(mut records) => {
            records.announce(progress)?;
            drive(&mut records, T::STAGE, progress)
        }
    }
}

/// What all processes find in a step over the records with the numbers `batch`; leaves the gradients of this one's
/// share.
pub fn learned<D: Device, T: RecordTrainer<D>>(
    trainer: &T,
    run: &mut Run<D, T::Kept>,
    batch: &[usize],
) -> T::Sums {
    let rows: Vec<usize> = match run.ranks.size() {
        1 => vec![1; batch.len()],
        _ => batch.iter().map(|&index| trainer.rows(index)).collect(),
    };
    let shares = run.ranks.shares(&rows);
    let own = trainer.learn(run, batch, &shares);
    run.ranks.join(own)
}

impl<D: Device, T: RecordTrainer<D>> RecordTraining<D, T> {
    /// Reads the records, then the model.
    ///
    /// # Errors
    /// If an input is not usable, or the run directory is not.
    pub fn open(
        device: D,
        loaded: &LoadedConfig<T::Config>,
        entry: impl Into<OpenFor>,
        progress: &mut dyn Progress,
    ) -> Result<Opened<Self>, TrainError> {
        let config = T::within_memory(&loaded.config)?;
        let (settings, samples) = config.settings();
        let mut opening = Opening::new(settings, &loaded.frozen, entry.into(), progress)?;
        let mut trainer = T::read(config, &mut opening)?;
        let TrainingRows { rows, mix, rows_max } = trainer.training();
        let (examples, is_stream) = (rows.len(), rows_max.is_some());
        let SharedSections { data, train, .. } = &opening.settings;
        let seeds = data.shuffle.then_some(opening.seeds);
        let order = EpochOrder::new(seeds, examples, *train.batch_size).mixed(mix.shares());
        let total = train.known_length().steps(order.batches_per_epoch());
        if let Some(outcome) = opening.already_finished::<T::Kept>(total)? {
            return Ok(Opened::Finished(outcome));
        }
        let mut model = trainer.load(device, &mut opening)?;
        opening.freeze(&mut model)?;
        let run: Run<D, T::Kept> = opening.run(model, None, total)?;
        let examples = (!is_stream).then_some(examples);
        if !is_stream {
            order.check(run.counters.cursor)?;
        }
        Ok(Opened::Ready(Self { trainer, run, order, examples, samples }))
    }

    /// Batch arithmetic and memory, before the first step.
    ///
    /// # Errors
    /// If the longest record does not fit into the run's memory limit.
    pub fn announce(&self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        let TrainingRows { rows, rows_max, .. } = &self.trainer.training();
        let model = &self.run.model;
        let SharedSections { run, train, .. } = &self.run.settings;
        self.trainer.notes().iter().for_each(|note| progress.note(note));
        progress.note(&match rows_max {
            None => self.batches(&self.epoch_rows(rows)).note(),
            Some(most) => format!(
                "{} steps of {} examples, read as they are wanted; memory is planned for {most} tokens of each",
                self.run.total, *train.batch_size
            ),
        });
        progress.note(&parameters_note(model));
        let memory = self.memory(rows);
        progress.note(&memory.note());
        self.run.note_resumed(progress);
        check(&memory, run, train, rows_max.or(rows.iter().copied().max()).unwrap_or(0))
    }

    /// How records of these rows make batches.
    fn batches<'r>(&self, rows: &'r [usize]) -> BatchPlan<'r> {
        let train = &self.run.settings.train;
        BatchPlan {
            rows,
            batch_size: *train.batch_size,
            microbatch_tokens: train.microbatch_tokens,
            steps: self.run.total,
            is_mixed: self.order.is_mixed(),
        }
    }

    /// Rows of the records of an epoch, of records of these rows.
    pub fn epoch_rows(&self, rows: &[usize]) -> Vec<usize> {
        match self.order.is_mixed() {
            true => self.order.epoch(0).into_iter().map(|index| rows[index]).collect(),
            false => rows.to_vec(),
        }
    }

    /// What the run takes in memory with records of these rows.
    pub fn memory(&self, rows: &[usize]) -> MemoryPlan {
        let SharedSections { model: source, train, .. } = &self.run.settings;
        let most: Vec<usize> = match self.trainer.training().rows_max {
            Some(most) => vec![most; *train.batch_size],
            None => self.order.at_most().into_iter().map(|index| rows[index]).collect(),
        };
        let rows_max = self.batches(&most).microbatch_rows_max();
        let footprint = self.run.model.footprint();
        let mut memory = MemoryPlan::trained(&footprint);
        if train.ema.is_some() {
            memory = memory.with_average(&footprint);
        }
        if let Some(NamedModel { model, .. }) = self.trainer.follower() {
            memory = memory.beside(&model.footprint());
        }
        if let Some(model) = self.trainer.reader() {
            memory = memory.beside(&model.footprint());
        }
        memory
            .with_rows(&footprint, rows_max, source.recompute.into())
            .with_logits(&footprint, rows_max, train.logits_bytes)
            .shared_by(self.run.ranks.size())
    }

    /// One optimizer step.
    ///
    /// # Errors
    /// If a file cannot be written, or a number is NaN or infinite; the parameters then stay.
    pub fn step(&mut self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        let watch = Stopwatch::start();
        let Self { trainer, run, .. } = self;
        let batch = match trainer.draw(run)? {
            None => self.order.next_batch(&mut run.counters.cursor),
            Some(Drawn { examples, note }) => {
                if let Some(note) = note {
                    progress.note(&note);
                }
                (0..examples).collect()
            }
        };
        run.begin_step();
        let sums = learned(trainer, run, &batch);
        let applied = run.apply(trainer.loss(&sums))?;
        trainer.follow(run);
        let update = run.end_step(applied, watch);
        let Cursor { epoch, index } = run.counters.cursor;
        // How far an epoch of a stream is, nobody knows.
        let part = self.examples.map_or(0.0, |examples| index as f64 / examples as f64);
        let epoch = epoch as f64 + part;
        let record = trainer.record(RecordStep { sums, update, epoch });
        run.report(&record, &update, &T::figures(&record), progress)
    }
}

impl<D: Device, T: RecordTrainer<D>> Frame<D> for RecordTraining<D, T> {
    type Kept = T::Kept;
    const BETTER: Ordering = Ordering::Less;

    fn run(&mut self) -> &mut Run<D, T::Kept> {
        &mut self.run
    }

    fn saved(&mut self) -> (&mut Run<D, T::Kept>, Option<NamedModel<'_, D>>) {
        (&mut self.run, self.trainer.follower())
    }

    fn advance(&mut self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        self.step(progress)
    }

    fn evaluate(&mut self) -> Result<Option<f64>, TrainError> {
        let evaluated = match self.run.ranks.is_first() {
            true => self.trainer.evaluate(&mut self.run),
            false => Ok(None),
        };
        // What it found may end the run, or slow it, and all must know.
        let own = self.run.counters.own;
        self.run.counters.own = self.run.ranks.of_first(|| own);
        evaluated
    }

    fn write_samples(&mut self) -> Result<(), TrainError> {
        let Some(config) = &self.samples else { return Ok(()) };
        let seed = self.run.seeds.derive("samples", self.run.step, 0);
        self.run.write_samples(&self.trainer.prompts(config.count), config, seed)
    }

    fn save_model(&mut self, name: &str) -> Result<Option<NoRoom>, TrainError> {
        self.trainer.save_model(&self.run, name)
    }
}
