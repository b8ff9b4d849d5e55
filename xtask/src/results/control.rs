//! How good policies of the control tasks become, by seed: docs/results/control.json.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{about, build, output, run, write};

/// A configuration, and how many seeds it is run with.
const RUNS: [(&str, u32); 5] = [
    ("CartPole-v1", 10),
    ("Acrobot-v1", 5),
    ("Pendulum-v1", 5),
    ("Pendulum-v1-sac", 5),
    ("MountainCar-v0", 3),
];
/// Episodes of an evaluation.
const EPISODES: &str = "100";

pub(crate) fn control(root: &Path) -> Result<()> {
    let program = build(root)?;
    let name = program.to_str().context("a path of UTF-8")?;
    let mut results = Vec::new();
    for (config, seeds) in RUNS {
        let file = format!("configs/control/{config}.toml");
        let mut runs = Vec::new();
        for seed in 0..seeds {
            let dir = format!("runs/results/control/{config}-{seed}");
            let (seed_key, dir_key) = (format!("run.seed={seed}"), format!("run.dir={dir}"));
            let arguments =
                ["control", "train", &file, "--set", &seed_key, "--set", &dir_key, "--fresh"];
            run(root, &program, &arguments)?;
            let arguments = ["control", "evaluate", &dir, "--episodes", EPISODES, "--seed", "1000"];
            let measured: Value = serde_json::from_str(&output(root, name, &arguments)?)?;
            runs.push(json!({"seed": seed, "eval_return": measured["eval_return"]}));
        }
        results.push(json!({"configuration": file, "runs": runs}));
    }
    let command = "cargo xtask results control";
    write(root, "control.json", &json!({"about": about(root, command)?, "results": results}))
}
