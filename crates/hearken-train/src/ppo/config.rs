//! The configuration of PPO.

use std::path::PathBuf;

use hearken_config::{
    Complaint, Configuration, DataConfig, Fraction, GuardConfig, KlConfig, Named, NonNegative,
    Positive, RolloutConfig, SamplesConfig, ScoreConfig, Share, SharedSections, check_scores,
    unless_zero,
};
use hearken_objective::{
    advantage::gae::Gae, grpo::shaping::SamplerCorrection, surrogate::Clip, value::ValueLoss,
};
use schemars::JsonSchema;
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer};

use crate::rollout::correction::{CorrectionKeys, CorrectionName};
use crate::rollout::feed::SampledRecords;
use crate::rollout::settings::{
    Configured, LearningSettings, Movement, RolloutSettings, UNREAD, named,
};

/// What `hearken ppo` reads; `configs/ppo.toml` says what each key does.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PpoConfig {
    /// The sections that every trainer reads.
    #[serde(rename = "*")]
    #[schemars(flatten)]
    pub shared: SharedSections,
    /// `[rollout]`.
    pub rollout: RolloutConfig,
    /// `[kl]`.
    pub kl: KlConfig,
    /// `[ppo]`.
    pub ppo: PpoSettings,
    /// `[guard]`: what is watched.
    pub guard: GuardConfig,
    /// `[samples]`.
    pub samples: SamplesConfig,
    /// `[[score]]`.
    #[serde(default, rename = "score")]
    pub scores: Vec<ScoreConfig>,
    /// What the keys about it ask for.
    #[serde(skip)]
    pub correction: SamplerCorrection,
}

/// `[ppo]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PpoSettings {
    /// How an iteration is learned from, and what its scores are.
    #[serde(rename = "*")]
    #[schemars(flatten)]
    pub learning: LearningSettings,
    /// Which network predicts the return: "value_head", or the folder of a model with a score head.
    pub critic: CriticSource,
    /// The learning rate of a critic of its own; without it that of the policy.
    pub critic_lr: Option<Positive>,
    /// The discount.
    pub gamma: Fraction,
    /// The trace decay.
    pub gae_lambda: Fraction,
    /// Ratios below 1 minus this gain nothing.
    pub clip_low: Share,
    /// Ratios above 1 plus this gain nothing.
    pub clip_high: Positive,
    /// How far values move from the old ones before their loss is clipped; 0 is as far as they like.
    #[serde(rename = "value_clip", deserialize_with = "value_loss")]
    #[schemars(with = "NonNegative")]
    pub value_loss: ValueLoss,
    /// Multiplies the value loss.
    pub value_coef: NonNegative,
    /// Multiplies the entropy, which is subtracted.
    pub entropy_coef: NonNegative,
    /// Whether advantages have mean 0 and variance 1 over all tokens of an iteration.
    pub whiten_advantages: bool,
    /// What is done where sampler and trainer differ.
    pub correction: Option<CorrectionName>,
    /// The lower bound of a correction.
    pub correction_min: Option<NonNegative>,
    /// The upper bound of a correction.
    pub correction_max: Option<Positive>,
}

/// Which network predicts the return.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub enum CriticSource {
    /// A linear head on the policy's trunk.
    ValueHead,
    /// A network of its own, started from a checkpoint with a score head.
    Checkpoint(PathBuf),
}

impl<'de> Deserialize<'de> for CriticSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "" => {
                let expected = &"\"value_head\" or the folder of a model with a score head";
                Err(D::Error::invalid_value(Unexpected::Other("an empty text"), expected))
            }
            "value_head" => Ok(Self::ValueHead),
            path => Ok(Self::Checkpoint(path.into())),
        }
    }
}

fn value_loss<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ValueLoss, D::Error> {
    let range: Option<NonNegative> = unless_zero(deserializer)?;
    Ok(range.map_or(ValueLoss::Plain, |range| ValueLoss::Clipped { range: *range }))
}

