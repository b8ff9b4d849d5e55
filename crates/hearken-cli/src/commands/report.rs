//! `hearken report`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use hearken_train::report;

use super::output_file::check_output;
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

    /// Where the page goes, instead of RUN_DIR/report.html
    #[arg(long, value_name = "FILE.html")]
    output: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Example:
  hearken report runs/quickstart";

impl Report {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let output = self.output.unwrap_or_else(|| self.run_dir.join("report.html"));
        for name in
            ["config.toml", "metrics.jsonl", "samples.jsonl", "outcome.json", "frontier.json"]
        {
            check_output(&output, &[&self.run_dir.join(name)])?;
        }
        report::write_to(&self.run_dir, &output)?;
        output::print(&format!("{}\n", output.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
