//! Particles beside a score head in the quickstart's world: how sure they are, and how well that is calibrated, by the number of labels.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{about, build, over_seeds, read_json_lines, run, run_quickstart, world, write};

/// Seeds of the repetitions, each with a world and comparisons of its own.
const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];

/// How many of the quickstart's comparisons a reward model learns from.
const LABELS: [usize; 3] = [50, 200, 800];

const PARTICLES: usize = 100;
const WIDTH: usize = 64;

/// Of an evaluation: the score's own, and the particles'.
const FIGURES: [&str; 6] = [
    "eval_accuracy",
    "eval_loss",
    "eval_mixture_loss",
    "eval_calibration_error",
    "eval_mixture_calibration_error",
    "eval_spread",
];

/// For every seed the quickstart, and from its fine-tuned policy reward models with particles; to docs/results/particles.json. Runs that
/// have finished are not run again.
pub(crate) fn particles(root: &Path) -> Result<()> {
    let program = build(root)?;
    let mut arms = Vec::new();
    for labels in LABELS {
        let mut evaluations = Vec::new();
        for seed in SEEDS {
            let world = world(seed);
            if !root.join(&world).join("sft/final/config.json").exists() {
                run_quickstart(root, &program, &world, seed)?;
            }
            let dir = format!("runs/results/particles/{seed}-{labels}");
            let sets = [
                format!("run.seed={seed}"),
                format!("run.dir={dir}"),
                format!("model.path={world}/sft/final"),
                format!("data.train={world}/data/preferences.jsonl"),
                format!("data.limit={labels}"),
                format!("data.eval={world}/data/preferences_eval.jsonl"),
                "optimizer.lr=5e-4".to_owned(),
                "train.batch_size=32".to_owned(),
                "train.epochs=4".to_owned(),
                format!("reward.particles={PARTICLES}"),
                format!("reward.particle_width={WIDTH}"),
            ];
            let sets = sets.iter().flat_map(|set| ["--set", set.as_str()]);
            let arguments: Vec<&str> =
                ["reward", "configs/reward.toml"].into_iter().chain(sets).collect();
            run(root, &program, &arguments)?;
            let records = read_json_lines(&root.join(&dir).join("metrics.jsonl"))?;
            let last = records.into_iter().rev().find(|one| !one["eval_spread"].is_null());
            evaluations.push(last.context("an evaluation with particles")?);
        }
        arms.push(summary(labels, &evaluations));
    }
    let result = json!({
        "about": about(root, "cargo xtask results particles")?,
        "particles": PARTICLES,
        "width": WIDTH,
        "passes over the labels": 4,
        "seeds": SEEDS,
        "by labels": arms,
    });
    write(root, "particles.json", &result)
}

/// Over seeds: every figure of the last evaluation.
fn summary(labels: usize, evaluations: &[Value]) -> Value {
    let pairs = evaluations.first().map(|one| one["eval_loss"]["n"].clone());
    let mut summary = serde_json::Map::from_iter([
        ("labels".to_owned(), json!(labels)),
        ("held-out pairs of each seed".to_owned(), json!(pairs)),
    ]);
    for figure in FIGURES {
        let values =
            evaluations.iter().map(|one| one[figure]["value"].as_f64().unwrap_or(f64::NAN));
        summary.insert(figure.to_owned(), over_seeds(&values.collect::<Vec<_>>()));
    }
    Value::Object(summary)
}
