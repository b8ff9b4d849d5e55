//! How a run opens: what it reads, before its models and then with them.

use std::path::{Path, PathBuf};

use hearken_config::{DataConfig, Frozen, LoraSection, MasterWeights, ModelSource, SharedSections};
use hearken_model::chat::BUILT_IN_FORMAT;
use hearken_model::{Adapter, LoadOptions, LoadReport, Masters, Model, ModelError, Tokenizer};
use hearken_tensor::Device;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Companion, Counters, OpenStep, Run, RunOutcome, Status, TrainerState};
use crate::average::Average;
use crate::dataset::Dataset;
use crate::encode::{Encoder, Example};
use crate::error::TrainError;
use crate::optimizer::Optimizer;
use crate::progress::Progress;
use crate::ranks::Ranks;
use crate::run_dir::checkpoint::Checkpoint;
use crate::run_dir::{OpenFor, RunDir};
use crate::schedule::Schedule;
use crate::seeds::Seeds;
use crate::trained_model::{freeze, new_adapter, tokenizer_of};

/// A run whose directory is taken and whose models are not loaded.
pub struct Opening<'p> {
    /// What the configuration says.
    pub settings: SharedSections,
    /// The checkpoint to go on from; `None` of a run that begins.
    pub checkpoint: Option<Checkpoint>,
    /// Where all random numbers of the run come from.
    pub seeds: Seeds,
    /// The tokenizer of the model; `None` where its folder has none.
    pub tokenizer: Option<Tokenizer>,
    /// The run directory, which only the first process writes.
    pub dir: RunDir,
    /// Who makes the run.
    pub ranks: Ranks,
    /// Who is told.
    pub progress: &'p mut dyn Progress,
}

impl<'p> Opening<'p> {
    /// Takes the run directory and reads the tokenizer.
    ///
    /// # Errors
    /// If the directory is in use, or holds another run; or the tokenizer cannot be read.
    pub fn new(
        settings: SharedSections,
        frozen: &Frozen,
        entry: OpenFor,
        progress: &'p mut dyn Progress,
    ) -> Result<Self, TrainError> {
        let ranks = entry.ranks();
        if !ranks.is_first() {
            // The first one takes the directory; by then what is not whole is removed.
            ranks.meet();
        }
        let (dir, checkpoint) = RunDir::open(&settings.run, settings.log, frozen, entry)?;
        if ranks.is_first() {
            ranks.meet();
        }
        same_everywhere(&ranks, "configuration", &frozen.to_toml())?;
        same_everywhere(&ranks, "checkpoint", &checkpoint.as_ref().map(Checkpoint::step))?;
        progress.stage("read data", None);
        let tokenizer = tokenizer_of(&settings.model)?;
        let seeds = Seeds::new(settings.run.seed);
        Ok(Self { settings, checkpoint, seeds, tokenizer, dir, ranks, progress })
    }

    /// The folder that the weights of the first model are loaded from: the checkpoint's, where there is one that
    /// has them.
    pub fn model_dir(&self) -> PathBuf {
        let checkpoint = self.whole_checkpoint();
        checkpoint.map_or_else(|| self.settings.model.path.clone(), |found| found.model_dir(None))
    }

