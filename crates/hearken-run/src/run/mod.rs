//! One run: its directory, seeds, optimizer, schedule, counters, costs, logs, evaluations and
//! checkpoints.
//!
//! Who learns from records and who learns from rollouts holds a [`Run`] and says, as a [`Frame`], what it
//! does between two checkpoints; [`drive`] does the rest. Not here: what a step is, and what an algorithm
//! learns from.

mod frame;
mod opening;

use std::cmp::Ordering;
use std::path::PathBuf;

use hearken_config::{MasterWeights, NonNegative, SamplesConfig, SharedSections};
use hearken_model::checkpoint::NoRoom;
use hearken_model::{Batch, Gradients, Keep, LogitLoss, Model, OutputGrads, Pass, Tokenizer};
use hearken_tensor::Device;
use hearken_tensor::device::HeadOutput;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::average::Average;
use crate::encode::Example;
use crate::error::TrainError;
use crate::metrics::{Cost, Stopwatch, Timing, training_flops};
use crate::optimizer::{Optimizer, Trained, check_loss};
use crate::order::Cursor;
use crate::progress::{Progress, StepReport};
use crate::ranks::Ranks;
use crate::run_dir::RunDir;
use crate::run_dir::checkpoint::{NamedModel, Snapshot, StateFile, bytes_of_run};
use crate::samples::sample_completions;
use crate::schedule::Schedule;
use crate::seeds::Seeds;
use crate::stream::{Drawn, Stream};

pub use frame::{Frame, drive};
pub use opening::{Opening, load_language_model, load_model, start_of};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has made all its steps.
    Finished,
    /// It had made all its steps before.
    AlreadyFinished,
    /// It was asked to stop, and goes on when it is started again.
    Stopped,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub struct RunOutcome {
    /// How it ended.
    pub status: Status,
    /// Optimizer steps made, those of earlier sessions included.
    pub steps: u64,
    /// What it used up, in earlier sessions too.
    pub cost: Cost,
    /// `final/` of the run directory; not there yet if the run was stopped.
    pub model_dir: PathBuf,
}

/// Plain values that a checkpoint can hold.
pub trait Stored: Copy + Default + Serialize + DeserializeOwned {}

impl<T: Copy + Default + Serialize + DeserializeOwned> Stored for T {}

/// What checkpoints keep for a trainer, besides weights, moments and [`Counters`].
pub trait TrainerState: Stored {
    /// Whether the run is over before its last step.
    fn is_over(&self) -> bool {
        false
    }

    /// What learning rates are multiplied by.
    fn rate(&self) -> f64 {
        1.0
    }
}

/// Nothing.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Nothing {}

impl TrainerState for Nothing {}

/// A trainer's counters under the name `own`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Own<E> {
    /// The counters.
    #[serde(default)]
    pub own: E,
}

impl<E: Stored> TrainerState for Own<E> {}

/// What a checkpoint keeps besides weights and moments; `K` is the trainer's own.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counters<K> {
    /// How far the run is in its records or prompts.
    pub cursor: Cursor,
    /// The best evaluation so far.
    pub(crate) best: Option<f64>,
    /// What evaluations have gained, where that ends the run.
    #[serde(default)]
    pub(crate) gain: Gain,
    /// Whether an evaluation that was due had no scores.
    #[serde(default)]
    pub(crate) owes_evaluation: bool,
    /// What all steps so far cost.
    pub cost: Cost,
    /// The trainer's own.
    #[serde(flatten)]
    pub own: K,
}

/// What evaluations have gained, since they are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Gain {
    /// The best figure, and the step of its evaluation.
    best: Option<(f64, u64)>,
    /// Evaluations since then.
    without: u64,
}

impl Gain {
    /// Takes note of an evaluation's figure, which is the better one if it compares as `better`.
    fn note(&mut self, figure: f64, step: u64, better: Ordering) {
        let gains =
            |(best, _): (f64, u64)| best.is_nan() || figure.partial_cmp(&best) == Some(better);
        if self.best.is_none_or(gains) {
            // A number that is none is not kept: everything is better.
            *self = Self { best: Some((figure, step)).filter(|_| !figure.is_nan()), without: 0 };
        } else {
            self.without += 1;
        }
    }

    /// Whether there have been so many evaluations in a row without a better one.
    pub(crate) fn is_awaited_for(&self, patience: Option<u64>) -> bool {
        patience.is_some_and(|patience| patience <= self.without)
    }
}

