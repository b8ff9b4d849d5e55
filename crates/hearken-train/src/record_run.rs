//! A run over records, between two optimizer steps: what it holds, how it opens, and what each step
//! ends with. What a step does is its trainer's.

use hearken_model::{Gradients, Keep, Model, Tokenizer};
use hearken_tensor::Device;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::budget::check;
use crate::checkpoint::{Checkpoint, NamedModel, Snapshot};
use crate::config::{
    DataConfig, Frozen, Length, ModelSource, OptimizerConfig, RunConfig, SamplesConfig, TrainConfig,
};
use crate::error::TrainError;
use crate::metrics::{Cost, Timing};
use crate::optimizer::{Optimizer, Trained, check_loss};
use crate::order::{Cursor, Order};
use crate::plan::{BatchPlan, MemoryPlan, parameters_note};
use crate::progress::{Progress, StepReport};
use crate::run_dir::{RunDir, Start};
use crate::samples::sample_completions;
use crate::schedule::Schedule;
use crate::seeds::Seeds;
use crate::trained_model::{
    Outcome, Status, finished_already, freeze, load_tokenizer, stopped_note,
};

/// The parts of a configuration that every run over records reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings<'a> {
    /// The model's folder in a checkpoint and in memory plans.
    pub(crate) name: &'static str,
    pub(crate) run: &'a RunConfig,
    pub(crate) model: &'a ModelSource,
    pub(crate) data: &'a DataConfig,
    pub(crate) optimizer: &'a OptimizerConfig,
    pub(crate) train: &'a TrainConfig,
    pub(crate) length: Length,
}

/// What a checkpoint keeps besides weights and moments.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters<E> {
    pub(crate) cursor: Cursor,
    /// The lowest evaluation loss so far.
    pub(crate) best: Option<f64>,
    pub(crate) cost: Cost,
    /// The trainer's own.
    #[serde(default)]
    pub(crate) own: E,
}

/// A run whose directory is taken and whose records are not read.
pub(crate) struct Opening<'a> {
    pub(crate) settings: Settings<'a>,
    pub(crate) run: RunDir,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) seeds: Seeds,
    pub(crate) tokenizer: Option<Tokenizer>,
}

/// A run between two optimizer steps; `E` is what its trainer keeps in checkpoints.
pub(crate) struct RecordRun<'a, D: Device, E = ()> {
    pub(crate) settings: Settings<'a>,
    pub(crate) run: RunDir,
    pub(crate) seeds: Seeds,
    pub(crate) tokenizer: Option<Tokenizer>,
    pub(crate) model: Model<D>,
    pub(crate) gradients: Gradients<D>,
    pub(crate) optimizer: Optimizer<D>,
    pub(crate) counters: Counters<E>,
    pub(crate) step: u64,
    pub(crate) total: u64,
    schedule: Schedule,
    order: Order,
    /// Training records.
    examples: usize,
}

impl<'a> Opening<'a> {
    pub(crate) fn new(
        settings: Settings<'a>,
        frozen: &Frozen,
        start: Start,
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        let (run, checkpoint) = RunDir::open(settings.run, frozen, start)?;
        progress.stage("read data", None);
        let tokenizer = load_tokenizer(&settings.model.path)?;
        Ok(Self { settings, run, checkpoint, seeds: Seeds::new(settings.run.seed), tokenizer })
    }

    fn order(&self, examples: usize) -> Order {
        let Settings { data, train, .. } = self.settings;
        Order::new(data.shuffle.then_some(self.seeds), examples, train.batch_size)
    }

    fn total(&self, examples: usize) -> u64 {
        self.settings.length.steps(self.order(examples).batches_per_epoch())
    }

    /// The outcome of a run over so many records that has come to its end before.
    pub(crate) fn already_finished<E: Default + DeserializeOwned>(
        &self,
        examples: usize,
        progress: &mut dyn Progress,
    ) -> Result<Option<Outcome>, TrainError> {
        let total = self.total(examples);
        let checkpoint = self.checkpoint.as_ref().filter(|found| total <= found.step());
        let Some(checkpoint) = checkpoint.filter(|_| self.run.has_final()) else {
            return Ok(None);
        };
        let Counters { cost, .. } = checkpoint.counters::<Counters<E>>()?;
        Ok(Some(finished_already(&self.run, checkpoint, cost, progress)))
    }

    /// The run of `model`, which was loaded from the checkpoint if there is one.
    pub(crate) fn run<D: Device, E: Default + DeserializeOwned>(
        self,
        mut model: Model<D>,
        examples: usize,
    ) -> Result<RecordRun<'a, D, E>, TrainError> {
        let (total, order, settings) = (self.total(examples), self.order(examples), self.settings);
        freeze(&mut model, &settings.model.freeze)?;
        let checkpoint = self.checkpoint.as_ref();
        let optimizer = match checkpoint {
            Some(checkpoint) => checkpoint.optimizer(settings.optimizer, &[&model])?,
            None => Optimizer::new(settings.optimizer, &[&model]),
        };
        let counters = checkpoint.map(Checkpoint::counters).transpose()?.unwrap_or_default();
        Ok(RecordRun {
            gradients: model.gradients(),
            model,
            optimizer,
            counters,
            step: checkpoint.map_or(0, Checkpoint::step),
            schedule: Schedule::new(settings.optimizer, total),
            settings,
            run: self.run,
            seeds: self.seeds,
            tokenizer: self.tokenizer,
            total,
            order,
            examples,
        })
    }
}