    /// The checkpoint, if it has whole models, and not the adapters alone that are trained.
    pub fn whole_checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref().filter(|_| self.settings.model.lora.is_none())
    }

    /// The folder of what is trained of the first model: the checkpoint's, or that which the run starts from.
    pub fn trained_dir(&self) -> PathBuf {
        let lora = self.settings.model.lora.as_ref();
        let start = lora.and_then(|lora| lora.init.as_ref()).unwrap_or(&self.settings.model.path);
        self.checkpoint.as_ref().map_or_else(|| start.clone(), |found| found.model_dir(None))
    }

    /// What turns records into tokens of the model that is trained.
    ///
    /// # Errors
    /// If the model's config.json cannot be read, or the tokenizer does not belong to it.
    pub fn encoder<'a>(&'a self, data: &'a DataConfig) -> Result<Encoder<'a>, TrainError> {
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
    pub fn note_data<E: Example>(&mut self, data: &Dataset<E>, train: &str, eval: &str) {
        match &data.stream {
            None => self.progress.note(&data.train_report.note(train)),
            Some(stream) => self.progress.note(&format!("{train}: {}", stream.note())),
        }
        data.mix.notes().iter().for_each(|note| self.progress.note(note));
        if !data.eval.is_empty() {
            self.progress.note(&data.eval_report.note(eval));
        }
        if self.tokenizer.as_ref().is_some_and(Tokenizer::uses_built_in_format) {
            self.progress
                .note(&format!("{}: {BUILT_IN_FORMAT}", self.settings.model.path.display()));
        }
    }

    /// The outcome of a run of `total` steps that has come to its end before. One that has not goes on from
    /// its checkpoint only with the inputs that it had.
    ///
    /// # Errors
    /// If the checkpoint cannot be read, or the inputs are not those that it was made from.
    pub fn already_finished<K: TrainerState>(
        &mut self,
        total: u64,
    ) -> Result<Option<RunOutcome>, TrainError> {
        let Some(checkpoint) = self.checkpoint.as_ref().filter(|_| self.dir.has_final()) else {
            self.dir.check_inputs()?;
            return Ok(None);
        };
        let (steps, Counters { cost, own, gain, .. }) =
            (checkpoint.step(), checkpoint.counters::<Counters<K>>()?);
        let patience = self.settings.train.early_stopping_patience;
        if steps < total && !own.is_over() && !gain.is_awaited_for(patience) {
            self.dir.check_inputs()?;
            return Ok(None);
        }
        let at = self.dir.root().display();
        self.progress.note(&format!("{at}: finished after {steps} steps already"));
        let (status, model_dir) = (Status::AlreadyFinished, self.dir.path("final"));
        Ok(Some(RunOutcome { status, steps, cost, model_dir }))
    }

    /// A language model that is trained, or read and later written.
    ///
    /// # Errors
    /// If it cannot be loaded.
    pub fn load<D: Device>(&self, device: D, dir: &Path) -> Result<Model<D>, TrainError> {
        load_language_model(device, &self.settings.model, dir, self.masters())
    }

    /// What is held of the models that are trained.
    pub fn masters(&self) -> Masters {
        self.settings.model.of_trained()
    }

    /// Freezes what `[model]` says, or adds the adapter of `[lora]`, which alone is trained.
    ///
    /// # Errors
    /// If a pattern matches no parameter, none is left to train, or the adapter is not the model's.
    pub fn freeze<D: Device>(&self, model: &mut Model<D>) -> Result<(), TrainError> {
        match &self.settings.model.lora {
            None => freeze(model, &self.settings.model.freeze),
            Some(lora) => {
                let start = lora.init.as_deref();
                self.adapt(model, &self.settings.model.path, None, start, lora)
            }
        }
    }

    /// Adds an adapter to the model that was read in `base`: the checkpoint's model `name`, or without a
    /// checkpoint the adapter in `start`, or a new one.
    ///
    /// # Errors
    /// If it is not the model's, or not what `lora` says.
    pub fn adapt<D: Device>(
        &self,
        model: &mut Model<D>,
        base: &Path,
        name: Option<&str>,
        start: Option<&Path>,
        lora: &LoraSection,
    ) -> Result<(), TrainError> {
        let stored = self.checkpoint.as_ref().map(|checkpoint| checkpoint.model_dir(name));
        if let Some(dir) = stored.as_deref().or(start) {
            attach(model, base, dir, lora)?;
        } else {
            let seed = self.seeds.derive(name.unwrap_or("lora"), 0, 0);
            let config = new_adapter(lora)?;
            model
                .add_adapter(&config, base, seed)
                .map_err(|error| TrainError::Other(format!("`lora.targets`: {error}")))?;
        }
        model.drop_frozen_masters();
        Ok(())
    }

    /// The reference of a model whose adapter is trained, before it has one: `base`, with the adapter that
    /// training starts from. It shares all weights.
    ///
    /// # Errors
    /// If the adapter is not the model's.
    pub fn reference_of<D: Device>(&self, base: &Model<D>) -> Result<Model<D>, TrainError> {
        start_of(base.duplicate(), &self.settings.model)
    }

    /// The run of `model`, which was loaded from [`Opening::model_dir`], over `total` steps.
    ///
    /// # Errors
    /// If the checkpoint's moments or counters cannot be read.
    pub fn run<D: Device, K: TrainerState>(
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
            Some(checkpoint) => checkpoint.optimizer(config, &trained, &self.ranks)?,
            None => Optimizer::new(config, &trained, &self.ranks),
        };
        let decay = self.settings.train.ema.map(|decay| *decay);
        let is_rounded =
            |index| model.params().is_trained(index) && model.params().is_rounded(index);
        let is_shared = self.settings.model.masters == MasterWeights::Shared;
        if decay.is_some() && (is_shared || (0..model.params().len()).any(is_rounded)) {
            let name = if is_shared { "shared" } else { "bf16" };
            return Err(TrainError::Other(format!(
                "`train.ema`: found beside `model.masters` = {name:?}, whose weights hold no change as small as \
                 those of a mean; expected masters in \"f32\", or no mean"
            )));
        }
        let average = decay.map(|decay| match checkpoint {
            Some(checkpoint) => checkpoint.average(model.params(), decay),
            None => Ok(Average::new(model.params(), decay)),
        });
        let mut run = Run {
            average: average.transpose()?,
            schedule: Schedule::new(config, total),
            gradients: model.gradients(),
            counters: checkpoint.map(Checkpoint::counters).transpose()?.unwrap_or_default(),
            step: checkpoint.map_or(0, Checkpoint::step),
            saved: checkpoint.map(Checkpoint::step),
            settings: self.settings,
            dir: self.dir,
            seeds: self.seeds,
            ranks: self.ranks,
            tokenizer: self.tokenizer,
            work: OpenStep::default(),
            says: Vec::new(),
            model,
            companion,
            optimizer,
            total,
        };
        run.share_masters();
        Ok(run)
    }
}

