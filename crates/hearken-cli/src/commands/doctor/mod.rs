//! `hearken doctor`.

mod machine;
mod run_log;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::data::inspect::{self, column};

/// Look at this machine, at training data, or at a run
///
/// Without arguments: what the processor, the memory and the disk are good for. With --data: examples
/// as the model will see them, in tokens, with what is trained on set apart, and counts over the whole
/// file. With a run directory: whether the numbers in its metrics.jsonl are plausible.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Doctor {
    /// A run directory to examine
    #[arg(value_name = "RUN_DIR", conflicts_with = "data")]
    run_dir: Option<PathBuf>,

    /// Training data to look at: demonstrations, preferences, prompts, or a store of judgements
    #[arg(long, value_name = "FILE", requires = "model")]
    data: Option<PathBuf>,

    /// The model whose tokenizer makes tokens of the data
    #[arg(long, value_name = "DIR", requires = "data")]
    model: Option<PathBuf>,

    /// How many examples to show
    #[arg(long, default_value_t = 3, value_name = "N")]
    examples: usize,

    /// The file's name for a column, as in prompt=question; may be repeated
    #[arg(long, value_name = "COLUMN=NAME", value_parser = column)]
    column: Vec<(String, String)>,
}

const EXAMPLES: &str = "\
Examples:
  hearken doctor
  hearken doctor --data runs/quickstart/data/demonstrations.jsonl \\
      --model runs/quickstart/base
  hearken doctor runs/quickstart/ppo";

impl Doctor {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match (self.run_dir, self.data, self.model) {
            (Some(dir), _, _) => run_log::examine(&dir),
            (None, Some(path), Some(model)) => {
                let columns = self.column.into_iter().collect();
                inspect::show(&path, &model, columns, self.examples)
            }
            _ => machine::examine(),
        }
    }
}
