//! Two ranks of one thread each beside one process of two threads.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{about, built, median, run, write};

const SHAPE: &str = "llama,layers=8,width=512,heads=8,kv_heads=4,inner=1408,positions=512";
const VOCABULARY: usize = 8192;
/// Rounds of both, one after the other.
const ROUNDS: usize = 5;
/// Steps of a run, and how many of the first do not count: buffers are made, files are read.
const STEPS: usize = 8;
const UNCOUNTED: usize = 2;
const FOLDER: &str = "runs/results/ranks";

/// A name, the command, and its keys.
type Work = (&'static str, &'static str, &'static [&'static str]);

const WORKS: [Work; 3] = [
    ("sft, 8 records a step", "sft", &["train.batch_size=8", "optimizer.lr=1e-4"]),
    ("sft, 16 records a step", "sft", &["train.batch_size=16", "optimizer.lr=1e-4"]),
    ("grpo", "grpo", &GRPO),
];
const GRPO: [&str; 6] = [
    "grpo.prompts=4",
    "rollout.completions=8",
    "rollout.max_new_tokens=64",
    "kl.placement=none",
    "optimizer.lr=1e-5",
    "guard.action=off",
];
const SCORE: &str = "[[score]]\nkind = \"heuristic\"\nname = \"length_diversity\"\n";

/// How long steps take two ranks of a thread each, and one process of two threads, in sft and grpo, to docs/results/ranks.json.
pub(crate) fn ranks(root: &Path) -> Result<()> {
    let program = built(root, &["--features", "hearken-cli/mpi", "--bin", "hearken"], "hearken")?;
    let folder = root.join(FOLDER);
    if !folder.join("base/config.json").exists() {
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("records.jsonl"), records())?;
        let (data, vocabulary) = (format!("{FOLDER}/records.jsonl"), VOCABULARY.to_string());
        let base = format!("{FOLDER}/base");
        let arguments = ["init", "--shape", SHAPE, "--train-tokenizer", &data];
        let more = ["--vocab-size", &vocabulary, "--output", &base];
        run(root, &program, &[&arguments[..], &more].concat())?;
    }
    let mut works = serde_json::Map::new();
    for work in WORKS {
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            let timed = |ranks| timed(root, &program, work, ranks, round);
            rounds.push((timed(1)?, timed(2)?));
        }
        let ratios: Vec<f64> =
            rounds.iter().map(|(one, two)| two.tokens_per_s() / one.tokens_per_s()).collect();
        let speeds = |of: fn(&(Timed, Timed)) -> f64| rounds.iter().map(of).collect::<Vec<f64>>();
        let (one, two): (Vec<_>, Vec<_>) = rounds.iter().map(|(one, two)| (one, two)).unzip();
        let steps = one[0].steps.len();
        works.insert(
            work.0.to_owned(),
            json!({
                "keys": work.2,
                "tokens a step": one[0].steps.iter().map(|step| step.tokens).sum::<f64>() / steps as f64,
                "one process of two threads, tokens/s": speeds(|round| round.0.tokens_per_s()),
                "two ranks of one thread, tokens/s": speeds(|round| round.1.tokens_per_s()),
                "speed of two ranks / of one process": {
                    "median": median(&ratios),
                    "each": ratios,
                    "by the least time of each step": undisturbed(&two) / undisturbed(&one),
                },
                "megabytes a step that each rank gives": two[0].megabytes,
            }),
        );
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let result = json!({
        "about": about(root, "cargo xtask results ranks")?,
        "model": SHAPE,
        "vocabulary": VOCABULARY,
        "dtype": "bf16",
        "steps": STEPS - UNCOUNTED,
        "load average at the end": load.split_whitespace().next(),
        "works": works,
    });
    write(root, "ranks.json", &result)
}

struct Step {
    tokens: f64,
    seconds: f64,
}

/// What a run came to.
struct Timed {
    steps: Vec<Step>,
    /// Of a step; 0 of one process.
    megabytes: f64,
}

