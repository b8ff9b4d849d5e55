//! Measured numbers for the documentation: runs the program and writes what came out to
//! docs/results/, with machine, date, seeds and n.

mod closed_loop;
mod cluster;
mod control;
mod control_speed;
mod noise;
mod particles;
mod precision;
mod ranks;
mod rlaif;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

pub(crate) use closed_loop::closed_loop;
pub(crate) use cluster::cluster;
pub(crate) use control::control;
pub(crate) use control_speed::control_speed;
pub(crate) use noise::noise;
pub(crate) use particles::particles;
pub(crate) use precision::precision;
pub(crate) use ranks::ranks;
pub(crate) use rlaif::rlaif;

/// Seeds of the quickstart's repetitions.
const SEEDS: [u32; 3] = [1, 2, 3];

/// The quickstart under several seeds, to docs/results/quickstart.json.
pub(crate) fn quickstart(root: &Path) -> Result<()> {
    let program = build(root)?;
    let mut runs = Vec::new();
    for seed in SEEDS {
        let dir = world(seed);
        run_quickstart(root, &program, &dir, seed)?;
        let outcome = read_json(&root.join(&dir).join("outcome.json"))?;
        runs.push(json!({"seed": seed, "outcome": outcome}));
    }
    let command = "cargo xtask results quickstart";
    write(root, "quickstart.json", &json!({"about": about(root, command)?, "runs": runs}))
}

/// A reward model on the HH-RLHF pairs and supervised fine-tuning on GSM8K, both of small models
/// from nothing, to docs/results/real-data.json. `data` holds `hh-rlhf/` and `gsm8k/`.
pub(crate) fn real_data(root: &Path, data: &Path) -> Result<()> {
    let program = build(root)?;
    let data =
        data.canonicalize().with_context(|| format!("{}: no such folder", data.display()))?;
    let file = |name: &str| data.join(name).display().to_string();
    let base = "runs/results/real-data-base";
    if !root.join(base).join("config.json").exists() {
        let (corpus, vocabulary) = (file("gsm8k/train.jsonl"), "4096");
        let shape = "llama,layers=4,width=256,heads=4,inner=704,positions=512";
        let arguments = [
            "init",
            "--shape",
            shape,
            "--train-tokenizer",
            &corpus,
            "--vocab-size",
            vocabulary,
            "--output",
            base,
        ];
        run(root, &program, &arguments)?;
    }
    let pairs = file("hh-rlhf/harmless-base-test.jsonl.gz");
    let reward = train(root, &program, base, ("reward", "hh-rlhf-reward"), &[("train", pairs)])?;
    let files = [("train", file("gsm8k/train.jsonl")), ("eval", file("gsm8k/test.jsonl"))];
    let sft = train(root, &program, base, ("sft", "gsm8k-sft"), &files)?;
    let about = about(root, "cargo xtask results real-data DIR")?;
    write(root, "real-data.json", &json!({"about": about, "runs": [reward, sft]}))
}

/// Gold reward against KL from one start, to docs/results/frontier.json and frontier.svg. What lies in
/// runs/results/frontier is not measured again.
pub(crate) fn frontier(root: &Path) -> Result<()> {
    let dir = "runs/results/frontier";
    example(root, "frontier", &["--dir", dir])?;
    let measured = read_json(&root.join(dir).join("frontier.json"))?;
    let about = about(root, "cargo xtask results frontier")?;
    write(root, "frontier.json", &with_about(about, measured))?;
    let (from, to) = (root.join(dir).join("frontier.svg"), "docs/results/frontier.svg");
    std::fs::copy(&from, root.join(to)).with_context(|| from.display().to_string())?;
    super::say(&format!("wrote {to}"));
    Ok(())
}

/// Addition learned from a verifier, to docs/results/addition.json: with one optimizer step per
/// iteration, where all ratios are 1, and with two. Runs that have finished in runs/results/ are not run
/// again.
pub(crate) fn addition(root: &Path) -> Result<()> {
    let two_steps = [
        "--seeds",
        "11,12,13,14,15",
        "--set",
        "grpo.minibatches=2",
        "--set",
        "optimizer.schedule=\"constant\"",
    ];
    let mut experiments = serde_json::Map::new();
    for (name, more) in [("addition", [].as_slice()), ("addition-two-steps", &two_steps)] {
        let (dir, out) = (format!("runs/results/{name}"), format!("runs/results/{name}.json"));
        example(root, "addition", &[&["--dir", &dir, "--out", &out], more].concat())?;
        experiments.insert(name.to_owned(), read_json(&root.join(out))?);
    }
    let about = about(root, "cargo xtask results addition")?;
    write(root, "addition.json", &with_about(about, Value::Object(experiments)))
}

