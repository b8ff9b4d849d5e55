//! The configuration of reward-model training.

use std::path::{Path, PathBuf};

use hearken_objective::bradley_terry::{BradleyTerry, LabelNoise};
use serde::Deserialize;

use crate::config::{
    ConfigError, DataConfig, Layers, Length, Loaded, ModelSource, OptimizerConfig, RunConfig,
    TrainConfig,
};
use crate::encode::PreferenceExample;
use crate::records::{Configured, Settings};
use crate::run;

/// Every key with its default.
const DEFAULTS: &str = include_str!("../../../../configs/reward.toml");

/// What `hearken reward` reads; `configs/reward.toml` says what each key does.
#[derive(Clone, Debug, PartialEq)]
pub struct RewardConfig {
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
    /// `[reward]`.
    pub reward: RewardObjective,
}

/// `[reward]`: what is learned from a pair, and how scores are measured afterwards.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardObjective {
    /// Weight of (score of chosen + score of rejected)².
    pub center_coef: f64,
    /// Probability with which a label is taken to be wrong.
    pub label_smoothing: f64,
    /// Whether the margin of a record counts.
    pub use_margin: bool,
    /// Whether the probability of a record counts.
    pub use_probability: bool,
    /// Completions on which mean and deviation of the scores are measured.
    pub normalize_on: Option<PathBuf>,
    /// The most completions measured.
    pub normalize_count: usize,
}

impl RewardObjective {
    fn read(layers: &Layers) -> Result<Self, ConfigError> {
        let read: Self = layers.section("reward")?;
        let center = read.center_coef;
        let holds = center.is_finite() && 0.0 <= center;
        layers.check("reward.center_coef", center, holds, "a number from 0")?;
        let smoothing = read.label_smoothing;
        let holds = (0.0..0.5).contains(&smoothing);
        layers.check("reward.label_smoothing", smoothing, holds, "a number from 0 to below 0.5")?;
        let count = read.normalize_count;
        layers.check("reward.normalize_count", count, 2 <= count, "an integer from 2")?;
        Ok(read)
    }

    /// The loss of a pair.
    pub fn objective(&self) -> BradleyTerry {
        let epsilon = self.label_smoothing;
        let noise =
            if 0.0 < epsilon { LabelNoise::Smoothing { epsilon } } else { LabelNoise::None };
        BradleyTerry { noise, centering: self.center_coef }
    }

    /// Forgets the columns that are not used.
    pub(super) fn apply_columns(&self, example: &mut PreferenceExample) {
        if !self.use_margin {
            example.margin = 0.0;
        }
        if !self.use_probability {
            example.probability = 1.0;
        }
    }
}

impl RewardConfig {
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
    /// As [`RewardConfig::load`].
    pub fn from_layers(layers: Layers) -> Result<Loaded<Self>, ConfigError> {
        layers.check_sections(&["run", "model", "data", "optimizer", "train", "reward"])?;
        let train = TrainConfig::read(&layers)?;
        let config = Self {
            run: RunConfig::read(&layers)?,
            model: ModelSource::read(&layers)?,
            data: DataConfig::read(&layers)?,
            optimizer: OptimizerConfig::read(&layers)?,
            length: train.required_length(&layers)?,
            train,
            reward: RewardObjective::read(&layers)?,
        };
        Ok(Loaded { config, frozen: layers.freeze() })
    }
}

impl Configured for RewardConfig {
    fn settings(&self) -> (run::Settings, Settings) {
        let Self { run, model, data, optimizer, train, length, .. } = self.clone();
        let settings = Settings { data, length, samples: None };
        (run::Settings { run, model, optimizer, train }, settings)
    }
}
