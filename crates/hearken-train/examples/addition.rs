//! Addition of two-digit numbers, learned from a verifier: a small model is trained from scratch on sums until
//! it is right more often than not; GRPO, RLOO, DAPO and GSPO then start from that same model and see nothing
//! but whether their answers are right.
//!
//! ```sh
//! cargo run --release -p hearken-train --example addition -- --out addition.json
//! ```
//!
//! `--seeds 11,12` are the repetitions: each draws data, held-out sums, weights and start anew, and all
//! algorithms of a seed start from the same model. `--dir DIR` keeps the runs (default: a temporary folder);
//! what has finished there is not run again. `--ahead N` compares GRPO whose completions are made N iterations ahead of
//! training with GRPO whose are not, instead of the algorithms. `--steps N`, `--sft-steps N` and `--set KEY=VALUE` change the runs
//! with reinforcement, the fine-tuning before it, and a key of the former.
#![allow(clippy::print_stderr, reason = "a program that says how far it is")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use hearken_config::Configuration;
use hearken_model::{Head, Model, ModelConfig, Tokenizer, tokenizer::SpecialTokens};
use hearken_run::progress::Silent;
use hearken_run::run_dir::Start;
use hearken_run::seeds::Seeds;
use hearken_stats::mean::{Paired, mean, paired_difference};
use hearken_tensor::{Cpu, device::Precision};
use hearken_train::grpo::{self, GrpoConfig};
use hearken_train::sft::{self, SftConfig};
use rand::RngExt;
use serde_json::{Map, Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PRESETS: [&str; 4] = ["grpo", "rloo", "dapo", "gspo"];
/// The name of GRPO whose completions are made ahead.
const AHEAD: &str = "grpo-ahead";
const PROMPTS_HELD_OUT: usize = 2000;
const DEMONSTRATIONS: usize = 3000;

const SFT: &str = r#"
[optimizer]
lr = 3e-3
schedule = "cosine"
warmup_steps = 20

[train]
batch_size = 64
steps = 700
"#;

/// Everything but the preset is the same for all. Chosen on seeds 1 to 4, which are not reported.
const GRPO: &str = r#"
[optimizer]
lr = 4e-4
warmup_steps = 0
schedule = "linear"

[train]
steps = 200

[rollout]
max_new_tokens = 5
completions = 8

[kl]
placement = "none"

[grpo]
prompts = 64

[[score]]
kind = "verifier"
name = "exact"
answer = "answer"
"#;

struct Options {
    out: Option<PathBuf>,
    dir: Option<PathBuf>,
    seeds: Vec<u64>,
    /// Iterations that completions are made ahead, in a comparison of that.
    ahead: Option<u64>,
    sft_overrides: Vec<String>,
    overrides: Vec<String>,
}

/// What one run with reinforcement came to.
struct Learned {
    before: f64,
    after: f64,
    seconds: f64,
    completions: u64,
}

fn main() -> Result<()> {
    let options = options()?;
    let temporary = tempfile::tempdir()?;
    let dir = options.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let mut runs = Vec::new();
    for &seed in &options.seeds {
        let world = World::new(&dir.join(seed.to_string()), seed)?;
        let start = world.fine_tune(&options.sft_overrides)?;
        for &name in options.compared() {
            let learned = world.reinforce(&start, name, &options)?;
            let Learned { before, after, .. } = learned;
            eprintln!("seed {seed}: {name}: {before:.4} before, {after:.4} after");
            runs.push((seed, name, learned));
        }
    }
    let text = serde_json::to_string_pretty(&results(&options, &runs)?)? + "\n";
    match options.out {
        Some(path) => fs::write(path, text)?,
        None => eprintln!("{text}"),
    }
    Ok(())
}

impl Options {
    /// The names of what is compared.
    fn compared(&self) -> &'static [&'static str] {
        if self.ahead.is_some() { &[PRESETS[0], AHEAD] } else { &PRESETS }
    }
}

