//! The configuration of supervised fine-tuning.

use hearken_config::{Complaint, Configuration, Named, SamplesConfig, SharedSections};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::records::Configured;

/// What `hearken sft` reads; `configs/sft.toml` says what each key does.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SftConfig {
    /// The sections that every trainer reads.
    #[serde(rename = "*")]
    #[schemars(flatten)]
    pub shared: SharedSections,
    /// `[samples]`.
    pub samples: SamplesConfig,
}

impl Configuration for SftConfig {
    const COMMAND: &'static str = "sft";
    const DEFAULTS: &'static str = include_str!("../../../../configs/sft.toml");
    const WITHOUT: &'static [&'static str] = &["data.step_separator"];

    fn named(&mut self) -> Vec<Named<'_>> {
        self.shared.named().collect()
    }

    fn settle(&mut self) -> Result<(), Complaint> {
        self.shared.settle(false)?;
        self.shared.check_records()
    }
}

impl Configured for SftConfig {
    fn settings(&self) -> (SharedSections, Option<SamplesConfig>) {
        (self.shared.clone(), Some(self.samples.clone()))
    }
}
