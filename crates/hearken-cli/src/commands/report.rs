//! `hearken report`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::output;

/// Draw a run as one HTML page
///
/// The page needs nothing beside it: loss curves, reward against KL, lengths, and completions before
/// and after, side by side. Works on a run that is still going on.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Report {
    /// The run directory
    #[arg(value_name = "RUN_DIR")]
    run_dir: PathBuf,

    /// Where a copy of RUN_DIR/report.html goes
    #[arg(long, value_name = "FILE.html")]
    output: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Example:
  hearken report runs/quickstart";

impl Report {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let page = hearken_train::report::write(&self.run_dir)?;
        let output = match self.output {
            None => page,
            Some(output) => {
                std::fs::copy(&page, &output)
                    .with_context(|| format!("{}: cannot be written", output.display()))?;
                output
            }
        };
        output::print(&format!("{}\n", output.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
