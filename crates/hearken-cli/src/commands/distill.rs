//! `hearken distill`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use hearken_config::Configuration;
use hearken_train::distill::{self, DistillConfig};

use super::trainer_arguments::TrainerArguments;
use crate::device;

/// On-policy distillation: a student follows a teacher at every token
///
/// The student completes prompts, and its distribution of every token of them comes nearer to the teacher's: by the
/// forward or reverse KL divergence, or the generalized Jensen-Shannon divergence between them. Some batches, or
/// all, may have the data's own completions instead. The teacher is a model in this process or behind a
/// `hearken serve`; it has the student's tokenizer. Prints the folder of the trained student.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Distill {
    #[command(flatten)]
    trainer: TrainerArguments,
}

const EXAMPLES: &str = "\
Examples:
  hearken distill configs/distill.toml --set run.dir=runs/distill \\
      --set model.path=runs/quickstart/sft/final --set train.steps=20 \\
      --set teacher.path=runs/quickstart/ppo/final --set optimizer.lr=1e-3 \\
      --set data.train=runs/quickstart/data/prompts.jsonl
  # A file of your own, which `hearken config distill > my.toml` begins;
  # in half of the batches the completions are the data's
  hearken distill my.toml --set distill.lambda=0.5 --set distill.beta=0.5
  # A teacher behind a server
  hearken distill my.toml --set teacher.server=http://127.0.0.1:8000";

impl Distill {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Self { trainer } = &self;
        trainer.run(|mut going| {
            let mut loaded = DistillConfig::load(&trainer.config, &trainer.overrides)?;
            going.fetch(&mut loaded, trainer.start())?;
            Ok(distill::run(device::open(), &loaded, going.entry, going.screen)?)
        })
    }
}
