//! The configuration of preference optimization.

use std::path::Path;

use super::objective::ReferenceConfig;
use super::online::{Method, OnlineConfig};
use super::section::DpoSection;
use crate::config::{
    ConfigError, DataConfig, KlSteering, Layers, Length, Loaded, ModelSource, OptimizerConfig,
    RunConfig, SamplesConfig, TrainConfig,
};
use crate::record_run::Settings;
use crate::rollout::feed::Asked;
use crate::rollout::opening::{self as rollout, Movement};

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
    pub(super) fn sampling_settings<'a>(
        &'a self,
        online: &'a OnlineConfig,
    ) -> rollout::Settings<'a> {
        let ReferenceConfig { path, sync, .. } = &self.dpo.reference;
        let moves = sync.is_some() || online.method == Method::Spin;
        rollout::Settings {
            section: "online",
            run: &self.run,
            model: &self.model,
            data: Some(&self.data),
            optimizer: &self.optimizer,
            train: &self.train,
            length: Some(self.length),
            rollout: &online.rollout,
            samples: &self.samples,
            asked: match online.method {
                Method::Spin => Asked::Demonstrations,
                _ => Asked::Prompts,
            },
            reference: (
                path.as_ref().unwrap_or(&self.model.path),
                if moves { Movement::Following } else { Movement::Frozen },
            ),
            // The pull towards the reference is part of the loss, and stays.
            beta: 0.0,
            steering: KlSteering { target_nats: None, horizon: 1.0 },
            kl_limit_nats: online.kl_limit_nats,
            prompts: online.prompts(self.train.batch_size),
            epochs: online.epochs,
            minibatches: online.minibatches,
        }
    }

    /// What a run between two steps reads.
    pub(crate) fn settings(&self) -> Settings<'_> {
        Settings {
            name: "policy",
            run: &self.run,
            model: &self.model,
            data: &self.data,
            optimizer: &self.optimizer,
            train: &self.train,
            length: self.length,
        }
    }
}
