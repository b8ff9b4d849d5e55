//! Return against number of labels, teacher and selection of the queries: what `cargo xtask results labels` writes to
//! docs/results/labels.json.
//!
//! One thing varies at a time around a fixed center: Pendulum-v1 by PEBBLE with 200 queries of the oracle, chosen by
//! disagreement. Returns are normalized, (R − random)/(true − random), where "random" is a policy that nobody has trained and "true"
//! the same algorithm on the environment's reward. Runs that have finished in the folder are not run again.
//!
//! ```sh
//! cargo run --release -p hearken-control --example labels -- --dir DIR --out FILE [PART...]
//! ```
#![allow(clippy::print_stderr, reason = "an experiment says how far it is")]

mod parts;

use std::path::{Path, PathBuf};

use hearken_config::{Configuration as _, Layers};
use hearken_control::config::ControlConfig;
use hearken_control::demonstrations::{Manner, demonstrate};
use hearken_control::evaluation::play;
use hearken_control::saved::Acting;
use hearken_control::train::run;
use hearken_env::EnvironmentId;
use hearken_run::progress::Silent;
use hearken_run::run_dir::Start;
use hearken_run::seeds::Seeds;
use hearken_stats::bootstrap::bootstrap;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use parts::{Outcome, Part, measure as measure_parts};

/// Seeds of every row.
const SEEDS: u64 = 5;
/// Episodes that a policy is measured over.
const EPISODES: usize = 100;
/// Samples of an interval.
const ROUNDS: usize = 10_000;

/// What a row is about: an environment, how it is learned in, and what differs from the center.
#[derive(Clone, Copy)]
struct Place {
    environment: &'static str,
    algorithm: &'static str,
    /// Settings of every run there, with the environment's reward too.
    settings: &'static [&'static str],
    /// Settings of the center besides.
    center: &'static [&'static str],
}

const PENDULUM: Place = Place {
    environment: "Pendulum-v1",
    algorithm: "sac",
    settings: &[],
    center: &["preference.schedule=constant", "preference.unsupervised_steps=1000"],
};
/// Episodes of CartPole say by their length how good they were, so that they are given one.
const CART_POLE: Place = Place {
    environment: "fixed/CartPole-v1",
    algorithm: "ppo",
    settings: &["train.environment_steps=150000", "ppo.steps=256"],
    center: &["preference.schedule=constant"],
};

/// Where runs are.
struct Bench {
    dir: PathBuf,
}

impl Bench {
    /// The mean return of a run on these settings; one that has finished is only measured.
    fn learn(&self, name: &str, place: Place, settings: &[String]) -> Outcome<f64> {
        let acting = self.policy(name, place, settings)?;
        let episodes = play(&acting, &acting.environment, EPISODES, Seeds::new(1000))?;
        let total: f64 = episodes.iter().map(|episode| episode.total).sum();
        Ok(total / episodes.len() as f64)
    }

    fn policy(&self, name: &str, place: Place, settings: &[String]) -> Outcome<Acting> {
        let id: EnvironmentId = place.environment.parse()?;
        let mut layers = Layers::new(ControlConfig::DEFAULTS, Path::new("control.toml"));
        layers.merge(ControlConfig::tuned(&id, place.algorithm == "sac").parse()?);
        let dir = self.dir.join(name);
        layers.set(&format!("environment.id={id}"))?;
        layers.set(&format!("run.dir={}", dir.display()))?;
        layers.set(&format!("train.algorithm={}", place.algorithm))?;
        layers.set("train.save_minutes=0")?;
        layers.set("train.eval_episodes=1")?;
        place.settings.iter().try_for_each(|text| layers.set(text))?;
        settings.iter().try_for_each(|text| layers.set(text))?;
        if !dir.join("final").exists() {
            eprintln!("{name}");
            run(&ControlConfig::from_layers(layers)?, Start::Fresh, &mut Silent)?;
        }
        Ok(Acting::load_run(&dir)?)
    }

    /// Mean returns of a policy that has learned nothing, and of those that have learned by the environment's reward.
    fn bounds(&self, place: Place) -> Outcome<[f64; 2]> {
        let id = place.environment.replace('/', "-");
        let nothing = ["train.environment_steps=1", "optimizer.lr=1e-12"].map(str::to_owned);
        let acting = self.policy(&format!("{id}-nothing"), place, &nothing)?;
        let seeds = Seeds::new(1000);
        let episodes = demonstrate(&acting, &acting.environment, EPISODES, Manner::Sampled, seeds)?;
        let total: f64 = episodes.iter().flat_map(|episode| &episode.rewards).sum();
        let mut best = 0.0;
        for seed in 0..SEEDS {
            let seeded = [format!("run.seed={seed}")];
            best += self.learn(&format!("{id}-true-{seed}"), place, &seeded)? / SEEDS as f64;
        }
        Ok([total / EPISODES as f64, best])
    }

    /// A row: the center with one thing changed.
    fn row(&self, place: Place, varied: &[(&str, String)]) -> Outcome<Value> {
        let [random, best] = self.bounds(place)?;
        let mut settings: Vec<String> =
            place.center.iter().map(|text| (*text).to_owned()).collect();
        settings.push("preference.labels=200".to_owned());
        settings.extend(varied.iter().map(|(key, value)| format!("preference.{key}={value}")));
        let named: Vec<String> = varied.iter().map(|(_, value)| value.clone()).collect();
        let id = place.environment.replace('/', "-");
        let mut returns = Vec::new();
        for seed in 0..SEEDS {
            let name = format!("{id}-{}-{seed}", named.join("-"));
            let seeded = [&[format!("run.seed={seed}")], settings.as_slice()].concat();
            returns.push(self.learn(&name, place, &seeded)?);
        }
        let normalized: Vec<f64> =
            returns.iter().map(|found| (found - random) / (best - random)).collect();
        let mean =
            |sample: &[&f64]| Some(sample.iter().copied().sum::<f64>() / sample.len() as f64);
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let interval = bootstrap(&normalized, mean, ROUNDS, &mut rng);
        let mut row = json!({
            "environment": place.environment,
            "algorithm": place.algorithm,
            "random": random,
            "true": best,
            "normalized_return": interval,
            "normalized_by_seed": normalized,
            "return_by_seed": returns,
        });
        for (key, value) in varied {
            row[*key] = json!(value);
        }
        eprintln!("{row}");
        Ok(row)
    }

    fn rows(&self, place: Place, key: &str, values: &[&str]) -> Outcome<Vec<Value>> {
        values.iter().map(|value| self.row(place, &[(key, (*value).to_owned())])).collect()
    }
}

/// The parts of the results, by name.
const PARTS: [Part<Bench>; 4] = [
    ("Pendulum-v1 by labels", |bench| {
        bench.rows(PENDULUM, "labels", &["200", "50", "100", "500", "1400"])
    }),
    ("CartPole-v1 by labels", |bench| bench.rows(CART_POLE, "labels", &["200", "700"])),
    ("Pendulum-v1 by teacher", |bench| {
        let teachers = ["stochastic", "mistake", "skip", "equal", "myopic"];
        bench.rows(PENDULUM, "teacher", &teachers)
    }),
    ("Pendulum-v1 by selection", |bench| {
        let selections = ["random", "entropy", "information_gain", "k_center"];
        bench.rows(PENDULUM, "selection", &selections)
    }),
];

fn main() -> Outcome<()> {
    let about = [("seeds", json!(SEEDS)), ("episodes_of_an_evaluation", json!(EPISODES))];
    measure_parts(&PARTS, |dir| Bench { dir }, &about)
}
