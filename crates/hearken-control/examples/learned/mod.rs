//! Runs whose rewards are learned from comparisons, or are the environment's own to compare with.

use std::path::{Path, PathBuf};

use hearken_config::{Configuration as _, Layers};
use hearken_control::config::{ControlConfig, Recipe};
use hearken_control::evaluation::play;
use hearken_control::saved::Acting;
use hearken_control::train::run;
use hearken_env::EnvironmentId;
use hearken_run::progress::Silent;
use hearken_run::run_dir::Start;
use hearken_run::seeds::Seeds;

use crate::parts::Outcome;

/// Episodes that a policy is measured over.
pub(crate) const EPISODES: usize = 100;
/// What the episodes of a measurement begin with.
pub(crate) const EPISODES_SEED: u64 = 1000;

/// Where policies are learned, and how.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) environment: &'static str,
    pub(crate) algorithm: &'static str,
    pub(crate) recipe: Recipe,
    /// Settings of every run there, with the environment's reward too.
    pub(crate) settings: &'static [&'static str],
}

/// Where runs are.
pub(crate) struct Bench {
    pub(crate) dir: PathBuf,
}

impl Bench {
    /// The policy that a run on these settings comes to; one that has finished is only read.
    pub(crate) fn policy(&self, name: &str, place: Place, settings: &[String]) -> Outcome<Acting> {
        let id: EnvironmentId = place.environment.parse()?;
        let mut layers = Layers::new(ControlConfig::DEFAULTS, Path::new("control.toml"));
        layers.merge(ControlConfig::tuned(&id, place.recipe).parse()?);
        let dir = self.dir.join(name);
        layers.set(&format!("environment.id={id}"))?;
        layers.set(&format!("run.dir={}", dir.display()))?;
        layers.set(&format!("train.algorithm={}", place.algorithm))?;
        layers.set("train.save_minutes=0")?;
        layers.set("train.eval_episodes=1")?;
        layers.set("train.clip_frames=0")?;
        place.settings.iter().try_for_each(|text| layers.set(text))?;
        settings.iter().try_for_each(|text| layers.set(text))?;
        if !dir.join("final").exists() {
            eprintln!("{name}");
            run(&ControlConfig::from_layers(layers)?, Start::Fresh, &mut Silent)?;
        }
        Ok(Acting::load_run(&dir)?)
    }

    /// The mean return of such a policy with its likeliest actions.
    pub(crate) fn learn(&self, name: &str, place: Place, settings: &[String]) -> Outcome<f64> {
        let acting = self.policy(name, place, settings)?;
        let seeds = Seeds::new(EPISODES_SEED);
        let episodes = play(&acting, &acting.environment, EPISODES, seeds)?;
        let total: f64 = episodes.iter().map(|episode| episode.total).sum();
        Ok(total / episodes.len() as f64)
    }

    /// The means of a row's returns under every seed, each run named behind `name`.
    pub(crate) fn by_seed(
        &self,
        name: &str,
        place: Place,
        settings: &[String],
        seeds: u64,
    ) -> Outcome<Vec<f64>> {
        let of = |seed: u64| {
            let seeded = [&[format!("run.seed={seed}")], settings].concat();
            self.learn(&format!("{name}-{seed}"), place, &seeded)
        };
        (0..seeds).map(of).collect()
    }
}
