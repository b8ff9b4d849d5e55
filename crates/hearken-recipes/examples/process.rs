//! Sums of several numbers, step by step: reward models of steps and of outcomes against voting, labels by completions
//! against exact ones. A program knows which step is right, so that everything is measured against the truth.
//!
//! ```sh
//! cargo run --release -p hearken-recipes --example process -- --out docs/results/process.json
//! ```
//!
//! `--seeds 1,2` are the repetitions: each draws problems, weights and samples anew. `--dir DIR` keeps the runs (default:
//! a temporary folder); what has finished there is not run again. `--problems N` and `--samples N` are those of the
//! evaluation.
#![allow(clippy::print_stderr, reason = "a program that says how far it is")]

use std::error::Error;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hearken_config::{Configuration, Verifier};
use hearken_data::StopReason;
use hearken_generate::{EngineOptions, Request, Sampling, generate_with};
use hearken_model::steps::{StepTokens, encode_steps};
use hearken_model::tokenizer::{Bos, SpecialTokens};
use hearken_model::{Head, LoadOptions, Model, ModelConfig, Tokenizer};
use hearken_recipes::search::{Answer, Draw, Scorer, sample};
use hearken_recipes::step_labels::{Rollouts, Unlabelled, by_rollouts};
use hearken_reward_source::{StepAggregation, groups_of};
use hearken_run::progress::Silent;
use hearken_run::run_dir::Start;
use hearken_run::seeds::Seeds;
use hearken_stats::first_error::{FirstError, first_error_scores};
use hearken_stats::mean::{Paired, mean, paired_difference};
use hearken_stats::proportion::wilson;
use hearken_stats::reranking::{Candidate, Choice, accuracy_of_choice};
use hearken_tensor::{Cpu, device::Precision};
use hearken_train::ppo::{self, PpoConfig};
use hearken_train::reward::{self, RewardConfig};
use hearken_train::sft::{self, SftConfig};
use rand::RngExt;
use serde_json::{Map, Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Numbers to add in training, and in problems that are longer than any of it.
const TERMS: std::ops::RangeInclusive<usize> = 3..=5;
const MORE_TERMS: std::ops::RangeInclusive<usize> = 6..=7;
const DEMONSTRATIONS: usize = 4000;
/// Problems whose sampled solutions are learned from, and how many of each.
const LABELLED: (usize, usize) = (1200, 8);
/// Numbers of answers that are chosen among.
const CHOICES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Random subsets for votes.
const ROUNDS: usize = 40;

const SFT: &str = "
[optimizer]
lr = 3e-3
warmup_steps = 20

[train]
batch_size = 64
steps = 700
";

const REWARD: &str = "
[optimizer]
lr = 2e-3
warmup_steps = 20

[train]
batch_size = 64
steps = 900
";

/// The same for all rewards, so that every policy sees as many completions.
const PPO: &str = "
[rollout]
temperature = 1.5
max_new_tokens = 72

[optimizer]
lr = 1e-4
schedule = 'constant'
warmup_steps = 5

[kl]
beta = 0.01

[train]
batch_size = 32
steps = 960

[ppo]
minibatches = 4
epochs = 2
value_coef = 0.1
";

const STEPS: &str = "{kind='process', path=PATH, rewards='differences'}";
const WHOLE: &str = "{kind='process', path=PATH, rewards='whole'}";
const SUM: &str = "{kind='verifier', name='numeric', answer='answer'}";

/// What a policy is rewarded by, and where in its completions.
const REWARDS: [(&str, &[&str]); 4] = [
    ("process, after every step", &[STEPS]),
    ("process, at the end", &[WHOLE]),
    ("the right sum, at the end", &[SUM]),
    ("the right sum, and process after every step", &[SUM, STEPS]),
];
/// Problems on which a policy is measured, and answers to each.
const MEASURED: (usize, usize) = (200, 4);

struct Options {
    out: Option<PathBuf>,
    dir: Option<PathBuf>,
    seeds: Vec<u64>,
    problems: usize,
    samples: usize,
}

fn main() -> Result<()> {
    let options = options()?;
    let temporary = tempfile::tempdir()?;
    let dir = options.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let mut found = Vec::new();
    for &seed in &options.seeds {
        let began = Instant::now();
        let world = World::new(&dir.join(seed.to_string()), seed)?;
        found.push(world.measure(&options)?);
        eprintln!("seed {seed}: {:.0} s", began.elapsed().as_secs_f64());
    }
    let text = serde_json::to_string_pretty(&results(&options, &found))? + "\n";
    match options.out {
        Some(path) => fs::write(path, text)?,
        None => eprintln!("{text}"),
    }
    Ok(())
}

fn options() -> Result<Options> {
    let seeds = (1..=5).collect();
    let mut options = Options { out: None, dir: None, seeds, problems: 120, samples: 64 };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name}: a value is missing"))?;
        match name.as_str() {
            "--out" => options.out = Some(value.into()),
            "--dir" => options.dir = Some(value.into()),
            "--problems" => options.problems = value.parse()?,
            "--samples" => options.samples = value.parse()?,
            "--seeds" => {
                let seeds = value.split(',').map(str::parse);
                options.seeds = seeds.collect::<std::result::Result<_, _>>()?;
            }
            other => {
                let known = "--out, --dir, --seeds, --problems or --samples";
                return Err(format!("{other}: expected {known}").into());
            }
        }
    }
    Ok(options)
}

