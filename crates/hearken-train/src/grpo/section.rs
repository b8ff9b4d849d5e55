//! `[grpo]`: a published name and the keys that change it.

use hearken_config::{
    AboveOne, AtLeastOne, Complaint, Fraction, NonNegative, Positive, RolloutConfig,
};
use hearken_objective::advantage::group::Standardization;
use hearken_objective::grpo::preset::named;
use hearken_objective::grpo::{Algorithm, GroupFilter};
use hearken_objective::moments::Variance;
use hearken_objective::surrogate::RatioLevel;
use schemars::JsonSchema;
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer};

use crate::rollout::correction::CorrectionName;
use crate::rollout::settings::LearningSettings;

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

/// How a completion is credited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdvantageName {
    /// Score minus group mean.
    Mean,
    /// Divided by the group's deviation too.
    Standardized,
    /// Divided by the iteration's deviation.
    BatchStandardized,
    /// Minus the mean of the others of the group.
    LeaveOneOut,
    /// Minus the score of the greedy completion.
    Greedy,
    /// Per token, whitened.
    RewardsToGo,
    /// Per token, after the group mean is taken away.
    RewardsToGoBaseline,
    /// Needs a critic, and is refused.
    Gae,
}

/// What one ratio covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RatioName {
    /// A token.
    Token,
    /// A completion: the geometric mean.
    #[serde(alias = "sequence")]
    Completion,
    /// The whole completion as one action.
    CompletionSum,
}

/// What is maximized of ratio and advantage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SurrogateName {
    /// The log-probability.
    Reinforce,
    /// PPO's clipped ratio.
    Clip,
    /// With a bound where the advantage is negative.
    DualClip,
    /// CISPO.
    Cispo,
    /// SAPO.
    Sapo,
    /// GMPO.
    Gmpo,
    /// VESPO.
    Vespo,
}

/// How token losses become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AggregateName {
    /// The mean over all tokens.
    Token,
    /// The mean over a completion's tokens, then over completions.
    Completion,
    /// The sum over a completion's tokens, then the mean.
    CompletionSum,
    /// The sum divided by a constant.
    Constant,
}

/// What becomes of groups whose scores are all equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupsName {
    /// They stay.
    Keep,
    /// They leave before advantages are computed.
    DropBefore,
    /// They leave after advantages are computed.
    DropAfter,
    /// Others are sampled in their place.
    Resample,
}

/// What becomes of completions that are cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverlongName {
    /// Nothing.
    Keep,
    /// Their scores fall towards the limit.
    Penalize,
    /// They are not trained on.
    Mask,
}

/// `[grpo]`. What is not given is the preset's.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrpoSettings {
    /// How an iteration is learned from, and what its scores are.
    #[serde(rename = "*")]
    #[schemars(flatten)]
    pub learning: LearningSettings,
    /// The name that the algorithm starts from.
    pub preset: String,
    /// Prompts per iteration.
    pub prompts: AtLeastOne,
    /// Another name of `rollout.completions`.
    pub completions: Option<AtLeastOne>,
    /// Multiplies the mean entropy of a token, which is subtracted.
    pub entropy_coef: NonNegative,
    /// Whether every source is standardized within the group before they are summed.
    pub normalize_each: bool,
    /// How often more prompts are asked where groups are resampled.
    pub resample_rounds: usize,
    /// How a completion is credited.
    pub advantage: Option<AdvantageName>,
    /// Added to a deviation.
    pub std_eps: Option<NonNegative>,
    /// What is taken from the number of scores in a variance: 1 or 0.
    #[serde(default, rename = "std_ddof", deserialize_with = "variance")]
    #[schemars(with = "Option<u64>", range(max = 1))]
    pub std_variance: Option<Variance>,
    /// What one ratio covers.
    pub ratio: Option<RatioName>,
    /// What is maximized of ratio and advantage.
    pub surrogate: Option<SurrogateName>,
    /// Ratios below 1 minus this gain nothing.
    pub clip_low: Option<Fraction>,
    /// Ratios above 1 plus this gain nothing; for cispo the largest weight itself.
    pub clip_high: Option<Positive>,
    /// The bound of the loss where the advantage is negative.
    pub dual_clip: Option<AboveOne>,
    /// The least weight of cispo.
    pub cispo_min: Option<NonNegative>,
    /// The temperature of sapo where the advantage is positive.
    pub sapo_positive: Option<Positive>,
    /// The temperature of sapo elsewhere.
    pub sapo_negative: Option<Positive>,
    /// The bound of log ratios of gmpo.
    pub gmpo_range: Option<Positive>,
    /// Power and decay of vespo where the advantage is not negative.
    pub vespo_positive: Option<[NonNegative; 2]>,
    /// Power and decay of vespo elsewhere.
    pub vespo_negative: Option<[NonNegative; 2]>,
    /// How token losses become one.
    pub aggregate: Option<AggregateName>,
    /// The constant of an aggregate by a constant; without it `rollout.max_new_tokens`.
    pub aggregate_tokens: Option<AtLeastOne>,
    /// What becomes of groups whose scores are all equal.
    pub groups: Option<GroupsName>,
    /// What becomes of completions that are cut off.
    pub overlong: Option<OverlongName>,
    /// Tokens before the limit over which a penalty grows to 1.
    pub overlong_zone: Option<AtLeastOne>,
    /// What is done where sampler and trainer differ.
    pub correction: Option<CorrectionName>,
    /// What one correction covers.
    pub correction_level: Option<RatioName>,
    /// The lower bound of a correction.
    pub correction_min: Option<NonNegative>,
    /// The upper bound of a correction.
    pub correction_max: Option<Positive>,
}

