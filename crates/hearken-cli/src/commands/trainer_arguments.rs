//! What every trainer's command takes, and how it ends.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hearken_run::run::{Outcome, Status};
use hearken_run::run_dir::Start;

use crate::interrupt::INTERRUPTED;
use crate::output;

#[derive(Args, Debug)]
pub(crate) struct TrainerArguments {
    /// The configuration; the commented files under configs/ list every key
    #[arg(value_name = "CONFIG.toml")]
    pub(crate) config: PathBuf,

    /// Change a key of the configuration; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) overrides: Vec<String>,

    /// Start anew: the run in the run directory is moved aside, and removed at the first checkpoint
    #[arg(long)]
    fresh: bool,
}

impl TrainerArguments {
    /// Whether a run that is there goes on.
    pub(crate) fn start(&self) -> Start {
        if self.fresh { Start::Fresh } else { Start::Resume }
    }
}

/// Says how a run ended, and prints the folder of the model that came of it.
pub(crate) fn conclude(outcome: &Outcome) -> std::io::Result<ExitCode> {
    let steps = outcome.steps;
    match outcome.status {
        Status::Finished => output::say(&format!("finished after {steps} steps")),
        Status::AlreadyFinished => {
            output::say(&format!("this run has made its {steps} steps; --fresh starts it anew"));
        }
        // The trainer has said where it stopped, and how it goes on.
        Status::Stopped => return Ok(ExitCode::from(INTERRUPTED)),
    }
    output::print(&format!("{}\n", outcome.model_dir.display()))?;
    Ok(ExitCode::SUCCESS)
}
