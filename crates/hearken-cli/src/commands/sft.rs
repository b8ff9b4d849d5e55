//! `hearken sft`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use hearken_config::Configuration;
use hearken_train::sft::{self, SftConfig};

use super::trainer_arguments::TrainerArguments;
use crate::device;

/// Supervised fine-tuning: teach a model to write like demonstrations
///
/// Prints the folder of the trained model, a Hugging Face model directory. The run directory has
/// metrics.jsonl, samples and checkpoints; the same command goes on where a stopped run left off.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Sft {
    #[command(flatten)]
    trainer: TrainerArguments,
}

const EXAMPLES: &str = "\
Examples:
  hearken sft configs/sft.toml --set run.dir=runs/sft \\
      --set model.path=runs/quickstart/base --set train.epochs=1 \\
      --set data.train=runs/quickstart/data/demonstrations.jsonl
  # A file of your own, which `hearken config sft > my.toml` begins
  hearken sft my.toml --set optimizer.lr=1e-5 --fresh";

impl Sft {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Self { trainer } = &self;
        trainer.run(|mut going| {
            let mut loaded = SftConfig::load(&trainer.config, &trainer.overrides)?;
            going.fetch(&mut loaded, trainer.start())?;
            Ok(sft::run(device::open(), &loaded, going.entry, going.screen)?)
        })
    }
}
