//! The same runs with matrix products in f32 and in bf16.

use std::path::Path;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{about, build, read_json, run, write};

/// Optimizer steps of the run whose losses are compared.
const STEPS: usize = 200;
/// Steps whose losses are averaged before they are compared.
const SMOOTHED: usize = 20;
/// The seed of all runs, that of configs/quickstart.toml.
const SEED: u32 = 1;
const SHAPE: &str = "llama,layers=4,width=256,heads=4,inner=704,positions=128";
const VOCABULARY: usize = 2048;
const DTYPES: [&str; 2] = ["f32", "bf16"];

/// The quickstart, and supervised fine-tuning of a somewhat larger model on its demonstrations, in both
/// precisions, to docs/results/precision.json.
pub(crate) fn precision(root: &Path) -> Result<()> {
    let program = build(root)?;
    let mut quickstarts = Vec::new();
    for dtype in DTYPES {
        let dir = format!("runs/results/precision-quickstart-{dtype}");
        let mut arguments = vec!["rlhf".to_owned(), "configs/quickstart.toml".to_owned()];
        set(&mut arguments, "run.dir", &dir);
        set(&mut arguments, "run.seed", &SEED.to_string());
        for stage in ["sft", "reward", "ppo"] {
            set(&mut arguments, &format!("{stage}.model.dtype"), dtype);
        }
        call(root, &program, &arguments)?;
        let outcome = read_json(&root.join(&dir).join("outcome.json"))?;
        quickstarts.push(json!({"dtype": dtype, "seed": SEED, "outcome": outcome}));
    }
    let losses = [losses(root, &program, "f32")?, losses(root, &program, "bf16")?];
    let difference = difference(&losses[0], &losses[1])?;
    let result = json!({
        "about": about(root, "cargo xtask results precision")?,
        "sft": {
            "model": SHAPE,
            "vocabulary": VOCABULARY,
            "seed": SEED,
            "n": STEPS,
            "losses": {"f32": losses[0], "bf16": losses[1]},
            "smoothed_over_steps": SMOOTHED,
            "relative_difference_max": difference.max,
            "relative_difference_mean": difference.mean,
        },
        "quickstart": quickstarts,
    });
    write(root, "precision.json", &result)
}

/// The loss of every step of supervised fine-tuning on the quickstart's demonstrations.
fn losses(root: &Path, program: &Path, dtype: &str) -> Result<Vec<f64>> {
    let demonstrations = "runs/results/precision-quickstart-f32/data/demonstrations.jsonl";
    let (base, dir) =
        ("runs/results/precision-base", format!("runs/results/precision-sft-{dtype}"));
    if !root.join(base).join("config.json").exists() {
        let vocabulary = VOCABULARY.to_string();
        let init = ["init", "--shape", SHAPE, "--train-tokenizer", demonstrations];
        run(
            root,
            program,
            &[&init[..], &["--vocab-size", &vocabulary, "--output", base]].concat(),
        )?;
    }
    let mut arguments = vec!["sft".to_owned(), "configs/sft.toml".to_owned()];
    let (steps, seed) = (STEPS.to_string(), SEED.to_string());
    for (key, value) in [
        ("run.dir", dir.as_str()),
        ("run.seed", &seed),
        ("model.path", base),
        ("model.dtype", dtype),
        ("data.train", demonstrations),
        ("optimizer.lr", "1e-3"),
        ("optimizer.schedule", "cosine"),
        ("optimizer.warmup_steps", "20"),
        ("train.batch_size", "32"),
        ("train.steps", &steps),
    ] {
        set(&mut arguments, key, value);
    }
    call(root, program, &arguments)?;
    let text = std::fs::read_to_string(root.join(&dir).join("metrics.jsonl"))?;
    let records: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let losses: Vec<f64> = records.iter().filter_map(|record| record["loss"].as_f64()).collect();
    if losses.len() != STEPS {
        bail!("{dir}: found the losses of {} steps, expected {STEPS}", losses.len());
    }
    Ok(losses)
}

fn set(arguments: &mut Vec<String>, key: &str, value: &str) {
    arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
}

fn call(root: &Path, program: &Path, arguments: &[String]) -> Result<()> {
    run(root, program, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// How far smoothed losses are apart, relative to the first.
struct Difference {
    max: f64,
    mean: f64,
}

fn difference(first: &[f64], second: &[f64]) -> Result<Difference> {
    let smooth = |losses: &[f64]| -> Vec<f64> {
        losses.windows(SMOOTHED).map(|some| some.iter().sum::<f64>() / SMOOTHED as f64).collect()
    };
    let pairs = smooth(first).into_iter().zip(smooth(second));
    let apart: Vec<f64> = pairs.map(|(first, second)| (second - first).abs() / first).collect();
    if apart.is_empty() {
        bail!("found {} losses, expected at least {SMOOTHED}", first.len());
    }
    let mean = apart.iter().sum::<f64>() / apart.len() as f64;
    Ok(Difference { max: apart.iter().copied().fold(0.0, f64::max), mean })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_those_of_smoothed_losses() {
        let first = vec![2.0; 30];
        let mut second = first.clone();
        second[29] = 4.0;
        let found = difference(&first, &second).unwrap();
        // One of the twenty losses of the last window is twice as large.
        assert!((found.max - 0.05).abs() < 1e-12);
        assert!((found.mean - 0.05 / 11.0).abs() < 1e-12);
        assert!(difference(&first[..3], &second[..3]).is_err());
    }
}
