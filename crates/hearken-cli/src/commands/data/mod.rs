//! `hearken data`.

mod convert;
pub(in crate::commands) mod inspect;
mod paint;
mod speed;
mod stats;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Look at files of records, count over them, and write them in another layout
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Data {
    #[command(subcommand)]
    command: DataCommand,
}

const EXAMPLES: &str = "\
Examples:
  hearken data inspect runs/quickstart/data/preferences.jsonl \\
      --model runs/quickstart/base
  hearken data stats runs/quickstart/data/prompts.jsonl --max-tokens 128 \\
      --eval runs/quickstart/data/prompts_eval.jsonl \\
      --model runs/quickstart/base
  hearken data stats runs/quickstart/data/demonstrations.jsonl --speed \\
      --model runs/quickstart/base
  hearken data convert runs/quickstart/data/demonstrations.jsonl train.jsonl.zst";

#[derive(Debug, Subcommand)]
enum DataCommand {
    Inspect(Inspect),
    Stats(stats::Stats),
    Convert(convert::Convert),
}

/// Show examples as the model will see them, in tokens, with what is trained on set apart
#[derive(Args, Debug)]
struct Inspect {
    /// Records: a file, a pattern, a folder, or a store of judgements
    #[arg(value_name = "FILE")]
    path: PathBuf,

    /// The model whose tokenizer makes tokens of the data
    #[arg(long, value_name = "DIR")]
    model: PathBuf,

    /// How many examples to show
    #[arg(long, default_value_t = 3, value_name = "N")]
    examples: usize,

    /// The file's name for a column, as in prompt=question; may be repeated
    #[arg(long, value_name = "COLUMN=NAME", value_parser = inspect::column)]
    column: Vec<(String, String)>,
}

impl Data {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.command {
            DataCommand::Inspect(Inspect { path, model, examples, column }) => {
                inspect::show(&path, &model, column.into_iter().collect(), examples)
            }
            DataCommand::Stats(stats) => stats.run(),
            DataCommand::Convert(convert) => convert.run(),
        }
    }
}