/// Refuses what is not the same on all ranks.
fn same_everywhere<T: PartialEq + Serialize + DeserializeOwned + Clone>(
    ranks: &Ranks,
    what: &'static str,
    own: &T,
) -> Result<(), TrainError> {
    let all = ranks.gather(own.clone());
    match all.iter().position(|one| *one != all[0]) {
        None => Ok(()),
        Some(rank) => Err(TrainError::Differs { rank, what }),
    }
}

/// The model that training starts from, all frozen: `base`, which has no adapter, with that of `lora.init`.
///
/// # Errors
/// If that adapter is not the model's.
pub fn start_of<D: Device>(
    mut base: Model<D>,
    source: &ModelSource,
) -> Result<Model<D>, TrainError> {
    if let Some(lora) = &source.lora
        && let Some(init) = &lora.init
    {
        attach(&mut base, &source.path, init, lora)?;
    }
    base.set_trainable(|_| false);
    Ok(base)
}

/// Adds the adapter in `dir` to a model; what `lora` says of it besides must be so.
fn attach<D: Device>(
    model: &mut Model<D>,
    base: &Path,
    dir: &Path,
    lora: &LoraSection,
) -> Result<(), TrainError> {
    let mut adapter = Adapter::read(dir).map_err(ModelError::from)?;
    let found = adapter.config();
    let agree = |key: &str, given: Option<String>, found: String| match given {
        Some(given) if given != found => Err(TrainError::Other(format!(
            "`lora.{key}`: found {given}, expected {found}, as the adapter in {} has it; without this key it \
             is that",
            dir.display()
        ))),
        _ => Ok(()),
    };
    agree("r", lora.r.map(|r| r.to_string()), found.rank.to_string())?;
    agree("alpha", lora.alpha.map(|alpha| alpha.to_string()), found.alpha.to_string())?;
    agree("rslora", lora.rslora.map(|flag| flag.to_string()), found.rslora.to_string())?;
    if lora.targets.is_some() {
        let same = model.same_targets(&lora.fresh(), found).map_err(ModelError::from)?;
        let given = if same { "its target_modules" } else { "other modules" };
        agree("targets", Some(given.to_owned()), "its target_modules".to_owned())?;
    }
    if let Some(rate) = lora.dropout {
        adapter.set_dropout(*rate);
    }
    Ok(model.attach_adapter(&adapter, base).map_err(ModelError::from)?)
}

/// The language model in `dir`; of the one that `source` names, with `model.adapter` merged into it.
///
/// # Errors
/// If it cannot be loaded.
pub fn load_language_model<D: Device>(
    device: D,
    source: &ModelSource,
    dir: &Path,
    masters: Masters,
) -> Result<Model<D>, TrainError> {
    let precision = source.dtype.into();
    let options = LoadOptions { precision, masters, ..LoadOptions::language_model() };
    Ok(load_model(device, source, dir, &options)?.0)
}

/// [`load_language_model`] of any model.
///
/// # Errors
/// If it cannot be loaded.
pub fn load_model<D: Device>(
    device: D,
    source: &ModelSource,
    dir: &Path,
    options: &LoadOptions,
) -> Result<(Model<D>, LoadReport), TrainError> {
    let adapter = source.adapter.as_ref().filter(|_| dir == source.path);
    let adapter = adapter.map(|dir| Adapter::read(dir)).transpose().map_err(ModelError::from)?;
    Ok(Model::load_merged(device, dir, options, adapter.as_ref())?)
}
