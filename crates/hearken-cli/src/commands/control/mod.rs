//! `hearken control`.

mod demonstrate;
mod evaluate;
mod render;
mod replay;
mod served;
mod train;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Control tasks: environments and what is learned in them
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Control {
    #[command(subcommand)]
    command: ControlCommand,
}

const EXAMPLES: &str = "\
Examples:
  hearken control train --env CartPole-v1
  hearken control evaluate runs/CartPole-v1
  hearken control demonstrate --policy runs/CartPole-v1 --output demos.jsonl
  hearken control imitate --method bc --env CartPole-v1 \\
      --demonstrations demos.jsonl
  hearken control render runs/CartPole-v1 --output pole.png
  echo '{\"state\": [1.0, 0.5], \"action\": [1.0]}' > in.jsonl
  hearken control replay --env Pendulum-v1 --input in.jsonl --output out.jsonl";

#[derive(Debug, Subcommand)]
enum ControlCommand {
    Train(train::Train),
    Prefer(train::Prefer),
    Imitate(train::Imitate),
    Demonstrate(demonstrate::Demonstrate),
    Evaluate(evaluate::Evaluate),
    Render(render::Render),
    Replay(replay::Replay),
}

impl Control {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.command {
            ControlCommand::Train(command) => command.run(),
            ControlCommand::Prefer(command) => command.run(),
            ControlCommand::Imitate(command) => command.run(),
            ControlCommand::Demonstrate(command) => command.run(),
            ControlCommand::Evaluate(command) => command.run(),
            ControlCommand::Render(command) => command.run(),
            ControlCommand::Replay(command) => command.run(),
        }
    }
}
