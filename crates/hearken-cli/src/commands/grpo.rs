//! `hearken grpo`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use hearken_config::Configuration;
use hearken_train::grpo::{self, GrpoConfig};

use super::trainer_arguments::TrainerArguments;
use crate::device;

/// Group-relative reinforcement learning: GRPO, RLOO, DAPO, GSPO and others
///
/// Every prompt gets several completions, and what scores above the others becomes likelier. Scores come from
/// the configuration's `score` tables: verifiers of answers, tests of programs, a reward model, a command, or
/// an HTTP endpoint. Prints the folder of the trained policy.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Grpo {
    #[command(flatten)]
    trainer: TrainerArguments,
}

const EXAMPLES: &str = "\
Examples:
  hearken grpo configs/grpo.toml --set run.dir=runs/grpo \\
      --set model.path=runs/quickstart/sft/final --set train.steps=10 \\
      --set data.train=runs/quickstart/data/prompts.jsonl \\
      --set 'score=[{kind=\"model\", path=\"runs/quickstart/reward/final\"}]'
  # A file of your own, which `hearken config grpo > my.toml` begins
  hearken grpo my.toml --set grpo.preset=dapo --set grpo.prompts=16 \\
      --set rollout.completions=8
  # On recorded rollouts
  hearken grpo my.toml --set rollout.replay=rollouts.jsonl";

impl Grpo {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Self { trainer } = &self;
        trainer.run(|mut going| {
            let mut loaded = GrpoConfig::load(&trainer.config, &trainer.overrides)?;
            going.fetch(&mut loaded, trainer.start())?;
            Ok(grpo::run(device::open(), &loaded, going.entry, going.screen)?)
        })
    }
}
