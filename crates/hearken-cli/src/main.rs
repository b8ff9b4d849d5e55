//! The program `hearken`: it parses its arguments, wires the parts together, and prints.
//!
//! Results go to standard output; progress, notes and errors go to standard error. Every command is
//! a file of [`commands`].
//!
//! Not here: any algorithm.

mod api_key;
mod commands;
mod counter;
mod device;
mod failure;
mod features;
mod hub;
mod interrupt;
mod machine;
mod output;
mod ranks;
mod records;
mod request_log;
mod screen;
mod server;
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
  # The three stages on a small model, from nothing
  hearken rlhf configs/quickstart.toml
  # What that would do and take, without doing it
  hearken check configs/quickstart.toml
  # Its model completes prompts
  hearken generate --model runs/quickstart/ppo/final --output out.jsonl \\
      --input runs/quickstart/data/prompts_eval.jsonl --max-new-tokens 64
  # What this machine can do
  hearken doctor

`hearken COMMAND --help` explains a command; the examples there use what the first line makes.";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let run = || match arguments.command.is_service() {
        // Who waits for requests must not hold a thread of the pool, on which models answer them.
        true => arguments.command.run(),
        // On a thread of the pool, kernels start sooner than on the main thread.
        false => rayon::scope(|_| arguments.command.run()),
    };
    let ready = device::choose().and_then(|()| ranks::share_cores());
    match ready.and_then(|()| run()) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}
