//! Return against number of labels, teacher and selection of the queries: what `cargo xtask results labels` writes to
//! docs/results/labels.json.
//!
//! One thing varies at a time around a fixed center: Pendulum-v1 by PEBBLE with 20 queries of the oracle, chosen by
//! disagreement. Returns are normalized, (R − random)/(true − random), where "random" is a policy that nobody has trained and "true"
//! the same algorithm on the environment's reward. Runs that have finished in the folder are not run again.
//!
//! ```sh
//! cargo run --release -p hearken-control --example labels -- --dir DIR --out FILE [PART...]
//! ```
#![allow(clippy::print_stderr, reason = "an experiment says how far it is")]

mod learned;
mod parts;

use hearken_control::config::Recipe;
use hearken_control::demonstrations::{Manner, demonstrate};
use hearken_run::seeds::Seeds;
use hearken_stats::bootstrap::bootstrap;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use learned::{Bench, EPISODES, EPISODES_SEED, Place};
use parts::{Outcome, Part, measure as measure_parts};

/// Seeds of every row.
const SEEDS: u64 = 5;
/// Samples of an interval.
const ROUNDS: usize = 10_000;
/// Queries of the center.
const LABELS: usize = 20;
/// Rounds in which queries are made, about.
const QUERY_ROUNDS: usize = 20;
/// Passes over the comparisons after a round, with up to so many queries; with more queries there are fewer, so that a reward
/// model is updated about as often.
const PASSES: usize = 50;
const PASSES_LABELS: usize = 200;

const PENDULUM: Place = Place {
    environment: "Pendulum-v1",
    algorithm: "sac",
    recipe: Recipe::Sac,
    settings: &["train.environment_steps=10000"],
};
const PENDULUM_BY_PPO: Place =
    Place { environment: "Pendulum-v1", algorithm: "ppo", recipe: Recipe::Ppo, settings: &[] };
const CART_POLE: Place = Place {
    environment: "CartPole-v1",
    algorithm: "ppo",
    recipe: Recipe::Comparisons,
    settings: &[],
};
/// The same with episodes of one length, which says nothing about how good they were.
const FIXED_CART_POLE: Place = Place {
    environment: "fixed/CartPole-v1",
    algorithm: "ppo",
    recipe: Recipe::Comparisons,
    settings: &["ppo.steps=500"],
};

/// A part of the table: where, and what the center has there besides.
#[derive(Clone, Copy)]
struct Center {
    place: Place,
    settings: &'static [&'static str],
}

const PENDULUM_CENTER: Center = Center {
    place: PENDULUM,
    settings: &["preference.schedule=constant", "preference.unsupervised_steps=1000"],
};
const PENDULUM_BY_PPO_CENTER: Center = Center { place: PENDULUM_BY_PPO, settings: &[] };
const CART_POLE_CENTER: Center = Center { place: CART_POLE, settings: &[] };
const FIXED_CART_POLE_CENTER: Center = Center { place: FIXED_CART_POLE, settings: &[] };

/// Mean returns of a policy that has learned nothing, and of those that have learned by the environment's reward, by seed.
fn bounds(bench: &Bench, place: Place) -> Outcome<(f64, Vec<f64>)> {
    let id = name_of(place);
    let nothing = ["train.environment_steps=1", "optimizer.lr=1e-12"].map(str::to_owned);
    let acting = bench.policy(&format!("{id}-nothing"), place, &nothing)?;
    let seeds = Seeds::new(EPISODES_SEED);
    let episodes = demonstrate(&acting, &acting.environment, EPISODES, Manner::Sampled, seeds)?;
    let total: f64 = episodes.iter().flat_map(|episode| &episode.rewards).sum();
    let best = bench.by_seed(&format!("{id}-true"), place, &[], SEEDS)?;
    Ok((total / EPISODES as f64, best))
}

