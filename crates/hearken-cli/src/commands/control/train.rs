//! `hearken control train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hearken_config::{Configuration as _, Layers, LoadedConfig};
use hearken_control::config::{ControlConfig, Method, Recipe};
use hearken_control::train;
use hearken_env::{ControlTask, EnvironmentId};
use hearken_run::run_dir::Start;

use super::super::trainer_arguments::conclude;
use crate::interrupt::Interrupt;
use crate::screen::Screen;

/// Train a policy for a control task, by PPO or SAC
///
/// Prints the folder of the trained policy. The run directory has metrics.jsonl and checkpoints; the same
/// command goes on where a stopped run left off.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Train {
    /// The configuration; configs/control.toml lists every key
    #[arg(value_name = "CONFIG.toml", required_unless_present = "env")]
    config: Option<PathBuf>,

    /// In place of a configuration: the environment, with the settings of configs/control/NAME.toml and
    /// the run directory runs/NAME
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    env: Option<EnvironmentId>,

    /// Change a key of the configuration; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,

    /// Start anew: the run in the run directory is moved aside, and removed at the first checkpoint
    #[arg(long)]
    fresh: bool,

    /// What the environment's settings are for.
    #[arg(skip)]
    recipe: Recipe,
}

const EXAMPLES: &str = "\
Examples:
  hearken control train --env CartPole-v1
  hearken control train --env Pendulum-v1 --set run.dir=runs/pendulum --set run.seed=3
  hearken control train my.toml --set train.environment_steps=500000";

/// Train a policy from comparisons of what it does, in place of a reward
///
/// As `train`, with a reward model that learns from comparisons of segments by a simulated teacher, or by
/// people in the browser (the section preference of the configuration): 700 queries, unless
/// preference.labels says otherwise.
#[derive(Args, Debug)]
#[command(after_help = PREFER_EXAMPLES)]
pub(crate) struct Prefer {
    #[command(flatten)]
    train: Train,
}

const PREFER_EXAMPLES: &str = "\
Examples:
  hearken control prefer --env Pendulum-v1 --set preference.labels=200
  hearken control prefer --env Pendulum-v1 --set preference.labels=200 \\
      --set train.algorithm=ppo
  hearken control prefer --env CartPole-v1 --set preference.teacher=mistake
  hearken control prefer --env Pendulum-v1 --set preference.labels=60 \\
      --set preference.teacher=people --set preference.people.store=runs/labels.db";

/// Train a policy that does as demonstrations do, in place of a reward
///
/// As `train`, by the section imitation of the configuration: behavior cloning (bc), DAgger, which asks a
/// policy what it would do (dagger), adversarial imitation (gail), which also finds a reward (airl), and
/// soft Q-learning (sqil). With --env, the run directory is runs/NAME-METHOD.
#[derive(Args, Debug)]
#[command(after_help = IMITATE_EXAMPLES)]
pub(crate) struct Imitate {
    /// How (imitation.method)
    #[arg(long, value_name = "METHOD", value_parser = ["bc", "dagger", "gail", "airl", "sqil"])]
    method: Option<String>,

    /// Whole episodes, one per line, as `hearken control demonstrate` writes them
    /// (imitation.demonstrations)
    #[arg(long, value_name = "FILE")]
    demonstrations: Option<PathBuf>,

    /// The policy that DAgger asks: a run directory, or a folder as its final/ (imitation.expert)
    #[arg(long, value_name = "DIR")]
    expert: Option<PathBuf>,

    #[command(flatten)]
    train: Train,
}

const IMITATE_EXAMPLES: &str = "\
Examples:
  hearken control imitate --method bc --env CartPole-v1 \\
      --demonstrations demos.jsonl
  hearken control imitate --method dagger --env CartPole-v1 --expert runs/CartPole-v1
  hearken control imitate --method gail --env CartPole-v1 \\
      --demonstrations demos.jsonl --set imitation.reward=logit";

