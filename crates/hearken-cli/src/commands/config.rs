//! `hearken config` and `hearken schema`: what a configuration may say.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use hearken_config::Configuration as _;
use hearken_control::config::ControlConfig;
use hearken_recipes::closed_loop::LoopConfig;
use hearken_recipes::constitution::ConstitutionConfig;
use hearken_recipes::rlhf::RlhfConfig;
use hearken_reward_source::judging::JudgingConfig;
use hearken_train::distill::DistillConfig;
use hearken_train::dpo::DpoConfig;
use hearken_train::grpo::GrpoConfig;
use hearken_train::ppo::PpoConfig;
use hearken_train::reward::RewardConfig;
use hearken_train::sft::SftConfig;

use crate::output;

/// A command that reads a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Trainer {
    Sft,
    Reward,
    Dpo,
    Ppo,
    Grpo,
    Distill,
    Rlhf,
}

/// A command whose configuration is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Reader {
    Sft,
    Reward,
    Dpo,
    Ppo,
    Grpo,
    Distill,
    Rlhf,
    Rlaif,
    Loop,
    Control,
    Judge,
    Constitution,
}

impl Reader {
    /// The commented file.
    fn commented(self) -> &'static str {
        match self {
            Self::Sft => SftConfig::DEFAULTS,
            Self::Reward => RewardConfig::DEFAULTS,
            Self::Dpo => DpoConfig::DEFAULTS,
            Self::Ppo => PpoConfig::DEFAULTS,
            Self::Grpo => GrpoConfig::DEFAULTS,
            Self::Distill => DistillConfig::DEFAULTS,
            Self::Rlhf => RlhfConfig::EXAMPLE,
            Self::Rlaif => RlhfConfig::LABELLED_EXAMPLE,
            Self::Loop => LoopConfig::EXAMPLE,
            Self::Control => ControlConfig::DEFAULTS,
            Self::Judge => JudgingConfig::DEFAULTS,
            Self::Constitution => ConstitutionConfig::DEFAULTS,
        }
    }

    fn schema(self) -> serde_json::Value {
        match self {
            Self::Sft => SftConfig::schema(),
            Self::Reward => RewardConfig::schema(),
            Self::Dpo => DpoConfig::schema(),
            Self::Ppo => PpoConfig::schema(),
            Self::Grpo => GrpoConfig::schema(),
            Self::Distill => DistillConfig::schema(),
            Self::Rlhf | Self::Rlaif => RlhfConfig::schema(),
            Self::Loop => LoopConfig::schema(),
            Self::Control => ControlConfig::schema(),
            Self::Judge => JudgingConfig::schema(),
            Self::Constitution => ConstitutionConfig::schema(),
        }
    }
}

/// Print a configuration with every key, its default and a comment
///
/// What is printed is a file to start from; the keys that a run of your own needs are named at its
/// top. Those of `rlhf`, `rlaif` and `loop` are the quickstart.
#[derive(Args, Debug)]
#[command(after_help = CONFIG_EXAMPLES)]
pub(crate) struct Config {
    /// The command that reads it
    #[arg(value_name = "COMMAND")]
    of: Reader,
}

const CONFIG_EXAMPLES: &str = "\
Example:
  hearken config ppo > my.toml";

impl Config {
    pub(crate) fn run(self) -> Result<ExitCode> {
        output::print(self.of.commented())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Print the JSON schema of a configuration
///
/// Every key with its type, range, default and meaning, for editors and programs that write
/// configurations.
#[derive(Args, Debug)]
#[command(after_help = SCHEMA_EXAMPLES)]
pub(crate) struct Schema {
    /// The command that reads the configuration
    #[arg(value_name = "COMMAND")]
    of: Reader,
}

const SCHEMA_EXAMPLES: &str = "\
Example:
  hearken schema grpo > grpo.schema.json";

impl Schema {
    pub(crate) fn run(self) -> Result<ExitCode> {
        output::print(&format!("{:#}\n", self.of.schema()))?;
        Ok(ExitCode::SUCCESS)
    }
}
