//! The configuration of preference optimization.

use std::path::Path;

use super::section::DpoSection;
use crate::config::{
    ConfigError, DataConfig, Layers, Length, Loaded, ModelSource, OptimizerConfig, RunConfig,
    SamplesConfig, TrainConfig,
};

/// Every key with its default.
const DEFAULTS: &str = include_str!("../../../../configs/dpo.toml");

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
        let sections = ["run", "model", "data", "optimizer", "train", "dpo", "samples"];
        layers.check_sections(&sections)?;
        let train = TrainConfig::read(&layers)?;
        let config = Self {
            run: RunConfig::read(&layers)?,
            model: ModelSource::read(&layers)?,
            data: DataConfig::read(&layers)?,
            optimizer: OptimizerConfig::read(&layers)?,
            length: train.required_length(&layers)?,
            train,
            dpo: DpoSection::read(&layers)?,
            samples: SamplesConfig::read(&layers)?,
        };
        Ok(Loaded { config, frozen: layers.freeze() })
    }
}