/// Another model that is trained with the first.
#[derive(Debug)]
pub struct Companion<D: Device> {
    /// Its folder in a checkpoint.
    pub name: &'static str,
    /// The model.
    pub model: Model<D>,
    /// Its gradients of the step that is being made.
    pub gradients: Gradients<D>,
    /// Its largest learning rate; `None` is that of the first model.
    pub lr: Option<f64>,
}

/// The passes of the optimizer step that is being made.
#[derive(Clone, Copy, Debug, Default)]
struct OpenStep {
    tokens: usize,
    flops: f64,
}

/// What the optimizer did.
#[derive(Clone, Copy, Debug)]
pub struct Applied {
    loss: f64,
    grad_norm: f64,
    learning_rate: f64,
}

/// What every record of an optimizer step says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// The step, from 1.
    pub step: u64,
    /// The loss of the step, over all its microbatches.
    pub loss: f64,
    /// The norm of all gradients before clipping.
    pub grad_norm: f64,
    /// The learning rate of the first model.
    pub learning_rate: f64,
    /// Rows that went through the first model, forward and backward.
    pub tokens: usize,
    /// How long the step took.
    pub timing: Timing,
}

/// A run between two optimizer steps.
pub struct Run<D: Device, K> {
    /// What the configuration says.
    pub settings: SharedSections,
    /// The run directory, which only the first process writes.
    pub dir: RunDir,
    /// Where all random numbers of the run come from.
    pub seeds: Seeds,
    /// Who else makes the steps of this run.
    pub ranks: Ranks,
    /// The tokenizer of the model; `None` where its folder has none, and records are token ids.
    pub tokenizer: Option<Tokenizer>,
    /// The model that is trained.
    pub model: Model<D>,
    /// Its gradients of the step that is being made.
    pub gradients: Gradients<D>,
    /// What is trained beside it.
    pub companion: Option<Companion<D>>,
    /// What checkpoints keep besides weights and moments.
    pub counters: Counters<K>,
    /// Optimizer steps made.
    pub step: u64,
    /// Optimizer steps of the whole run.
    pub total: u64,
    optimizer: Optimizer<D>,
    /// The mean of the first model's weights, where the configuration asks for it.
    average: Option<Average<D>>,
    schedule: Schedule,
    /// The step of the newest checkpoint.
    saved: Option<u64>,
    work: OpenStep,
    /// What is to be said between this step and the next.
    pub(crate) says: Vec<String>,
}

impl<D: Device, K: TrainerState> Run<D, K> {
    /// Has something said before the next step.
    pub fn say(&mut self, text: String) {
        self.says.push(text);
    }

    /// Draws the next batch of records that are read as they are wanted; `None` where they are not.
    ///
    /// # Errors
    /// As [`Stream::draw`].
    pub fn draw<E: Example>(
        &mut self,
        stream: &mut Option<Stream<E>>,
    ) -> Result<Option<Drawn>, TrainError> {
        let Some(stream) = stream else { return Ok(None) };
        let batch_size = *self.settings.train.batch_size;
        stream.draw(self.tokenizer.as_ref(), &mut self.counters.cursor, batch_size).map(Some)
    }

    pub(crate) fn keep(&self) -> Keep {
        self.settings.model.keep()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.total <= self.step || self.counters.own.is_over() || self.is_stopped_early()
    }

    /// Whether evaluations have gained nothing for as long as the configuration waits.
    fn is_stopped_early(&self) -> bool {
        self.counters.gain.is_awaited_for(self.settings.train.early_stopping_patience)
    }

    /// Says so where the run has made steps before.
    pub fn note_resumed(&self, progress: &mut dyn Progress) {
        if 0 < self.step {
            progress.note(&self.dir.going_on_note(self.step));
        }
    }

    /// Begins to write: everything that the run reads has been read by then. `more` is saved in checkpoints
    /// with the models that are trained.
    fn begin(
        &mut self,
        more: Option<NamedModel<'_, D>>,
        progress: &mut dyn Progress,
    ) -> Result<(), TrainError> {
        // The first one changes what all have read.
        self.ranks.meet();
        for note in self.dir.begin()? {
            progress.note(&note);
        }
        let needed = self.disk_bytes(more);
        let minutes = self.settings.train.save_minutes.map(NonNegative::get);
        if let Some(note) = self.dir.plan_saves(needed, minutes)? {
            progress.note(&note);
        }
        Ok(())
    }

    /// The models that checkpoints have.
    fn saved_models<'m>(&'m self, more: Option<NamedModel<'m, D>>) -> Vec<&'m Model<D>> {
        let companion = self.companion.as_ref().map(|other| &other.model);
        let more = more.map(|named| named.model);
        std::iter::once(&self.model).chain(companion).chain(more).collect()
    }

