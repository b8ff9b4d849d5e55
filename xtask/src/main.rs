//! The checks that this workspace must pass: `cargo xtask check`, or one of them by name.
//!
//! Not here: anything that the programs need to run.

mod arm;
mod bad_input;
mod quick;
mod readme;
mod results;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  check    everything below, in this order
  fmt      rustfmt, without changing a file
  lint     clippy, all targets, no warnings
  test     tests and doctests, in release
  quick    not part of check: the tests of a first look, within three minutes once they are built
  arm      not part of check: the tests of hearken-tensor for 64-bit ARM, under qemu-user
  doc      documentation, no warnings
  tidy     dependency arrows, `unsafe`, file lengths, names, texts

  readme                  the README's commands as they are written, in order
  bad-input [SEED]        inputs with one thing wrong each: docs/results/bad-input.json
  fuzz ROUNDS             that many files with something wrong, through every reader
  results quickstart      the quickstart under three seeds: docs/results/quickstart.json
  results real-data DIR   HH-RLHF and GSM8K below DIR: docs/results/real-data.json
  results frontier        gold against KL by method: docs/results/frontier.json, frontier.svg
  results precision       losses and learning in bf16 beside f32: docs/results/precision.json
  results control         returns of control tasks by seed: docs/results/control.json
  results control_speed   PPO beside Stable-Baselines3, steps per second: docs/results/control_speed.json (with Python)
  results imitation [PART...]   imitation of control tasks: docs/results/imitation.json
  results labels [PART...]      return against number of labels: docs/results/labels.json
  results behavior [PART...]    what policies do on rewards that are learned: docs/results/behavior.json
  results addition        sums learned from a verifier: docs/results/addition.json
  results ahead           the same sampled one and four iterations ahead of training: docs/results/ahead.json
  results ranks           two ranks of a thread beside a process of two: docs/results/ranks.json (with MPI)
  results cluster         what `hearken scaling` says of many machines: docs/results/cluster.txt
  results loop            the closed loop with simulated users, a poisoned round, rounds without progress: docs/results/loop.json
  results rlaif           labels of a model beside people's, five seeds: docs/results/rlaif.json
  results particles       how sure reward models with particles are, by labels, five seeds: docs/results/particles.json
  results noise           reward models from labels of which a quarter is wrong, five seeds: docs/results/noise.json
  results process         reward models of steps, on arithmetic: docs/results/process.json
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["results", "quickstart"] => results::quickstart(&root()),
        ["results", "real-data", data] => results::real_data(&root(), Path::new(data)),
        ["results", "frontier"] => results::frontier(&root()),
        ["results", "precision"] => results::precision(&root()),
        ["results", "control"] => results::control(&root()),
        ["results", "control_speed"] => results::control_speed(&root()),
        ["results", "imitation", parts @ ..] => results::imitation(&root(), parts),
        ["results", "labels", parts @ ..] => results::labels(&root(), parts),
        ["results", "behavior", parts @ ..] => results::behavior(&root(), parts),
        ["results", "addition"] => results::addition(&root()),
        ["results", "ahead"] => results::ahead(&root()),
        ["results", "ranks"] => results::ranks(&root()),
        ["results", "cluster"] => results::cluster(&root()),
        ["results", "rlaif"] => results::rlaif(&root()),
        ["results", "loop"] => results::closed_loop(&root()),
        ["results", "particles"] => results::particles(&root()),
        ["results", "noise"] => results::noise(&root()),
        ["results", "process"] => results::process(&root()),
        ["bad-input"] => bad_input::run(&root(), 0),
        ["bad-input", seed] if seed.parse::<u64>().is_ok() => {
            bad_input::run(&root(), seed.parse().unwrap_or(0))
        }
        ["fuzz", rounds] => fuzz(&root(), rounds),
        [name] => run(name),
        _ => {
            say(USAGE);
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str) -> Result<()> {
    let root = root();
    match name {
        "check" => ["fmt", "lint", "test", "doc", "tidy"].into_iter().try_for_each(|each| {
            say(&format!("== {each}"));
            run(each)
        }),
        "fmt" => cargo(&root, &["fmt", "--all", "--check"], &[]),
        "lint" => {
            let arguments = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
            cargo(&root, &arguments, &[])
        }
        "test" => cargo(&root, &["test", "--release", "--workspace"], &[]),
        "quick" => quick::run(&root),
        "arm" => arm::run(&root),
        "readme" => readme::run(&root),
        "doc" => {
            let arguments = ["doc", "--workspace", "--no-deps", "--document-private-items"];
            cargo(&root, &arguments, &[("RUSTDOCFLAGS", "--deny warnings")])
        }
        "tidy" => tidy::run(&root),
        other => bail!("there is no command `{other}`\n\n{USAGE}"),
    }
}

fn fuzz(root: &Path, rounds: &str) -> Result<()> {
    rounds
        .parse::<u64>()
        .with_context(|| format!("found {rounds:?}, expected a number of rounds"))?;
    let arguments = ["test", "--release", "--package", "hearken-data", "--test", "fuzz"];
    cargo(root, &arguments, &[("HEARKEN_FUZZ_ROUNDS", rounds)])
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask lies in the workspace").to_owned()
}

/// Features that the program is built with, so that everything here shares one build.
fn features() -> Option<String> {
    std::env::var("HEARKEN_FEATURES").ok().filter(|features| !features.is_empty())
}

/// Runs cargo, which ends well or makes an error.
fn cargo(root: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root).args(arguments).envs(variables.iter().copied());
    forget(&mut command);
    let builds_program = ["--workspace", "hearken-cli"].iter().any(|one| arguments.contains(one));
    if let (true, "test" | "build", Some(features)) = (builds_program, arguments[0], features()) {
        command.args(["--features", &features]);
    }
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("`cargo {}` failed", arguments.join(" "));
    }
    Ok(())
}

/// Takes out of the environment of another program what cargo says of this one. A cargo that finds it there would run build scripts
/// that read it (ring's does) anew, and build everything that stands on them.
fn forget(command: &mut Command) {
    const OWN: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
    for (name, _) in std::env::vars_os() {
        if OWN.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
}

/// The one place that prints.
#[expect(clippy::print_stderr, reason = "a program for people who work on this one")]
fn say(text: &str) {
    eprintln!("{text}");
}
