//! Reward models that are meant to hold, from labels of which a quarter is turned round, in the quickstart's world.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{about, build, over_seeds, read_json_lines, run, run_quickstart, world, write};

/// Seeds of the repetitions; the world, its first policy, the turned labels and everything behind them follow from it.
const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];
/// The share of labels that is turned round.
const NOISE: f64 = 0.25;
/// Members of the ensemble, and of the average.
const MEMBERS: u64 = 3;

/// What policies are trained on, by its name: the value of `score`, with the folder of the seed's reward models as `{}`.
const ARMS: [(&str, &str); 5] = [
    ("single", r#"{kind="model", path="{}/reward-1/final"}"#),
    (
        "ensemble, mean",
        r#"{kind="ensemble", paths=["{}/reward-1/final","{}/reward-2/final","{}/reward-3/final"], combine="mean"}"#,
    ),
    (
        "ensemble, worst",
        r#"{kind="ensemble", paths=["{}/reward-1/final","{}/reward-2/final","{}/reward-3/final"], combine="worst"}"#,
    ),
    ("WARM", r#"{kind="model", path="{}/warm"}"#),
    ("ODIN", r#"{kind="model", path="{}/odin/final"}"#),
];

/// How reward models are trained, as in the quickstart.
const REWARD: [&str; 5] = [
    "optimizer.lr=5e-4",
    "optimizer.schedule=\"cosine\"",
    "optimizer.warmup_steps=10",
    "train.batch_size=32",
    "train.steps=150",
];

/// How policies are: past the peak of gold, as the frontier has it for GRPO.
const POLICY: [&str; 9] = [
    "optimizer.lr=2e-4",
    "optimizer.schedule=\"constant\"",
    "optimizer.warmup_steps=0",
    "train.steps=80",
    "train.eval_every=10",
    "rollout.max_new_tokens=64",
    "rollout.completions=8",
    "grpo.prompts=8",
    "grpo.missing_end_penalty=1.0",
];

/// For every seed the quickstart, a quarter of its comparisons turned round, from these the reward models, and from its fine-tuned
/// policy GRPO on each; to docs/results/noise.json. Runs that have finished are not run again.
pub(crate) fn noise(root: &Path) -> Result<()> {
    let program = build(root)?;
    let mut runs = Vec::new();
    for seed in SEEDS {
        let world = world(seed);
        run_quickstart(root, &program, &world, seed)?;
        let folder = format!("runs/results/noise/{seed}");
        let labels = format!("{folder}/preferences.jsonl");
        turn_round(root, &format!("{world}/data/preferences.jsonl"), &labels, seed)?;
        let train = |name: &str, seed: u64, more: &[&str]| {
            let sets = [
                format!("run.seed={seed}"),
                format!("run.dir={folder}/{name}"),
                format!("model.path={world}/sft/final"),
                format!("data.train={labels}"),
                format!("data.eval={world}/data/preferences_eval.jsonl"),
            ];
            let all = sets.iter().map(String::as_str).chain(REWARD).chain(more.iter().copied());
            start(root, &program, ["reward", "configs/reward.toml"], all)
        };
        for member in 1..=MEMBERS {
            train(&format!("reward-{member}"), 100 * seed + member, &[])?;
        }
        train("odin", 100 * seed + 1, &["reward.length_coef=1.0"])?;
        average(root, &program, &world, &folder)?;
        let mut arms = serde_json::Map::new();
        for (name, score) in ARMS {
            let dir = format!("{folder}/grpo {name}").replace([' ', ','], "-");
            let gold = r#"{kind="heuristic", name="quickstart_gold", label="gold", weight=0.0}"#;
            let sets = [
                format!("run.seed={seed}"),
                format!("run.dir={dir}"),
                format!("model.path={world}/sft/final"),
                format!("data.train={world}/data/prompts.jsonl"),
                format!("data.eval={world}/data/prompts_eval.jsonl"),
                format!("score=[{}, {gold}]", score.replace("{}", &folder)),
            ];
            let all = sets.iter().map(String::as_str).chain(POLICY);
            start(root, &program, ["grpo", "configs/grpo.toml"], all)?;
            arms.insert(name.to_owned(), curve(&root.join(dir))?);
        }
        let accuracy = |name: &str| accuracy(&root.join(&folder).join(name));
        runs.push(json!({
            "seed": seed,
            "accuracy on labels that are not turned": {
                "single": accuracy("reward-1")?, "ODIN": accuracy("odin")?,
            },
            "policies": arms,
        }));
    }
    let result = json!({
        "about": about(root, "cargo xtask results noise")?,
        "labels": 2500,
        "share turned round": NOISE,
        "gold is": "the mean over 256 held-out prompts; the peak is the best of the evaluations at every 10 steps, the start included",
        "arms": ARMS.map(|(name, _)| summary(&runs, name)),
        "runs": runs,
    });
    write(root, "noise.json", &result)
}

fn start<'a>(
    root: &Path,
    program: &Path,
    command: [&'a str; 2],
    sets: impl Iterator<Item = &'a str>,
) -> Result<()> {
    let mut arguments = command.to_vec();
    arguments.extend(sets.flat_map(|set| ["--set", set]));
    run(root, program, &arguments)
}

/// The mean of the weights of all members, with mean and deviation of its scores on what the first policy has learned to write.
fn average(root: &Path, program: &Path, world: &str, folder: &str) -> Result<()> {
    let output = format!("{folder}/warm");
    if root.join(&output).exists() {
        return Ok(());
    }
    let members: Vec<String> =
        (1..=MEMBERS).map(|one| format!("{folder}/reward-{one}/final")).collect();
    let mut arguments = vec!["merge", "--average"];
    arguments.extend(members.iter().map(String::as_str));
    let demonstrations = format!("{world}/data/demonstrations.jsonl");
    arguments.extend(["--output", &output, "--normalize-on", &demonstrations]);
    run(root, program, &arguments)
}

/// Writes comparisons of which a share has the other answer chosen; which, the seed and the line say.
fn turn_round(root: &Path, from: &str, to: &str, seed: u64) -> Result<()> {
    let text = fs::read_to_string(root.join(from)).with_context(|| from.to_owned())?;
    let mut lines = String::new();
    for (number, line) in text.lines().enumerate() {
        let mut record: serde_json::Map<String, Value> = serde_json::from_str(line)?;
        if uniform(seed, number as u64) < NOISE {
            let (chosen, rejected) = (record["chosen"].take(), record["rejected"].take());
            record.insert("chosen".to_owned(), rejected);
            record.insert("rejected".to_owned(), chosen);
        }
        lines += &(Value::Object(record).to_string() + "\n");
    }
    let to = root.join(to);
    fs::create_dir_all(to.parent().context("a folder")?)?;
    fs::write(&to, lines).with_context(|| to.display().to_string())
}

/// A number in [0, 1) of each line (the finalizer of `SplitMix64`, Steele et al. 2014).
fn uniform(seed: u64, line: u64) -> f64 {
    let mut bits = (seed << 32 | line).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// The last evaluation's accuracy.
fn accuracy(dir: &Path) -> Result<Value> {
    let records = read_json_lines(&dir.join("metrics.jsonl"))?;
    let last = records.iter().rev().find(|one| !one["eval_accuracy"].is_null());
    Ok(last.context("an evaluation")?["eval_accuracy"]["value"].clone())
}

/// Gold, what was trained on, KL and length by step.
fn curve(dir: &Path) -> Result<Value> {
    let mut points = Vec::new();
    for record in read_json_lines(&dir.join("metrics.jsonl"))? {
        let Some(gold) = record["eval_scores/gold"]["value"].as_f64() else { continue };
        points.push(json!({
            "step": record["step"], "gold": gold, "score": record["eval_scores"]["value"],
            "kl_nats": record["eval_kl"]["value"], "tokens": record["eval_length"]["value"],
        }));
    }
    Ok(Value::Array(points))
}

/// Over seeds: gold at its peak and at the end, where the peak is, and the peak beside that of the single model.
fn summary(runs: &[Value], arm: &str) -> Value {
    let by_seed = |arm: &str, of: &dyn Fn(&[Value]) -> f64| -> Vec<f64> {
        let curves = runs.iter().filter_map(|run| run["policies"][arm].as_array());
        curves.map(|points| of(points)).collect()
    };
    let gold = |point: &Value| point["gold"].as_f64().unwrap_or(f64::NAN);
    let best = |points: &[Value]| {
        let best = points.iter().max_by(|a, b| gold(a).total_cmp(&gold(b)));
        best.cloned().unwrap_or(Value::Null)
    };
    let peak = |points: &[Value]| gold(&best(points));
    let last = |points: &[Value]| points.last().map_or(f64::NAN, gold);
    let kl = |points: &[Value]| best(points)["kl_nats"].as_f64().unwrap_or(f64::NAN);
    let against = |of: &dyn Fn(&[Value]) -> f64| {
        let pairs = by_seed(arm, of).into_iter().zip(by_seed("single", of));
        over_seeds(&pairs.map(|(a, b)| a - b).collect::<Vec<_>>())
    };
    json!({
        "arm": arm,
        "peak gold": over_seeds(&by_seed(arm, &peak)),
        "gold at the end": over_seeds(&by_seed(arm, &last)),
        "kl_nats at the peak": over_seeds(&by_seed(arm, &kl)),
        "peak gold less that of the single model": against(&peak),
        "gold at the end less that of the single model": against(&last),
    })
}
