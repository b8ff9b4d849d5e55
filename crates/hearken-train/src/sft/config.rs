//! The configuration of supervised fine-tuning.

use hearken_config::{
    Complaint, Configuration, DataConfig, LogConfig, LoraSection, ModelSource, Named,
    OptimizerConfig, RunConfig, SamplesConfig, TemplateConfig, TrainConfig,
};
use hearken_run::run;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::records::{Configured, RecordSettings};

/// What `hearken sft` reads; `configs/sft.toml` says what each key does.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SftConfig {
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
    /// `[samples]`.
    pub samples: SamplesConfig,
}

impl Configuration for SftConfig {
    const COMMAND: &'static str = "sft";
    const DEFAULTS: &'static str = include_str!("../../../../configs/sft.toml");
    const WITHOUT: &'static [&'static str] = &["data.step_separator"];

    fn named(&mut self) -> Vec<Named<'_>> {
        self.model.named().chain(self.data.named()).collect()
    }

    fn settle(&mut self) -> Result<(), Complaint> {
        self.model.settle(&self.lora, &self.template, false)?;
        self.train.settle()?;
        self.train.required_length()?;
        self.data.check(&self.train)
    }
}

impl Configured for SftConfig {
    fn settings(&self) -> (run::RunSettings, RecordSettings) {
        let Self { run, model, data, optimizer, train, log, samples, .. } = self.clone();
        let settings =
            RecordSettings { data, length: train.known_length(), samples: Some(samples) };
        (run::RunSettings { run, model, optimizer, train, log }, settings)
    }
}
