//! How a run that samples opens: what it reads, before its models and then with them.

use std::path::Path;

use hearken_model::{LoadOptions, Masters, Model, Tokenizer};
use hearken_tensor::Device;
use serde::de::DeserializeOwned;

use super::feed::{Asked, Feed};
use super::session::{Companion, Counters, REFERENCE, Session, sampling};
use crate::checkpoint::Checkpoint;
use crate::config::{
    DataConfig, Frozen, KlSteering, Length, ModelSource, OptimizerConfig, RolloutConfig, RunConfig,
    SamplesConfig, TrainConfig,
};
use crate::error::TrainError;
use crate::optimizer::Optimizer;
use crate::progress::Progress;
use crate::run_dir::{RunDir, Start};
use crate::schedule::Schedule;
use crate::seeds::Seeds;
use crate::trained_model::{Outcome, finished_already, freeze, load_tokenizer};

/// The parts of a configuration that every run that samples reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings<'a> {
    /// The section of the algorithm, as errors name it.
    pub(crate) section: &'static str,
    pub(crate) run: &'a RunConfig,
    pub(crate) model: &'a ModelSource,
    /// `None` where rollouts are replayed.
    pub(crate) data: Option<&'a DataConfig>,
    pub(crate) optimizer: &'a OptimizerConfig,
    pub(crate) train: &'a TrainConfig,
    pub(crate) length: Option<Length>,
    pub(crate) rollout: &'a RolloutConfig,
    pub(crate) samples: &'a SamplesConfig,
    /// What the records are.
    pub(crate) asked: Asked,
    /// The reference before the first step, and whether it moves.
    pub(crate) reference: (&'a Path, Movement),
    /// The coefficient of the KL penalty before the first iteration.
    pub(crate) beta: f64,
    /// How it moves.
    pub(crate) steering: KlSteering,
    /// The KL of a completion, in nats, above which the run ends.
    pub(crate) kl_limit_nats: Option<f64>,
    /// Prompts per iteration.
    pub(crate) prompts: usize,
    /// Passes over an iteration's rollouts.
    pub(crate) epochs: usize,
    /// Optimizer steps per pass.
    pub(crate) minibatches: usize,
}

/// Whether a reference stays what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Movement {
    /// It does.
    Frozen,
    /// It follows the policy, so that checkpoints have it.
    Following,
}

/// A run whose inputs are read and whose models are not.
pub(crate) struct Opening<'a> {
    pub(crate) settings: Settings<'a>,
    pub(crate) tokenizer: Option<Tokenizer>,
    pub(crate) checkpoint: Option<Checkpoint>,
    run: RunDir,
    feed: Feed,
    total: u64,
}

impl<'a> Opening<'a> {
    /// Takes the run directory and reads tokenizer and records.
    pub(crate) fn new(
        settings: Settings<'a>,
        frozen: &Frozen,
        start: Start,
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        let (run, checkpoint) = RunDir::open(settings.run, frozen, start)?;
        progress.stage("read data", None);
        let tokenizer = load_tokenizer(&settings.model.path)?;
        let feed = Feed::open(&settings, tokenizer.as_ref(), progress)?;
        let total = feed.steps(&settings);
        Ok(Self { settings, tokenizer, checkpoint, run, feed, total })
    }

    /// The outcome of a run that has come to its end before.
    pub(crate) fn already_finished<E: Default + DeserializeOwned>(
        &self,
        progress: &mut dyn Progress,
    ) -> Result<Option<Outcome>, TrainError> {
        let Some(checkpoint) = self.checkpoint.as_ref().filter(|_| self.run.has_final()) else {
            return Ok(None);
        };
        let counters: Counters<E> = checkpoint.counters()?;
        let is_over = self.total <= checkpoint.step() || counters.at_kl_limit;
        let outcome = || finished_already(&self.run, checkpoint, counters.cost, progress);
        Ok(is_over.then(outcome))
    }

    /// Loads the models; `accompany` adds what is trained with the policy, to it or beside it.
    pub(crate) fn session<D: Device, E: Default + DeserializeOwned>(
        self,
        device: D,
        accompany: impl FnOnce(&mut Model<D>, &Self) -> Result<Option<Companion<D>>, TrainError>,
    ) -> Result<Session<'a, D, E>, TrainError> {
        let Settings { model, optimizer, .. } = self.settings;
        let precision = model.dtype.into();
        let load = |device: D, dir: &Path, masters: Masters| {
            let options = LoadOptions { precision, masters, ..LoadOptions::language_model() };
            Ok::<_, TrainError>(Model::load(device, dir, &options)?.0)
        };
        let checkpoint = self.checkpoint.as_ref();
        let (source, movement) = self.settings.reference;
        let mut reference = match (checkpoint, movement) {
            (Some(checkpoint), Movement::Following) => {
                load(device.clone(), &checkpoint.model_dir(Some(REFERENCE)), Masters::Keep)?
            }
            (None, _) if source == model.path => load(device.clone(), source, Masters::Keep)?,
            (_, Movement::Following) => load(device.clone(), source, Masters::Keep)?,
            (_, Movement::Frozen) => load(device.clone(), source, Masters::Drop)?,
        };
        reference.set_trainable(|_| false);
        let mut policy = match checkpoint {
            Some(checkpoint) => load(device, &checkpoint.model_dir(None), Masters::Keep)?,
            None if source == model.path => reference.duplicate(),
            None => load(device, &model.path, Masters::Keep)?,
        };
        if movement == Movement::Frozen {
            reference.drop_masters();
        }
        same_tokens(source, &reference, &policy, self.tokenizer.as_ref())?;
        freeze(&mut policy, &model.freeze)?;
        let companion = accompany(&mut policy, &self)?;
        let trained: Vec<&Model<D>> =
            std::iter::once(&policy).chain(companion.as_ref().map(|other| &other.model)).collect();
        let own_optimizer = match checkpoint {
            Some(checkpoint) => checkpoint.optimizer(optimizer, &trained)?,
            None => Optimizer::new(optimizer, &trained),
        };
        let counters: Counters<E> =
            checkpoint.map(Checkpoint::counters).transpose()?.unwrap_or_default();
        let settings = self.settings;
        Ok(Session {
            seeds: Seeds::new(settings.run.seed),
            gradients: policy.gradients(),
            policy,
            companion,
            reference,
            optimizer: own_optimizer,
            schedule: Schedule::new(optimizer, self.total),
            kl: settings.steering.controller(counters.beta.unwrap_or(settings.beta)),
            sampling: sampling(settings.rollout),
            step: checkpoint.map_or(0, Checkpoint::step),
            saved: checkpoint.map(Checkpoint::step),
            run: self.run,
            tokenizer: self.tokenizer,
            feed: self.feed,
            total: self.total,
            counters,
            settings,
        })
    }
}

/// Refuses a reference that reads other tokens than the policy.
fn same_tokens<D: Device>(
    source: &Path,
    reference: &Model<D>,
    policy: &Model<D>,
    tokenizer: Option<&Tokenizer>,
) -> Result<(), TrainError> {
    let (found, expected) = (reference.config().vocab, policy.config().vocab);
    let own = load_tokenizer(source)?.as_ref().map(Tokenizer::fingerprint);
    let of_policy = tokenizer.map(Tokenizer::fingerprint);
    let differs = own.zip(of_policy).is_some_and(|(own, of_policy)| own != of_policy);
    if found == expected && !differs {
        return Ok(());
    }
    Err(TrainError::Other(format!(
        "the reference {}: found another tokenizer or vocabulary ({found} tokens) than the policy's \
         ({expected}), expected the same",
        source.display()
    )))
}