impl PpoSettings {
    /// Discount and trace decay.
    pub fn gae(&self) -> Gae {
        Gae { gamma: *self.gamma, lambda: *self.gae_lambda }
    }

    /// The range of ratios.
    pub fn clip(&self) -> Clip {
        Clip { low: *self.clip_low, high: *self.clip_high }
    }

    /// What is done where sampler and trainer differ.
    fn correction(&self, rollout: &RolloutConfig) -> Result<SamplerCorrection, Complaint> {
        let keys = CorrectionKeys {
            section: "ppo",
            has_ratio: true,
            name: self.correction,
            level: None,
            min: self.correction_min,
            max: self.correction_max,
        };
        let (correction, unused) = keys.resolve(rollout, SamplerCorrection::None)?;
        if let Some(key) = unused.first() {
            let reason = "this correction has no such bound";
            return Err(Complaint::exclusive("ppo.correction", &format!("ppo.{key}"), reason));
        }
        Ok(correction)
    }

    fn check(&self) -> Result<(), Complaint> {
        if self.critic == CriticSource::ValueHead && self.critic_lr.is_some() {
            let reason = "a head on the policy's trunk is trained with the policy";
            let critic = "ppo.critic = \"value_head\"";
            return Err(Complaint::exclusive(critic, "ppo.critic_lr", reason));
        }
        Ok(())
    }
}

impl Configuration for PpoConfig {
    const COMMAND: &'static str = "ppo";
    const DEFAULTS: &'static str = include_str!("../../../../configs/ppo.toml");
    const WITHOUT: &'static [&'static str] = UNREAD;

    fn named(&mut self) -> Vec<Named<'_>> {
        let Self { shared, rollout, scores, .. } = self;
        let mut named = named(shared, rollout, scores);
        if let CriticSource::Checkpoint(path) = &mut self.ppo.critic {
            named.push(Named::model("ppo.critic", path));
        }
        named
    }

    fn settle(&mut self) -> Result<(), Complaint> {
        self.shared.settle(true)?;
        self.ppo.check()?;
        self.rollout.check()?;
        self.correction = self.ppo.correction(&self.rollout)?;
        self.kl.check()?;
        check_scores(&self.scores)?;
        self.guard.check(&self.scores)?;
        if self.rollout.replay.is_some() {
            return Ok(());
        }
        let (rollouts, completions) = (self.rollouts_per_iteration(), *self.rollout.completions);
        if !rollouts.is_multiple_of(completions) {
            let found = format!("{completions} per prompt");
            let expected = format!("a divisor of batch_size · minibatches = {rollouts}");
            return Err(Complaint::unexpected("rollout.completions", found, &expected));
        }
        self.shared.check_records()
    }
}

impl PpoConfig {
    /// Rollouts of an iteration that is sampled.
    pub fn rollouts_per_iteration(&self) -> usize {
        *self.shared.train.batch_size * *self.ppo.learning.minibatches
    }

    /// Where prompts come from; `None` where rollouts are replayed.
    pub fn prompts(&self) -> Option<&DataConfig> {
        self.rollout.replay.is_none().then_some(&self.shared.data)
    }
}

impl Configured for PpoConfig {
    fn settings(&self) -> (SharedSections, RolloutSettings) {
        let settings = RolloutSettings {
            section: "ppo",
            rollout: self.rollout.clone(),
            samples: self.samples.clone(),
            asked: SampledRecords::Prompts,
            reference: Some(self.shared.model.path.clone()),
            reference_key: "model.path",
            movement: Movement::Frozen,
            beta: *self.kl.beta,
            steering: self.kl.steering(),
            kl_limit_nats: self.ppo.learning.kl_limit_nats.map(Positive::get),
            prompts: self.rollouts_per_iteration().div_ceil(*self.rollout.completions),
            epochs: *self.ppo.learning.epochs,
            minibatches: *self.ppo.learning.minibatches,
            scores: self.scores.clone(),
            guard: Some(self.guard.clone()),
            normalize_scores: self.ppo.learning.normalize_scores,
            needs_scores: true,
        };
        (self.shared.clone(), settings)
    }
}
