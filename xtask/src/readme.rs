//! Runs the README's commands as they are written, in order.
//!
//! A block `sh` is a list of commands; in a block `console` those behind `$` are, with the lines that
//! a backslash goes on to. A block `toml` whose first line is a comment with a path is written there.
//! A server is waited for and ended. What `cargo test` runs is left out: it is a check of its own.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::{results, say};

/// What a block of the README asks for.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Write { path: String, text: String },
    Run(String),
}

/// Runs everything from the workspace's root; what it makes is below `runs/`.
pub(super) fn run(root: &Path) -> Result<()> {
    let text = std::fs::read_to_string(root.join("README.md"))?;
    let program = results::build(root)?;
    let folder = program.parent().context("the program lies in a folder")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", folder.display());
    for step in steps(&text) {
        match step {
            Step::Write { path, text } => {
                say(&format!("README: writes {path}"));
                std::fs::write(root.join(&path), text).with_context(|| path.clone())?;
            }
            Step::Run(command) if command.starts_with("cargo test") => {}
            Step::Run(command) => {
                let command = match super::features() {
                    Some(features) => command.replace(
                        "cargo run --release --",
                        &format!("cargo run --release --features {features} --"),
                    ),
                    None => command,
                };
                let start = Instant::now();
                let mut shell = Command::new("bash");
                crate::forget(&mut shell);
                shell.current_dir(root).args(["-ec", &command]).env("PATH", &path);
                let is_server = command.starts_with("hearken collect");
                if is_server { serve(&mut shell) } else { finish(&mut shell) }
                    .with_context(|| format!("the README's command failed: {command}"))?;
                say(&format!("README: {:.0} s: {command}", start.elapsed().as_secs_f64()));
            }
        }
    }
    Ok(())
}

fn finish(shell: &mut Command) -> Result<()> {
    let output = shell.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the README says that pages are.
const ADDRESS: &str = "127.0.0.1:8080";

fn serve(shell: &mut Command) -> Result<()> {
    let mut child = shell.stdin(Stdio::null()).spawn()?;
    let start = Instant::now();
    let answered = loop {
        if TcpStream::connect(ADDRESS).is_ok() {
            break true;
        }
        if child.try_wait()?.is_some() || PATIENCE < start.elapsed() {
            break false;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    child.kill()?;
    child.wait()?;
    if !answered {
        bail!("nothing answers on {ADDRESS}");
    }
    Ok(())
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut blocks = text.split("\n```");
    blocks.next();
    // Every other piece is a block, beginning with its language.
    for block in blocks.step_by(2) {
        let (language, body) = block.split_once('\n').unwrap_or((block, ""));
        match language {
            "sh" => steps.extend(commands(body.lines())),
            "console" => steps.extend(commands(prompted(body).iter().map(String::as_str))),
            "toml" => {
                let path = body.lines().next().and_then(|line| line.strip_prefix("# "));
                let path = path.filter(|path| !path.contains(' '));
                steps.extend(path.map(|path| Step::Write { path: path.into(), text: body.into() }));
            }
            _ => {}
        }
    }
    steps
}

/// Lines behind `$`, with those that they go on to.
fn prompted(body: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in body.lines() {
        let goes_on = lines.last().is_some_and(|last| last.ends_with('\\'));
        match line.strip_prefix("$ ") {
            Some(command) => lines.push(command.to_owned()),
            None if goes_on => lines.push(line.to_owned()),
            None => lines.push(String::new()),
        }
    }
    lines
}

fn commands<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Step> {
    let mut commands: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let text = line.trim_end_matches('\\');
        match commands.last_mut().filter(|_| goes_on) {
            Some(last) => last.push_str(text.trim_start()),
            None => commands.push(text.to_owned()),
        }
        goes_on = line.ends_with('\\');
    }
    commands.into_iter().map(Step::Run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_files_and_commands_in_order() {
        let text = "# x\n\n```sh\none  # note\ntwo \\\n    --three\n```\n\ntext\n\n```toml\n# runs/a.toml\n\
                    x = 1\n```\n\n```console\n$ four \\\n    five\noutput\n$ six\n```\n\n```text\nseven\n```\n";
        let run = |command: &str| Step::Run(command.into());
        let file = Step::Write { path: "runs/a.toml".into(), text: "# runs/a.toml\nx = 1".into() };
        assert_eq!(
            steps(text),
            [run("one  # note"), run("two --three"), file, run("four five"), run("six")]
        );
    }
}
