//! Imitation on control tasks over several seeds: `cargo xtask results imitation`.
//!
//! Four questions: how much has to be demonstrated (behavior cloning, DAgger, SQIL); what GAIL makes of the length of
//! episodes, by what its discriminator pays; whether a reward that was found has a meaning where the dynamics differ (AIRL);
//! and what comparisons and demonstrations that take a person as long come to. Runs that have finished are not run again.
#![expect(clippy::print_stderr, reason = "a program for people who work on this one")]

mod parts;

use std::path::{Path, PathBuf};

use hearken_config::{Configuration as _, Layers};
use hearken_control::config::{ControlConfig, Recipe};
use hearken_control::demonstrations::{Manner, demonstrate, write_demonstrations};
use hearken_control::evaluation::play;
use hearken_control::saved::Acting;
use hearken_control::train::run;
use hearken_env::{ControlTask, EnvironmentId};
use hearken_run::progress::Silent;
use hearken_run::run_dir::Start;
use hearken_run::seeds::Seeds;
use hearken_stats::mean::mean;
use serde_json::{Value, json};

use parts::{Outcome, Part, measure as measure_parts};

/// Seeds of every row.
const SEEDS: u64 = 5;
/// Episodes that a policy is measured by, with the likeliest actions.
const EPISODES: usize = 50;
/// Seconds that a comparison of two segments takes a person: Christiano et al. 2017 have 3 to 5.
const SECONDS_OF_COMPARISON: f64 = 4.0;
/// Seconds of a step of Pendulum-v1 in real time, which is how long whoever demonstrates it acts.
const SECONDS_OF_STEP: f64 = 0.05;

const CART_POLE: &str = "CartPole-v1";
const PENDULUM: &str = "Pendulum-v1";

/// Where runs are.
struct Bench {
    dir: PathBuf,
}

impl Bench {
    /// A run on the tuned settings of an environment and these; one that has finished is left as it is.
    fn learn(&self, name: &str, environment: &str, settings: &[String]) -> Outcome<Acting> {
        let id: EnvironmentId = environment.parse()?;
        let is_sac = settings.iter().any(|text| text == "train.algorithm=sac");
        let recipe = if is_sac { Recipe::Sac } else { Recipe::Ppo };
        let mut layers = Layers::new(ControlConfig::DEFAULTS, Path::new("control.toml"));
        layers.merge(ControlConfig::tuned(&id, recipe).parse()?);
        let dir = self.dir.join(name);
        layers.set(&format!("environment.id={id}"))?;
        layers.set(&format!("run.dir={}", dir.display()))?;
        layers.set("train.save_minutes=0")?;
        layers.set("train.clip_frames=0")?;
        settings.iter().try_for_each(|text| layers.set(text))?;
        if !dir.join("final").exists() {
            eprintln!("{name}");
            run(&ControlConfig::from_layers(layers)?, Start::Fresh, &mut Silent)?;
        }
        Ok(Acting::load_run(&dir)?)
    }

    /// Episodes of a policy in a file.
    fn show(
        &self,
        name: &str,
        acting: &Acting,
        environment: &str,
        (episodes, manner): (usize, Manner),
    ) -> Outcome<String> {
        let path = self.dir.join(format!("{name}.jsonl"));
        let id: EnvironmentId = environment.parse()?;
        let setup = id.clone().into();
        let episodes = demonstrate(acting, &setup, episodes, manner, Seeds::new(7))?;
        write_demonstrations(&path, &id, &episodes)?;
        Ok(path.display().to_string())
    }
}

/// Mean return and length in an environment.
fn measure(acting: &Acting, environment: &str) -> Outcome<[f64; 2]> {
    let id: EnvironmentId = environment.parse()?;
    let episodes = play(acting, &id.into(), EPISODES, Seeds::new(1000))?;
    let count = episodes.len() as f64;
    let total: f64 = episodes.iter().map(|episode| episode.total).sum();
    let steps: f64 = episodes.iter().map(|episode| f64::from(episode.steps)).sum();
    Ok([total / count, steps / count])
}

/// A row: what `each` comes to under every seed, the mean return and length of these with intervals over seeds.
fn row(mut about: Value, each: impl Fn(u64) -> Outcome<[f64; 2]>) -> Outcome<Value> {
    let runs: Vec<[f64; 2]> = (0..SEEDS).map(each).collect::<Outcome<_>>()?;
    for (index, key) in ["return", "length"].into_iter().enumerate() {
        let values: Vec<f64> = runs.iter().map(|run| run[index]).collect();
        about[key] = serde_json::to_value(mean(&values))?;
        about[format!("{key}_by_seed")] = json!(values);
    }
    eprintln!("{about}");
    Ok(about)
}

