//! `hearken reward`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use hearken_tensor::Cpu;
use hearken_train::reward::{self, RewardConfig};

use super::trainer_arguments::{TrainerArguments, conclude};
use crate::interrupt::Interrupt;
use crate::screen::Screen;

/// Train a reward model: scores that put chosen completions above rejected ones
///
/// Prints the folder of the trained model, a sequence-classification checkpoint with one output.
/// A model without a score head gets a new one.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Reward {
    #[command(flatten)]
    trainer: TrainerArguments,
}

const EXAMPLES: &str = "\
Examples:
  hearken reward configs/reward.toml --set model.path=runs/sft/final --set data.train=pairs.jsonl
  hearken reward my.toml --set data.eval_fraction=0.1 --set data.on_bad_record=skip";

impl Reward {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let loaded = RewardConfig::load(&self.trainer.config, &self.trainer.overrides)?;
        let mut screen = Screen::new(Interrupt::install()?);
        let outcome = reward::run(Cpu::new(), &loaded, self.trainer.start(), &mut screen)?;
        drop(screen);
        Ok(conclude(&outcome)?)
    }
}