    /// What the run holds on the disk at most; `more` is saved in checkpoints with what is trained.
    pub fn disk_bytes(&self, more: Option<NamedModel<'_, D>>) -> u64 {
        let average = self.average.as_ref().map_or(0, Average::bytes);
        bytes_of_run(&self.saved_models(more), &self.optimizer) + 2 * average
    }

    /// Begins an optimizer step.
    pub fn begin_step(&mut self) {
        self.work = OpenStep::default();
        self.gradients.zero();
        if let Some(companion) = &mut self.companion {
            companion.gradients.zero();
        }
    }

    /// The forward pass of a microbatch that is trained on.
    pub fn forward(&mut self, batch: &Batch) -> Pass<D> {
        self.work.tokens += batch.rows();
        self.work.flops += training_flops(&self.model, batch);
        let batch = Batch { dropout: Some(self.dropout()), ..batch.clone() };
        self.model.forward(&batch, self.keep())
    }

    /// What decides which elements the step that is being made drops, where the model does so.
    pub fn dropout(&self) -> u64 {
        self.seeds.derive("dropout", self.step, 0)
    }

    /// Adds the gradients of a pass.
    pub fn backward(&mut self, pass: Pass<D>, grads: &OutputGrads<'_>) -> HeadOutput {
        self.model.backward(pass, grads, &mut self.gradients)
    }

    /// Adds the gradients of a pass for a loss that reads all logits of `rows`, so many bytes of them at a time.
    pub fn backward_of_logits(
        &mut self,
        pass: Pass<D>,
        rows: &[usize],
        logits_bytes: usize,
        loss: LogitLoss<'_>,
    ) {
        self.model.backward_of_logits(pass, rows, logits_bytes, loss, &mut self.gradients);
    }

    /// The same of the companion: its gradients are those that `grads` makes of its values at `rows`.
    pub fn train_companion(
        &mut self,
        batch: &Batch,
        rows: &[usize],
        grads: impl FnOnce(&[f32]) -> Vec<f32>,
    ) {
        let (keep, dropout) = (self.keep(), Some(self.dropout()));
        let Some(Companion { model, gradients, .. }) = &mut self.companion else { return };
        let batch = &Batch { dropout, ..batch.clone() };
        let pass = model.forward(batch, keep);
        let scalar_grads = grads(&model.scalars(&pass, rows));
        self.work.flops += training_flops(model, batch);
        let grads = OutputGrads {
            scalar_rows: rows,
            scalar_grads: &scalar_grads,
            ..OutputGrads::default()
        };
        model.backward(pass, &grads, gradients);
    }

    /// Books passes of the step that have no gradients.
    pub fn book_reading(&mut self, flops: f64) {
        self.work.flops += flops;
    }

    /// The update of all trained parameters for a step's `loss`.
    ///
    /// # Errors
    /// If a number is NaN or infinite; the parameters then stay.
    pub fn apply(&mut self, loss: f64) -> Result<Applied, TrainError> {
        let step = self.step + 1;
        let stores: Vec<_> = std::iter::once(&self.model)
            .chain(self.companion.as_ref().map(|other| &other.model))
            .map(Model::params)
            .collect();
        check_loss(loss, &stores).map_err(|reason| reason.at(step))?;
        let rate = self.counters.own.rate();
        let learning_rate = rate * self.schedule.learning_rate(step);
        let (params, gradients) = (self.model.params_mut(), &mut self.gradients);
        let mut trained = vec![Trained { params, gradients, lr: learning_rate }];
        if let Some(Companion { model, gradients, lr, .. }) = &mut self.companion {
            let lr =
                lr.map_or(learning_rate, |largest| rate * largest * self.schedule.factor(step));
            trained.push(Trained { params: model.params_mut(), gradients, lr });
        }
        let update =
            self.optimizer.step(&mut trained, &self.ranks).map_err(|reason| reason.at(step))?;
        if let Some(average) = &mut self.average {
            average.follow(self.model.params());
        }
        self.step = step;
        Ok(Applied { loss, grad_norm: update.grad_norm, learning_rate })
    }

    /// Puts the mean of the weights in their place, where there is one, or the weights back.
    fn exchange_average(&mut self) {
        if let Some(average) = &mut self.average {
            average.exchange(self.model.params_mut());
        }
    }

    /// A step without an update: there is nothing to learn from.
    pub fn pass_over(&mut self) -> Applied {
        self.step += 1;
        let learning_rate = self.counters.own.rate() * self.schedule.learning_rate(self.step);
        Applied { loss: 0.0, grad_norm: 0.0, learning_rate }
    }

