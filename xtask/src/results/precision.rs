//! The same runs with matrix products in f32 and in bf16.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
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
/// The larger one is as large as this model can take from random weights.
const LEARNING_RATES: [&str; 2] = ["3e-4", "1e-3"];
/// Runs in f32 from weights that differ a little.
const CONTROLS: u64 = 4;
const DEMONSTRATIONS: &str = "runs/results/precision-quickstart-f32/data/demonstrations.jsonl";

/// The quickstart, and supervised fine-tuning of a somewhat larger model on its demonstrations at two
/// learning rates, in both precisions, to docs/results/precision.json.
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
    let sft: Vec<Value> = LEARNING_RATES
        .into_iter()
        .map(|learning_rate| fine_tuning(root, &program, learning_rate))
        .collect::<Result<_>>()?;
    let result = json!({
        "about": about(root, "cargo xtask results precision")?,
        "model": SHAPE,
        "vocabulary": VOCABULARY,
        "seed": SEED,
        "sft": sft,
        "quickstart": quickstarts,
    });
    write(root, "precision.json", &result)
}

/// Losses in bf16 beside those in f32, and for scale those in f32 from weights that differ by less
/// than one rounding to bfloat16.
fn fine_tuning(root: &Path, program: &Path, learning_rate: &str) -> Result<Value> {
    let base = base(root, program)?;
    let losses = |from: &str, dtype| losses(root, program, from, dtype, learning_rate);
    let f32_losses = losses(&base, "f32")?;
    let apart =
        |losses: &[f64]| -> Result<Value> { Ok(Difference::new(&f32_losses, losses)?.to_json()) };
    let mut controls = Vec::new();
    for seed in 1..=CONTROLS {
        let rounded = format!("{base}-rounded");
        round_weights(&root.join(&base), &root.join(&rounded), seed)?;
        controls.push(apart(&losses(&rounded, "f32")?)?);
    }
    let bf16_losses = losses(&base, "bf16")?;
    Ok(json!({
        "learning_rate": learning_rate,
        "n": STEPS,
        "smoothed_over_steps": SMOOTHED,
        "losses": {"f32": f32_losses, "bf16": bf16_losses},
        "bf16_from_f32": apart(&bf16_losses)?,
        "f32_of_rounded_weights_from_f32": controls,
    }))
}

/// The model that fine-tuning starts from, with random weights.
fn base(root: &Path, program: &Path) -> Result<String> {
    let base = "runs/results/precision-base";
    if !root.join(base).join("config.json").exists() {
        let vocabulary = VOCABULARY.to_string();
        let init = ["init", "--shape", SHAPE, "--train-tokenizer", DEMONSTRATIONS];
        let more = ["--vocab-size", &vocabulary, "--output", base];
        run(root, program, &[&init[..], &more].concat())?;
    }
    Ok(base.to_owned())
}

/// A copy of a model with every weight rounded to one of the two bfloat16 values beside it, the nearer
/// one with the greater probability.
fn round_weights(from: &Path, to: &Path, seed: u64) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for file in std::fs::read_dir(from)? {
        let file = file?;
        std::fs::copy(file.path(), to.join(file.file_name()))?;
    }
    let file = to.join("model.safetensors");
    let mut bytes = std::fs::read(&file)?;
    let Some((length, rest)) = bytes.split_first_chunk_mut::<8>() else {
        bail!("{}: found {} bytes, expected a header", file.display(), bytes.len());
    };
    let header = usize::try_from(u64::from_le_bytes(*length))?;
    let (_, values) = rest.split_at_mut_checked(header).context("a header within the file")?;
    for (index, value) in values.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        // Multiples of an odd number, of which the upper bits go through their range evenly.
        let dither = (seed + CONTROLS * index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
        let bits = u32::from_le_bytes(*value).wrapping_add(dither as u32) & 0xFFFF_0000;
        *value = bits.to_le_bytes();
    }
    std::fs::write(&file, bytes).map_err(Into::into)
}

