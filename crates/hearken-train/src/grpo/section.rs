//! Reads `[grpo]` and `[kl]`: a published name and the keys that change it.

use hearken_objective::advantage::group::Standardization;
use hearken_objective::aggregation::Aggregation;
use hearken_objective::grpo::shaping::{Overlong, OverlongPenalty, SamplerCorrection};
use hearken_objective::grpo::{Algorithm, Credit, GroupBaseline, GroupFilter, ScoreBaseline};
use hearken_objective::moments::Variance;
use hearken_objective::surrogate::{Clip, RatioLevel, Surrogate, Vespo};
use serde::Deserialize;

use crate::config::{ConfigError, Layers};

/// What becomes of groups whose scores are all equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Groups {
    /// They stay.
    Keep,
    /// They leave before advantages are computed: no statistic counts them.
    DropBefore,
    /// They leave after advantages are computed: statistics over the iteration count them.
    DropAfter,
    /// They leave at once, and others are sampled in their place, this many times at most.
    Resample {
        /// Rounds of further prompts.
        rounds: usize,
    },
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawAdvantage {
    Mean,
    Standardized,
    BatchStandardized,
    LeaveOneOut,
    Greedy,
    RewardsToGo,
    RewardsToGoBaseline,
    Gae,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawRatio {
    Token,
    #[serde(alias = "sequence")]
    Completion,
    CompletionSum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawSurrogate {
    Reinforce,
    Clip,
    DualClip,
    Cispo,
    Sapo,
    Gmpo,
    Vespo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawAggregate {
    Token,
    Completion,
    CompletionSum,
    Constant,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawGroups {
    Keep,
    DropBefore,
    DropAfter,
    Resample,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawOverlong {
    Keep,
    Penalize,
    Mask,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawCorrection {
    None,
    Truncate,
    Mask,
}

/// `[grpo]` as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGrpo {
    pub(super) preset: String,
    pub(super) prompts: usize,
    pub(super) completions: Option<usize>,
    pub(super) epochs: usize,
    pub(super) minibatches: usize,
    pub(super) entropy_coef: f64,
    pub(super) normalize_scores: bool,
    pub(super) normalize_each: bool,
    pub(super) missing_end_penalty: f64,
    pub(super) kl_limit: Option<f64>,
    pub(super) resample_rounds: usize,
    advantage: Option<RawAdvantage>,
    std_eps: Option<f64>,
    std_ddof: Option<u64>,
    ratio: Option<RawRatio>,
    surrogate: Option<RawSurrogate>,
    clip_low: Option<f64>,
    clip_high: Option<f64>,
    dual_clip: Option<f64>,
    cispo_min: Option<f64>,
    sapo_positive: Option<f64>,
    sapo_negative: Option<f64>,
    gmpo_range: Option<f64>,
    vespo_positive: Option<[f64; 2]>,
    vespo_negative: Option<[f64; 2]>,
    aggregate: Option<RawAggregate>,
    aggregate_tokens: Option<usize>,
    groups: Option<RawGroups>,
    overlong: Option<RawOverlong>,
    overlong_zone: Option<usize>,
    correction: Option<RawCorrection>,
    correction_level: Option<RawRatio>,
    correction_min: Option<f64>,
    correction_max: Option<f64>,
}

/// The algorithm that a section asks for, and keys that say nothing to it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Resolved {
    pub(super) algorithm: Algorithm,
    pub(super) groups: Groups,
    pub(super) unused: Vec<String>,
}

/// What a resolution depends on besides the section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) completion_tokens_max: usize,
    /// Whether rollouts are replayed: then nothing is sampled, and scores are final.
    pub(super) replay: bool,
}

impl RawGrpo {
    /// `preset` with the section's keys over it; its KL is that of the preset.
    pub(super) fn resolve(
        &self,
        layers: &Layers,
        preset: Algorithm,
        setting: Setting,
    ) -> Result<Resolved, ConfigError> {
        self.check(layers)?;
        let mut unused = Unused(Vec::new());
        let algorithm = Algorithm {
            credit: self.credit(layers, preset.credit, &mut unused)?,
            ratio: self.ratio.map_or(preset.ratio, RatioLevel::from),
            surrogate: self.surrogate(preset.surrogate, &mut unused),
            aggregation: self.aggregation(preset.aggregation, setting, &mut unused),
            overlong: self.overlong(preset.overlong, setting, &mut unused),
            correction: self.correction(layers, preset.correction, setting, &mut unused)?,
            ..preset
        };
        let groups = self.groups(preset.groups, setting);
        let filter = if groups == Groups::Keep {
            GroupFilter::Keep
        } else {
            GroupFilter::DropWithoutSpread
        };
        let algorithm = Algorithm { groups: filter, ..algorithm };
        self.check_replay(layers, &algorithm, setting)?;
        Ok(Resolved { algorithm, groups, unused: unused.0 })
    }

    fn check(&self, layers: &Layers) -> Result<(), ConfigError> {
        for (key, value) in [
            ("grpo.prompts", self.prompts),
            ("grpo.epochs", self.epochs),
            ("grpo.minibatches", self.minibatches),
            ("grpo.completions", self.completions.unwrap_or(1)),
            ("grpo.aggregate_tokens", self.aggregate_tokens.unwrap_or(1)),
            ("grpo.overlong_zone", self.overlong_zone.unwrap_or(1)),
        ] {
            layers.check(key, value, 0 < value, "an integer from 1")?;
        }
        let from_zero = |x: f64| x.is_finite() && 0.0 <= x;
        for (key, value) in [
            ("grpo.entropy_coef", Some(self.entropy_coef)),
            ("grpo.missing_end_penalty", Some(self.missing_end_penalty)),
            ("grpo.std_eps", self.std_eps),
            ("grpo.clip_low", self.clip_low),
            ("grpo.cispo_min", self.cispo_min),
            ("grpo.correction_min", self.correction_min),
        ] {
            let value = value.unwrap_or(0.0);
            layers.check(key, value, from_zero(value), "a number from 0")?;
        }
        for (key, value) in [
            ("grpo.kl_limit", self.kl_limit),
            ("grpo.clip_high", self.clip_high),
            ("grpo.sapo_positive", self.sapo_positive),
            ("grpo.sapo_negative", self.sapo_negative),
            ("grpo.gmpo_range", self.gmpo_range),
            ("grpo.correction_max", self.correction_max),
        ] {
            let value = value.unwrap_or(1.0);
            layers.check(key, value, value.is_finite() && 0.0 < value, "a number above 0")?;
        }
        let clip_low = self.clip_low.unwrap_or(0.0);
        layers.check("grpo.clip_low", clip_low, clip_low <= 1.0, "a number from 0 to 1")?;
        let bound = self.dual_clip.unwrap_or(3.0);
        let holds = bound.is_finite() && 1.0 < bound;
        layers.check("grpo.dual_clip", bound, holds, "a number above 1")?;
        let ddof = self.std_ddof.unwrap_or(1);
        layers.check("grpo.std_ddof", ddof, ddof <= 1, "0 or 1")?;
        for (key, pair) in [
            ("grpo.vespo_positive", self.vespo_positive),
            ("grpo.vespo_negative", self.vespo_negative),
        ] {
            let bad = pair.into_iter().flatten().find(|x| !from_zero(*x));
            layers.check(key, bad.unwrap_or(0.0), bad.is_none(), "two numbers from 0")?;
        }
        Ok(())
    }

    fn credit(
        &self,
        layers: &Layers,
        preset: Credit,
        unused: &mut Unused,
    ) -> Result<Credit, ConfigError> {
        let (how, variance) = self.standardization(preset);
        let group = Credit::Group;
        let credit = match self.advantage {
            None => match preset {
                Credit::Group(GroupBaseline::Standardized(_)) if self.normalize_each => {
                    group(GroupBaseline::OverBatchStd(how))
                }
                Credit::Group(GroupBaseline::Standardized(_)) => {
                    group(GroupBaseline::Standardized(how))
                }
                Credit::Group(GroupBaseline::OverBatchStd(_)) => {
                    group(GroupBaseline::OverBatchStd(how))
                }
                Credit::RewardsToGo { baseline, .. } => Credit::RewardsToGo { baseline, variance },
                other => other,
            },
            Some(RawAdvantage::Mean) => group(GroupBaseline::Mean),
            Some(RawAdvantage::Standardized) => group(GroupBaseline::Standardized(how)),
            Some(RawAdvantage::BatchStandardized) => group(GroupBaseline::OverBatchStd(how)),
            Some(RawAdvantage::LeaveOneOut) => group(GroupBaseline::LeaveOneOut),
            Some(RawAdvantage::Greedy) => group(GroupBaseline::Greedy),
            Some(RawAdvantage::RewardsToGo) => {
                Credit::RewardsToGo { baseline: ScoreBaseline::None, variance }
            }
            Some(RawAdvantage::RewardsToGoBaseline) => {
                Credit::RewardsToGo { baseline: ScoreBaseline::GroupMean, variance }
            }
            Some(RawAdvantage::Gae) => return Err(needs_critic(layers, "grpo.advantage", "gae")),
        };
        if let Credit::Gae { .. } = credit {
            return Err(needs_critic(layers, "grpo.preset", &self.preset));
        }
        let standardizes = matches!(
            credit,
            Credit::Group(GroupBaseline::Standardized(_) | GroupBaseline::OverBatchStd(_))
        );
        let whitens = matches!(credit, Credit::RewardsToGo { .. });
        unused.note("std_eps", self.std_eps.is_some() && !standardizes);
        unused.note("std_ddof", self.std_ddof.is_some() && !standardizes && !whitens);
        Ok(credit)
    }

    /// The preset's way to standardize with the section's keys over it, and the variance of whitening.
    pub(super) fn standardization(&self, preset: Credit) -> (Standardization, Variance) {
        // What presets agree on, for those that do not standardize.
        let (base, whitening) = match preset {
            Credit::Group(GroupBaseline::Standardized(how) | GroupBaseline::OverBatchStd(how)) => {
                (how, Variance::Population)
            }
            Credit::RewardsToGo { variance, .. } => (TRL_STD, variance),
            _ => (TRL_STD, Variance::Population),
        };
        let given = self.std_ddof.map(|ddof| match ddof {
            0 => Variance::Population,
            _ => Variance::Sample,
        });
        let how = Standardization {
            eps: self.std_eps.unwrap_or(base.eps),
            variance: given.unwrap_or(base.variance),
        };
        (how, given.unwrap_or(whitening))
    }

    fn surrogate(&self, preset: Surrogate, unused: &mut Unused) -> Surrogate {
        let kind = self.surrogate.unwrap_or_else(|| RawSurrogate::of(preset));
        // A surrogate that is not the preset's starts from what its own paper has.
        let base = if kind == RawSurrogate::of(preset) { preset } else { kind.published() };
        let surrogate = match base {
            Surrogate::Reinforce => Surrogate::Reinforce,
            Surrogate::Clipped { clip } => Surrogate::Clipped { clip: self.clip(clip) },
            Surrogate::DualClipped { clip, bound } => Surrogate::DualClipped {
                clip: self.clip(clip),
                bound: self.dual_clip.unwrap_or(bound),
            },
            Surrogate::Cispo { min, max } => Surrogate::Cispo {
                min: self.cispo_min.unwrap_or(min),
                max: self.clip_high.unwrap_or(max),
            },
            Surrogate::Sapo { positive_temperature, negative_temperature } => Surrogate::Sapo {
                positive_temperature: self.sapo_positive.unwrap_or(positive_temperature),
                negative_temperature: self.sapo_negative.unwrap_or(negative_temperature),
            },
            Surrogate::Gmpo { log_range } => {
                Surrogate::Gmpo { log_range: self.gmpo_range.unwrap_or(log_range) }
            }
            Surrogate::Vespo { positive, negative } => Surrogate::Vespo {
                positive: self.vespo_positive.map_or(positive, vespo),
                negative: self.vespo_negative.map_or(negative, vespo),
            },
        };
        let clips = matches!(kind, RawSurrogate::Clip | RawSurrogate::DualClip);
        let is = |other| kind == other;
        unused.note("clip_low", self.clip_low.is_some() && !clips);
        unused.note("clip_high", self.clip_high.is_some() && !clips && !is(RawSurrogate::Cispo));
        unused.note("dual_clip", self.dual_clip.is_some() && !is(RawSurrogate::DualClip));
        unused.note("cispo_min", self.cispo_min.is_some() && !is(RawSurrogate::Cispo));
        unused.note("sapo_positive", self.sapo_positive.is_some() && !is(RawSurrogate::Sapo));
        unused.note("sapo_negative", self.sapo_negative.is_some() && !is(RawSurrogate::Sapo));
        unused.note("gmpo_range", self.gmpo_range.is_some() && !is(RawSurrogate::Gmpo));
        unused.note("vespo_positive", self.vespo_positive.is_some() && !is(RawSurrogate::Vespo));
        unused.note("vespo_negative", self.vespo_negative.is_some() && !is(RawSurrogate::Vespo));
        surrogate
    }

    fn clip(&self, preset: Clip) -> Clip {
        Clip {
            low: self.clip_low.unwrap_or(preset.low),
            high: self.clip_high.unwrap_or(preset.high),
        }
    }

    fn aggregation(
        &self,
        preset: Aggregation,
        setting: Setting,
        unused: &mut Unused,
    ) -> Aggregation {
        let completion_tokens_max =
            self.aggregate_tokens.unwrap_or(setting.completion_tokens_max);
        let constant = Aggregation::Constant { completion_tokens_max };
        let aggregation = match (self.aggregate, preset) {
            (None, Aggregation::Constant { .. }) | (Some(RawAggregate::Constant), _) => constant,
            (None, other) => other,
            (Some(RawAggregate::Token), _) => Aggregation::PerToken,
            (Some(RawAggregate::Completion), _) => Aggregation::PerCompletion,
            (Some(RawAggregate::CompletionSum), _) => Aggregation::PerCompletionSum,
        };
        unused.note("aggregate_tokens", self.aggregate_tokens.is_some() && aggregation != constant);
        aggregation
    }

    /// Recorded rollouts are what was left after any filter: a preset's does not apply to them.
    fn groups(&self, preset: GroupFilter, setting: Setting) -> Groups {
        let resample = Groups::Resample { rounds: self.resample_rounds };
        match self.groups {
            None if setting.replay => Groups::Keep,
            None => match preset {
                GroupFilter::Keep => Groups::Keep,
                GroupFilter::DropWithoutSpread => resample,
            },
            Some(RawGroups::Keep) => Groups::Keep,
            Some(RawGroups::DropBefore) => Groups::DropBefore,
            Some(RawGroups::DropAfter) => Groups::DropAfter,
            Some(RawGroups::Resample) => resample,
        }
    }

    /// Recorded scores are final: penalties are in them already.
    fn overlong(&self, preset: Overlong, setting: Setting, unused: &mut Unused) -> Overlong {
        let completion_tokens_max = setting.completion_tokens_max;
        let zone = || {
            // A fifth of the length, as in the paper: 4096 of 20480.
            let published = (completion_tokens_max / 5).max(1);
            let zone_tokens = self.overlong_zone.unwrap_or(published).min(completion_tokens_max);
            Overlong::Penalize(OverlongPenalty { completion_tokens_max, zone_tokens })
        };
        let overlong = match (self.overlong, preset) {
            (None, Overlong::Penalize(_)) | (Some(RawOverlong::Penalize), _) => zone(),
            (None, other) => other,
            (Some(RawOverlong::Keep), _) => Overlong::Keep,
            (Some(RawOverlong::Mask), _) => Overlong::Mask,
        };
        let penalizes = matches!(overlong, Overlong::Penalize(_));
        unused.note("overlong_zone", self.overlong_zone.is_some() && !penalizes);
        let final_scores = penalizes && setting.replay;
        unused.note("overlong", final_scores && self.overlong.is_some());
        if final_scores { Overlong::Keep } else { overlong }
    }

    fn correction(
        &self,
        layers: &Layers,
        preset: SamplerCorrection,
        setting: Setting,
        unused: &mut Unused,
    ) -> Result<SamplerCorrection, ConfigError> {
        // The published bounds of truncation and masking.
        let (min, max) = (self.correction_min.unwrap_or(0.5), self.correction_max.unwrap_or(2.0));
        let level = self.correction_level.map_or(RatioLevel::Token, RatioLevel::from);
        let correction = match self.correction {
            None => preset,
            Some(RawCorrection::None) => SamplerCorrection::None,
            Some(RawCorrection::Truncate) => SamplerCorrection::Truncate { level, max },
            Some(RawCorrection::Mask) => {
                layers.check("grpo.correction_min", min, min < max, "less than correction_max")?;
                SamplerCorrection::Mask { level, min, max }
            }
        };
        let none = correction == SamplerCorrection::None;
        let masks = matches!(correction, SamplerCorrection::Mask { .. });
        unused.note("correction_level", self.correction_level.is_some() && none);
        unused.note("correction_max", self.correction_max.is_some() && none);
        unused.note("correction_min", self.correction_min.is_some() && !masks);
        if setting.replay && !none {
            let reason = "a recorded rollout does not say what its sampler saw";
            return Err(layers.exclusive("rollout.replay", "grpo.correction", reason));
        }
        Ok(correction)
    }

    fn check_replay(
        &self,
        layers: &Layers,
        algorithm: &Algorithm,
        setting: Setting,
    ) -> Result<(), ConfigError> {
        if setting.replay && algorithm.credit == Credit::Group(GroupBaseline::Greedy) {
            let key =
                if self.advantage.is_some() { "grpo.advantage" } else { "grpo.preset" };
            let reason = "a recorded rollout does not come with the score of a greedy completion";
            return Err(layers.exclusive("rollout.replay", key, reason));
        }
        Ok(())
    }
}

/// How TRL standardizes, and with it every preset that does.
const TRL_STD: Standardization = Standardization { eps: 1e-4, variance: Variance::Sample };

struct Unused(Vec<String>);

impl Unused {
    fn note(&mut self, key: &str, is_unused: bool) {
        if is_unused {
            self.0.push(format!("grpo.{key}"));
        }
    }
}

impl From<RawRatio> for RatioLevel {
    fn from(raw: RawRatio) -> Self {
        match raw {
            RawRatio::Token => Self::Token,
            RawRatio::Completion => Self::CompletionMean,
            RawRatio::CompletionSum => Self::CompletionSum,
        }
    }
}

impl RawSurrogate {
    fn of(surrogate: Surrogate) -> Self {
        match surrogate {
            Surrogate::Reinforce => Self::Reinforce,
            Surrogate::Clipped { .. } => Self::Clip,
            Surrogate::DualClipped { .. } => Self::DualClip,
            Surrogate::Cispo { .. } => Self::Cispo,
            Surrogate::Sapo { .. } => Self::Sapo,
            Surrogate::Gmpo { .. } => Self::Gmpo,
            Surrogate::Vespo { .. } => Self::Vespo,
        }
    }

    fn published(self) -> Surrogate {
        let clip = Clip::symmetric(0.2);
        let preset = |name| {
            let of = hearken_objective::grpo::preset::named(name, 1).expect("a published name");
            of.surrogate
        };
        match self {
            Self::Reinforce => Surrogate::Reinforce,
            Self::Clip => Surrogate::Clipped { clip },
            Self::DualClip => Surrogate::DualClipped { clip, bound: 3.0 },
            Self::Cispo => preset("cispo"),
            Self::Sapo => preset("sapo"),
            Self::Gmpo => preset("gmpo"),
            Self::Vespo => preset("vespo"),
        }
    }
}

fn vespo([power, decay]: [f64; 2]) -> Vespo {
    Vespo { power, decay }
}

fn needs_critic(layers: &Layers, key: &str, found: &str) -> ConfigError {
    let expected =
        "an advantage from scores alone; generalized advantage estimation needs a critic, which \
         `hearken ppo` trains";
    layers.unexpected(key, &format!("{found:?}"), expected)
}
