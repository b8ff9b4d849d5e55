//! The configuration of group-relative training.

use std::path::Path;

use hearken_objective::grpo::Algorithm;
use hearken_objective::grpo::preset::{NAMES, named};
use hearken_objective::{advantage::group::Standardization, reward::MissingEnd};

use super::kl;
use super::section::{Groups, RawGrpo, Resolved, Setting};
use crate::config::{
    ConfigError, DataConfig, KlSteering, Layers, Length, Loaded, ModelSource, OptimizerConfig,
    RolloutConfig, RunConfig, SamplesConfig, ScoreConfig, TrainConfig, read_scores,
};
use crate::rollout::feed::Asked;
use crate::rollout::settings::{Configured, Movement, Settings};
use crate::run;

/// Every key with its default.
const DEFAULTS: &str = include_str!("../../../../configs/grpo.toml");

/// What `hearken grpo` reads; `configs/grpo.toml` says what each key does.
#[derive(Clone, Debug, PartialEq)]
pub struct GrpoConfig {
    /// `[run]`.
    pub run: RunConfig,
    /// `[model]`: the policy, and the reference.
    pub model: ModelSource,
    /// `[data]`: the prompts; `None` where rollouts are replayed.
    pub data: Option<DataConfig>,
    /// `[optimizer]`.
    pub optimizer: OptimizerConfig,
    /// `[train]`; the batch size is that of a minibatch.
    pub train: TrainConfig,
    /// `train.steps` or `train.epochs`; `None` uses every recorded iteration once.
    pub length: Option<Length>,
    /// `[rollout]`; its completions are those of a group.
    pub rollout: RolloutConfig,
    /// `[kl]`: how the coefficient of the algorithm's penalty moves.
    pub kl: KlSteering,
    /// `[grpo]`.
    pub grpo: GrpoSettings,
    /// `[samples]`.
    pub samples: SamplesConfig,
    /// `[[score]]`.
    pub scores: Vec<ScoreConfig>,
}

/// `[grpo]`.
#[derive(Clone, Debug, PartialEq)]
pub struct GrpoSettings {
    /// The name that the algorithm starts from.
    pub preset: String,
    /// The preset with the keys of `[grpo]` and `[kl]` over it.
    pub algorithm: Algorithm,
    /// What becomes of groups whose scores are all equal.
    pub groups: Groups,
    /// Prompts per iteration.
    pub prompts: usize,
    /// Passes over an iteration's rollouts.
    pub epochs: usize,
    /// Optimizer steps per pass.
    pub minibatches: usize,
    /// Multiplies the mean entropy of a token, which is subtracted.
    pub entropy_coef: f64,
    /// Whether reward models apply what is stored beside them.
    pub normalize_scores: bool,
    /// How every source is standardized within the group before they are summed, if it is.
    pub normalize_each: Option<Standardization>,
    /// What a missing end does to a score.
    pub missing_end: MissingEnd,
    /// The KL of a completion, in nats, above which the run ends.
    pub kl_limit_nats: Option<f64>,
    /// Keys that were given and mean nothing to this algorithm.
    pub unused: Vec<String>,
}

const SECTIONS: [&str; 10] =
    ["run", "model", "data", "optimizer", "train", "rollout", "kl", "grpo", "samples", "score"];

impl GrpoConfig {
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
    /// As [`GrpoConfig::load`].
    pub fn from_layers(mut layers: Layers) -> Result<Loaded<Self>, ConfigError> {
        layers.check_sections(&SECTIONS)?;
        let raw: RawGrpo = layers.section("grpo")?;
        if let Some(completions) = raw.completions {
            same_completions(&layers, completions)?;
            layers.set(&format!("rollout.completions={completions}"))?;
        }
        let rollout = RolloutConfig::read(&layers)?;
        let replay = rollout.replay.is_some();
        let setting = Setting { completion_tokens_max: rollout.max_new_tokens, replay };
        let (grpo, kl) = settings(&layers, &raw, setting)?;
        if !replay {
            check_group(&layers, &rollout, &grpo)?;
        }
        derive_batch_size(&mut layers, &rollout, &grpo)?;
        let train = TrainConfig::read(&layers)?;
        let (data, length) = if replay {
            (None, train.length)
        } else {
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
            kl,
            grpo,
            samples: SamplesConfig::read(&layers)?,
            scores: read_scores(&layers)?,
        };
        Ok(Loaded { config, frozen: layers.freeze() })
    }
}