/// What runs of a place are named by.
fn name_of(place: Place) -> String {
    format!("{}-{}", place.environment.replace('/', "-"), place.algorithm)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// A row: the center with something changed.
fn row(bench: &Bench, center: Center, varied: &[(&str, String)]) -> Outcome<Value> {
    let Center { place, settings } = center;
    let (random, best) = bounds(bench, place)?;
    let labels = varied.iter().find(|(key, _)| *key == "labels");
    let labels = labels.map_or(Ok(LABELS), |(_, value)| value.parse())?;
    let mut settings: Vec<String> = settings.iter().map(|text| (*text).to_owned()).collect();
    settings.push(format!("preference.labels={labels}"));
    settings.push(format!("preference.round={}", (labels / QUERY_ROUNDS).max(1)));
    settings
        .push(format!("preference.epochs={}", PASSES * PASSES_LABELS / labels.max(PASSES_LABELS)));
    settings.extend(varied.iter().map(|(key, value)| format!("preference.{key}={value}")));
    let named: Vec<&str> = varied.iter().map(|(_, value)| value.as_str()).collect();
    let name = format!("{}-{}", name_of(place), named.join("-"));
    let returns = bench.by_seed(&name, place, &settings, SEEDS)?;
    let of = |found: &f64| (found - random) / (mean(&best) - random);
    let normalized: Vec<f64> = returns.iter().map(of).collect();
    let of_sample =
        |sample: &[&f64]| Some(sample.iter().copied().sum::<f64>() / sample.len() as f64);
    let interval = bootstrap(&normalized, of_sample, ROUNDS, &mut ChaCha8Rng::seed_from_u64(0));
    let mut row = json!({
        "environment": place.environment,
        "algorithm": place.algorithm,
        "labels": labels,
        "random": random,
        "true_by_seed": best,
        "true": mean(&best),
        "normalized_return": interval,
        "normalized_by_seed": normalized,
        "return_by_seed": returns,
    });
    for (key, value) in varied {
        row[*key] = json!(value);
    }
    row["labels"] = json!(labels);
    eprintln!("{row}");
    Ok(row)
}

fn rows(bench: &Bench, center: Center, key: &str, values: &[&str]) -> Outcome<Vec<Value>> {
    values.iter().map(|value| row(bench, center, &[(key, (*value).to_owned())])).collect()
}

/// SURF with few labels, each row with what the rows by labels do not have.
fn surf(bench: &Bench) -> Outcome<Vec<Value>> {
    let of = |labels: &str| {
        let settings = [("labels", labels), ("pseudo_labels", "4"), ("crop", "10")];
        row(bench, PENDULUM_CENTER, &settings.map(|(key, value)| (key, value.to_owned())))
    };
    ["10", "20"].into_iter().map(of).collect()
}

/// The parts of the results, by name.
const PARTS: [Part<Bench>; 7] = [
    ("Pendulum-v1 by labels", |bench| {
        rows(bench, PENDULUM_CENTER, "labels", &["20", "10", "50", "100", "200", "500", "1400"])
    }),
    ("CartPole-v1 by labels", |bench| rows(bench, CART_POLE_CENTER, "labels", &["700"])),
    ("CartPole-v1 of fixed length", |bench| {
        rows(bench, FIXED_CART_POLE_CENTER, "labels", &["700"])
    }),
    ("Pendulum-v1 by teacher", |bench| {
        let teachers = ["stochastic", "mistake", "skip", "equal", "myopic"];
        rows(bench, PENDULUM_CENTER, "teacher", &teachers)
    }),
    ("Pendulum-v1 by selection", |bench| {
        let selections = ["random", "entropy", "information_gain", "k_center"];
        rows(bench, PENDULUM_CENTER, "selection", &selections)
    }),
    ("Pendulum-v1 with pseudo-labels", surf),
    ("Pendulum-v1 by PPO", |bench| rows(bench, PENDULUM_BY_PPO_CENTER, "labels", &["200"])),
];

fn main() -> Outcome<()> {
    let about = [("seeds", json!(SEEDS)), ("episodes_of_an_evaluation", json!(EPISODES))];
    measure_parts(&PARTS, |dir| Bench { dir }, &about)
}
