//! `hearken dpo`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use hearken_config::Configuration;
use hearken_train::dpo::{self, DpoConfig};

use super::trainer_arguments::TrainerArguments;
use crate::device;

/// Preference optimization without a reward model: DPO and its family, ORPO, SimPO, KTO
///
/// Reads pairs of completions, or single ones labelled good or bad; with dpo.online it reads prompts and
/// samples completions itself. Prints the folder of the trained policy, a Hugging Face model directory.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Dpo {
    #[command(flatten)]
    trainer: TrainerArguments,
}

const EXAMPLES: &str = "\
Examples:
  hearken dpo configs/dpo.toml --set run.dir=runs/dpo \\
      --set model.path=runs/quickstart/sft/final --set train.steps=20 \\
      --set data.train=runs/quickstart/data/preferences.jsonl
  # On completions of its own, which a reward model compares
  hearken dpo configs/dpo.toml --set run.dir=runs/online \\
      --set model.path=runs/quickstart/sft/final --set train.steps=20 \\
      --set data.train=runs/quickstart/data/prompts.jsonl --set dpo.online=dpo \\
      --set 'score=[{kind=\"model\", path=\"runs/quickstart/reward/final\"}]'
  # A file of your own, which `hearken config dpo > my.toml` begins
  hearken dpo my.toml --set dpo.loss=simpo --set dpo.beta=2.5 \\
      --set dpo.simpo_gamma=1.0";

impl Dpo {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Self { trainer } = &self;
        trainer.run(|mut going| {
            let mut loaded = DpoConfig::load(&trainer.config, &trainer.overrides)?;
            going.fetch(&mut loaded, trainer.start())?;
            Ok(dpo::run(device::open(), &loaded, going.entry, going.screen)?)
        })
    }
}
