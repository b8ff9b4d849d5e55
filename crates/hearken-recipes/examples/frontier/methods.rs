//! The methods and their configurations.

use std::path::{Path, PathBuf};

use hearken_config::Configuration;
use hearken_report::frontier::FrontierCost;
use hearken_run::progress::Silent;
use hearken_run::run::RunOutcome;
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_train::dpo::{self, DpoConfig};
use hearken_train::grpo::{self, GrpoConfig};
use hearken_train::ppo::{self, PpoConfig};

use crate::Result;
use crate::cost::{Meter, sampled_tokens};

/// What all methods start from.
pub(crate) struct World {
    pub(crate) start: PathBuf,
    pub(crate) reward_model: PathBuf,
    pub(crate) data: PathBuf,
}

/// A way to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Ppo,
    Dpo,
    Grpo,
    Rloo,
}

/// Completions per iteration of the online methods.
const ROLLOUTS: u64 = 64;

/// Iterations of the online methods.
const ITERATIONS: [u64; 5] = [5, 10, 20, 40, 80];

/// Optimizer steps of DPO, of 32 comparisons each.
const DPO_STEPS: [u64; 5] = [10, 20, 40, 80, 160];

/// As the quickstart's, with a fixed β; two steps per iteration.
const PPO: &str = "\
[optimizer]
lr = 2e-4
schedule = 'constant'
warmup_steps = 0
[train]
batch_size = 64
[rollout]
max_new_tokens = 64
[kl]
beta = 0.05
[ppo]
epochs = 2
value_coef = 0.5
missing_end_penalty = 1.0
";

const DPO: &str = "\
[optimizer]
lr = 2e-4
schedule = 'constant'
warmup_steps = 0
[train]
batch_size = 32
[dpo]
loss = \"sigmoid\"
beta = 0.1
";

/// The settings of a preset that learns from groups of completions.
fn groups(preset: &str) -> String {
    format!(
        "\
[optimizer]
lr = 2e-4
schedule = 'constant'
warmup_steps = 0
[rollout]
max_new_tokens = 64
completions = 8
[grpo]
preset = \"{preset}\"
prompts = 8
missing_end_penalty = 1.0
"
    )
}

impl Method {
    pub(crate) const ALL: [Self; 4] = [Self::Ppo, Self::Dpo, Self::Grpo, Self::Rloo];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ppo => "PPO",
            Self::Dpo => "DPO",
            Self::Grpo => "GRPO",
            Self::Rloo => "RLOO",
        }
    }

    /// What is written over the trainer's defaults.
    pub(crate) fn settings(self) -> String {
        match self {
            Self::Ppo => PPO.to_owned(),
            Self::Dpo => DPO.to_owned(),
            Self::Grpo => groups("grpo"),
            Self::Rloo => groups("rloo"),
        }
    }

    pub(crate) fn strength_unit(self) -> String {
        match self {
            Self::Dpo => "steps of 32 comparisons".to_owned(),
            _ => format!("iterations of {ROLLOUTS} completions"),
        }
    }

    /// From the weakest to the strongest: a run goes on from one to the next.
    pub(crate) fn strengths(self) -> [u64; 5] {
        if self == Self::Dpo { DPO_STEPS } else { ITERATIONS }
    }

    /// Trains up to a strength; the policy, and what it took from the start on.
    pub(crate) fn train(
        self,
        world: &World,
        folder: &Path,
        (seed, strength): (u64, u64),
    ) -> Result<(PathBuf, FrontierCost)> {
        let stored = folder.join("cost.json");
        let mut cost: FrontierCost = match std::fs::read_to_string(&stored) {
            Ok(text) => serde_json::from_str(&text)?,
            Err(_) => FrontierCost { cpu_seconds: Some(0.0), ..FrontierCost::default() },
        };
        let meter = Meter::start();
        let outcome = self.run(world, folder, (seed, strength))?;
        meter.add_to(&mut cost);
        cost.trained_tokens = outcome.cost.tokens as f64;
        cost.flops = outcome.cost.flops;
        if self != Self::Dpo {
            cost.sampled_tokens = sampled_tokens(folder, ROLLOUTS as f64)?;
        }
        std::fs::write(stored, serde_json::to_string(&cost)?)?;
        Ok((outcome.model_dir, cost))
    }

    fn run(self, world: &World, folder: &Path, (seed, strength): (u64, u64)) -> Result<RunOutcome> {
        let file = Path::new("frontier");
        let (mut layers, data, steps) = match self {
            Self::Ppo => (PpoConfig::defaults(file), "prompts", 2 * strength),
            Self::Dpo => (DpoConfig::defaults(file), "preferences", strength),
            Self::Grpo | Self::Rloo => (GrpoConfig::defaults(file), "prompts", strength),
        };
        layers.merge(self.settings().parse()?);
        for (key, value) in [
            ("run.dir", path(folder)),
            ("run.seed", seed.to_string()),
            ("model.path", path(&world.start)),
            ("data.train", path(&world.data.join(data).with_extension("jsonl"))),
            ("train.steps", steps.to_string()),
        ] {
            layers.set(&format!("{key}={value}"))?;
        }
        let (device, start, progress) = (Cpu::new(), Start::Resume, &mut Silent);
        if self != Self::Dpo {
            let proxy =
                format!("[[score]]\nkind = \"model\"\npath = {}", path(&world.reward_model));
            layers.merge(proxy.parse()?);
        }
        Ok(match self {
            Self::Ppo => ppo::run(device, &PpoConfig::from_layers(layers)?, start, progress)?,
            Self::Dpo => dpo::run(device, &DpoConfig::from_layers(layers)?, start, progress)?,
            Self::Grpo | Self::Rloo => {
                grpo::run(device, &GrpoConfig::from_layers(layers)?, start, progress)?
            }
        })
    }
}

/// A path as a TOML text.
pub(crate) fn path(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}
