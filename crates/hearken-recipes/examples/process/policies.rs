//! PPO by rewards of outcomes and of steps.

use std::fs;
use std::path::{Path, PathBuf};

use hearken_config::Configuration;
use hearken_model::{LoadOptions, Model};
use hearken_run::progress::Silent;
use hearken_run::run_dir::Start;
use hearken_run::seeds::Seeds;
use hearken_stats::mean::{Paired, mean, paired_difference};
use hearken_tensor::Cpu;
use hearken_train::ppo::{self, PpoConfig};
use serde_json::{Value, json};

use super::Result;
use super::problem::{Problem, said, steps};
use super::world::{Kind, LABELLED, STEPS, World, path};

/// The same for all rewards.
pub(crate) const PPO: &str = "
[rollout]
max_new_tokens = 80

[optimizer]
lr = 1e-4
schedule = 'constant'
warmup_steps = 5

[kl]
beta = 0.01

[train]
batch_size = 64
steps = 120

[ppo]
minibatches = 4
epochs = 2
value_coef = 0.1
";

const BOUNDED: &str = "{kind='process', path=PATH, rewards='differences'}";
const UNBOUNDED: &str = "{kind='process', path=PATH, rewards='steps'}";
const ANSWERED: &str = "{kind='regex', pattern='=[0-9]$'}";
const SUM: &str = "{kind='verifier', name='numeric', answer='answer'}";

/// What a policy is rewarded by.
const REWARDS: [(&str, &[&str]); 5] = [
    ("the right sum", &[SUM]),
    ("the right sum, and steps, bounded", &[SUM, BOUNDED]),
    ("steps, bounded", &[BOUNDED]),
    ("steps, bounded, and that an answer is said", &[BOUNDED, ANSWERED]),
    ("steps, unbounded", &[UNBOUNDED]),
];
/// Problems on which a policy is measured, and answers to each.
const MEASURED: (usize, usize) = (200, 4);

/// A policy after PPO, or before it.
pub(crate) struct Trained {
    rewarded_by: &'static str,
    /// Share of right answers to each problem.
    accuracy: Vec<f64>,
    /// Tokens that were sampled in training.
    tokens: u64,
    /// Mean number of steps of an answer.
    steps: f64,
    /// Share of solutions that say an answer.
    answered: f64,
}

pub(crate) fn measure(world: &World, model: &Model<Cpu>) -> Result<Vec<Trained>> {
    let process = world.train_reward(Kind::Process, LABELLED[LABELLED.len() - 1])?;
    let mut policies = vec![measure_policy(world, "nothing yet", model, 0)?];
    for (rewarded_by, scores) in REWARDS {
        let (dir, tokens) = train_by(world, (rewarded_by, scores), &process)?;
        let policy = Model::load(Cpu::new(), &dir, &LoadOptions::language_model())?.0;
        policies.push(measure_policy(world, rewarded_by, &policy, tokens)?);
    }
    Ok(policies)
}

/// PPO by this reward; the policy's folder, and the tokens that were sampled.
fn train_by(
    world: &World,
    (name, scores): (&str, &[&str]),
    process: &Path,
) -> Result<(PathBuf, u64)> {
    let prompts = world.folder.join("prompts.jsonl");
    let mut rng = Seeds::new(world.seed).stream("prompts", 0);
    let line = |_| {
        let problem = Problem::draw(&mut rng, STEPS);
        json!({ "prompt": problem.prompt(), "answer": problem.answer() }).to_string() + "\n"
    };
    fs::write(&prompts, (0..4000).map(line).collect::<String>())?;
    let dir = world.folder.join(name.replace([' ', ','], "-"));
    let mut layers = PpoConfig::defaults(Path::new("process"));
    layers.merge(PPO.parse()?);
    for (key, value) in [
        ("run.dir", path(&dir)),
        ("run.seed", world.seed.to_string()),
        ("model.path", path(&world.policy)),
        ("data.train", path(&prompts)),
        ("score", format!("[{}]", scores.join(", ")).replace("PATH", &path(process))),
    ] {
        layers.set(&format!("{key}={value}"))?;
    }
    let loaded = PpoConfig::from_layers(layers)?;
    let outcome = ppo::run(Cpu::new(), &loaded, Start::Resume, &mut Silent)?;
    let metrics = fs::read_to_string(dir.join("metrics.jsonl"))?;
    // Each later epoch of an iteration learns from the same tokens.
    let tokens = |line: &str| {
        let record: Value = serde_json::from_str(line).ok()?;
        let is_first = record.get("epoch")?.as_u64()? == 0;
        record.get("completion_tokens")?.as_u64().filter(|_| is_first)
    };
    Ok((outcome.model_dir, metrics.lines().filter_map(tokens).sum()))
}

fn measure_policy(
    world: &World,
    rewarded_by: &'static str,
    model: &Model<Cpu>,
    tokens: u64,
) -> Result<Trained> {
    let mut rng = Seeds::new(world.seed).stream("policies", 0);
    let problems: Vec<Problem> = (0..MEASURED.0).map(|_| Problem::draw(&mut rng, STEPS)).collect();
    let all = world.sample(model, &problems, MEASURED.1, "policies")?;
    let (mut accuracy, mut of, mut answered) = (Vec::new(), 0.0, 0.0);
    for (problem, answers) in problems.iter().zip(&all) {
        let right = answers.iter().filter(|answer| problem.is_solved(&answer.text)).count();
        accuracy.push(right as f64 / answers.len() as f64);
        of += answers.iter().map(|answer| steps(&answer.text).len() as f64).sum::<f64>();
        answered += answers.iter().filter(|answer| said(&answer.text).is_some()).count() as f64;
    }
    let all = (MEASURED.0 * MEASURED.1) as f64;
    Ok(Trained { rewarded_by, accuracy, tokens, steps: of / all, answered: answered / all })
}

/// What PPO by each reward comes to, at the same number of completions.
pub(crate) fn report(found: &[&[Trained]]) -> Value {
    let pooled = |which: usize| -> Vec<f64> {
        found.iter().flat_map(|one| one[which].accuracy.iter().copied()).collect()
    };
    let rows: Vec<Value> = (0..=REWARDS.len())
        .map(|which| {
            let of_seeds = |value: fn(&Trained) -> f64| -> Vec<f64> {
                found.iter().map(|one| value(&one[which])).collect()
            };
            let by_seed =
                of_seeds(|one| one.accuracy.iter().sum::<f64>() / one.accuracy.len() as f64);
            json!({
                "rewarded_by": found[0][which].rewarded_by,
                "accuracy": mean(&pooled(which)),
                "by_seed": by_seed,
                "sampled_tokens": of_seeds(|one| one.tokens as f64),
                "steps_of_an_answer": of_seeds(|one| one.steps),
                "share_answered": of_seeds(|one| one.answered),
            })
        })
        .collect();
    let less = |a: usize, b: usize| {
        let (treatment, control) = (pooled(a), pooled(b));
        json!({
            "difference": format!("{} less {}", found[0][a].rewarded_by, found[0][b].rewarded_by),
            "accuracy": paired_difference(Paired { treatment: &treatment, control: &control }),
        })
    };
    json!({
        "measured_on": { "problems": MEASURED.0, "answers": MEASURED.1 },
        "rows": rows,
        "differences": [less(1, 0), less(2, 0), less(2, 1), less(3, 1), less(4, 1), less(5, 1)],
    })
}
