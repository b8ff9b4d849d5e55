//! The configuration of preference optimization.

use std::path::Path;

use super::objective::ReferenceConfig;
use super::online::{Method, OnlineConfig};
use super::section::DpoSection;
use crate::config::{
    ConfigError, DataConfig, KlSteering, Layers, Length, Loaded, ModelSource, OptimizerConfig,
    RunConfig, SamplesConfig, TrainConfig,
};
use crate::records::{Configured, Settings};
use crate::rollout::feed::Asked;
use crate::rollout::settings::{self as rollout, Movement};
use crate::run;

/// Every key with its default.
const DEFAULTS: &str = include_str!("../../../../configs/dpo.toml");

const SECTIONS: [&str; 11] = [
    "run",
    "model",
    "data",
    "optimizer",
    "train",
    "dpo",
    "online",
    "judge",
    "rollout",
    "samples",
    "score",
];

/// What `hearken dpo` reads; `configs/dpo.toml` says what each key does.
#[derive(Clone, Debug, PartialEq)]
pub struct DpoConfig {
    /// `[run]`.
    pub run: RunConfig,
    /// `[model]`.
    pub model: ModelSource,
    /// `[data]`.
    pub data: DataConfig,
    /// `[optimizer]`.
    pub optimizer: OptimizerConfig,
    /// `[train]`.
    pub train: TrainConfig,
    /// `train.steps` or `train.epochs`.
    pub length: Length,
    /// `[dpo]`.
    pub dpo: DpoSection,
    /// `[online]`, `[judge]`, `[rollout]` and `[[score]]`; `None` where pairs come from files.
    pub online: Option<OnlineConfig>,
    /// `[samples]`.
    pub samples: SamplesConfig,
}

impl DpoConfig {
    /// Reads `file` over the defaults and `overrides` over that.
    ///
    /// # Errors
    /// Names the file and the key that is not usable.
    pub fn load(file: &Path, overrides: &[String]) -> Result<Loaded<Self>, ConfigError> {
        Self::from_layers(Layers::read(DEFAULTS, file, overrides)?)
    }

    /// The defaults alone, for a configuration that is made in memory; errors name `file`.
    pub fn defaults(file: &Path) -> Layers {
        Layers::new(DEFAULTS, file)
    }

    /// Reads what was laid over the defaults.
    ///
    /// # Errors
    /// As [`DpoConfig::load`].
    pub fn from_layers(layers: Layers) -> Result<Loaded<Self>, ConfigError> {
        layers.check_sections(&SECTIONS)?;
        let train = TrainConfig::read(&layers)?;
        let mut dpo = DpoSection::read(&layers)?;
        let online = OnlineConfig::read(&layers, train.batch_size, &mut dpo)?;
        let config = Self {
            run: RunConfig::read(&layers)?,
            model: ModelSource::read(&layers)?,
            data: DataConfig::read(&layers)?,
            optimizer: OptimizerConfig::read(&layers)?,
            length: train.required_length(&layers)?,
            train,
            dpo,
            online,
            samples: SamplesConfig::read(&layers)?,
        };
        Ok(Loaded { config, frozen: layers.freeze() })
    }

    /// What a run that samples reads between two iterations.
    pub(super) fn sampling_settings(&self, online: &OnlineConfig) -> rollout::Settings {
        let ReferenceConfig { path, sync, .. } = &self.dpo.reference;
        let moves = sync.is_some() || online.method == Method::Spin;
        rollout::Settings {
            section: "online",
            data: Some(self.data.clone()),
            length: Some(self.length),
            rollout: online.rollout.clone(),
            samples: self.samples.clone(),
            asked: match online.method {
                Method::Spin => Asked::Demonstrations,
                _ => Asked::Prompts,
            },
            reference: path.clone().unwrap_or_else(|| self.model.path.clone()),
            movement: if moves { Movement::Following } else { Movement::Frozen },
            // The pull towards the reference is part of the loss, and stays.
            beta: 0.0,
            steering: KlSteering { target_nats: None, horizon: 1.0 },
            kl_limit_nats: online.kl_limit_nats,
            prompts: online.prompts(self.train.batch_size),
            epochs: online.epochs,
            minibatches: online.minibatches,
            scores: online.scores.clone(),
            normalize_scores: online.normalize_scores,
            needs_scores: online.method != Method::Spin && online.judge.is_none(),
        }
    }

    pub(super) fn of_run(&self) -> run::Settings {
        let Self { run, model, optimizer, train, .. } = self.clone();
        run::Settings { run, model, optimizer, train }
    }
}

impl Configured for DpoConfig {
    fn settings(&self) -> (run::Settings, Settings) {
        let (data, samples) = (self.data.clone(), Some(self.samples.clone()));
        (self.of_run(), Settings { data, length: self.length, samples })
    }
}
