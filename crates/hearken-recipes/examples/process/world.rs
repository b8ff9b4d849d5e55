//! A policy that repeats the mistakes of its demonstrations, and reward models that learn from what it samples.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use hearken_config::Configuration;
use hearken_generate::Sampling;
use hearken_model::tokenizer::{Bos, SpecialTokens};
use hearken_model::{Head, LoadOptions, Model, ModelConfig, Tokenizer};
use hearken_recipes::search::{SampleSettings, SampledAnswer, sample};
use hearken_run::progress::Silent;
use hearken_run::run_dir::Start;
use hearken_run::seeds::Seeds;
use hearken_tensor::{Cpu, device::Precision};
use hearken_train::reward::{self, RewardConfig};
use hearken_train::sft::{self, SftConfig};
use serde_json::{Map, Value, json};

use super::Result;
use super::problem::{Problem, steps};

/// Steps of problems that reward models learn from, and in problems that are longer than any of these. Demonstrations have
/// both.
pub(crate) const STEPS: std::ops::RangeInclusive<usize> = 3..=5;
pub(crate) const MORE_STEPS: std::ops::RangeInclusive<usize> = 6..=9;
pub(crate) const DEMONSTRATIONS: usize = 6000;
/// One in so many demonstrations has solved problems before its prompt, and how many.
const BEHIND_EXAMPLES: usize = 8;
pub(crate) const EXAMPLES: usize = 3;
/// Sampled solutions of each problem that is learned from.
pub(crate) const SAMPLES: usize = 4;
/// Labelled solutions that reward models learn from.
pub(crate) const LABELLED: [usize; 1] = [6400];
/// Passes over the labelled solutions.
const PASSES: usize = 8;
/// Solutions of one step.
const BATCH: usize = 64;
/// The most tokens of a prompt and its solution.
pub(crate) const POSITIONS: usize = 256;
/// The most tokens of a solution.
pub(crate) const LONGEST: usize = 80;

pub(crate) const SFT: &str = "
[optimizer]
lr = 3e-3
warmup_steps = 20

[train]
batch_size = 64
steps = 1000
";

pub(crate) const REWARD: &str = "
[optimizer]
lr = 2e-3
warmup_steps = 20
";

/// What follows a mistake says nothing: else all that stands further back than a right solution is long would be wrong.
const STEPS_OF_PROCESS: &str = "reward.steps='first_error'";

/// What a reward model is trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Process,
    Outcome,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Outcome => "outcome",
        }
    }
}

/// All of one seed: its problems, weights and samples.
pub(crate) struct World {
    pub(crate) folder: PathBuf,
    pub(crate) seed: u64,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) policy: PathBuf,
}

