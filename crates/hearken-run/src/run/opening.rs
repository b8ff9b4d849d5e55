//! How a run opens: what it reads, before its models and then with them.

use std::path::{Path, PathBuf};

use hearken_config::{DataConfig, Dtype, Frozen};
use hearken_model::{LoadOptions, Masters, Model, Tokenizer};
use hearken_tensor::Device;

use super::{Companion, Counters, Kept, Outcome, Run, Settings, Status, Work};
use crate::dataset::Dataset;
use crate::encode::{Encoder, Example};
use crate::error::TrainError;
use crate::optimizer::Optimizer;
use crate::progress::Progress;
use crate::ranks::Ranks;
use crate::run_dir::checkpoint::Checkpoint;
use crate::run_dir::{Entry, RunDir};
use crate::schedule::Schedule;
use crate::seeds::Seeds;
use crate::trained_model::{freeze, load_tokenizer};

/// A run whose directory is taken and whose models are not loaded.
pub struct Opening<'p> {
    /// What the configuration says.
    pub settings: Settings,
    /// The checkpoint to go on from; `None` of a run that begins.
    pub checkpoint: Option<Checkpoint>,
    /// Where all random numbers of the run come from.
    pub seeds: Seeds,
    /// The tokenizer of the model; `None` where its folder has none.
    pub tokenizer: Option<Tokenizer>,
    /// The run directory, which only this process writes.
    pub dir: RunDir,
    /// Who is told.
    pub progress: &'p mut dyn Progress,
}

impl<'p> Opening<'p> {
    /// Takes the run directory and reads the tokenizer.
    ///
    /// # Errors
    /// If the directory is in use, or holds another run; or the tokenizer cannot be read.
    pub fn new(
        settings: Settings,
        frozen: &Frozen,
        entry: Entry,
        progress: &'p mut dyn Progress,
    ) -> Result<Self, TrainError> {
        let (dir, checkpoint) = RunDir::open(&settings.run, frozen, entry)?;
        progress.stage("read data", None);
        let tokenizer = load_tokenizer(&settings.model.path)?;
        let seeds = Seeds::new(settings.run.seed);
        Ok(Self { settings, checkpoint, seeds, tokenizer, dir, progress })
    }

    /// The folder that the first model is loaded from: the checkpoint's, where there is one.
    pub fn model_dir(&self) -> PathBuf {
        let checkpoint = self.checkpoint.as_ref();
        checkpoint.map_or_else(|| self.settings.model.path.clone(), |found| found.model_dir(None))
    }

    /// What turns records into tokens of the model that is trained.
    ///
    /// # Errors
    /// If the model's config.json cannot be read, or the tokenizer does not belong to it.
    pub fn encoder(&self, data: &DataConfig) -> Result<Encoder<'_>, TrainError> {
        Encoder::for_model(&self.settings.model.path, self.tokenizer.as_ref(), data)
    }

    /// The records of `[data]`.
    ///
    /// # Errors
    /// If a file cannot be read, or has a record that is not usable.
    pub fn dataset<E: Example>(&mut self, data: &DataConfig) -> Result<Dataset<E>, TrainError> {
        let dataset = Dataset::load(data, &self.encoder(data)?, self.seeds)?;
        self.note_data(&dataset, "training", "evaluation");
        Ok(dataset)
    }

    /// What became of the records, under these names.
    pub fn note_data<E>(&mut self, data: &Dataset<E>, train: &str, eval: &str) {
        self.progress.note(&data.train_report.note(train));
        if !data.eval.is_empty() {
            self.progress.note(&data.eval_report.note(eval));
        }
    }

    /// The outcome of a run of `total` steps that has come to its end before. One that has not goes on from
    /// its checkpoint only with the inputs that it had.
    ///
    /// # Errors
    /// If the checkpoint cannot be read, or the inputs are not those that it was made from.
    pub fn already_finished<K: Kept>(&mut self, total: u64) -> Result<Option<Outcome>, TrainError> {
        let Some(checkpoint) = self.checkpoint.as_ref().filter(|_| self.dir.has_final()) else {
            self.dir.check_inputs()?;
            return Ok(None);
        };
        let (steps, Counters { cost, own, .. }) =
            (checkpoint.step(), checkpoint.counters::<Counters<K>>()?);
        if steps < total && !own.is_over() {
            self.dir.check_inputs()?;
            return Ok(None);
        }
        let at = self.dir.root().display();
        self.progress.note(&format!("{at}: finished after {steps} steps already"));
        let (status, model_dir) = (Status::AlreadyFinished, self.dir.path("final"));
        Ok(Some(Outcome { status, steps, cost, model_dir }))
    }

    /// A language model that is trained, or read and later written.
    ///
    /// # Errors
    /// If it cannot be loaded.
    pub fn load<D: Device>(&self, device: D, dir: &Path) -> Result<Model<D>, TrainError> {
        load_language_model(device, dir, self.settings.model.dtype, Masters::Keep)
    }

    /// Freezes what `[model]` says.
    ///
    /// # Errors
    /// If a pattern matches no parameter, or none is left to train.
    pub fn freeze<D: Device>(&self, model: &mut Model<D>) -> Result<(), TrainError> {
        freeze(model, &self.settings.model.freeze)
    }

    /// The run of `model`, which was loaded from [`Opening::model_dir`], over `total` steps.
    ///
    /// # Errors
    /// If the checkpoint's moments or counters cannot be read.
    pub fn run<D: Device, K: Kept>(
        self,
        model: Model<D>,
        companion: Option<Companion<D>>,
        total: u64,
    ) -> Result<Run<D, K>, TrainError> {
        let config = &self.settings.optimizer;
        let models = std::iter::once(&model).chain(companion.as_ref().map(|other| &other.model));
        let trained: Vec<_> = models.map(Model::params).collect();
        let checkpoint = self.checkpoint.as_ref();
        let optimizer = match checkpoint {
            Some(checkpoint) => checkpoint.optimizer(config, &trained)?,
            None => Optimizer::new(config, &trained),
        };
        Ok(Run {
            schedule: Schedule::new(config, total),
            gradients: model.gradients(),
            counters: checkpoint.map(Checkpoint::counters).transpose()?.unwrap_or_default(),
            step: checkpoint.map_or(0, Checkpoint::step),
            saved: checkpoint.map(Checkpoint::step),
            settings: self.settings,
            dir: self.dir,
            seeds: self.seeds,
            ranks: Ranks::default(),
            tokenizer: self.tokenizer,
            work: Work::default(),
            model,
            companion,
            optimizer,
            total,
        })
    }
}

/// The language model in `dir`.
///
/// # Errors
/// If it cannot be loaded.
pub fn load_language_model<D: Device>(
    device: D,
    dir: &Path,
    dtype: Dtype,
    masters: Masters,
) -> Result<Model<D>, TrainError> {
    let options = LoadOptions { precision: dtype.into(), masters, ..LoadOptions::language_model() };
    Ok(Model::load(device, dir, &options)?.0)
}