impl Imitate {
    pub(crate) fn run(mut self) -> Result<ExitCode> {
        let given = std::mem::take(&mut self.train.overrides);
        let quoted = |path: &Path| toml::Value::from(path.to_string_lossy().as_ref());
        let mut named: Vec<String> = Vec::new();
        named.extend(self.method.iter().map(|method| format!("imitation.method={method}")));
        for (key, path) in [("demonstrations", &self.demonstrations), ("expert", &self.expert)] {
            named.extend(path.iter().map(|path| format!("imitation.{key}={}", quoted(path))));
        }
        named.extend(given);
        let last = named.iter().rev().find_map(|text| text.strip_prefix("imitation.method="));
        let method = last.map(|method| method.trim_matches('"').to_owned());
        if let (Some(id), Some(method)) = (&self.train.env, &method) {
            named.insert(0, format!("run.dir=runs/{}-{method}", name_of(id)));
        }
        if method.as_deref() == Some("sqil") {
            named.insert(0, "train.algorithm=sac".to_owned());
            self.train.recipe = Recipe::Sac;
        }
        self.train.overrides = named;
        let loaded = self.train.load()?;
        if loaded.config.imitation.method == Method::None {
            bail!(
                "`imitation.method`: found \"none\", expected one of \"bc\", \"dagger\", \"gail\", \"airl\" and \"sqil\""
            );
        }
        self.train.go(&loaded)
    }
}

/// An environment as the folder of a run is named.
fn name_of(id: &EnvironmentId) -> String {
    id.to_string().replace(['/', ':'], "-")
}

impl Prefer {
    pub(crate) fn run(mut self) -> Result<ExitCode> {
        self.train.recipe = Recipe::Comparisons;
        let given = |text: &String| text.trim_start().starts_with("preference.labels");
        if !self.train.overrides.iter().any(given) {
            self.train.overrides.push("preference.labels=700".to_owned());
        }
        let loaded = self.train.load()?;
        if loaded.config.preference.labels == 0 {
            bail!(
                "`preference.labels`: found 0, expected at least 1: without queries there is no reward"
            );
        }
        self.train.go(&loaded)
    }
}

impl Train {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let loaded = self.load()?;
        self.go(&loaded)
    }

    fn go(&self, loaded: &LoadedConfig<ControlConfig>) -> Result<ExitCode> {
        let start = if self.fresh { Start::Fresh } else { Start::Resume };
        let mut screen = Screen::new(Interrupt::of_steps()?);
        let outcome = train::run(loaded, start, &mut screen)?;
        drop(screen);
        Ok(conclude(&outcome)?)
    }

    /// What settings are wanted of an environment, an algorithm among those that are given.
    fn recipe_of(&self, id: &EnvironmentId) -> Recipe {
        let plain = self.overrides.iter().map(|text| text.replace(['"', ' '], ""));
        let last = plain.rev().find(|text| text.starts_with("train.algorithm="));
        match (last.as_deref(), self.recipe) {
            // Those for comparisons are SAC's there.
            (Some("train.algorithm=ppo"), Recipe::Comparisons)
                if id.task() == Some(ControlTask::Pendulum) =>
            {
                Recipe::Ppo
            }
            (_, Recipe::Comparisons) => Recipe::Comparisons,
            (Some("train.algorithm=sac"), _) => Recipe::Sac,
            (_, recipe) => recipe,
        }
    }

    fn load(&self) -> Result<LoadedConfig<ControlConfig>> {
        if let Some(file) = &self.config {
            return Ok(ControlConfig::load(file, &self.overrides)?);
        }
        let id = self.env.as_ref().context("an environment or a configuration is given")?;
        let file = format!("configs/control/{}.toml", name_of(id));
        let mut layers = Layers::new(ControlConfig::DEFAULTS, Path::new(&file));
        let tuned = ControlConfig::tuned(id, self.recipe_of(id));
        layers.merge(tuned.parse().context("an embedded file is TOML")?);
        layers.set(&format!("environment.id={id}"))?;
        layers.set(&format!("run.dir=runs/{}", name_of(id)))?;
        for text in &self.overrides {
            layers.set(text)?;
        }
        Ok(ControlConfig::from_layers(layers)?)
    }
}