impl Configured for GrpoConfig {
    fn settings(&self) -> (run::Settings, Settings) {
        let Self { run, model, optimizer, train, .. } = self.clone();
        let settings = Settings {
            section: "grpo",
            data: self.data.clone(),
            length: self.length,
            rollout: self.rollout.clone(),
            samples: self.samples.clone(),
            asked: Asked::Prompts,
            reference: self.model.path.clone(),
            movement: Movement::Frozen,
            beta: self.grpo.algorithm.kl.beta().unwrap_or(0.0),
            steering: self.kl,
            kl_limit_nats: self.grpo.kl_limit_nats,
            prompts: self.grpo.prompts,
            epochs: self.grpo.epochs,
            minibatches: self.grpo.minibatches,
            scores: self.scores.clone(),
            normalize_scores: self.grpo.normalize_scores,
            needs_scores: true,
        };
        (run::Settings { run, model, optimizer, train }, settings)
    }
}

fn settings(
    layers: &Layers,
    raw: &RawGrpo,
    setting: Setting,
) -> Result<(GrpoSettings, KlSteering), ConfigError> {
    let preset = named(&raw.preset, setting.completion_tokens_max).ok_or_else(|| {
        let expected = format!("one of {}", NAMES.map(|name| format!("{name:?}")).join(", "));
        layers.unexpected("grpo.preset", &format!("{:?}", raw.preset), &expected)
    })?;
    let Resolved { algorithm, groups, unused } = raw.resolve(layers, preset, setting)?;
    let (kl, steering) = kl::read(layers, preset.kl)?;
    let grpo = GrpoSettings {
        preset: raw.preset.clone(),
        algorithm: Algorithm { kl, ..algorithm },
        groups,
        prompts: raw.prompts,
        epochs: raw.epochs,
        minibatches: raw.minibatches,
        entropy_coef: raw.entropy_coef,
        normalize_scores: raw.normalize_scores,
        normalize_each: raw.normalize_each.then(|| raw.standardization(preset.credit).0),
        missing_end: match raw.missing_end_penalty {
            0.0 => MissingEnd::Keep,
            penalty => MissingEnd::Subtract { penalty },
        },
        kl_limit_nats: raw.kl_limit,
        unused,
    };
    Ok((grpo, steering))
}

/// `grpo.completions` is another name of `rollout.completions`: both may be given if they agree.
fn same_completions(layers: &Layers, completions: usize) -> Result<(), ConfigError> {
    let of = |layers: &Layers| {
        let rollout = layers.table().get("rollout")?.get("completions")?;
        rollout.as_integer()
    };
    let (found, default) = (of(layers), of(&Layers::new(DEFAULTS, layers.file())));
    if found != default && found != i64::try_from(completions).ok() {
        let reason = "both say how many completions a prompt has, and not the same";
        return Err(layers.exclusive("grpo.completions", "rollout.completions", reason));
    }
    Ok(())
}

/// A group compares completions, so that there must be two, and a minibatch must not be empty.
fn check_group(
    layers: &Layers,
    rollout: &RolloutConfig,
    grpo: &GrpoSettings,
) -> Result<(), ConfigError> {
    use hearken_objective::grpo::{Credit, GroupBaseline, ScoreBaseline};
    let compares = match grpo.algorithm.credit {
        Credit::Group(baseline) => baseline != GroupBaseline::Greedy,
        Credit::RewardsToGo { baseline, .. } => baseline == ScoreBaseline::GroupMean,
        Credit::Gae { .. } => false,
    };
    let (completions, key) = (rollout.completions, "rollout.completions");
    let compares = compares || grpo.groups != Groups::Keep || grpo.normalize_each.is_some();
    let expected = "at least 2: completions of one prompt are compared with one another";
    layers.check(key, completions, !compares || 1 < completions, expected)
}

/// Writes down `train.batch_size`, which nobody needs to say: prompts · completions / minibatches.
fn derive_batch_size(
    layers: &mut Layers,
    rollout: &RolloutConfig,
    grpo: &GrpoSettings,
) -> Result<(), ConfigError> {
    let given = layers.table().get("train").and_then(|train| train.get("batch_size")).cloned();
    let rollouts = grpo.prompts * rollout.completions;
    let batch_size = rollouts / grpo.minibatches;
    if rollout.replay.is_some() {
        // A recorded iteration has the rollouts that it has.
        return if given.is_some() { Ok(()) } else { layers.set("train.batch_size=1") };
    }
    if !rollouts.is_multiple_of(grpo.minibatches) {
        let expected = format!("a divisor of prompts · completions = {rollouts}");
        return Err(layers.unexpected(
            "grpo.minibatches",
            &grpo.minibatches.to_string(),
            &expected,
        ));
    }
    match given {
        Some(value) if value.as_integer() != i64::try_from(batch_size).ok() => {
            let expected = format!(
                "prompts · completions / minibatches = {} · {} / {} = {batch_size}; without this \
                 key it is that",
                grpo.prompts, rollout.completions, grpo.minibatches
            );
            Err(layers.unexpected("train.batch_size", &value.to_string(), &expected))
        }
        _ => layers.set(&format!("train.batch_size={batch_size}")),
    }
}
