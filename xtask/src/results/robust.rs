//! Reward models that hold, where a quarter of the labels is wrong, to docs/results/robust.json.
//!
//! One world and one start, the quickstart's. For every seed a quarter of the comparisons is turned round; all reward models
//! learn from the same labels: three from seeds of their own, one with a head for the length. GRPO learns from each of
//! them, from their ensembles and from the mean of their weights; gold is measured and never trained on.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Seeds of the labels that are wrong, and with it of everything behind them.
const SEEDS: [u64; 5] = [11, 12, 13, 14, 15];
/// Of so many labels one is wrong.
const WRONG_OF: u64 = 4;
/// Iterations of GRPO, 64 completions each.
const ITERATIONS: usize = 80;
/// Iterations that gold is averaged over.
const WINDOW: usize = 5;
/// Student's t for an interval of 95 % with 4 degrees of freedom.
const T: f64 = 2.776;
const DIR: &str = "runs/results/robust";

/// What scores, by its name; the first is what the others are compared with. `{1}` to `{3}`, `{warm}` and `{heads}` are
/// folders.
const SCORES: [(&str, &str); 6] = [
    ("single", "kind=\"model\",path=\"{1}\""),
    ("ensemble, mean", "kind=\"ensemble\",paths=[\"{1}\",\"{2}\",\"{3}\"]"),
    ("ensemble, worst", "kind=\"ensemble\",paths=[\"{1}\",\"{2}\",\"{3}\"],combine=\"worst\""),
    (
        "ensemble, uncertainty 0.5",
        "kind=\"ensemble\",paths=[\"{1}\",\"{2}\",\"{3}\"],combine=\"uncertainty\",uncertainty=0.5",
    ),
    ("weights averaged", "kind=\"model\",path=\"{warm}\""),
    ("length in a head of its own", "kind=\"model\",path=\"{heads}\""),
];

/// Runs the program, below the project's root.
struct Runs<'a> {
    root: &'a Path,
    program: std::path::PathBuf,
}

impl Runs<'_> {
    fn run(&self, arguments: &[String]) -> Result<()> {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        super::run(self.root, &self.program, &arguments)
    }

    /// The quickstart up to its reward model, and its evaluation.
    fn world(&self) -> Result<String> {
        let world = format!("{DIR}/world");
        let table = std::fs::read_to_string(self.root.join("configs/quickstart.toml"))?;
        let until = table.find("[ppo.optimizer]").context("the quickstart has a section ppo")?;
        let behind = table.find("[evaluation]").context("the quickstart has an evaluation")?;
        let table = table[..until].to_owned() + &table[behind..];
        std::fs::write(self.root.join(DIR).join("world.toml"), table)?;
        let (config, dir) = (format!("{DIR}/world.toml"), format!("run.dir={world}"));
        self.run(&words(&["rlhf", &config, "--set", &dir, "--set", "run.seed=7"]))?;
        Ok(world)
    }

    /// Three reward models, one with a head for the length, and one with the mean of the weights of the three, from labels
    /// of which some are wrong.
    fn rewards(&self, world: &str, folder: &str, seed: u64) -> Result<()> {
        std::fs::create_dir_all(self.root.join(folder))?;
        let labels = format!("{folder}/preferences.jsonl");
        let right = self.root.join(world).join("data/preferences.jsonl");
        turn(&right, &self.root.join(&labels), seed)?;
        for (number, name) in [(1, "1"), (2, "2"), (3, "3"), (1, "heads")] {
            let mut list = vec![
                format!("run.dir={folder}/reward-{name}"),
                format!("run.seed={}", 100 * seed + number),
                format!("model.path={world}/sft/final"),
                format!("data.train={labels}"),
                format!("data.eval={world}/data/preferences_eval.jsonl"),
                // As the quickstart has them.
                "optimizer.lr=5e-4".to_owned(),
                "optimizer.warmup_steps=10".to_owned(),
                "train.batch_size=32".to_owned(),
                "train.steps=150".to_owned(),
            ];
            list.extend((name == "heads").then(|| "reward.length_coef=1".to_owned()));
            self.run(&with_sets("reward", "configs/reward.toml", &list))?;
        }
        let warm = format!("{folder}/warm");
        if self.root.join(&warm).exists() {
            return Ok(());
        }
        let [one, two, three] = ["1", "2", "3"].map(|name| format!("{folder}/reward-{name}/final"));
        let demonstrations = format!("{world}/data/demonstrations.jsonl");
        let merge = ["merge", "--average", &one, &two, &three, "--output", &warm];
        let normalized = ["--normalize-on", &demonstrations];
        self.run(&words(&[merge.as_slice(), &normalized].concat()))
    }

    /// Gold at its peak and at the end of GRPO by a score.
    fn policy(&self, world: &str, folder: &str, (at, seed): (usize, u64)) -> Result<[f64; 2]> {
        let member = |name: &str| format!("{folder}/reward-{name}/final");
        let mut score = SCORES[at].1.replace("{warm}", &format!("{folder}/warm"));
        for (place, name) in [("{1}", "1"), ("{2}", "2"), ("{3}", "3"), ("{heads}", "heads")] {
            score = score.replace(place, &member(name));
        }
        let gold = "{kind=\"heuristic\",name=\"quickstart_gold\",label=\"gold\",weight=0}";
        let dir = format!("{folder}/grpo-{at}");
        let list = [
            format!("run.dir={dir}"),
            format!("run.seed={seed}"),
            format!("model.path={world}/sft/final"),
            format!("data.train={world}/data/prompts.jsonl"),
            format!("train.steps={ITERATIONS}"),
            "optimizer.lr=2e-4".to_owned(),
            "optimizer.schedule=\"constant\"".to_owned(),
            "optimizer.warmup_steps=0".to_owned(),
            "rollout.max_new_tokens=64".to_owned(),
            "rollout.completions=8".to_owned(),
            "grpo.prompts=8".to_owned(),
            "grpo.missing_end_penalty=1.0".to_owned(),
            format!("score=[{{{score}}},{gold}]"),
        ];
        self.run(&with_sets("grpo", "configs/grpo.toml", &list))?;
        gold_of(&self.root.join(&dir).join("metrics.jsonl"))
    }
}

