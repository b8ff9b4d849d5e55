//! `hearken rlaif`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use hearken_recipes::rlhf::RlhfConfig;

use super::rlhf::run_stages;
use super::trainer_arguments::TrainerArguments;

/// As rlhf, with pairs that models label in place of people
///
/// Between fine-tuning and the reward model, judges label pairs of files, or of completions that the policy samples. Every
/// answer of a judge is kept, and nothing is asked twice. A stage is skipped when its output is there and its inputs are
/// unchanged.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Rlaif {
    #[command(flatten)]
    trainer: TrainerArguments,
}

const EXAMPLES: &str = "\
Examples:
  # The quickstart's world, labelled by the reward model of the quickstart
  hearken rlaif configs/rlaif.toml
  # Pairs that the policy samples in place of the world's comparisons
  hearken rlaif configs/rlaif.toml --set labels.sampled=1000 \\
      --set run.dir=runs/rlaif-sampled
  # A file of your own, which `hearken config rlaif > my.toml` begins
  hearken rlaif my.toml";

impl Rlaif {
    pub(crate) fn run(self) -> Result<ExitCode> {
        self.trainer.check_is_one_process("rlaif")?;
        let loaded = RlhfConfig::load(&self.trainer.config, &self.trainer.overrides)?;
        if loaded.config.labels.is_none() {
            bail!(
                "{}: found no [labels], expected it: what models label (`hearken rlhf` does without)",
                self.trainer.config.display()
            );
        }
        run_stages(loaded, self.trainer.start())
    }
}
