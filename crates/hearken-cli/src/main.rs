//! The program `hearken`: it parses its arguments, wires the parts together, and prints.
//!
//! Results go to standard output; progress, notes and errors go to standard error. Every command is
//! a file of [`commands`].
//!
//! Not here: any algorithm.

mod commands;
mod counter;
mod device;
mod failure;
mod features;
mod hub;
mod interrupt;
mod machine;
mod output;
mod records;
mod screen;
mod sources;
mod table;
mod time_left;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;

/// Teach language models what people want: fine-tuning, reward models, PPO.
#[derive(Debug, Parser)]
#[command(name = "hearken", version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  hearken rlhf configs/quickstart.toml         the three stages on a small model, from nothing
  hearken check configs/quickstart.toml        what that would do and take, without doing it
  hearken sft configs/sft.toml --set train.steps=100
  hearken generate --model runs/sft/final --input prompts.jsonl --output out.jsonl --max-new-tokens 64
  hearken doctor                               what this machine can do

`hearken COMMAND --help` explains a command.";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // On a thread of the pool, kernels start sooner than on the main thread.
    let run = || rayon::scope(|_| arguments.command.run());
    match device::choose_kernels().and_then(|()| run()) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}