/// The loss of every step of supervised fine-tuning on the quickstart's demonstrations.
fn losses(
    root: &Path,
    program: &Path,
    from: &str,
    dtype: &str,
    learning_rate: &str,
) -> Result<Vec<f64>> {
    let dir = format!("runs/results/precision-sft-{dtype}");
    if root.join(&dir).exists() {
        std::fs::remove_dir_all(root.join(&dir))?;
    }
    let mut arguments = vec!["sft".to_owned(), "configs/sft.toml".to_owned()];
    let (steps, seed) = (STEPS.to_string(), SEED.to_string());
    for (key, value) in [
        ("run.dir", dir.as_str()),
        ("run.seed", &seed),
        ("model.path", from),
        ("model.dtype", dtype),
        ("data.train", DEMONSTRATIONS),
        ("optimizer.lr", learning_rate),
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

/// How far losses are apart, relative to the first.
struct Difference {
    single: Vec<f64>,
    smoothed: Vec<f64>,
}

impl Difference {
    fn new(first: &[f64], second: &[f64]) -> Result<Self> {
        if first.len() < SMOOTHED {
            bail!("found {} losses, expected at least {SMOOTHED}", first.len());
        }
        let apart = |first: &[f64], second: &[f64]| {
            let pairs = first.iter().zip(second);
            pairs.map(|(first, second)| (second - first).abs() / first).collect()
        };
        let smooth = |losses: &[f64]| -> Vec<f64> {
            let windows = losses.windows(SMOOTHED);
            windows.map(|some| some.iter().sum::<f64>() / SMOOTHED as f64).collect()
        };
        Ok(Self { single: apart(first, second), smoothed: apart(&smooth(first), &smooth(second)) })
    }

    fn to_json(&self) -> Value {
        json!({
            "mean": mean(&self.single),
            "max": max(&self.single),
            "above_one_percent": self.single.iter().filter(|apart| 0.01 < **apart).count(),
            "smoothed_mean": mean(&self.smoothed),
            "smoothed_max": max(&self.smoothed),
        })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn max(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_those_of_single_and_of_smoothed_losses() {
        let first = vec![2.0; 30];
        let mut second = first.clone();
        second[29] = 4.0;
        let found = Difference::new(&first, &second).unwrap();
        // One of the twenty losses of the last window is twice as large.
        assert!((max(&found.smoothed) - 0.05).abs() < 1e-12);
        assert!((mean(&found.smoothed) - 0.05 / 11.0).abs() < 1e-12);
        assert!((max(&found.single) - 1.0).abs() < 1e-12);
        assert_eq!(found.to_json()["above_one_percent"], 1);
        assert!(Difference::new(&first[..3], &second[..3]).is_err());
    }

    #[test]
    fn rounded_weights_are_next_to_what_they_were_and_differ_by_seed() {
        let dir = std::env::temp_dir().join(format!("hearken-rounded-{}", std::process::id()));
        let [from, to] = ["from", "to"].map(|name| dir.join(name));
        std::fs::create_dir_all(&from).unwrap();
        let values: Vec<f32> = (1..100).map(|i| (i as f32).sqrt() - 5.0).collect();
        let mut bytes = 2_u64.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        std::fs::write(from.join("model.safetensors"), &bytes).unwrap();
        let rounded = |seed| -> Vec<f32> {
            round_weights(&from, &to, seed).unwrap();
            let bytes = std::fs::read(to.join("model.safetensors")).unwrap();
            bytes[10..].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        };
        let (one, two) = (rounded(1), rounded(2));
        assert_ne!(one, two);
        for (value, rounded) in values.iter().zip(&one) {
            assert!((rounded - value).abs() <= value.abs() / 128.0, "{value} {rounded}");
            assert_eq!(rounded.to_bits() & 0xFFFF, 0);
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
