//! The configuration of PPO.

use std::path::{Path, PathBuf};

use hearken_objective::{
    advantage::gae::Gae, reward::MissingEnd, surrogate::Clip, value::ValueLoss,
};
use serde::Deserialize;

use crate::config::{
    ConfigError, DataConfig, KlConfig, Layers, Length, Loaded, ModelSource, OptimizerConfig,
    RolloutConfig, RunConfig, SamplesConfig, ScoreConfig, TrainConfig, read_scores,
};
use crate::rollout::feed::Asked;
use crate::rollout::settings::{Configured, Movement, Settings};
use crate::run;

/// Every key with its default.
const DEFAULTS: &str = include_str!("../../../../configs/ppo.toml");

/// What `hearken ppo` reads; `configs/ppo.toml` says what each key does.
#[derive(Clone, Debug, PartialEq)]
pub struct PpoConfig {
    /// `[run]`.
    pub run: RunConfig,
    /// `[model]`: the policy, and the reference.
    pub model: ModelSource,
    /// `[data]`: the prompts; `None` where rollouts are replayed.
    pub data: Option<DataConfig>,
    /// `[optimizer]`.
    pub optimizer: OptimizerConfig,
    /// `[train]`.
    pub train: TrainConfig,
    /// `train.steps` or `train.epochs`; `None` uses every recorded iteration once.
    pub length: Option<Length>,
    /// `[rollout]`.
    pub rollout: RolloutConfig,
    /// `[kl]`.
    pub kl: KlConfig,
    /// `[ppo]`.
    pub ppo: PpoSettings,
    /// `[samples]`.
    pub samples: SamplesConfig,
    /// `[[score]]`.
    pub scores: Vec<ScoreConfig>,
}

/// `[ppo]`.
#[derive(Clone, Debug, PartialEq)]
pub struct PpoSettings {
    /// Which network predicts the return.
    pub critic: CriticSource,
    /// Its learning rate where it has one of its own.
    pub critic_lr: Option<f64>,
    /// Discount and trace decay.
    pub gae: Gae,
    /// Range of ratios.
    pub clip: Clip,
    /// How the critic's error is measured.
    pub value_loss: ValueLoss,
    /// Multiplies the value loss.
    pub value_coef: f64,
    /// Multiplies the entropy, which is subtracted.
    pub entropy_coef: f64,
    /// Passes over an iteration's rollouts.
    pub epochs: usize,
    /// Optimizer steps per pass.
    pub minibatches: usize,
    /// What a missing end does to a score.
    pub missing_end: MissingEnd,
    /// The KL of a completion, in nats, above which the run ends.
    pub kl_limit_nats: Option<f64>,
    /// What is done to advantages.
    pub advantages: AdvantageScale,
    /// Whether reward models apply what is stored beside them.
    pub normalize_scores: bool,
}

/// Which network predicts the return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CriticSource {
    /// A linear head on the policy's trunk.
    ValueHead,
    /// A network of its own, started from a checkpoint with a score head.
    Checkpoint(PathBuf),
}

/// What is done to the advantages of an iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdvantageScale {
    /// Mean 0 and variance 1 over all tokens of the iteration.
    Whitened,
    /// As they were estimated.
    Raw,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPpo {
    critic: String,
    critic_lr: Option<f64>,
    gamma: f64,
    gae_lambda: f64,
    clip_low: f64,
    clip_high: f64,
    value_clip: f64,
    value_coef: f64,
    entropy_coef: f64,
    epochs: usize,
    minibatches: usize,
    missing_end_penalty: f64,
    kl_limit: Option<f64>,
    whiten_advantages: bool,
    normalize_scores: bool,
}

const SECTIONS: [&str; 10] =
    ["run", "model", "data", "optimizer", "train", "rollout", "kl", "ppo", "samples", "score"];

impl PpoConfig {
    /// Reads `file` over the defaults and `overrides` over that.
    ///
    /// # Errors
    /// Names the file and the key that is not usable.
    pub fn load(file: &Path, overrides: &[String]) -> Result<Loaded<Self>, ConfigError> {
        Self::from_layers(Layers::read(DEFAULTS, file, overrides)?)
    }

    /// The defaults alone, for a configuration that is made in memory; errors name `file`.
    pub fn defaults(file: &Path) -> Layers {
        Layers::new(DEFAULTS, file)
    }

