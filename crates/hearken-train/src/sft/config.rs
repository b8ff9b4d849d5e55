//! The configuration of supervised fine-tuning.

use std::path::Path;

use crate::config::{
    ConfigError, DataConfig, Layers, Length, Loaded, ModelSource, OptimizerConfig, RunConfig,
    SamplesConfig, TrainConfig,
};
use crate::records::{Configured, Settings};
use crate::run;

/// Every key with its default.
const DEFAULTS: &str = include_str!("../../../../configs/sft.toml");

/// What `hearken sft` reads; `configs/sft.toml` says what each key does.
#[derive(Clone, Debug, PartialEq)]
pub struct SftConfig {
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
    /// `[samples]`.
    pub samples: SamplesConfig,
}

impl SftConfig {
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
    /// As [`SftConfig::load`].
    pub fn from_layers(layers: Layers) -> Result<Loaded<Self>, ConfigError> {
        layers.check_sections(&["run", "model", "data", "optimizer", "train", "samples"])?;
        let train = TrainConfig::read(&layers)?;
        let config = Self {
            run: RunConfig::read(&layers)?,
            model: ModelSource::read(&layers)?,
            data: DataConfig::read(&layers)?,
            optimizer: OptimizerConfig::read(&layers)?,
            length: train.required_length(&layers)?,
            train,
            samples: SamplesConfig::read(&layers)?,
        };
        Ok(Loaded { config, frozen: layers.freeze() })
    }
}

impl Configured for SftConfig {
    fn settings(&self) -> (run::Settings, Settings) {
        let Self { run, model, data, optimizer, train, length, samples } = self.clone();
        let settings = Settings { data, length, samples: Some(samples) };
        (run::Settings { run, model, optimizer, train }, settings)
    }
}