    /// Books what the step took, on all ranks.
    pub fn end_step(&mut self, applied: Applied, watch: Stopwatch) -> Update {
        let Applied { loss, grad_norm, learning_rate } = applied;
        let work = self.ranks.gather((self.work.tokens, self.work.flops)).into_iter();
        let (tokens, flops) = work.reduce(|a, b| (a.0 + b.0, a.1 + b.1)).unwrap_or_default();
        let timing = watch.timing(tokens as u64);
        let seconds = timing.seconds;
        self.counters.cost.add(Cost { tokens: tokens as u64, flops, seconds });
        Update { step: self.step, loss, grad_norm, learning_rate, tokens, timing }
    }

    /// Writes a step's record where that is due, and shows the step.
    ///
    /// # Errors
    /// If `metrics.jsonl` cannot be written.
    pub fn report(
        &mut self,
        record: &impl Serialize,
        update: &Update,
        figures: &[(&str, f64)],
        progress: &mut dyn Progress,
    ) -> Result<(), TrainError> {
        if self.step.is_multiple_of(*self.settings.train.log_every) {
            self.dir.metrics.append(record)?;
        }
        let Update { step, loss, tokens, timing, .. } = *update;
        let (total, tokens, tokens_per_s) = (self.total, tokens as u64, timing.tokens_per_s);
        progress.step(&StepReport { step, total, tokens, tokens_per_s, loss, figures });
        Ok(())
    }

    /// Whether an evaluation's `figure` is the best so far, so that the model is kept as `best/`:
    /// whether it compares to the earlier ones as `better`.
    fn is_best(&mut self, figure: f64, better: Ordering) -> bool {
        let is_best =
            self.counters.best.is_none_or(|best| figure.partial_cmp(&best) == Some(better));
        if self.settings.train.keep_best && is_best {
            self.counters.best = Some(figure);
        }
        self.settings.train.keep_best && is_best
    }

    /// How a better evaluation compares to a worse one: as `better`, unless the configuration names a figure.
    fn better(&self, better: Ordering) -> Ordering {
        let train = &self.settings.train;
        match (&train.metric_for_best_model, train.greater_is_better) {
            (None, _) => better,
            (Some(_), Some(true)) => Ordering::Greater,
            (Some(_), _) => Ordering::Less,
        }
    }

    /// What the evaluation that was just written compares by: `figure`, unless the configuration names another.
    ///
    /// # Errors
    /// If the evaluation has no such figure.
    fn compared_by(&self, figure: f64) -> Result<f64, TrainError> {
        let Some(name) = &self.settings.train.metric_for_best_model else { return Ok(figure) };
        let Some(Value::Object(record)) = self.dir.metrics.recent().next_back() else {
            return Ok(figure);
        };
        // What is not a number is written as null.
        let number = |value: &Value| match value.get("value").unwrap_or(value) {
            Value::Null => Some(f64::NAN),
            value => value.as_f64(),
        };
        if let Some(number) = record.get(name).and_then(number) {
            return Ok(number);
        }
        let known = record.iter().filter(|(key, value)| *key != "step" && number(value).is_some());
        let known: Vec<&str> = known.map(|(key, _)| key.as_str()).collect();
        Err(TrainError::Other(format!(
            "`train.metric_for_best_model`: found {name:?}, which evaluations do not have, expected one of {}",
            known.join(", ")
        )))
    }

    /// Takes note of an evaluation's figure, where that may end the run.
    fn note_gain(&mut self, figure: f64, better: Ordering) {
        if self.settings.train.early_stopping_patience.is_some() {
            self.counters.gain.note(figure, self.step, better);
        }
    }

    /// Says why the run ends before its last step, where evaluations are the reason.
    fn note_early_stop(&self, progress: &mut dyn Progress) {
        let (gain, train) = (&self.counters.gain, &self.settings.train);
        if !self.is_stopped_early() || self.total <= self.step {
            return;
        }
        let name = train.metric_for_best_model.as_deref().unwrap_or("figure");
        let best = gain.best.map_or_else(
            || "none had a number".to_owned(),
            |(best, step)| format!("the best {name} is {best:.4}, of step {step}"),
        );
        let kept = if train.keep_best { "; best/ has the model" } else { "" };
        progress.note(&format!(
            "stopped early, after step {} of {}: {} evaluations in a row without a better one \
             (`train.early_stopping_patience`); {best}{kept}",
            self.step, self.total, gain.without
        ));
    }

