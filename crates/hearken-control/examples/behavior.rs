//! What policies do on rewards that are learned: what `cargo xtask results behavior` writes to docs/results/behavior.json.
//!
//! A reward model that learned once, from what the policy did before it had learned anything, against one that goes on learning
//! from what the policy does, by as many queries; once by the state and once by pixels. And a behavior that no reward of the environment asks
//! for, learned from comparisons alone: a pendulum that spins. Runs that have finished in the folder are not run again.
//!
//! ```sh
//! cargo run --release -p hearken-control --example behavior -- --dir DIR --out FILE [PART...]
//! ```
#![allow(clippy::print_stderr, reason = "an experiment says how far it is")]

mod learned;
mod parts;

use std::f64::consts::TAU;
use std::path::Path;

use hearken_control::clip::film;
use hearken_control::config::Recipe;
use hearken_control::demonstrations::{Manner, demonstrate};
use hearken_control::saved::Acting;
use hearken_run::seeds::Seeds;
use hearken_stats::mean::mean;
use serde_json::{Value, json};

use learned::{Bench, EPISODES, EPISODES_SEED, Place};
use parts::{Outcome, Part, measure as measure_parts};

/// Seeds of every row.
const SEEDS: u64 = 5;

const PENDULUM: Place = Place {
    environment: "Pendulum-v1",
    algorithm: "sac",
    recipe: Recipe::Sac,
    settings: &["train.environment_steps=10000"],
};

/// The means of what the first and the last tenth of a run's iterations have under a name.
fn both_ends(dir: &Path, name: &str) -> Outcome<[f64; 2]> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl"))?;
    let records: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let values: Vec<f64> = records.iter().filter_map(|record| record[name].as_f64()).collect();
    let tenth = (values.len() / 10).max(1);
    if values.is_empty() {
        return Err(format!("{}: found no {name}", dir.display()).into());
    }
    let of = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    Ok([of(&values[..tenth]), of(&values[values.len() - tenth..])])
}

/// Where a reward model that learned once is compared with one that goes on, by the same queries.
#[derive(Clone, Copy)]
struct Comparison {
    place: Place,
    /// Settings of both.
    settings: &'static [&'static str],
}

const PENDULUM_COMPARISON: Comparison = Comparison {
    place: PENDULUM,
    settings: &["preference.labels=100", "preference.schedule=constant", "preference.round=5"],
};
const DOT_COMPARISON: Comparison = Comparison {
    place: Place {
        environment: "MovingDot-v0",
        algorithm: "ppo",
        recipe: Recipe::Ppo,
        settings: &["train.environment_steps=30000"],
    },
    settings: &["preference.labels=100", "preference.schedule=constant", "preference.round=10"],
};

/// The environment's own reward, a reward model that goes on learning, and one that learned once.
fn hacking(bench: &Bench, comparison: Comparison) -> Outcome<Vec<Value>> {
    let Comparison { place, settings } = comparison;
    let learned = |when: &str| -> Vec<String> {
        settings.iter().copied().chain([when]).map(str::to_owned).collect()
    };
    let arms = [
        ("own", Vec::new()),
        ("online", learned("preference.initial=0.25")),
        ("offline", learned("preference.initial=1")),
    ];
    let mut rows = Vec::new();
    for (arm, settings) in arms {
        let name = format!("{}-{arm}", place.environment);
        let returns = bench.by_seed(&name, place, &settings, SEEDS)?;
        let mut row = json!({
            "environment": place.environment,
            "reward": arm,
            "return": mean(&returns),
            "return_by_seed": returns,
        });
        if arm != "own" {
            add_ends(&mut row, &bench.dir, &name)?;
        }
        eprintln!("{row}");
        rows.push(row);
    }
    Ok(rows)
}

/// What the reward model and the teacher say at both ends of a row's runs.
fn add_ends(row: &mut Value, dir: &Path, name: &str) -> Outcome<()> {
    for metric in ["learned_reward", "utility", "utility_correlation"] {
        let of = |seed: u64| {
            both_ends(&dir.join(format!("{name}-{seed}")), &format!("preference/{metric}"))
        };
        let ends: Vec<[f64; 2]> = (0..SEEDS).map(of).collect::<Outcome<_>>()?;
        for (end, at) in [("first", 0), ("last", 1)] {
            let values: Vec<f64> = ends.iter().map(|of_run| of_run[at]).collect();
            row[format!("{metric}_{end}_tenth")] = json!(mean(&values));
        }
    }
    Ok(())
}

/// Turns per episode of a policy with its likeliest actions; those to and fro cancel.
fn turns(acting: &Acting) -> Outcome<f64> {
    const SECONDS: f64 = 0.05;
    let seeds = Seeds::new(EPISODES_SEED);
    let episodes = demonstrate(acting, &acting.environment, EPISODES, Manner::Likeliest, seeds)?;
    // cos θ, sin θ, θ̇; the first one is where an episode begins.
    let seen = episodes.iter().flat_map(|episode| episode.observations.chunks(3).skip(1));
    let total: f64 = seen.map(|seen| f64::from(seen[2])).sum();
    Ok(total * SECONDS / TAU / EPISODES as f64)
}

/// A teacher that wants the pendulum to turn; the environment's reward wants it to stand.
fn spin(bench: &Bench) -> Outcome<Vec<Value>> {
    let arms: [(&str, &[&str]); 2] = [
        ("own", &[]),
        (
            "comparisons",
            &[
                "preference.labels=100",
                "preference.schedule=constant",
                "preference.utility={theta_dot=1}",
            ],
        ),
    ];
    let mut rows = Vec::new();
    for (arm, settings) in arms {
        let mut by_seed = Vec::new();
        for seed in 0..SEEDS {
            let seeded = format!("run.seed={seed}");
            let settings = [&[seeded.as_str()], settings].concat();
            let settings: Vec<String> = settings.into_iter().map(str::to_owned).collect();
            let acting = bench.policy(&format!("spin-{arm}-{seed}"), PENDULUM, &settings)?;
            by_seed.push(turns(&acting)?);
            if arm == "comparisons" && seed == 0 {
                let clip = film(&acting, &acting.environment, 100, Seeds::new(0))?;
                std::fs::write(bench.dir.join("spin.png"), clip.apng(20)?)?;
            }
        }
        let row = json!({
            "environment": PENDULUM.environment,
            "reward": arm,
            "turns_per_episode": mean(&by_seed),
            "turns_by_seed": by_seed,
        });
        eprintln!("{row}");
        rows.push(row);
    }
    Ok(rows)
}

/// The parts of the results, by name.
const PARTS: [Part<Bench>; 3] = [
    ("Pendulum-v1 offline and online", |bench| hacking(bench, PENDULUM_COMPARISON)),
    ("MovingDot-v0 offline and online", |bench| hacking(bench, DOT_COMPARISON)),
    ("Pendulum-v1 that spins", spin),
];

fn main() -> Outcome<()> {
    let about = [("seeds", json!(SEEDS)), ("episodes_of_an_evaluation", json!(EPISODES))];
    measure_parts(&PARTS, |dir| Bench { dir }, &about)
}
