//! Reads `[grpo]` and `[kl]`: a published name and the keys that change it.

use hearken_objective::grpo::{Algorithm, GroupFilter};
use hearken_objective::surrogate::RatioLevel;
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
pub(super) enum RawAdvantage {
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
pub(super) enum RawRatio {
    Token,
    #[serde(alias = "sequence")]
    Completion,
    CompletionSum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawSurrogate {
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
pub(super) enum RawAggregate {
    Token,
    Completion,
    CompletionSum,
    Constant,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawGroups {
    Keep,
    DropBefore,
    DropAfter,
    Resample,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawOverlong {
    Keep,
    Penalize,
    Mask,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawCorrection {
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
    pub(super) advantage: Option<RawAdvantage>,
    pub(super) std_eps: Option<f64>,
    pub(super) std_ddof: Option<u64>,
    pub(super) ratio: Option<RawRatio>,
    pub(super) surrogate: Option<RawSurrogate>,
    pub(super) clip_low: Option<f64>,
    pub(super) clip_high: Option<f64>,
    pub(super) dual_clip: Option<f64>,
    pub(super) cispo_min: Option<f64>,
    pub(super) sapo_positive: Option<f64>,
    pub(super) sapo_negative: Option<f64>,
    pub(super) gmpo_range: Option<f64>,
    pub(super) vespo_positive: Option<[f64; 2]>,
    pub(super) vespo_negative: Option<[f64; 2]>,
    pub(super) aggregate: Option<RawAggregate>,
    pub(super) aggregate_tokens: Option<usize>,
    pub(super) groups: Option<RawGroups>,
    pub(super) overlong: Option<RawOverlong>,
    pub(super) overlong_zone: Option<usize>,
    pub(super) correction: Option<RawCorrection>,
    pub(super) correction_level: Option<RawRatio>,
    pub(super) correction_min: Option<f64>,
    pub(super) correction_max: Option<f64>,
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
        let filter =
            if groups == Groups::Keep { GroupFilter::Keep } else { GroupFilter::DropWithoutSpread };
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
}

/// Keys that say nothing to an algorithm.
pub(super) struct Unused(Vec<String>);

impl Unused {
    pub(super) fn note(&mut self, key: &str, is_unused: bool) {
        if is_unused {
            self.0.push(format!("grpo.{key}"));
        }
    }
}
