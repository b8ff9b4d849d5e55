//! Gold reward against KL for PPO, DPO, GRPO, RLOO and best-of-N, from one start and one reward model of the
//! quickstart's world.
//!
//! ```sh
//! cargo run --release -p hearken-recipes --example frontier -- --dir runs/frontier
//! ```
//!
//! `--seeds 11,12` are the repetitions of every method; `--world-seed N` is that of world, start and reward
//! model. What has been measured in the folder is not measured again. Writes `frontier.json`, `frontier.svg`
//! and `report.html` there.
#![allow(clippy::print_stderr, reason = "a program that says how far it is")]

mod cost;
mod evaluation;
mod methods;
mod summary;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use hearken_recipes::rlhf::{self, RlhfConfig};
use hearken_report::outcome::StageSummary;
use hearken_run::progress::Silent;
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use toml::Table;

use evaluation::{Examiner, Measured};
use methods::{Method, World};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The world, the start and the reward model are the quickstart's.
const QUICKSTART: &str = include_str!("../../../../configs/quickstart.toml");

/// Completions per prompt that best-of-N chooses from; the greatest N.
const DRAWS: usize = 16;

struct Options {
    dir: PathBuf,
    seeds: Vec<u64>,
    world_seed: u64,
}

fn main() -> Result<()> {
    let options = options()?;
    let dir = &options.dir;
    fs::create_dir_all(dir.join("points"))?;
    let (world, shared) = world(&options)?;
    let mut examiner = Examiner::open(&world)?;
    let mut measured = Vec::new();
    for &seed in &options.seeds {
        let cached = |name: &str| dir.join(format!("points/{name}-{seed}.json"));
        let start = remembered(&cached("start"), || examiner.examine(&world.start, seed))?;
        measured.push((seed, "start", 0, start));
        for method in Method::ALL {
            for strength in method.strengths() {
                let name = method.name();
                let path = cached(&format!("{name}-{strength}"));
                let found = remembered(&path, || {
                    let folder = dir.join(format!("{name}-{seed}"));
                    let (policy, cost) = method.train(&world, &folder, (seed, strength))?;
                    Ok(Measured { cost, ..examiner.examine(&policy, seed)? })
                })?;
                eprintln!("seed {seed}: {name} {strength}: {}", found.summary());
                measured.push((seed, name, strength, found));
            }
        }
        for (n, path) in Examiner::CHOICES.map(|n| (n, cached(&format!("best-of-{n}")))) {
            let found = remembered(&path, || examiner.best_of(n, seed))?;
            eprintln!("seed {seed}: best of {n}: {}", found.summary());
            measured.push((seed, "best-of-N", n as u64, found));
        }
    }
    let frontier = summary::frontier(&options, &measured, shared)?;
    fs::write(dir.join("frontier.json"), serde_json::to_string_pretty(&frontier)? + "\n")?;
    fs::write(dir.join("frontier.svg"), frontier.to_svg()?)?;
    eprintln!("{}", hearken_report::write(dir)?.display());
    Ok(())
}

fn options() -> Result<Options> {
    let seeds = vec![11, 12, 13, 14, 15];
    let mut options = Options { dir: "runs/frontier".into(), seeds, world_seed: 7 };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name}: a value is missing"))?;
        match name.as_str() {
            "--dir" => options.dir = value.into(),
            "--world-seed" => options.world_seed = value.parse()?,
            "--seeds" => {
                let seeds = value.split(',').map(str::parse);
                options.seeds = seeds.collect::<std::result::Result<_, _>>()?;
            }
            other => {
                return Err(format!("{other}: expected --dir, --seeds or --world-seed").into());
            }
        }
    }
    if options.seeds.len() < 2 {
        return Err("--seeds: expected at least two, for intervals".into());
    }
    Ok(options)
}

/// Corpus, start and reward model: the quickstart without its last stage.
fn world(options: &Options) -> Result<(World, Vec<StageSummary>)> {
    let mut table: Table = QUICKSTART.parse()?;
    table.remove("ppo");
    let file = options.dir.join("world.toml");
    fs::write(&file, toml::to_string(&table)?)?;
    let root = options.dir.join("world");
    let overrides = [
        format!("run.dir={:?}", root.to_string_lossy()),
        format!("run.seed={}", options.world_seed),
    ];
    let loaded = RlhfConfig::load(&file, &overrides)?;
    let outcome = rlhf::run(Cpu::new(), &loaded, Start::Resume, &mut Silent)?.outcome;
    let world = World {
        start: root.join("sft/final"),
        reward_model: root.join("reward/final"),
        data: root.join("data"),
    };
    Ok((world, outcome.stages))
}

/// What was measured before, or what is measured now.
fn remembered(path: &Path, measure: impl FnOnce() -> Result<Measured>) -> Result<Measured> {
    if let Ok(text) = fs::read_to_string(path) {
        return Ok(serde_json::from_str(&text)?);
    }
    let measured = measure()?;
    fs::write(path, serde_json::to_string(&measured)?)?;
    Ok(measured)
}