fn seeded(seed: u64, settings: &[String]) -> Vec<String> {
    [&[format!("run.seed={seed}")], settings].concat()
}

fn texts(settings: &[&str]) -> Vec<String> {
    settings.iter().map(|text| (*text).to_owned()).collect()
}

fn expert(bench: &Bench, task: &str) -> Outcome<Acting> {
    let settings: &[&str] = if task == PENDULUM { &["train.algorithm=sac"] } else { &[] };
    bench.learn(&format!("expert-{task}"), task, &texts(settings))
}

/// Behavior cloning, DAgger and SQIL against what was demonstrated.
fn cloning(bench: &Bench, task: &str) -> Outcome<Vec<Value>> {
    let acting = expert(bench, task)?;
    let file = bench.show(&format!("shown-{task}"), &acting, task, (30, Manner::Likeliest))?;
    let asked = bench.dir.join(format!("expert-{task}")).display().to_string();
    let steps = acting.environment.id.task().map_or(0, ControlTask::horizon);
    let mut rows =
        vec![json!({"task": task, "method": "expert", "return": measure(&acting, task)?[0]})];
    let shown = |method: &str, episodes: u32| {
        vec![
            format!("imitation.method={method}"),
            format!("imitation.demonstrations={file}"),
            format!("imitation.episodes={episodes}"),
        ]
    };
    for episodes in [1, 3, 10, 30] {
        let about =
            json!({"task": task, "method": "bc", "episodes": episodes, "labels": episodes * steps});
        let mut settings = shown("bc", episodes);
        settings.extend([
            format!("imitation.epochs={}", 600 / episodes),
            "optimizer.lr=1e-3".to_owned(),
        ]);
        rows.push(row(about, |seed| {
            let name = format!("bc-{task}-{episodes}-{seed}");
            measure(&bench.learn(&name, task, &seeded(seed, &settings))?, task)
        })?);
    }
    for rounds in [2, 8, 30] {
        let about =
            json!({"task": task, "method": "dagger", "rounds": rounds, "labels": rounds * 200});
        let mut settings = texts(&[
            "imitation.method=dagger",
            "imitation.steps=25",
            "environment.copies=8",
            "optimizer.lr=1e-3",
        ]);
        settings.extend([
            format!("imitation.expert={asked}"),
            format!("imitation.rounds={rounds}"),
            format!("imitation.round_epochs={}", 300 / rounds),
        ]);
        rows.push(row(about, |seed| {
            let name = format!("dagger-{task}-{rounds}-{seed}");
            measure(&bench.learn(&name, task, &seeded(seed, &settings))?, task)
        })?);
    }
    if task == PENDULUM {
        let mut settings = shown("sqil", 10);
        settings.extend(texts(&["train.algorithm=sac", "train.environment_steps=10000"]));
        let about = json!({"task": task, "method": "sqil", "episodes": 10, "labels": 10 * steps});
        rows.push(row(about, |seed| {
            let name = format!("sqil-{task}-{seed}");
            measure(&bench.learn(&name, task, &seeded(seed, &settings))?, task)
        })?);
    }
    Ok(rows)
}

/// GAIL where episodes should last and where they should end, by what the logit pays.
fn survival(bench: &Bench, task: &str) -> Outcome<Vec<Value>> {
    let acting = expert(bench, task)?;
    let [total, length] = measure(&acting, task)?;
    let mut rows =
        vec![json!({"environment": task, "pays": "the expert", "return": total, "length": length})];
    let shown = (10, Manner::Likeliest);
    let file = bench.show(&format!("survival-{task}"), &acting, task, shown)?;
    for form in ["positive", "negative", "logit"] {
        let mut settings = texts(&["imitation.method=gail", "train.environment_steps=40000"]);
        settings.extend([
            format!("imitation.demonstrations={file}"),
            format!("imitation.reward={form}"),
        ]);
        rows.push(row(json!({"environment": task, "pays": form}), |seed| {
            let name = format!("gail-{task}-{form}-{seed}");
            measure(&bench.learn(&name, task, &seeded(seed, &settings))?, task)
        })?);
    }
    Ok(rows)
}