/// Runs that have finished in runs/results/robust are not run again.
pub(crate) fn robust(root: &Path) -> Result<()> {
    let runs = Runs { root, program: super::build(root)? };
    std::fs::create_dir_all(root.join(DIR))?;
    let world = runs.world()?;
    let mut found: Vec<Vec<[f64; 2]>> = vec![Vec::new(); SCORES.len()];
    for seed in SEEDS {
        let folder = format!("{DIR}/{seed}");
        runs.rewards(&world, &folder, seed)?;
        for (at, (name, _)) in SCORES.iter().enumerate() {
            let [peak, end] = runs.policy(&world, &folder, (at, seed))?;
            super::super::say(&format!("seed {seed}, {name}: peak {peak:.2}, end {end:.2}"));
            found[at].push([peak, end]);
        }
    }
    let rows = SCORES.iter().zip(&found).map(|((name, _), of)| row(name, of, &found[0]));
    let found = json!({
        "about": super::about(root, "cargo xtask results robust")?,
        "seeds": SEEDS,
        "wrong_labels": 1.0 / WRONG_OF as f64,
        "iterations": ITERATIONS,
        "gold": format!("mean of 64 completions of an iteration, moving mean over {WINDOW} iterations; intervals of 95 %, Student's t over seeds; differences are paired by seed"),
        "scores": rows.collect::<Vec<Value>>(),
    });
    super::write(root, "robust.json", &found)
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

fn with_sets(command: &str, config: &str, list: &[String]) -> Vec<String> {
    let sets = list.iter().flat_map(|one| ["--set".to_owned(), one.clone()]);
    words(&[command, config]).into_iter().chain(sets).collect()
}

/// Writes the comparisons with a quarter of them turned round, the same ones for a seed.
fn turn(from: &Path, to: &Path, seed: u64) -> Result<()> {
    let text = std::fs::read_to_string(from).with_context(|| from.display().to_string())?;
    // Knuth's MMIX constants.
    let mut state = seed;
    let mut lines = String::new();
    for line in text.lines() {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut pair: Value = serde_json::from_str(line)?;
        if (state >> 33).is_multiple_of(WRONG_OF) {
            let chosen = pair["chosen"].take();
            pair["chosen"] = pair["rejected"].take();
            pair["rejected"] = chosen;
        }
        lines.push_str(&(pair.to_string() + "\n"));
    }
    Ok(std::fs::write(to, lines)?)
}

/// The highest moving mean of gold, and the last.
fn gold_of(path: &Path) -> Result<[f64; 2]> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut gold = Vec::new();
    for line in text.lines() {
        let record: Value = serde_json::from_str(line)?;
        gold.extend(record["rewards/gold/mean"].as_f64());
    }
    let means: Vec<f64> =
        gold.windows(WINDOW).map(|part| part.iter().sum::<f64>() / WINDOW as f64).collect();
    let last = *means.last().with_context(|| format!("{}: too short", path.display()))?;
    Ok([means.iter().copied().fold(f64::NEG_INFINITY, f64::max), last])
}

fn row(name: &str, of: &[[f64; 2]], single: &[[f64; 2]]) -> Value {
    let column = |at: usize| of.iter().map(|one| one[at]).collect::<Vec<_>>();
    let less = |at: usize| {
        of.iter().zip(single).map(|(one, other)| one[at] - other[at]).collect::<Vec<_>>()
    };
    json!({
        "name": name,
        "peak": estimate(&column(0)),
        "end": estimate(&column(1)),
        "peak_less_single": estimate(&less(0)),
        "end_less_single": estimate(&less(1)),
        "by_seed": of,
    })
}

fn estimate(values: &[f64]) -> Value {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = T * (variance / n).sqrt();
    json!({"value": mean, "low": mean - half, "high": mean + half, "n": values.len()})
}