/// Numbers to add.
#[derive(Clone)]
struct Problem(Vec<u32>);

impl Problem {
    fn draw(rng: &mut impl rand::Rng, terms: std::ops::RangeInclusive<usize>) -> Self {
        let count = rng.random_range(terms);
        Self((0..count).map(|_| rng.random_range(1..=9)).collect())
    }

    fn prompt(&self) -> String {
        let terms: Vec<String> = self.0.iter().map(u32::to_string).collect();
        terms.join("+") + "\n"
    }

    fn answer(&self) -> u32 {
        self.0.iter().sum()
    }

    fn steps(&self) -> Vec<String> {
        let mut sum = self.0[0];
        let step = |term: &u32| {
            let text = format!("{sum}+{term}={}", sum + term);
            sum += term;
            text
        };
        self.0[1..].iter().map(step).collect()
    }

    /// Whether each step is right, given the one before it: it goes on from that one's result, adds the number whose turn
    /// it is, and adds it rightly.
    fn judge(&self, steps: &[String]) -> Vec<bool> {
        let mut before = Some(self.0[0]);
        let mut judge = |(index, step): (usize, &String)| {
            let parsed = step.split_once('=').and_then(|(left, sum)| {
                let (a, b) = left.split_once('+')?;
                Some((a.parse::<u32>().ok()?, b.parse::<u32>().ok()?, sum.parse::<u32>().ok()?))
            });
            let term = self.0.get(index + 1).copied();
            let right = parsed.is_some_and(|(a, b, sum)| {
                Some(a) == before && Some(b) == term && a.checked_add(b) == Some(sum)
            });
            before = parsed.map(|(_, _, sum)| sum);
            right
        };
        steps.iter().enumerate().map(&mut judge).collect()
    }

    /// Whether the last number of a solution is the sum.
    fn is_solved(&self, answer: &Answer) -> bool {
        said(answer).is_some_and(|said| said.parse() == Ok(self.answer()))
    }
}

/// What a solution says is the sum: what its last step came to.
fn said(answer: &Answer) -> Option<String> {
    let steps = steps_of(answer);
    let (_, sum) = steps.last()?.split_once('=')?;
    sum.parse::<u32>().ok().map(|sum| sum.to_string())
}

fn steps_of(answer: &Answer) -> Vec<String> {
    hearken_data::Content::Text(answer.text.clone()).steps("\n")
}

/// What is measured of one seed.
struct Found {
    seed: u64,
    /// Of problems as long as those of training, and of longer ones.
    sets: [Set; 2],
    rollouts: Vec<Value>,
    speed: Value,
    policies: Vec<Trained>,
}

/// A policy after PPO, or before it.
struct Trained {
    rewarded_by: &'static str,
    /// Share of right answers to each problem.
    accuracy: Vec<f64>,
    /// Tokens that were sampled in training.
    tokens: u64,
    /// Mean number of steps of an answer.
    steps: f64,
}

struct Set {
    /// Accuracy of each problem, by way of choosing and number of answers.
    accuracy: Vec<(String, usize, Vec<f64>)>,
    f1: Value,
}

