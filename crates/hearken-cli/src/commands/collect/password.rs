//! A password from the environment or the terminal.

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::{Context as _, Result, bail};

use crate::output;

/// The variable that a script sets.
const VARIABLE: &str = "HEARKEN_PASSWORD";

/// The password of the variable; else what is typed twice at the terminal, without showing it; else
/// the first line of standard input.
pub(super) fn ask() -> Result<String> {
    if let Ok(password) = std::env::var(VARIABLE) {
        return Ok(password);
    }
    if !std::io::stdin().is_terminal() {
        return line();
    }
    output::say("password (it is not shown):");
    let password = unseen()?;
    output::say("again:");
    if unseen()? != password {
        bail!("the two passwords differ");
    }
    Ok(password)
}

fn line() -> Result<String> {
    let mut text = String::new();
    let read = std::io::stdin().lock().read_line(&mut text).context("standard input")?;
    if read == 0 {
        bail!("no password: set {VARIABLE} or give it on standard input");
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(unix)]
fn unseen() -> Result<String> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).context("the terminal")?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &quiet).context("the terminal")?;
    let text = line();
    tcsetattr(&stdin, OptionalActions::Now, &before).context("the terminal")?;
    text
}

#[cfg(not(unix))]
fn unseen() -> Result<String> {
    line()
}