impl World {
    pub(crate) fn new(folder: &Path, seed: u64) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let seeds = Seeds::new(seed);
        let mut rng = seeds.stream("problems", 0);
        let demonstrations = (0..DEMONSTRATIONS).map(|index| {
            let problem = Problem::draw(&mut rng, *STEPS.start()..=*MORE_STEPS.end());
            let examples = if index % BEHIND_EXAMPLES == 0 { EXAMPLES } else { 0 };
            let prompt = problem.prompt_behind((examples, &STEPS), &mut rng, seed);
            let completion = problem.demonstration(&mut rng, seed);
            json!({ "prompt": prompt, "completion": completion }).to_string() + "\n"
        });
        fs::write(folder.join("demonstrations.jsonl"), demonstrations.collect::<String>())?;
        let base = folder.join("base");
        if !base.exists() {
            write_base(&base, seeds)?;
        }
        let policy = train_policy(folder, &base, seed)?;
        let tokenizer = Tokenizer::load(&policy)?;
        let world = Self { folder: folder.to_owned(), seed, tokenizer, policy };
        world.write_judged(seeds)?;
        Ok(world)
    }

    pub(crate) fn load(&self) -> Result<Model<Cpu>> {
        Ok(Model::load(Cpu::new(), &self.policy, &LoadOptions::language_model())?.0)
    }

    pub(crate) fn sample(
        &self,
        model: &Model<Cpu>,
        problems: &[Problem],
        samples: usize,
        what: &str,
    ) -> Result<Vec<Vec<SampledAnswer>>> {
        let seeds = Seeds::new(self.seed);
        let prompts: Vec<Vec<u32>> = problems
            .iter()
            .map(|problem| self.tokenizer.encode(&problem.prompt(), Bos::AsConfigured))
            .collect::<std::result::Result<_, _>>()?;
        let of: Vec<u64> =
            (0..problems.len()).map(|index| seeds.derive(what, index as u64, 0)).collect();
        let sampling = Sampling { temperature: 1.0, ..Sampling::greedy(LONGEST) };
        let draw = SampleSettings { prompts: &prompts, samples, sampling: &sampling, seeds: &of };
        Ok(sample(model, &self.tokenizer, &draw, &mut |_| ControlFlow::Continue(()))?)
    }

    /// Sampled solutions with the truth about them, of each step and of the whole: a file of each for so many of them.
    fn write_judged(&self, seeds: Seeds) -> Result<()> {
        let model = self.load()?;
        let mut rng = seeds.stream("labelled", 0);
        let most = LABELLED[LABELLED.len() - 1] / SAMPLES;
        let problems: Vec<Problem> = (0..most).map(|_| Problem::draw(&mut rng, STEPS)).collect();
        let answers = self.sample(&model, &problems, SAMPLES, "labelled")?;
        let (mut of_steps, mut of_whole) = (String::new(), String::new());
        let mut read = 0;
        for (problem, answers) in problems.iter().zip(&answers) {
            for answer in answers {
                read += 1;
                let examples = read % (1 + EXAMPLES);
                let prompt = problem.prompt_behind((examples, &STEPS), &mut rng, self.seed);
                let parts = steps(&answer.text);
                if !parts.is_empty() {
                    let labels = problem.judge(&parts);
                    let line = json!({ "prompt": prompt, "completions": parts, "labels": labels });
                    of_steps += &(line.to_string() + "\n");
                    let right = problem.is_solved(&answer.text);
                    let line =
                        json!({ "prompt": prompt, "completion": answer.text, "label": right });
                    of_whole += &(line.to_string() + "\n");
                }
                if LABELLED.contains(&read) {
                    fs::write(self.judged(Kind::Process, read), &of_steps)?;
                    fs::write(self.judged(Kind::Outcome, read), &of_whole)?;
                }
            }
        }
        Ok(())
    }

    fn judged(&self, kind: Kind, count: usize) -> PathBuf {
        self.folder.join(format!("{}-{count}.jsonl", kind.name()))
    }

    /// A reward model that has learned from so many solutions.
    pub(crate) fn train_reward(&self, kind: Kind, count: usize) -> Result<PathBuf> {
        let mut layers = RewardConfig::defaults(Path::new("process"));
        layers.merge(REWARD.parse()?);
        for (key, value) in [
            ("run.dir", path(&self.folder.join(format!("{}-{count}", kind.name())))),
            ("run.seed", self.seed.to_string()),
            ("model.path", path(&self.policy)),
            ("data.train", path(&self.judged(kind, count))),
            ("reward.kind", format!("{:?}", kind.name())),
            ("train.batch_size", BATCH.to_string()),
            ("train.steps", (PASSES * count / BATCH).to_string()),
        ] {
            layers.set(&format!("{key}={value}"))?;
        }
        if kind == Kind::Process {
            layers.set(STEPS_OF_PROCESS)?;
        }
        let loaded = RewardConfig::from_layers(layers)?;
        Ok(reward::run(Cpu::new(), &loaded, Start::Resume, &mut Silent)?.model_dir)
    }
}

fn train_policy(folder: &Path, base: &Path, seed: u64) -> Result<PathBuf> {
    let mut layers = SftConfig::defaults(Path::new("process"));
    layers.merge(SFT.parse()?);
    for (key, value) in [
        ("run.dir", path(&folder.join("sft"))),
        ("run.seed", seed.to_string()),
        ("model.path", path(base)),
        ("data.train", path(&folder.join("demonstrations.jsonl"))),
    ] {
        layers.set(&format!("{key}={value}"))?;
    }
    let loaded = SftConfig::from_layers(layers)?;
    Ok(sft::run(Cpu::new(), &loaded, Start::Resume, &mut Silent)?.model_dir)
}

/// A path as a TOML text.
pub(crate) fn path(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}

/// A tokenizer of single characters and a Llama with random weights.
fn write_base(dir: &Path, seeds: Seeds) -> Result<()> {
    let special = SpecialTokens::default();
    // Room for bytes and special tokens alone: nothing is merged.
    let characters = (256..300).find_map(|vocab| {
        Tokenizer::train_bpe(["a01\n".to_owned()].into_iter(), vocab, &special).ok()
    });
    let tokenizer = characters.ok_or("no vocabulary size is enough")?;
    let end = tokenizer.eos_for_training();
    let config: Map<String, Value> = match json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": tokenizer.vocab_size(),
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "intermediate_size": 176,
        "max_position_embeddings": POSITIONS,
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
    let seed = seeds.derive("process/weights", 0, 0);
    let model = Model::init(Cpu::new(), config, Head::LanguageModel, Precision::F32, seed);
    model.save(dir)?;
    tokenizer.save(dir)?;
    Ok(())
}
