//! Arithmetic, step by step: reward models of steps and of outcomes against voting, labels by completions
//! against exact ones, PPO by rewards of steps. A program knows which step is right, so that everything is measured
//! against the truth.
//!
//! ```sh
//! cargo run --release -p hearken-recipes --example process -- --out docs/results/process.json
//! ```
//!
//! `--seeds 1,2` are the repetitions: each draws problems, weights and samples anew. `--dir DIR` keeps the runs (default:
//! a temporary folder); what has finished there is not run again. `--problems N` and `--samples N` are those of the
//! evaluation.
#![allow(clippy::print_stderr, reason = "a program that says how far it is")]

mod choosing;
mod labels;
mod policies;
mod problem;
mod world;

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use choosing::{Judge, Set};
use policies::Trained;
use world::{DEMONSTRATIONS, EXAMPLES, LABELLED, MORE_STEPS, SAMPLES, STEPS, World};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Options {
    out: Option<PathBuf>,
    dir: Option<PathBuf>,
    seeds: Vec<u64>,
    problems: usize,
    samples: usize,
}

/// What is measured of one seed.
struct Found {
    /// Of problems as long as those of training, and of longer ones.
    sets: [Set; 2],
    labels: Value,
    policies: Vec<Trained>,
}

fn main() -> Result<()> {
    let options = options()?;
    let temporary = tempfile::tempdir()?;
    let dir = options.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let mut found = Vec::new();
    for &seed in &options.seeds {
        let began = Instant::now();
        let so_far =
            |what: &str| eprintln!("seed {seed}: {what}: {:.0} s", began.elapsed().as_secs_f64());
        let world = World::new(&dir.join(seed.to_string()), seed)?;
        so_far("policy");
        let model = world.load()?;
        let judges = Judge::all(&world)?;
        so_far("reward models");
        let by = (&model, judges.as_slice());
        let sets = [
            choosing::measure(&world, by, (STEPS, "short"), &options)?,
            choosing::measure(&world, by, (MORE_STEPS, "long"), &options)?,
        ];
        so_far("answers");
        let labels = labels::measure(&world, &model)?;
        so_far("labels");
        let policies = policies::measure(&world, &model)?;
        so_far("PPO");
        found.push(Found { sets, labels, policies });
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
    let mut options = Options { out: None, dir: None, seeds, problems: 240, samples: 64 };
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

fn results(options: &Options, found: &[Found]) -> Value {
    let set = |(index, name): (usize, &str)| {
        let sets: Vec<&Set> = found.iter().map(|one| &one.sets[index]).collect();
        choosing::report(name, &sets, options)
    };
    let lengths =
        ["3 to 5 steps, as in labelled solutions", "6 to 9 steps, more than in labelled solutions"];
    let policies: Vec<&[Trained]> = found.iter().map(|one| one.policies.as_slice()).collect();
    json!({
        "task": format!(
            "the last digit of a product, with 4 added, is multiplied again, in several steps, each of which says what is left to \
             do; a policy of 4 layers of width 64 after {DEMONSTRATIONS} demonstrations of 3 to 9 steps, one in eight behind \
             {EXAMPLES} solved problems, which tell one of six products wrongly six times in ten; reward models from the same \
             model on {LABELLED:?} of its solutions of 3 to 5 steps ({SAMPLES} to each problem, behind 0 to {EXAMPLES} solved \
             problems), whose steps a program judged up to the first wrong one; {} problems of each length and seed, {} answers \
             each at temperature 1",
            options.problems, options.samples
        ),
        "intervals": "Student's t over problems of all seeds, 95 %; differences are paired by problem; F1 by bootstrap over solutions, a row for each seed",
        "sft": world::SFT.trim(),
        "reward": world::REWARD.trim(),
        "ppo": policies::PPO.trim(),
        "seeds": options.seeds,
        "sets": lengths.into_iter().enumerate().map(set).collect::<Vec<_>>(),
        "labels_by_completions": found.iter().map(|one| &one.labels).collect::<Vec<_>>(),
        "policies": policies::report(&policies),
    })
}
