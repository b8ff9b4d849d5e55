//! `hearken man`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _};
use clap_mangen::Man;
use hearken_data::write_whole;

use crate::{Arguments, output};

/// Write the manual pages of all commands
///
/// One page for the program and one for each command, hearken.1, hearken-sft.1, …; pages of these names that are
/// in the folder are replaced. Prints the folder.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ManPages {
    /// The folder for the pages; made if it is not there
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  hearken man --output ~/.local/share/man/man1
  hearken man --output pages && man -l pages/hearken-sft.1";

impl ManPages {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let folder = &self.output;
        fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot be created", folder.display()))?;
        // `hearken help` has no page: `man hearken` is it.
        let mut program = Arguments::command().disable_help_subcommand(true);
        program.build();
        write_pages(&program, folder)?;
        output::print(&format!("{}\n", folder.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn write_pages(command: &clap::Command, folder: &Path) -> Result<()> {
    let page = Man::new(command.clone());
    let path = folder.join(page.get_filename());
    let mut text = Vec::new();
    page.render(&mut text).context("a manual page")?;
    write_whole(&path, |file| file.write_all(&text))
        .with_context(|| format!("{}: cannot be written", path.display()))?;
    command.get_subcommands().try_for_each(|command| write_pages(command, folder))
}