impl<D: Device, E: Serialize> RecordRun<'_, D, E> {
    /// Batch arithmetic and memory, before the first step. `rows` are those of each record, `other` a
    /// further model that is read.
    ///
    /// # Errors
    /// If the longest record does not fit into the run's memory limit.
    pub(crate) fn announce(
        &self,
        rows: &[usize],
        other: Option<&Model<D>>,
        progress: &mut dyn Progress,
    ) -> Result<(), TrainError> {
        let Settings { train, model, run, .. } = self.settings;
        let plan = BatchPlan {
            rows,
            batch_size: train.batch_size,
            microbatch_tokens: train.microbatch_tokens,
            steps: self.total,
        };
        progress.note(&plan.note());
        progress.note(&parameters_note(&self.model));
        let (footprint, rows_max) = (self.model.footprint(), plan.microbatch_rows_max());
        let mut memory = MemoryPlan::trained(&footprint);
        if let Some(other) = other {
            memory = memory.beside(&other.footprint());
        }
        memory = memory.with_rows(&footprint, rows_max, model.recompute.into()).with_logits(
            &footprint,
            rows_max,
            train.logits_bytes,
        );
        progress.note(&memory.note());
        if 0 < self.step {
            progress.note(&format!("going on from the checkpoint of step {}", self.step));
        }
        check(&memory, run, train, rows.iter().copied().max().unwrap_or(0))
    }

    /// The records of the next step.
    pub(crate) fn next_batch(&mut self) -> Vec<usize> {
        self.order.next_batch(&mut self.counters.cursor)
    }

    /// Passes over the training records, with the fraction of the current one.
    pub(crate) fn epoch(&self) -> f64 {
        let Cursor { epoch, index } = self.counters.cursor;
        epoch as f64 + index as f64 / self.examples as f64
    }

    pub(crate) fn keep(&self) -> Keep {
        self.settings.model.keep()
    }

    /// The update of all trained parameters for a step's `loss`; returns learning rate and gradient
    /// norm.
    pub(crate) fn apply(&mut self, loss: f64) -> Result<(f64, f64), TrainError> {
        let step = self.step + 1;
        check_loss(loss, &[&self.model]).map_err(|reason| reason.at(step))?;
        let lr = self.schedule.learning_rate(step);
        let trained = Trained { model: &mut self.model, gradients: &self.gradients, lr };
        let update = self.optimizer.step(&mut [trained]).map_err(|reason| reason.at(step))?;
        self.step = step;
        Ok((lr, update.grad_norm))
    }

    /// Books the cost of a step.
    pub(crate) fn book(&mut self, tokens: usize, flops: f64, timing: Timing) {
        let (tokens, seconds) = (tokens as u64, timing.seconds);
        self.counters.cost.add(Cost { tokens, flops, seconds });
    }

    /// Appends a step's record where it is due.
    pub(crate) fn log(&mut self, record: &impl Serialize) -> Result<(), TrainError> {
        if self.step.is_multiple_of(self.settings.train.log_every) {
            self.run.metrics.append(record)?;
        }
        Ok(())
    }

    /// Shows a step of `tokens` and `loss`.
    pub(crate) fn report(
        &self,
        (tokens, loss): (usize, f64),
        timing: Timing,
        figures: &[(&str, f64)],
        progress: &mut dyn Progress,
    ) {
        let (tokens, tokens_per_s) = (tokens as u64, timing.tokens_per_s);
        let (step, total) = (self.step, self.total);
        progress.step(&StepReport { step, total, tokens, tokens_per_s, loss, figures });
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.total <= self.step
    }

    /// Whether something that happens every so many steps happens after this one.
    pub(crate) fn is_due(&self, every: Option<u64>) -> bool {
        every.is_some_and(|every| self.step.is_multiple_of(every))
    }

    /// Whether an evaluation's `loss` is the lowest so far, so that the model is kept as `best/`.
    pub(crate) fn is_best(&mut self, loss: f64) -> bool {
        let is_best = self.counters.best.is_none_or(|best| loss < best);
        if self.settings.train.keep_best && is_best {
            self.counters.best = Some(loss);
        }
        self.settings.train.keep_best && is_best
    }

    /// Makes a checkpoint where it is due; `other` is saved with the model.
    pub(crate) fn checkpoint(
        &mut self,
        stop: bool,
        other: Option<NamedModel<'_, D>>,
    ) -> Result<(), TrainError> {
        if !(self.is_due(self.settings.train.save_every) || self.is_finished() || stop) {
            return Ok(());
        }
        let mut models = vec![NamedModel { name: self.settings.name, model: &self.model }];
        models.extend(other);
        self.run.save_checkpoint(&Snapshot {
            step: self.step,
            models: &models,
            optimizer: &self.optimizer,
            tokenizer: self.tokenizer.as_ref(),
            counters: &self.counters,
        })
    }

    /// Completes some prompts for `samples.jsonl`.
    pub(crate) fn write_samples(
        &mut self,
        prompts: &[&[u32]],
        config: &SamplesConfig,
    ) -> Result<(), TrainError> {
        let Some(tokenizer) = &self.tokenizer else { return Ok(()) };
        let seed = self.seeds.derive("samples", self.step, 0);
        let samples = sample_completions(&self.model, tokenizer, prompts, config, seed)?;
        samples.iter().try_for_each(|sample| self.run.samples.append(&sample.at(self.step)))?;
        Ok(())
    }

    pub(crate) fn save_model(&self, name: &str) -> Result<(), TrainError> {
        self.run.save_model(name, &self.model, self.tokenizer.as_ref(), |_| Ok(()))
    }

    /// The end of a run that was asked to stop.
    pub(crate) fn stopped(&self, progress: &mut dyn Progress) -> Outcome {
        progress.note(&stopped_note(&self.run, self.step, self.total));
        self.outcome(Status::Stopped)
    }

    pub(crate) fn outcome(&self, status: Status) -> Outcome {
        let model_dir = self.run.path("final");
        Outcome { status, steps: self.step, cost: self.counters.cost, model_dir }
    }
}
