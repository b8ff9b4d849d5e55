//! PPO on CartPole-v1 beside Stable-Baselines3, in environment steps per second: docs/results/control_speed.json.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{about, build, median, write};

const SCRIPT: &str = "tests/control_speed.py";
/// The variable that names the Python which has the other one.
const PYTHON: &str = "HEARKEN_PYTHON";

/// Runs the script with the program, and writes what it measured, its medians over the rounds, and their ratios. Without a Python that has
/// Stable-Baselines3 nothing is measured, and that is said.
pub(crate) fn control_speed(root: &Path) -> Result<()> {
    let python = std::env::var(PYTHON).unwrap_or_else(|_| "python3".to_owned());
    let has_peer = Command::new(&python)
        .args(["-c", "import torch, gymnasium, stable_baselines3"])
        .stderr(Stdio::null())
        .status();
    if !has_peer.is_ok_and(|status| status.success()) {
        super::super::say(&format!(
            "skipped: {python} has no stable_baselines3, so nothing is measured; `pip install torch gymnasium stable-baselines3`, and name the Python in {PYTHON}"
        ));
        return Ok(());
    }
    let program = build(root)?;
    let mut command = Command::new(&python);
    let ran = command.current_dir(root).arg(SCRIPT).arg(&program).stderr(Stdio::inherit());
    let ran = ran.output().with_context(|| format!("{python}: cannot be started"))?;
    if !ran.status.success() {
        bail!("`{python} {SCRIPT}` failed");
    }
    let mut measured: Value = serde_json::from_slice(&ran.stdout)?;
    let rounds = measured["rounds"].as_array().context("the script prints rounds")?.clone();
    let median_of = |who: &str, threads: &str| {
        let speeds = rounds.iter().filter_map(|round| round[who][threads].as_f64());
        median(&speeds.collect::<Vec<f64>>())
    };
    let mut medians = json!({});
    for who in ["stable_baselines3", "hearken"] {
        for threads in ["one_thread", "own_threads"] {
            medians[who][threads] = json!(median_of(who, threads));
        }
    }
    let best = |who: &str| {
        let of = |threads: &str| medians[who][threads].as_f64().unwrap_or(f64::NAN);
        of("one_thread").max(of("own_threads"))
    };
    measured["times_at_one_thread"] =
        json!(median_of("hearken", "one_thread") / median_of("stable_baselines3", "one_thread"));
    measured["times_at_the_best_of_each"] = json!(best("hearken") / best("stable_baselines3"));
    measured["medians"] = medians;
    measured["about"] = about(root, &format!("{PYTHON}=PYTHON cargo xtask results control_speed"))?;
    write(root, "control_speed.json", &measured)
}