    fn shares_masters(&self) -> bool {
        self.settings.model.masters == MasterWeights::Shared && 1 < self.ranks.size()
    }

    /// Where the configuration says so, has the optimizer hold this process's share of the master values of trained weights, and
    /// the models what products read of them.
    fn share_masters(&mut self) {
        if !self.shares_masters() {
            return;
        }
        let Self { model, companion, optimizer, .. } = self;
        let device = model.device().clone();
        let companion = companion.as_mut().map(|other| &mut other.model);
        for (store, model) in std::iter::once(model).chain(companion).enumerate() {
            model.give_masters(|index, values| {
                optimizer.hold_master(&device, store, index, &values);
            });
        }
    }

    /// Gives the models of the first process their master values back, to be saved; all processes call it at once, and
    /// [`Run::share_masters`] takes them away again.
    fn gather_masters(&mut self) {
        if !self.shares_masters() {
            return;
        }
        let Self { model, companion, optimizer, ranks, .. } = self;
        let device = model.device().clone();
        optimizer.whole_masters(&device, ranks, |store, index, values| {
            let of = match companion.as_mut().filter(|_| 0 < store) {
                Some(other) => &mut other.model,
                None => &mut *model,
            };
            of.take_masters(index, values);
        });
    }

    /// Makes a checkpoint; `more` are models that are not trained and saved with those that are, `file` is what
    /// else the trainer goes on with.
    fn save_checkpoint(
        &mut self,
        more: Option<NamedModel<'_, D>>,
        file: Option<&StateFile>,
    ) -> Result<(), TrainError> {
        self.gather_masters();
        let saved = self.save_checkpoint_of_masters(more, file);
        self.share_masters();
        saved
    }

    fn save_checkpoint_of_masters(
        &mut self,
        more: Option<NamedModel<'_, D>>,
        file: Option<&StateFile>,
    ) -> Result<(), TrainError> {
        let mut models = vec![NamedModel { name: "model", model: &self.model }];
        if let Some(Companion { name, model, .. }) = &self.companion {
            models.push(NamedModel { name, model });
        }
        models.extend(more);
        let keeps = self.settings.train.keep_optimizer || !self.is_finished();
        self.saved = Some(self.step);
        if !self.ranks.is_first() {
            if keeps {
                let stores: Vec<_> = models.iter().map(|named| named.model.params()).collect();
                self.optimizer.give(&stores, &self.ranks);
            }
            return Ok(());
        }
        self.dir.save_checkpoint(&Snapshot {
            step: self.step,
            models: &models,
            optimizer: keeps.then_some((&self.optimizer, &self.ranks)),
            average: self.average.as_ref().filter(|_| keeps),
            tokenizer: self.tokenizer.as_ref(),
            counters: &self.counters,
            file,
        })
    }

    /// Completes some prompts for `samples.jsonl`.
    ///
    /// # Errors
    /// If sampling fails, or the file cannot be written.
    pub fn write_samples(
        &mut self,
        prompts: &[&[u32]],
        config: &SamplesConfig,
        seed: u64,
    ) -> Result<(), TrainError> {
        let Some(tokenizer) = &self.tokenizer else { return Ok(()) };
        if !self.ranks.is_first() {
            return Ok(());
        }
        let samples = sample_completions(&self.model, tokenizer, prompts, config, seed)?;
        samples.iter().try_for_each(|sample| self.dir.samples.append(&sample.at(self.step)))?;
        Ok(())
    }

    /// Saves the model and its tokenizer as the folder `name` of the run directory; see [`RunDir::save_model`].
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save_model(&self, name: &str) -> Result<Option<NoRoom>, TrainError> {
        self.dir.save_model(name, &self.model, self.tokenizer.as_ref(), |_| Ok(()))
    }

    fn outcome(&self, status: Status) -> RunOutcome {
        let model_dir = self.dir.path("final");
        RunOutcome { status, steps: self.step, cost: self.counters.cost, model_dir }
    }

    /// The end of a run that was asked to stop.
    fn stopped(&self, progress: &mut dyn Progress) -> RunOutcome {
        progress.note(&format!(
            "stopped after step {} of {}; {} has a checkpoint, and the same command goes on from there",
            self.step,
            self.total,
            self.dir.root().display()
        ));
        self.outcome(Status::Stopped)
    }
}

/// A run that is ready for its first step, or one that has come to its end before.
pub enum Opened<R> {
    /// The run, with everything read.
    Ready(R),
    /// What came of it.
    Finished(RunOutcome),
}