fn options() -> Result<Options> {
    let mut options = Options {
        out: None,
        dir: None,
        seeds: (21..=28).collect(),
        ahead: None,
        sft_overrides: vec![],
        overrides: vec![],
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name}: a value is missing"))?;
        match name.as_str() {
            "--out" => options.out = Some(value.into()),
            "--dir" => options.dir = Some(value.into()),
            "--seeds" => {
                let seeds = value.split(',').map(str::parse);
                options.seeds = seeds.collect::<std::result::Result<_, _>>()?;
            }
            "--ahead" => options.ahead = Some(value.parse()?),
            "--steps" => options.overrides.push(format!("train.steps={value}")),
            "--sft-steps" => options.sft_overrides.push(format!("train.steps={value}")),
            "--set" => options.overrides.push(value),
            other => {
                let known = "--out, --dir, --seeds, --ahead, --steps, --sft-steps or --set";
                return Err(format!("{other}: expected {known}").into());
            }
        }
    }
    Ok(options)
}

/// Sums in files, and a model that knows nothing of them.
struct World {
    folder: PathBuf,
    seed: u64,
}

impl World {
    fn new(folder: &Path, seed: u64) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let seeds = Seeds::new(seed);
        let mut sums: Vec<(u32, u32)> =
            (0..100).flat_map(|a| (0..100).map(move |b| (a, b))).collect();
        let mut rng = seeds.stream("addition", 0);
        for last in (1..sums.len()).rev() {
            sums.swap(last, rng.random_range(0..=last));
        }
        let (held_out, rest) = sums.split_at(PROMPTS_HELD_OUT);
        let prompt = |(a, b): &(u32, u32)| format!("{a}+{b}=");
        let answer = |(a, b): &(u32, u32)| (a + b).to_string();
        let prompts = |sums: &[(u32, u32)]| -> String {
            let line = |sum| json!({ "prompt": prompt(sum), "answer": answer(sum) }).to_string();
            sums.iter().map(|sum| line(sum) + "\n").collect()
        };
        let demonstration =
            |sum| json!({ "prompt": prompt(sum), "completion": answer(sum) }).to_string() + "\n";
        let demonstrations: String = rest[..DEMONSTRATIONS].iter().map(demonstration).collect();
        fs::write(folder.join("demonstrations.jsonl"), demonstrations)?;
        // What was demonstrated is not asked again: right answers must be found, not remembered.
        fs::write(folder.join("prompts.jsonl"), prompts(&rest[DEMONSTRATIONS..]))?;
        fs::write(folder.join("held-out.jsonl"), prompts(held_out))?;
        write_base(&folder.join("base"), seeds)?;
        Ok(Self { folder: folder.to_owned(), seed })
    }

    fn fine_tune(&self, overrides: &[String]) -> Result<PathBuf> {
        let mut layers = SftConfig::defaults(Path::new("addition"));
        layers.merge(SFT.parse()?);
        for (key, value) in [
            ("run.dir", path(&self.folder.join("sft"))),
            ("run.seed", self.seed.to_string()),
            ("model.path", path(&self.folder.join("base"))),
            ("data.train", path(&self.folder.join("demonstrations.jsonl"))),
        ] {
            layers.set(&format!("{key}={value}"))?;
        }
        overrides.iter().try_for_each(|text| layers.set(text))?;
        let loaded = SftConfig::from_layers(layers)?;
        Ok(sft::run(Cpu::new(), &loaded, Start::Resume, &mut Silent)?.model_dir)
    }

    /// Accuracy on held-out sums before and after.
    fn reinforce(&self, start: &Path, name: &str, options: &Options) -> Result<Learned> {
        let mut layers = GrpoConfig::defaults(Path::new("addition"));
        layers.merge(GRPO.parse()?);
        let run = self.folder.join(name);
        let preset = if name == AHEAD { PRESETS[0] } else { name };
        let ahead = options.ahead.filter(|_| name == AHEAD).unwrap_or(0);
        for (key, value) in [
            ("run.dir", path(&run)),
            ("run.seed", self.seed.to_string()),
            ("model.path", path(start)),
            ("data.train", path(&self.folder.join("prompts.jsonl"))),
            ("data.eval", path(&self.folder.join("held-out.jsonl"))),
            ("grpo.preset", format!("{preset:?}")),
            ("rollout.ahead", ahead.to_string()),
        ] {
            layers.set(&format!("{key}={value}"))?;
        }
        options.overrides.iter().try_for_each(|text| layers.set(text))?;
        let loaded = GrpoConfig::from_layers(layers)?;
        grpo::run(Cpu::new(), &loaded, Start::Resume, &mut Silent)?;
        learned(&run)
    }
}