/// The median; of an even number the mean of the two in the middle.
///
/// # Panics
/// If there is none.
fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (below, above) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    below.midpoint(above)
}

/// GRPO on addition whose completions are made ahead of training beside GRPO whose are not, to docs/results/ahead.json: one
/// iteration and four, and four with ratios to the trainer and bounded weights. Runs that have finished in runs/results/ are
/// not run again. The settings were chosen on seeds 1 to 4.
pub(crate) fn ahead(root: &Path) -> Result<()> {
    let (ratio, weights) = ("grpo.correction=\"ratio\"", "grpo.correction=\"truncate\"");
    let mut experiments = serde_json::Map::new();
    for (name, ahead, correction) in
        [("ahead-1", "1", ratio), ("ahead-4", "4", ratio), ("ahead-4-weights", "4", weights)]
    {
        let (dir, out) = (format!("runs/results/{name}"), format!("runs/results/{name}.json"));
        let of_all = [
            ["--seeds", "21,22,23,24,25"],
            ["--ahead", ahead],
            ["--dir", &dir],
            ["--out", &out],
            ["--set", "optimizer.warmup_steps=20"],
            ["--set", "grpo.clip_low=0.6"],
            ["--set", "grpo.clip_high=0.6"],
            ["--set", correction],
        ]
        .concat();
        example(root, "addition", &of_all)?;
        experiments.insert(name.to_owned(), read_json(&root.join(out))?);
    }
    let about = about(root, "cargo xtask results ahead")?;
    write(root, "ahead.json", &with_about(about, Value::Object(experiments)))
}

/// Reward models of steps on arithmetic, to docs/results/process.json. Models that have been trained in runs/results/process are
/// not trained again.
pub(crate) fn process(root: &Path) -> Result<()> {
    let (dir, out) = ("runs/results/process", "runs/results/process.json");
    example(root, "process", &["--dir", dir, "--out", out])?;
    let about = about(root, "cargo xtask results process")?;
    write(root, "process.json", &with_about(about, read_json(&root.join(out))?))
}

/// Imitation on control tasks, to docs/results/imitation.json: all parts, or those that are named beside what was measured
/// before. Runs that have finished in runs/results/imitation are not run again.
pub(crate) fn imitation(root: &Path, parts: &[&str]) -> Result<()> {
    let (dir, out) = ("runs/results/imitation", "runs/results/imitation.json");
    let arguments = [&["--dir", dir, "--out", out], parts].concat();
    example(root, "imitation", &arguments)?;
    let about = about(root, "cargo xtask results imitation")?;
    write(root, "imitation.json", &with_about(about, read_json(&root.join(out))?))
}

/// Return against labels, teachers and selections, to docs/results/labels.json: all parts, or those that are named beside what was
/// measured before. Runs that have finished in runs/results/labels are not run again.
pub(crate) fn labels(root: &Path, parts: &[&str]) -> Result<()> {
    let (dir, out) = ("runs/results/labels", "runs/results/labels.json");
    let arguments = [&["--dir", dir, "--out", out], parts].concat();
    example(root, "labels", &arguments)?;
    let about = about(root, "cargo xtask results labels")?;
    write(root, "labels.json", &with_about(about, read_json(&root.join(out))?))
}

/// What policies do on rewards that are learned, to docs/results/behavior.json and spin.png: all parts, or those that are named
/// beside what was measured before. Runs that have finished in runs/results/behavior are not run again.
pub(crate) fn behavior(root: &Path, parts: &[&str]) -> Result<()> {
    let (dir, out) = ("runs/results/behavior", "runs/results/behavior.json");
    let arguments = [&["--dir", dir, "--out", out], parts].concat();
    example(root, "behavior", &arguments)?;
    let about = about(root, "cargo xtask results behavior")?;
    write(root, "behavior.json", &with_about(about, read_json(&root.join(out))?))?;
    let (from, to) = (root.join(dir).join("spin.png"), "docs/results/spin.png");
    if from.exists() {
        std::fs::copy(&from, root.join(to)).with_context(|| from.display().to_string())?;
        super::say(&format!("wrote {to}"));
    }
    Ok(())
}

/// Runs an example.
fn example(root: &Path, name: &str, arguments: &[&str]) -> Result<()> {
    std::fs::create_dir_all(root.join("runs/results"))?;
    let program = built(root, &["--example", name], &format!("examples/{name}"))?;
    run(root, &program, arguments)
}

/// What was measured, below what must be known about it.
fn with_about(about: Value, measured: Value) -> Value {
    let mut all = serde_json::Map::from_iter([("about".to_owned(), about)]);
    if let Value::Object(measured) = measured {
        all.extend(measured);
    }
    Value::Object(all)
}