impl Timed {
    fn tokens_per_s(&self) -> f64 {
        speed(self.steps.iter().map(|step| (step.tokens, step.seconds)))
    }
}

fn speed(steps: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (tokens, seconds) = steps.fold((0.0, 0.0), |sums, step| (sums.0 + step.0, sums.1 + step.1));
    tokens / seconds
}

/// Tokens per second if each step took the least time that it took in any of the runs, which make the same steps:
/// what other work on the machine took away is not in it.
fn undisturbed(runs: &[&Timed]) -> f64 {
    speed(runs[0].steps.iter().enumerate().map(|(at, step)| {
        let seconds = runs.iter().map(|run| run.steps[at].seconds);
        (step.tokens, seconds.fold(f64::INFINITY, f64::min))
    }))
}

fn timed(
    root: &Path,
    program: &Path,
    (name, work, keys): Work,
    ranks: usize,
    round: usize,
) -> Result<Timed> {
    let dir = format!("{FOLDER}/{work}-{ranks}-{round}");
    let folder = root.join(&dir);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let config = format!("{FOLDER}/{work}.toml");
    std::fs::write(root.join(&config), if work == "grpo" { SCORE } else { "" })?;
    let mut command = Command::new(program);
    command.current_dir(root).args([work, &config, "--ranks", &ranks.to_string()]);
    let (base, data) = (format!("{FOLDER}/base"), format!("{FOLDER}/records.jsonl"));
    let own = [
        format!("run.dir={dir}"),
        format!("model.path={base}"),
        format!("data.train={data}"),
        format!("train.steps={STEPS}"),
        "model.dtype=bf16".to_owned(),
        "train.save_minutes=0".to_owned(),
    ];
    for key in own.iter().map(String::as_str).chain(keys.iter().copied()) {
        command.args(["--set", key]);
    }
    let output = command.env("RAYON_NUM_THREADS", (2 / ranks).to_string()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{work} of {ranks} ranks failed: {said}");
    }
    let metrics = folder.join("metrics.jsonl");
    let text = std::fs::read_to_string(&metrics).with_context(|| metrics.display().to_string())?;
    let records: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let steps = records.iter().filter(|record| record.get("loss").is_some()).skip(UNCOUNTED);
    let number = |step: &Value, key: &str| step[key].as_f64().with_context(|| key.to_owned());
    let step = |step: &Value| {
        anyhow::Ok(Step { tokens: number(step, "tokens")?, seconds: number(step, "seconds")? })
    };
    let steps = steps.map(step).collect::<Result<_>>()?;
    let (_, given) = said.split_once("each gave the others ").unwrap_or_default();
    let megabytes = given.split_whitespace().next().and_then(|number| number.parse().ok());
    let timed = Timed { steps, megabytes: megabytes.unwrap_or(0.0) };
    super::super::say(&format!("{name}, {ranks} ranks: {:.0} tokens/s", timed.tokens_per_s()));
    Ok(timed)
}

/// Texts of made-up words, of which there are more than tokens: none is known to anybody.
fn records() -> String {
    let mut state = 1_u64;
    let mut below = |n: u64| {
        // Knuth's multiplier; the high bits are the better ones.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let mut words = |count: usize| {
        let mut text = String::new();
        for _ in 0..count {
            let mut word = below(9000);
            text.push(' ');
            while 0 < word {
                let _ = write!(
                    text,
                    "{}{}",
                    ["b", "k", "l", "m", "n", "r", "s", "t"][(word % 8) as usize],
                    ["a", "e", "i", "o"][(word / 8 % 4) as usize]
                );
                word /= 32;
            }
        }
        text
    };
    let record = |words: &mut dyn FnMut(usize) -> String| {
        json!({ "prompt": words(40).trim(), "completion": words(110) }).to_string() + "\n"
    };
    (0..512).map(|_| record(&mut words)).collect()
}