/// Reads what a run wrote.
fn learned(run: &Path) -> Result<Learned> {
    let text = fs::read_to_string(run.join("metrics.jsonl"))?;
    let records = text.lines().map(serde_json::from_str::<Value>);
    let records: Vec<Value> = records.collect::<std::result::Result<_, _>>()?;
    let mut scores = records.iter().filter_map(|record| record["eval_scores"]["value"].as_f64());
    let before = scores.next().ok_or("no evaluation before the first step")?;
    let after = scores.next_back().ok_or("no evaluation after the last step")?;
    let seconds = records.iter().filter_map(|record| record["seconds"].as_f64()).sum();
    // What concerns an iteration repeats in each of its steps.
    let first_steps = records.iter().filter(|record| record["minibatch"] == 0);
    let completions = first_steps.filter_map(|record| record["sampled"].as_u64()).sum();
    Ok(Learned { before, after, seconds, completions })
}

/// Every run, and means over the seeds with their intervals.
fn results(options: &Options, runs: &[(u64, &str, Learned)]) -> Result<Value> {
    let few = "an interval needs at least two seeds: --seeds 11,12";
    let of = |preset: &str, what: fn(&Learned) -> f64| -> Vec<f64> {
        runs.iter().filter(|run| run.1 == preset).map(|run| what(&run.2)).collect()
    };
    let before = of(PRESETS[0], |learned| learned.before);
    let start = mean(&before).filter(|start| 1 < start.n).ok_or(few)?;
    let mut summary = vec![json!({ "preset": null, "accuracy": start })];
    for preset in options.compared() {
        let after = of(preset, |learned| learned.after);
        let gain = paired_difference(Paired { treatment: &after, control: &before });
        summary.push(json!({ "preset": preset, "accuracy": mean(&after), "gain": gain }));
    }
    let difference = options.ahead.and_then(|_| {
        let after = |name| of(name, |learned| learned.after);
        paired_difference(Paired { treatment: &after(AHEAD), control: &after(PRESETS[0]) })
    });
    let run = |(seed, preset, learned): &(u64, &str, Learned)| {
        json!({
            "seed": seed, "preset": preset, "before": learned.before, "after": learned.after,
            "seconds": learned.seconds, "completions": learned.completions,
        })
    };
    Ok(json!({
        "task": format!(
            "sums of two numbers below 100; {DEMONSTRATIONS} demonstrated, others asked in training; accuracy \
             sampled at temperature 1 on {PROMPTS_HELD_OUT} held-out sums of each seed's own"
        ),
        "intervals": "Student's t over seeds, 95 %; a gain is the difference from the same start",
        "sft": SFT.trim(),
        "reinforcement": GRPO.trim(),
        "overrides": options.overrides,
        "ahead": options.ahead,
        "ahead_minus_at_once": difference,
        "seeds": options.seeds,
        "summary": summary,
        "runs": runs.iter().map(run).collect::<Vec<_>>(),
    }))
}

/// A path as a TOML text.
fn path(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}

/// A tokenizer of single characters and a Llama with random weights.
fn write_base(dir: &Path, seeds: Seeds) -> Result<()> {
    let special = SpecialTokens::default();
    // Room for bytes and special tokens alone: nothing is merged.
    let characters = (256..300).find_map(|vocab| {
        Tokenizer::train_bpe(["0+1=2".to_owned()].into_iter(), vocab, &special).ok()
    });
    let tokenizer = characters.ok_or("no vocabulary size is enough")?;
    let end = tokenizer.eos_for_training();
    let config: Map<String, Value> = match json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": tokenizer.vocab_size(),
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "intermediate_size": 176,
        "max_position_embeddings": 32,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": true,
        "initializer_range": 0.05,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": tokenizer.pad(),
    }) {
        Value::Object(config) => config,
        _ => unreachable!("an object was written"),
    };
    let config = ModelConfig::from_json(&dir.join("config.json"), &config)?;
    let seed = seeds.derive("addition/weights", 0, 0);
    let model = Model::init(Cpu::new(), config, Head::LanguageModel, Precision::F32, seed);
    model.save(dir)?;
    tokenizer.save(dir)?;
    Ok(())
}
