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
/// file. With a run directory, or the log of another program: whether its numbers are plausible, and whether the policy
/// has begun to exploit what scores it. Logs are metrics.jsonl, TRL's trainer_state.json, the JSON lines of verl's file
/// logger, and event files of TensorBoard, each a file or the folder that has it.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Doctor {
    /// A run directory to examine, or a log
    #[arg(value_name = "RUN_DIR_OR_LOG", conflicts_with = "data")]
    run_dir: Option<PathBuf>,

    /// The number of a log that says what is wanted, which nothing is trained on, as val-core/gsm8k/reward/mean@1
    #[arg(long, value_name = "KEY", requires = "run_dir")]
    held_out: Option<String>,

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
  hearken doctor runs/quickstart/ppo
  # logs of other programs:
  # hearken doctor outputs/checkpoint-500/trainer_state.json
  # hearken doctor verl/metrics.jsonl --held-out val-core/gsm8k/reward/mean@1
  # hearken doctor outputs/runs/Nov30_10-00-00";

impl Doctor {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match (self.run_dir, self.data, self.model) {
            (Some(dir), _, _) => run_log::examine(&dir, self.held_out.as_deref()),
            (None, Some(path), Some(model)) => {
                let columns = self.column.into_iter().collect();
                inspect::show(&path, &model, columns, self.examples)
            }
            _ => machine::examine(),
        }
    }
}