fn variance<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Variance>, D::Error> {
    match u64::deserialize(deserializer)? {
        0 => Ok(Some(Variance::Population)),
        1 => Ok(Some(Variance::Sample)),
        other => {
            let found = other.to_string();
            Err(D::Error::invalid_value(Unexpected::Other(&found), &"0 or 1"))
        }
    }
}

/// The algorithm that a section asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The preset with the keys of `[grpo]` and `[kl]` over it.
    pub algorithm: Algorithm,
    /// What becomes of groups whose scores are all equal.
    pub groups: Groups,
    /// How every source is standardized within the group before they are summed, if it is.
    pub normalize_each: Option<Standardization>,
    /// Keys that were given and mean nothing to this algorithm.
    pub unused: Vec<String>,
}

/// The preset "grpo" as it is: what stands there until the keys are resolved.
impl Default for Resolved {
    fn default() -> Self {
        let algorithm = named("grpo", 1).expect("a published name");
        Self { algorithm, groups: Groups::Keep, normalize_each: None, unused: Vec::new() }
    }
}

/// What a resolution depends on besides the section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) completion_tokens_max: usize,
    /// Whether rollouts are replayed: then nothing is sampled, and scores are final.
    pub(super) replay: bool,
}

impl GrpoSettings {
    /// `preset` with the section's keys over it; its KL is that of the preset.
    pub(super) fn resolve(
        &self,
        preset: Algorithm,
        rollout: &RolloutConfig,
    ) -> Result<Resolved, Complaint> {
        let setting = Setting {
            completion_tokens_max: *rollout.max_new_tokens,
            replay: rollout.replay.is_some(),
        };
        let mut unused = Unused(Vec::new());
        let surrogate = self.surrogate(preset.surrogate, &mut unused);
        let algorithm = Algorithm {
            credit: self.credit(preset.credit, &mut unused)?,
            ratio: self.ratio.map_or(preset.ratio, RatioLevel::from),
            surrogate,
            aggregation: self.aggregation(preset.aggregation, setting, &mut unused),
            overlong: self.overlong(preset.overlong, setting, &mut unused),
            correction: self.correction(preset, surrogate, rollout, &mut unused)?,
            ..preset
        };
        let groups = self.groups(preset.groups, setting);
        if rollout.ahead.is_some() && matches!(groups, Groups::Resample { .. }) {
            let reason = "how many prompts an iteration asks for is known only when it is sampled";
            return Err(Complaint::exclusive("rollout.ahead", "grpo.groups", reason));
        }
        let filter =
            if groups == Groups::Keep { GroupFilter::Keep } else { GroupFilter::DropWithoutSpread };
        let algorithm = Algorithm { groups: filter, ..algorithm };
        self.check_replay(&algorithm, setting)?;
        let normalize_each = self.normalize_each.then(|| self.standardization(preset.credit).0);
        Ok(Resolved { algorithm, groups, normalize_each, unused: unused.0 })
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
