//! Addition of two-digit numbers, learned from a verifier: a small model is trained from scratch on sums until
//! it is right about half the time; GRPO, RLOO, DAPO and GSPO then start from that same model and see nothing
//! but whether their answers are right.
//!
//! ```sh
//! cargo run --release -p hearken-train --example addition -- --out docs/results/addition.md
//! ```
//!
//! `--seeds N` (default 5) repeats everything, `--steps N` (default 150) is the length of each run with
//! reinforcement, `--sft-steps N` (default 300) of the fine-tuning before it; `--set KEY=VALUE` changes a key
//! of all runs with reinforcement.
#![allow(clippy::print_stderr, reason = "a program that says how far it is")]

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hearken_model::{Head, Model, ModelConfig, Tokenizer, tokenizer::SpecialTokens};
use hearken_stats::Estimate;
use hearken_stats::mean::{Paired, mean, paired_difference};
use hearken_tensor::{Cpu, device::Precision};
use hearken_train::grpo::{self, GrpoConfig};
use hearken_train::progress::Silent;
use hearken_train::run_dir::Start;
use hearken_train::seeds::Seeds;
use hearken_train::sft::{self, SftConfig};
use rand::RngExt;
use serde_json::{Map, Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PRESETS: [&str; 4] = ["grpo", "rloo", "dapo", "gspo"];
const PROMPTS_HELD_OUT: usize = 512;
const DEMONSTRATIONS: usize = 3000;

const SFT: &str = r#"
[optimizer]
lr = 3e-3
schedule = "cosine"
warmup_steps = 20

[train]
batch_size = 64
"#;

/// Everything but the preset is the same for all.
const GRPO: &str = r#"
[optimizer]
lr = 3e-4

[rollout]
max_new_tokens = 5
completions = 16

[kl]
placement = "none"

[grpo]
prompts = 16
minibatches = 2

[[score]]
kind = "verifier"
name = "exact"
answer = "answer"
"#;

struct Options {
    out: Option<PathBuf>,
    seeds: u64,
    steps: u64,
    sft_steps: u64,
    overrides: Vec<String>,
}

fn main() -> Result<()> {
    let options = options()?;
    let started = Instant::now();
    let folder = tempfile::tempdir()?;
    let mut before: Vec<f64> = Vec::new();
    let mut after: Vec<Vec<f64>> = vec![Vec::new(); PRESETS.len()];
    for seed in 1..=options.seeds {
        let folder = folder.path().join(seed.to_string());
        let world = World::new(&folder, seed)?;
        let start = world.fine_tune(options.sft_steps)?;
        let mut first = None;
        for (preset, after) in PRESETS.iter().zip(&mut after) {
            let (at_start, at_end) = world.reinforce(&start, preset, &options)?;
            eprintln!("seed {seed}: {preset}: {at_start:.3} before, {at_end:.3} after");
            first = Some(at_start);
            after.push(at_end);
        }
        before.extend(first);
    }
    let page = page(&options, &before, &after, started.elapsed().as_secs_f64())?;
    match options.out {
        Some(path) => fs::write(path, page)?,
        None => eprintln!("{page}"),
    }
    Ok(())
}

fn options() -> Result<Options> {
    let mut options =
        Options { out: None, seeds: 5, steps: 150, sft_steps: 300, overrides: vec![] };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name}: a value is missing"))?;
        match name.as_str() {
            "--out" => options.out = Some(value.into()),
            "--seeds" => options.seeds = value.parse()?,
            "--steps" => options.steps = value.parse()?,
            "--sft-steps" => options.sft_steps = value.parse()?,
            "--set" => options.overrides.push(value),
            other => return Err(format!("{other}: expected --out, --seeds or --steps").into()),
        }
    }
    if options.seeds < 2 {
        return Err("--seeds: expected at least 2, for intervals".into());
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

    fn fine_tune(&self, steps: u64) -> Result<PathBuf> {
        let mut layers = SftConfig::defaults(Path::new("addition"));
        layers.merge(SFT.parse()?);
        for (key, value) in [
            ("run.dir", path(&self.folder.join("sft"))),
            ("run.seed", self.seed.to_string()),
            ("model.path", path(&self.folder.join("base"))),
            ("data.train", path(&self.folder.join("demonstrations.jsonl"))),
            ("train.steps", steps.to_string()),
        ] {
            layers.set(&format!("{key}={value}"))?;
        }
        let loaded = SftConfig::from_layers(layers)?;
        Ok(sft::run(Cpu::new(), &loaded, Start::Fresh, &mut Silent)?.model_dir)
    }

    /// Accuracy on held-out sums before and after.
    fn reinforce(&self, start: &Path, preset: &str, options: &Options) -> Result<(f64, f64)> {
        let mut layers = GrpoConfig::defaults(Path::new("addition"));
        layers.merge(GRPO.parse()?);
        let run = self.folder.join(preset);
        for (key, value) in [
            ("run.dir", path(&run)),
            ("run.seed", self.seed.to_string()),
            ("model.path", path(start)),
            ("data.train", path(&self.folder.join("prompts.jsonl"))),
            ("data.eval", path(&self.folder.join("held-out.jsonl"))),
            ("train.steps", options.steps.to_string()),
            ("grpo.preset", format!("{preset:?}")),
        ] {
            layers.set(&format!("{key}={value}"))?;
        }
        for text in &options.overrides {
            layers.set(text)?;
        }
        let loaded = GrpoConfig::from_layers(layers)?;
        grpo::run(Cpu::new(), &loaded, Start::Fresh, &mut Silent)?;
        let text = fs::read_to_string(run.join("metrics.jsonl"))?;
        let records = text.lines().map(serde_json::from_str::<Value>);
        let records: Vec<Value> = records.collect::<std::result::Result<_, _>>()?;
        let mut scores =
            records.iter().filter_map(|record| record["eval_scores"]["value"].as_f64());
        let first = scores.next().ok_or("no evaluation before the first step")?;
        Ok((first, scores.next_back().ok_or("no evaluation after the last step")?))
    }
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

fn page(options: &Options, before: &[f64], after: &[Vec<f64>], seconds: f64) -> Result<String> {
    let Options { seeds, steps, sft_steps, .. } = options;
    let mut page = format!(
        "# Addition, learned from a verifier\n\n```sh\ncargo run --release -p hearken-train --example addition -- \
         --seeds {seeds} --steps {steps} --sft-steps {sft_steps} --out docs/results/addition.md\n```\n\n\
         A Llama of 2 layers and width 64 is trained from scratch for {sft_steps} steps on {DEMONSTRATIONS} sums of numbers \
         below 100. From there each algorithm makes {steps} steps: 16 other sums per iteration, 16 answers each, sampled at \
         temperature 1 and scored by `kind = \"verifier\", name = \"exact\"`; 2 minibatches, learning rate 3e-4, no KL \
         penalty. Accuracy is the share of right answers, sampled at temperature 1, on {PROMPTS_HELD_OUT} sums that nothing \
         was trained on. {seeds} seeds: each draws data, weights, start and samples anew, and all algorithms of a seed start \
         from the same model. Student's t intervals over seeds, 95 %.\n\n\
         | | accuracy | gain over the start |\n|---|---|---|\n"
    );
    let few = "fewer than two seeds";
    writeln!(page, "| start | {} | |", shown(mean(before).ok_or(few)?))?;
    for (preset, after) in PRESETS.iter().zip(after) {
        let gain = paired_difference(Paired { treatment: after, control: before }).ok_or(few)?;
        writeln!(page, "| {preset} | {} | {} |", shown(mean(after).ok_or(few)?), shown(gain))?;
    }
    writeln!(page, "\n{seconds:.0} seconds for everything.")?;
    Ok(page)
}

fn shown(estimate: Estimate) -> String {
    let Estimate { value, low, high, n, .. } = estimate;
    format!("{value:.3} [{low:.3}, {high:.3}], n = {n}")
}