    /// Reads what was laid over the defaults.
    ///
    /// # Errors
    /// As [`PpoConfig::load`].
    pub fn from_layers(layers: Layers) -> Result<Loaded<Self>, ConfigError> {
        layers.check_sections(&SECTIONS)?;
        let rollout = RolloutConfig::read(&layers)?;
        let train = TrainConfig::read(&layers)?;
        let ppo = PpoSettings::read(&layers)?;
        let (data, length) = if rollout.replay.is_some() {
            (None, train.length)
        } else {
            let rollouts = train.batch_size * ppo.minibatches;
            if !rollouts.is_multiple_of(rollout.completions) {
                let found = format!("{} per prompt", rollout.completions);
                let expected = format!("a divisor of batch_size · minibatches = {rollouts}");
                return Err(layers.unexpected("rollout.completions", &found, &expected));
            }
            (Some(DataConfig::read(&layers)?), Some(train.required_length(&layers)?))
        };
        let config = Self {
            run: RunConfig::read(&layers)?,
            model: ModelSource::read(&layers)?,
            data,
            optimizer: OptimizerConfig::read(&layers)?,
            train,
            length,
            rollout,
            kl: KlConfig::read(&layers)?,
            ppo,
            samples: SamplesConfig::read(&layers)?,
            scores: read_scores(&layers)?,
        };
        Ok(Loaded { config, frozen: layers.freeze() })
    }

    /// Rollouts of an iteration that is sampled.
    pub fn rollouts_per_iteration(&self) -> usize {
        self.train.batch_size * self.ppo.minibatches
    }
}

impl Configured for PpoConfig {
    fn settings(&self) -> (run::Settings, Settings) {
        let Self { run, model, optimizer, train, .. } = self.clone();
        let settings = Settings {
            section: "ppo",
            data: self.data.clone(),
            length: self.length,
            rollout: self.rollout.clone(),
            samples: self.samples.clone(),
            asked: Asked::Prompts,
            reference: self.model.path.clone(),
            movement: Movement::Frozen,
            beta: self.kl.beta,
            steering: self.kl.steering(),
            kl_limit_nats: self.ppo.kl_limit_nats,
            prompts: self.rollouts_per_iteration().div_ceil(self.rollout.completions),
            epochs: self.ppo.epochs,
            minibatches: self.ppo.minibatches,
            scores: self.scores.clone(),
            normalize_scores: self.ppo.normalize_scores,
            needs_scores: true,
        };
        (run::Settings { run, model, optimizer, train }, settings)
    }
}

impl PpoSettings {
    fn read(layers: &Layers) -> Result<Self, ConfigError> {
        let raw: RawPpo = layers.section("ppo")?;
        raw.check(layers)?;
        let value_loss = match raw.value_clip {
            0.0 => ValueLoss::Plain,
            range => ValueLoss::Clipped { range },
        };
        let missing_end = match raw.missing_end_penalty {
            0.0 => MissingEnd::Keep,
            penalty => MissingEnd::Subtract { penalty },
        };
        let whitened = raw.whiten_advantages;
        Ok(Self {
            critic: match raw.critic.as_str() {
                "value_head" => CriticSource::ValueHead,
                path => CriticSource::Checkpoint(path.into()),
            },
            critic_lr: raw.critic_lr,
            gae: Gae { gamma: raw.gamma, lambda: raw.gae_lambda },
            clip: Clip { low: raw.clip_low, high: raw.clip_high },
            value_loss,
            value_coef: raw.value_coef,
            entropy_coef: raw.entropy_coef,
            epochs: raw.epochs,
            minibatches: raw.minibatches,
            missing_end,
            kl_limit_nats: raw.kl_limit,
            advantages: if whitened { AdvantageScale::Whitened } else { AdvantageScale::Raw },
            normalize_scores: raw.normalize_scores,
        })
    }
}

impl RawPpo {
    fn check(&self, layers: &Layers) -> Result<(), ConfigError> {
        let expected = "\"value_head\" or the folder of a model with a score head";
        layers.check("ppo.critic", "an empty text", !self.critic.is_empty(), expected)?;
        for (key, value) in [("ppo.gamma", self.gamma), ("ppo.gae_lambda", self.gae_lambda)] {
            layers.check(key, value, (0.0..=1.0).contains(&value), "a number from 0 to 1")?;
        }
        let holds = 0.0 < self.clip_low && self.clip_low <= 1.0;
        layers.check("ppo.clip_low", self.clip_low, holds, "a number above 0, up to 1")?;
        for (key, value) in [
            ("ppo.clip_high", Some(self.clip_high)),
            ("ppo.critic_lr", self.critic_lr),
            ("ppo.kl_limit", self.kl_limit),
        ] {
            let Some(value) = value else { continue };
            layers.check(key, value, value.is_finite() && 0.0 < value, "a number above 0")?;
        }
        for (key, value) in [
            ("ppo.value_clip", self.value_clip),
            ("ppo.value_coef", self.value_coef),
            ("ppo.entropy_coef", self.entropy_coef),
            ("ppo.missing_end_penalty", self.missing_end_penalty),
        ] {
            layers.check(key, value, value.is_finite() && 0.0 <= value, "a number from 0")?;
        }
        for (key, value) in [("ppo.epochs", self.epochs), ("ppo.minibatches", self.minibatches)] {
            layers.check(key, value, 0 < value, "an integer from 1")?;
        }
        if self.critic == "value_head" && self.critic_lr.is_some() {
            let reason = "a head on the policy's trunk is trained with the policy";
            return Err(layers.exclusive("ppo.critic = \"value_head\"", "ppo.critic_lr", reason));
        }
        Ok(())
    }
}
