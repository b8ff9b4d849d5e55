//! `hearken ppo`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use hearken_config::Configuration;
use hearken_train::ppo::{self, PpoConfig};

use super::trainer_arguments::TrainerArguments;
use crate::device;

/// Proximal policy optimization: raise a score, staying close to the starting model
///
/// Scores come from the configuration's `score` tables: a reward model, built-in heuristics, a
/// command, or an HTTP endpoint. Prints the folder of the trained policy.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Ppo {
    #[command(flatten)]
    trainer: TrainerArguments,
}

const EXAMPLES: &str = "\
Examples:
  hearken ppo configs/ppo.toml --set run.dir=runs/ppo \\
      --set model.path=runs/quickstart/sft/final --set train.steps=16 \\
      --set data.train=runs/quickstart/data/prompts.jsonl \\
      --set 'score=[{kind=\"model\", path=\"runs/quickstart/reward/final\"}]'
  # A file of your own, which `hearken config ppo > my.toml` begins
  hearken ppo my.toml --set kl.beta=0.1 --set rollout.max_new_tokens=48
  # On recorded rollouts
  hearken ppo my.toml --set rollout.replay=rollouts.jsonl";

impl Ppo {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Self { trainer } = &self;
        trainer.run(|mut going| {
            let mut loaded = PpoConfig::load(&trainer.config, &trainer.overrides)?;
            going.fetch(&mut loaded, trainer.start())?;
            Ok(ppo::run(device::open(), &loaded, going.entry, going.screen)?)
        })
    }
}