struct World {
    folder: PathBuf,
    seed: u64,
    tokenizer: Tokenizer,
    policy: PathBuf,
    process: PathBuf,
    outcome: PathBuf,
}

impl World {
    /// A policy that is right now and then, and two reward models that learn from what it samples.
    fn new(folder: &Path, seed: u64) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let seeds = Seeds::new(seed);
        let mut rng = seeds.stream("problems", 0);
        let demonstrations = (0..DEMONSTRATIONS).map(|_| {
            let problem = Problem::draw(&mut rng, TERMS);
            let completion = problem.steps().join("\n");
            json!({ "prompt": problem.prompt(), "completion": completion }).to_string() + "\n"
        });
        fs::write(folder.join("demonstrations.jsonl"), demonstrations.collect::<String>())?;
        let base = folder.join("base");
        if !base.exists() {
            write_base(&base, seeds)?;
        }
        let policy = train_policy(folder, &base, seed)?;
        let tokenizer = Tokenizer::load(&policy)?;
        let mut world = Self {
            folder: folder.to_owned(),
            seed,
            tokenizer,
            process: PathBuf::new(),
            outcome: PathBuf::new(),
            policy,
        };
        world.write_judged(seeds)?;
        world.process = world.train_reward("process", "steps.jsonl")?;
        world.outcome = world.train_reward("outcome", "outcomes.jsonl")?;
        Ok(world)
    }

    fn load(&self) -> Result<Model<Cpu>> {
        Ok(Model::load(Cpu::new(), &self.policy, &LoadOptions::language_model())?.0)
    }

    fn sample(
        &self,
        model: &Model<Cpu>,
        problems: &[Problem],
        samples: usize,
        what: &str,
    ) -> Result<Vec<Vec<Answer>>> {
        let seeds = Seeds::new(self.seed);
        let prompts: Vec<Vec<u32>> = problems
            .iter()
            .map(|problem| self.tokenizer.encode(&problem.prompt(), Bos::AsConfigured))
            .collect::<std::result::Result<_, _>>()?;
        let of: Vec<u64> =
            (0..problems.len()).map(|index| seeds.derive(what, index as u64, 0)).collect();
        let sampling = sampling();
        let draw = Draw { prompts: &prompts, samples, sampling: &sampling, seeds: &of };
        Ok(sample(model, &self.tokenizer, &draw, &mut |_| ControlFlow::Continue(()))?)
    }

    /// Sampled solutions with the truth about them: of each step, and of the whole.
    fn write_judged(&self, seeds: Seeds) -> Result<()> {
        let model = self.load()?;
        let mut rng = seeds.stream("labelled", 0);
        let problems: Vec<Problem> =
            (0..LABELLED.0).map(|_| Problem::draw(&mut rng, TERMS)).collect();
        let answers = self.sample(&model, &problems, LABELLED.1, "labelled")?;
        let (mut steps, mut outcomes) = (String::new(), String::new());
        for (problem, answers) in problems.iter().zip(&answers) {
            for answer in answers {
                let (prompt, parts) = (problem.prompt(), steps_of(answer));
                if parts.is_empty() {
                    continue;
                }
                let labels = problem.judge(&parts);
                let line = json!({ "prompt": prompt, "completions": parts, "labels": labels });
                steps += &(line.to_string() + "\n");
                let right = problem.is_solved(answer);
                let line = json!({ "prompt": prompt, "completion": answer.text, "label": right });
                outcomes += &(line.to_string() + "\n");
            }
        }
        fs::write(self.folder.join("steps.jsonl"), steps)?;
        fs::write(self.folder.join("outcomes.jsonl"), outcomes)?;
        Ok(())
    }

    fn train_reward(&self, kind: &str, data: &str) -> Result<PathBuf> {
        let mut layers = RewardConfig::defaults(Path::new("process"));
        layers.merge(REWARD.parse()?);
        for (key, value) in [
            ("run.dir", path(&self.folder.join(kind))),
            ("run.seed", self.seed.to_string()),
            ("model.path", path(&self.policy)),
            ("data.train", path(&self.folder.join(data))),
            ("reward.kind", format!("{kind:?}")),
        ] {
            layers.set(&format!("{key}={value}"))?;
        }
        let loaded = RewardConfig::from_layers(layers)?;
        Ok(reward::run(Cpu::new(), &loaded, Start::Resume, &mut Silent)?.model_dir)
    }

    fn measure(&self, options: &Options) -> Result<Found> {
        let model = self.load()?;
        let scorer = |dir: &Path| -> Result<Scorer<Cpu>> {
            let scorer = Scorer::load(Cpu::new(), dir, &LoadOptions::scorer())?;
            Ok(scorer.ok_or("a reward model")?)
        };
        let scorers = [scorer(&self.process)?, scorer(&self.outcome)?];
        let set = |terms, what| self.measure_set(&model, &scorers, (terms, what), options);
        let sets = [set(TERMS, "short")?, set(MORE_TERMS, "long")?];
        let (rollouts, speed) = self.measure_rollouts(&model)?;
        let mut policies = vec![self.measure_policy("nothing yet", &model, 0)?];
        for (rewarded_by, scores) in REWARDS {
            let (dir, tokens) = self.train_by(rewarded_by, scores)?;
            let policy = Model::load(Cpu::new(), &dir, &LoadOptions::language_model())?.0;
            policies.push(self.measure_policy(rewarded_by, &policy, tokens)?);
        }
        Ok(Found { seed: self.seed, sets, rollouts, speed, policies })
    }

    /// PPO by this reward; the policy's folder, and the tokens that were sampled.
    fn train_by(&self, name: &str, scores: &[&str]) -> Result<(PathBuf, u64)> {
        let prompts = self.folder.join("prompts.jsonl");
        let mut rng = Seeds::new(self.seed).stream("prompts", 0);
        let line = |_| {
            let problem = Problem::draw(&mut rng, TERMS);
            json!({ "prompt": problem.prompt(), "answer": problem.answer() }).to_string() + "\n"
        };
        fs::write(&prompts, (0..4000).map(line).collect::<String>())?;
        let dir = self.folder.join(name.replace([' ', ','], "-"));
        let mut layers = PpoConfig::defaults(Path::new("process"));
        layers.merge(PPO.parse()?);
        for (key, value) in [
            ("run.dir", path(&dir)),
            ("run.seed", self.seed.to_string()),
            ("model.path", path(&self.policy)),
            ("data.train", path(&prompts)),
            ("score", format!("[{}]", scores.join(", ")).replace("PATH", &path(&self.process))),
        ] {
            layers.set(&format!("{key}={value}"))?;
        }
        let loaded = PpoConfig::from_layers(layers)?;
        let outcome = ppo::run(Cpu::new(), &loaded, Start::Resume, &mut Silent)?;
        let metrics = fs::read_to_string(dir.join("metrics.jsonl"))?;
        let tokens = |line: &str| {
            let record: Value = serde_json::from_str(line).ok()?;
            record.get("completion_tokens")?.as_u64()
        };
        Ok((outcome.model_dir, metrics.lines().filter_map(tokens).sum()))
    }

    fn measure_policy(
        &self,
        rewarded_by: &'static str,
        model: &Model<Cpu>,
        tokens: u64,
    ) -> Result<Trained> {
        let mut rng = Seeds::new(self.seed).stream("policies", 0);
        let problems: Vec<Problem> =
            (0..MEASURED.0).map(|_| Problem::draw(&mut rng, TERMS)).collect();
        let all = self.sample(model, &problems, MEASURED.1, "policies")?;
        let (mut accuracy, mut steps) = (Vec::new(), 0.0);
        for (problem, answers) in problems.iter().zip(&all) {
            let right = answers.iter().filter(|answer| problem.is_solved(answer)).count();
            accuracy.push(right as f64 / answers.len() as f64);
            steps += answers.iter().map(|answer| steps_of(answer).len() as f64).sum::<f64>();
        }
        let steps = steps / (MEASURED.0 * MEASURED.1) as f64;
        Ok(Trained { rewarded_by, accuracy, tokens, steps })
    }

    fn measure_set(
        &self,
        model: &Model<Cpu>,
        [process, outcome]: &[Scorer<Cpu>; 2],
        (terms, what): (std::ops::RangeInclusive<usize>, &str),
        options: &Options,
    ) -> Result<Set> {
        let mut rng = Seeds::new(self.seed).stream(what, 1);
        let problems: Vec<Problem> =
            (0..options.problems).map(|_| Problem::draw(&mut rng, terms.clone())).collect();
        let all = self.sample(model, &problems, options.samples, what)?;
        let mut firsts = Vec::new();
        let ways = [
            ("majority", Choice::Majority, 0),
            ("best by process", Choice::Best, 0),
            ("weighted by process", Choice::Weighted, 0),
            ("best by outcome", Choice::Best, 1),
            ("weighted by outcome", Choice::Weighted, 1),
            ("any is right", Choice::Oracle, 0),
        ];
        let ns: Vec<usize> = CHOICES.into_iter().filter(|n| *n <= options.samples).collect();
        let mut accuracy: Vec<(String, usize, Vec<f64>)> = ways
            .iter()
            .flat_map(|(name, ..)| ns.iter().map(|n| ((*name).to_owned(), *n, Vec::new())))
            .collect();
        for (problem, answers) in problems.iter().zip(&all) {
            let of_steps = self.scores(process, problem, answers)?;
            for (answer, (_, scores)) in answers.iter().zip(&of_steps).take(LABELLED.1) {
                let truth = problem.judge(&steps_of(answer));
                let expected = truth.iter().position(|right| !right);
                let found = scores.iter().position(|score| *score < 0.5);
                firsts.push(FirstError { expected, found });
            }
            let of_whole = self.scores(outcome, problem, answers)?;
            let answers_said: Vec<Option<String>> = answers.iter().map(said).collect();
            let groups = groups_of(Verifier::Exact, &answers_said);
            let candidates = |scores: &[(f64, Vec<f64>)]| -> Vec<Candidate> {
                let one = |index: usize| Candidate {
                    group: groups[index],
                    score: scores[index].0,
                    right: problem.is_solved(&answers[index]),
                };
                (0..answers.len()).map(one).collect()
            };
            let by = [candidates(&of_steps), candidates(&of_whole)];
            for (way, (_, choice, which)) in ways.iter().enumerate() {
                for (at, &n) in ns.iter().enumerate() {
                    let found = accuracy_of_choice(&by[*which], *choice, n, ROUNDS, &mut rng);
                    accuracy[way * ns.len() + at].2.push(found.ok_or("enough answers")?);
                }
            }
        }
        let found = first_error_scores(&firsts, 500, &mut rng);
        let f1 = json!({ "f1": found.f1, "of_wrong": found.erroneous, "of_right": found.correct });
        Ok(Set { accuracy, f1 })
    }

    /// A score in [0, 1] of each answer, and those of its steps.
    fn scores(
        &self,
        scorer: &Scorer<Cpu>,
        problem: &Problem,
        answers: &[Answer],
    ) -> Result<Vec<(f64, Vec<f64>)>> {
        let prompt = self.tokenizer.encode(&problem.prompt(), Bos::AsConfigured)?;
        let tokens: Vec<StepTokens> = answers
            .iter()
            .map(|answer| {
                scorer.tokens(&self.tokenizer, (&prompt, true), &answer.text, answer.ended)
            })
            .collect::<std::result::Result<_, _>>()?;
        let reads_steps = scorer.separator().is_some();
        let is_read = |one: &&StepTokens| !reads_steps || !one.ends.is_empty();
        let read: Vec<StepTokens> = tokens.iter().filter(is_read).cloned().collect();
        let mut scored = scorer.scores(&read, StepAggregation::Product, 8192).into_iter();
        let score = |one: &StepTokens| {
            if !is_read(&one) {
                return (0.0, Vec::new());
            }
            let found = scored.next().expect("a score for each");
            match found.steps {
                Some(steps) => (found.score, steps),
                None => (1.0 / (1.0 + (-found.score).exp()), Vec::new()),
            }
        };
        Ok(tokens.iter().map(score).collect())
    }

    /// Labels by completions against the truth, which is whether all is right up to a step; and how fast they come
    /// beside completions that share nothing.
    fn measure_rollouts(&self, model: &Model<Cpu>) -> Result<(Vec<Value>, Value)> {
        let mut rng = Seeds::new(self.seed).stream("rollouts", 0);
        let problems: Vec<Problem> = (0..80).map(|_| Problem::draw(&mut rng, TERMS)).collect();
        let answers = self.sample(model, &problems, 1, "to label")?;
        let steps: Vec<Vec<String>> = answers.iter().map(|of| steps_of(&of[0])).collect();
        let sums: Vec<String> =
            problems.iter().map(|problem| problem.answer().to_string()).collect();
        let mut solutions = Vec::new();
        for ((problem, steps), sum) in problems.iter().zip(&steps).zip(&sums) {
            let prompt = self.tokenizer.encode(&problem.prompt(), Bos::AsConfigured)?;
            let tokens = encode_steps(&self.tokenizer, &prompt, steps, "\n")?;
            if !steps.is_empty() {
                solutions.push((problem, Unlabelled { tokens, steps, answer: sum }));
            }
        }
        let unlabelled: Vec<Unlabelled<'_>> =
            solutions.iter().map(|(_, one)| one.clone()).collect();
        let sampling = sampling();
        let mut found = Vec::new();
        let (mut shared_s, mut tokens) = (0.0, 0);
        for count in [1, 2, 4, 8, 16] {
            let rollouts = Rollouts {
                count,
                sampling: &sampling,
                verifier: Verifier::Numeric,
                separator: "\n",
                seed: self.seed,
            };
            let began = Instant::now();
            tokens = 0;
            let labels =
                by_rollouts((model, &self.tokenizer), &unlabelled, &rollouts, &mut |_| {
                    tokens += 1;
                    ControlFlow::Continue(())
                })?;
            shared_s = began.elapsed().as_secs_f64();
            let (mut hard, mut soft, mut all) = (0, 0, 0);
            for ((problem, solution), labels) in solutions.iter().zip(&labels) {
                let truth = problem.judge(solution.steps);
                let mut is_right = true;
                for (label, right) in labels.iter().zip(truth) {
                    is_right &= right;
                    all += 1;
                    hard += usize::from((0.0 < label.hard()) == is_right);
                    soft += usize::from((0.5 <= label.soft()) == is_right);
                }
            }
            found.push(json!({
                "completions": count, "steps": all,
                "hard": wilson(hard as f64, all), "soft_at_half": wilson(soft as f64, all),
            }));
        }
        let speed = self.measure_speed(model, &unlabelled, (shared_s, tokens))?;
        Ok((found, speed))
    }

    /// The same completions, each with a prompt of its own that is computed by itself.
    fn measure_speed(
        &self,
        model: &Model<Cpu>,
        unlabelled: &[Unlabelled<'_>],
        (shared_s, tokens): (f64, usize),
    ) -> Result<Value> {
        let sampling = sampling();
        let requests: Vec<Request> = unlabelled
            .iter()
            .flat_map(|solution| {
                let ends = &solution.tokens.ends;
                ends[..ends.len() - 1].iter().flat_map(|end| {
                    let prompt_ids = solution.tokens.ids[..=*end].to_vec();
                    (0..16).map(move |seed| Request {
                        prompt_ids: prompt_ids.clone(),
                        samples: 1,
                        seed,
                    })
                })
            })
            .collect();
        let alone = EngineOptions { page_len: 128, ..EngineOptions::default() };
        let began = Instant::now();
        let completions =
            generate_with(model, Some(&self.tokenizer), &requests, &sampling, &alone, &mut |_| {
                ControlFlow::Continue(())
            })?;
        let alone_s = began.elapsed().as_secs_f64();
        let alone_tokens: usize = completions.iter().flatten().map(|one| one.ids.len()).sum();
        let ended = completions
            .iter()
            .flatten()
            .filter(|one| one.stop_reason == StopReason::EndOfText)
            .count();
        let per_token = |seconds: f64, tokens: usize| seconds / tokens.max(1) as f64;
        Ok(json!({
            "completions": requests.len(), "ended": ended,
            "shared_s": shared_s, "alone_s": alone_s,
            "ratio_per_token": per_token(alone_s, alone_tokens) / per_token(shared_s, tokens),
        }))
    }
}