/// Runs a trainer with a committed configuration; the first and the last evaluation.
fn train(
    root: &Path,
    program: &Path,
    base: &str,
    (trainer, name): (&str, &str),
    files: &[(&str, String)],
) -> Result<Value> {
    let (config, dir) = (format!("configs/{name}.toml"), format!("runs/results/{name}"));
    let mut arguments = vec![trainer.to_owned(), config.clone()];
    let mut set = |key: &str, value: &str| {
        arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
    };
    set("run.dir", &dir);
    set("model.path", base);
    for (key, path) in files {
        set(&format!("data.{key}"), path);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run(root, program, &arguments)?;
    let path = root.join(&dir).join("metrics.jsonl");
    let records = read_json_lines(&path)?;
    let (steps, evaluations): (Vec<&Value>, Vec<&Value>) =
        records.iter().partition(|record| record.get("loss").is_some());
    let sum = |key: &str| steps.iter().filter_map(|step| step[key].as_f64()).sum::<f64>();
    Ok(json!({
        "trainer": trainer,
        "config": config,
        "steps": steps.len(),
        "tokens": sum("tokens"),
        "seconds": sum("seconds"),
        "evaluation before": evaluations.first(),
        "evaluation after": evaluations.last(),
    }))
}

pub(crate) fn build(root: &Path) -> Result<PathBuf> {
    built(root, &["--bin", "hearken"], "hearken")
}

/// Builds a part of the workspace with the packages as its tests have them: built alone, it would want others of their features.
fn built(root: &Path, part: &[&str], path: &str) -> Result<PathBuf> {
    super::cargo(root, &[&["build", "--release", "--workspace"], part].concat(), &[])?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    Ok(target.join("release").join(path))
}

fn run(root: &Path, program: &Path, arguments: &[&str]) -> Result<()> {
    let name = program.file_name().unwrap_or_default().display();
    super::say(&format!("{name} {}", arguments.join(" ")));
    let status = Command::new(program).current_dir(root).args(arguments).status();
    let status = status.with_context(|| format!("{}: cannot be started", program.display()))?;
    if !status.success() {
        bail!("`{name} {}` failed", arguments.join(" "));
    }
    Ok(())
}

/// What a reader must know about the numbers. No commit: the code that wrote them goes into the one that they go into.
pub(crate) fn about(root: &Path, command: &str) -> Result<Value> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(json!({
        "command": command,
        "date": output(root, "date", &["+%Y-%m-%d"])?,
        "processor": model.map(|(_, name)| name),
        "threads": std::thread::available_parallelism()?.get(),
    }))
}

/// Where the quickstart with a seed is, for whatever begins there.
fn world(seed: impl Display) -> String {
    format!("runs/results/quickstart-{seed}")
}

/// Runs the quickstart with a seed in `dir`, unless it has finished there.
fn run_quickstart(root: &Path, program: &Path, dir: &str, seed: impl Display) -> Result<()> {
    let (seed_key, dir_key) = (format!("run.seed={seed}"), format!("run.dir={dir}"));
    run(root, program, &["rlhf", "configs/quickstart.toml", "--set", &seed_key, "--set", &dir_key])
}

fn output(root: &Path, program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).current_dir(root).args(arguments).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

fn read_json_lines(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// A share with Wilson's interval of 95 %.
fn share(count: u64, of: u64) -> Value {
    const Z: f64 = 1.959_964;
    let (n, p) = (of as f64, count as f64 / of as f64);
    let middle = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    let (low, high) = ((middle - half) / scale, (middle + half) / scale);
    json!({"value": p, "low": low.max(0.0), "high": high.min(1.0), "n": of, "method": "Wilson"})
}

/// A mean over two to five seeds with its interval.
fn over_seeds(values: &[f64]) -> Value {
    // Two-sided 97.5 % points of Student's t with one to four degrees of freedom.
    let t = match values.len() {
        2 => 12.706,
        3 => 4.303,
        4 => 3.182,
        5 => 2.776,
        n => panic!("values: {n}, of two to five seeds"),
    };
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = t * (variance / n).sqrt();
    json!({
        "value": mean, "low": mean - half, "high": mean + half, "n": values.len(),
        "method": "Student's t over seeds", "by seed": values,
    })
}

pub(crate) fn write(root: &Path, name: &str, value: &Value) -> Result<()> {
    let path = root.join("docs/results").join(name);
    std::fs::write(&path, serde_json::to_string_pretty(value)? + "\n")?;
    super::say(&format!("wrote {}", path.display()));
    Ok(())
}
