//! The configuration of reward-model training.

use std::path::PathBuf;

use hearken_config::{
    AtLeastTwo, BelowHalf, Complaint, Configuration, DataConfig, LogConfig, LoraSection,
    ModelSource, Named, NonNegative, OptimizerConfig, RunConfig, TemplateConfig, TrainConfig,
};
use hearken_objective::bradley_terry::{BradleyTerry, LabelNoise};
use hearken_run::encode::PreferenceExample;
use hearken_run::run;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::records::{Configured, Settings};

/// What `hearken reward` reads; `configs/reward.toml` says what each key does.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RewardConfig {
    /// `[run]`.
    pub run: RunConfig,
    /// `[model]`.
    pub model: ModelSource,
    /// `[lora]`: an adapter in place of the weights.
    pub lora: LoraSection,
    /// `[template]`.
    pub template: TemplateConfig,
    /// `[data]`.
    pub data: DataConfig,
    /// `[optimizer]`.
    pub optimizer: OptimizerConfig,
    /// `[train]`.
    pub train: TrainConfig,
    /// `[log]`.
    pub log: LogConfig,
    /// `[reward]`.
    pub reward: RewardObjective,
}

/// `[reward]`: what is learned from a pair, and how scores are measured afterwards.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RewardObjective {
    /// Weight of (score of chosen + score of rejected)².
    pub center_coef: NonNegative,
    /// Probability with which a label is taken to be wrong.
    pub label_smoothing: BelowHalf,
    /// Whether the margin of a record counts.
    pub use_margin: bool,
    /// Whether the probability of a record counts.
    pub use_probability: bool,
    /// Completions on which mean and deviation of the scores are measured.
    pub normalize_on: Option<PathBuf>,
    /// The most completions measured.
    pub normalize_count: AtLeastTwo,
}

impl RewardObjective {
    /// The loss of a pair.
    pub fn objective(&self) -> BradleyTerry {
        let epsilon = *self.label_smoothing;
        let noise =
            if 0.0 < epsilon { LabelNoise::Smoothing { epsilon } } else { LabelNoise::None };
        BradleyTerry { noise, centering: *self.center_coef }
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

impl Configuration for RewardConfig {
    const COMMAND: &'static str = "reward";
    const DEFAULTS: &'static str = include_str!("../../../../configs/reward.toml");
    const WITHOUT: &'static [&'static str] = &["data.completion_only", "train.sample_every"];

    fn named(&mut self) -> Vec<Named<'_>> {
        let normalize = self.reward.normalize_on.as_mut();
        let normalize = normalize.map(|path| Named::records("reward.normalize_on", path));
        self.model.named().chain(self.data.named()).chain(normalize).collect()
    }

    fn settle(&mut self) -> Result<(), Complaint> {
        self.model.settle(&self.lora, &self.template, false)?;
        self.train.settle()?;
        self.train.required_length()?;
        self.data.check(&self.train)
    }
}

impl Configured for RewardConfig {
    fn settings(&self) -> (run::Settings, Settings) {
        let Self { run, model, data, optimizer, train, log, .. } = self.clone();
        let settings = Settings { data, length: train.known_length(), samples: None };
        (run::Settings { run, model, optimizer, train, log }, settings)
    }
}
