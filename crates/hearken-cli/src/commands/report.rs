//! `hearken report`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

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
        check_output(&output, &[])?;
        if is_of_run(&output, &self.run_dir) {
            bail!("{}: is a file of the run, which is read; expected an .html", output.display());
        }
        hearken_report::write_to(&self.run_dir, &output)?;
        output::print(&format!("{}\n", output.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Whether a file that is there belongs to a run, whose pages alone may be written anew.
fn is_of_run(output: &Path, run_dir: &Path) -> bool {
    let is_page = output.extension().is_some_and(|extension| extension == "html");
    let whole = |path: &Path| std::fs::canonicalize(path).ok();
    !is_page && whole(output).zip(whole(run_dir)).is_some_and(|(file, run)| file.starts_with(run))
}