/// Rewards that were found in the open gridworld, where there is a wall.
fn transfer(bench: &Bench) -> Outcome<Vec<Value>> {
    const OPEN: &str = "fixed/Gridworld-v0";
    const WALL: &str = "fixed/GridworldWall-v0";
    const MEASURED: &str = "GridworldWall-v0";
    let entropy = "ppo.entropy_coef=0.02";
    // Whose reward is found should be uncertain, as the model of AIRL has it.
    let acting = bench.learn("expert-gridworld", OPEN, &texts(&[entropy]))?;
    let file = bench.show("shown-gridworld", &acting, OPEN, (50, Manner::Sampled))?;
    let [total, length] = measure(&acting, MEASURED)?;
    let mut rows =
        vec![json!({"policy": "the demonstrator's, as it is", "return": total, "length": length})];
    rows.push(row(json!({"policy": "PPO on the environment's reward"}), |seed| {
        let name = format!("gridworld-true-{seed}");
        measure(&bench.learn(&name, WALL, &seeded(seed, &[]))?, MEASURED)
    })?);
    for method in ["airl", "gail"] {
        let mut settings = texts(&["train.environment_steps=100000", entropy]);
        settings.extend([
            format!("imitation.method={method}"),
            format!("imitation.demonstrations={file}"),
        ]);
        rows.push(row(json!({"policy": format!("{method}'s, as it is")}), |seed| {
            let name = format!("gridworld-{method}-{seed}");
            measure(&bench.learn(&name, OPEN, &seeded(seed, &settings))?, MEASURED)
        })?);
        rows.push(row(
            json!({"policy": format!("PPO on the reward that {method} found")}),
            |seed| {
                let found = bench.dir.join(format!("gridworld-{method}-{seed}/final/reward"));
                let settings = [
                    format!("environment.reward={}", found.display()),
                    "network.normalize_rewards=true".to_owned(),
                ];
                let name = format!("gridworld-{method}-anew-{seed}");
                measure(&bench.learn(&name, WALL, &seeded(seed, &settings))?, MEASURED)
            },
        )?);
    }
    Ok(rows)
}

/// Comparisons and demonstrations that take a person as long.
fn effort(bench: &Bench) -> Outcome<Vec<Value>> {
    let acting = expert(bench, PENDULUM)?;
    let file = bench.show("shown-effort", &acting, PENDULUM, (80, Manner::Likeliest))?;
    let seconds_of_episode = SECONDS_OF_STEP * f64::from(ControlTask::Pendulum.horizon());
    let mut rows = Vec::new();
    for labels in [50_u32, 200] {
        let seconds = f64::from(labels) * SECONDS_OF_COMPARISON;
        let episodes = (seconds / seconds_of_episode) as u32;
        let mut settings = texts(&[
            "train.algorithm=sac",
            "preference.round=35",
            "preference.epochs=20",
            "preference.unsupervised_steps=1000",
        ]);
        settings.push(format!("preference.labels={labels}"));
        let about = json!({"seconds": seconds, "from": "comparisons", "count": labels});
        rows.push(row(about, |seed| {
            let name = format!("prefer-{labels}-{seed}");
            measure(&bench.learn(&name, PENDULUM, &seeded(seed, &settings))?, PENDULUM)
        })?);
        let mut settings =
            texts(&["imitation.method=bc", "imitation.epochs=30", "optimizer.lr=1e-3"]);
        settings.extend([
            format!("imitation.demonstrations={file}"),
            format!("imitation.episodes={episodes}"),
        ]);
        let about = json!({"seconds": seconds, "from": "demonstrations", "count": episodes});
        rows.push(row(about, |seed| {
            let name = format!("effort-bc-{episodes}-{seed}");
            measure(&bench.learn(&name, PENDULUM, &seeded(seed, &settings))?, PENDULUM)
        })?);
    }
    Ok(rows)
}

/// The parts of the results, by name.
const PARTS: [Part<Bench>; 7] = [
    ("transfer", transfer),
    ("cloning CartPole-v1", |bench| cloning(bench, CART_POLE)),
    ("survival Gridworld-v0", |bench| survival(bench, "Gridworld-v0")),
    ("survival CartPole-v1", |bench| survival(bench, CART_POLE)),
    ("cloning Pendulum-v1", |bench| cloning(bench, PENDULUM)),
    ("effort", effort),
    ("survival Acrobot-v1", |bench| survival(bench, "Acrobot-v1")),
];

fn main() -> Outcome<()> {
    let about = [("seeds", json!(SEEDS)), ("episodes_of_an_evaluation", json!(EPISODES))];
    measure_parts(&PARTS, |dir| Bench { dir }, &about)
}
