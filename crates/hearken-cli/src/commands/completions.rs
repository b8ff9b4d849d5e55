//! `hearken completions`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use crate::{Arguments, output};

/// Print what makes a shell complete this program's commands and options
///
/// Where the text belongs is the shell's to say; the examples are the usual places.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  mkdir -p ~/.local/share/bash-completion/completions
  hearken completions bash > ~/.local/share/bash-completion/completions/hearken
  # With fpath+=~/.zfunc before compinit in ~/.zshrc
  mkdir -p ~/.zfunc && hearken completions zsh > ~/.zfunc/_hearken
  hearken completions fish > ~/.config/fish/completions/hearken.fish
  hearken completions powershell >> $PROFILE";

impl Completions {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut text = Vec::new();
        generate(self.shell, &mut Arguments::command(), "hearken", &mut text);
        output::print(&String::from_utf8_lossy(&text))?;
        Ok(ExitCode::SUCCESS)
    }
}