/// Warm enough that the policy errs in every other step: at temperature 1 it is right.
fn sampling() -> Sampling {
    Sampling { temperature: 1.5, ..Sampling::greedy(72) }
}

/// Means over seeds and problems, and differences problem by problem.
fn results(options: &Options, found: &[Found]) -> Value {
    let pooled = |set: usize, name: &str, n: usize| -> Vec<f64> {
        let of = |found: &Found| -> Vec<f64> {
            let mut all = found.sets[set].accuracy.iter();
            all.find(|one| one.0 == name && one.1 == n).map_or_else(Vec::new, |one| one.2.clone())
        };
        found.iter().flat_map(of).collect()
    };
    let sets: Vec<Value> = ["3 to 5 numbers, as in training", "6 or 7 numbers, more than in training"]
        .iter()
        .enumerate()
        .map(|(set, name)| {
            let first = &found[0].sets[set].accuracy;
            let curves: Vec<Value> = first
                .iter()
                .map(|(way, n, _)| json!({ "chosen_by": way, "n": n, "accuracy": mean(&pooled(set, way, *n)) }))
                .collect();
            let n = 16.min(options.samples);
            let less = |a: &str, b: &str| {
                let (treatment, control) = (pooled(set, a, n), pooled(set, b, n));
                paired_difference(Paired { treatment: &treatment, control: &control })
            };
            json!({
                "problems": name,
                "curves": curves,
                "differences": {
                    "n": n,
                    "weighted by process less majority": less("weighted by process", "majority"),
                    "weighted by process less weighted by outcome": less("weighted by process", "weighted by outcome"),
                    "best by process less best by outcome": less("best by process", "best by outcome"),
                },
                "first_error": found.iter().map(|one| one.sets[set].f1.clone()).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "policies": policies(found),
        "ppo": PPO.trim(),
        "task": format!(
            "sums of several numbers from 1 to 9, step by step; a policy of 4 layers of width 64 after {DEMONSTRATIONS} \
             demonstrations; reward models from the same model on {} sampled solutions whose steps a program judged; \
             {} problems of each length and seed, {} answers each at temperature 1.5",
            LABELLED.0 * LABELLED.1, options.problems, options.samples
        ),
        "intervals": "Student's t over problems of all seeds, 95 %; differences are paired by problem; F1 by bootstrap over solutions, a row for each seed",
        "sft": SFT.trim(),
        "reward": REWARD.trim(),
        "seeds": options.seeds,
        "sets": sets,
        "labels_by_completions": found.iter().map(|one| json!({ "seed": one.seed, "accuracy": one.rollouts, "speed": one.speed })).collect::<Vec<_>>(),
    })
}

/// What PPO by each reward comes to, at the same number of steps and completions.
fn policies(found: &[Found]) -> Value {
    let pooled = |which: usize| -> Vec<f64> {
        found.iter().flat_map(|one| one.policies[which].accuracy.iter().copied()).collect()
    };
    let rows: Vec<Value> = (0..=REWARDS.len())
        .map(|which| {
            let of_seeds = |value: fn(&Trained) -> f64| -> Vec<f64> {
                found.iter().map(|one| value(&one.policies[which])).collect()
            };
            let by_seed =
                of_seeds(|one| one.accuracy.iter().sum::<f64>() / one.accuracy.len() as f64);
            json!({
                "rewarded_by": found[0].policies[which].rewarded_by,
                "accuracy": mean(&pooled(which)),
                "by_seed": by_seed,
                "sampled_tokens": of_seeds(|one| one.tokens as f64),
                "steps_of_an_answer": of_seeds(|one| one.steps),
            })
        })
        .collect();
    let less = |a: usize, b: usize| {
        let (treatment, control) = (pooled(a), pooled(b));
        paired_difference(Paired { treatment: &treatment, control: &control })
    };
    json!({
        "measured_on": { "problems": MEASURED.0, "answers": MEASURED.1 },
        "rows": rows,
        "process after every step less at the end": less(1, 2),
        "the right sum and process less the right sum": less(4, 3),
    })
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
fn path(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}

/// A tokenizer of single characters and a Llama with random weights.
fn write_base(dir: &Path, seeds: Seeds) -> Result<()> {
    let special = SpecialTokens::default();
    // Room for bytes and special tokens alone: nothing is merged.
    let characters = (256..300).find_map(|vocab| {
        Tokenizer::train_bpe(["0+1=2\n".to_owned()].into_iter(), vocab, &special).ok()
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
        "max_position_embeddings": 128,
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
