//! What each key of `[grpo]` makes of a preset's choice.

use hearken_config::{
    AboveOne, AtLeastOne, Complaint, Fraction, NonNegative, Positive, RolloutConfig,
};
use hearken_objective::advantage::group::Standardization;
use hearken_objective::aggregation::Aggregation;
use hearken_objective::grpo::shaping::{Overlong, OverlongPenalty, SamplerCorrection};
use hearken_objective::grpo::{Algorithm, Credit, GroupBaseline, GroupFilter, ScoreBaseline};
use hearken_objective::moments::Variance;
use hearken_objective::surrogate::{Clip, RatioLevel, Surrogate, Vespo};

use super::section::{
    AdvantageName, AggregateName, Groups, GroupsName, GrpoSettings, OverlongName, RatioName,
    Setting, SurrogateName, Unused,
};
use crate::rollout::correction::CorrectionKeys;

/// How TRL standardizes, and with it every preset that does.
const TRL_STD: Standardization = Standardization { eps: 1e-4, variance: Variance::Sample };

impl GrpoSettings {
    pub(super) fn credit(&self, preset: Credit, unused: &mut Unused) -> Result<Credit, Complaint> {
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
            Some(AdvantageName::Mean) => group(GroupBaseline::Mean),
            Some(AdvantageName::Standardized) => group(GroupBaseline::Standardized(how)),
            Some(AdvantageName::BatchStandardized) => group(GroupBaseline::OverBatchStd(how)),
            Some(AdvantageName::LeaveOneOut) => group(GroupBaseline::LeaveOneOut),
            Some(AdvantageName::Greedy) => group(GroupBaseline::Greedy),
            Some(AdvantageName::RewardsToGo) => {
                Credit::RewardsToGo { baseline: ScoreBaseline::None, variance }
            }
            Some(AdvantageName::RewardsToGoBaseline) => {
                Credit::RewardsToGo { baseline: ScoreBaseline::GroupMean, variance }
            }
            Some(AdvantageName::Gae) => return Err(needs_critic("grpo.advantage", "gae")),
        };
        if let Credit::Gae { .. } = credit {
            return Err(needs_critic("grpo.preset", &self.preset));
        }
        let standardizes = matches!(
            credit,
            Credit::Group(GroupBaseline::Standardized(_) | GroupBaseline::OverBatchStd(_))
        );
        let whitens = matches!(credit, Credit::RewardsToGo { .. });
        unused.note("std_eps", self.std_eps.is_some() && !standardizes);
        unused.note("std_ddof", self.std_variance.is_some() && !standardizes && !whitens);
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
        let given = self.std_variance;
        let how = Standardization {
            eps: self.std_eps.map_or(base.eps, NonNegative::get),
            variance: given.unwrap_or(base.variance),
        };
        (how, given.unwrap_or(whitening))
    }

    pub(super) fn surrogate(&self, preset: Surrogate, unused: &mut Unused) -> Surrogate {
        let kind = self.surrogate.unwrap_or_else(|| SurrogateName::of(preset));
        // A surrogate that is not the preset's starts from what its own paper has.
        let base = if kind == SurrogateName::of(preset) { preset } else { kind.published() };
        let surrogate = match base {
            Surrogate::Reinforce => Surrogate::Reinforce,
            Surrogate::Clipped { clip } => Surrogate::Clipped { clip: self.clip(clip) },
            Surrogate::DualClipped { clip, bound } => Surrogate::DualClipped {
                clip: self.clip(clip),
                bound: self.dual_clip.map_or(bound, AboveOne::get),
            },
            Surrogate::Cispo { min, max } => Surrogate::Cispo {
                min: self.cispo_min.map_or(min, NonNegative::get),
                max: self.clip_high.map_or(max, Positive::get),
            },
            Surrogate::Sapo { positive_temperature, negative_temperature } => Surrogate::Sapo {
                positive_temperature: self
                    .sapo_positive
                    .map_or(positive_temperature, Positive::get),
                negative_temperature: self
                    .sapo_negative
                    .map_or(negative_temperature, Positive::get),
            },
            Surrogate::Gmpo { log_range } => {
                Surrogate::Gmpo { log_range: self.gmpo_range.map_or(log_range, Positive::get) }
            }
            Surrogate::Vespo { positive, negative } => Surrogate::Vespo {
                positive: self.vespo_positive.map_or(positive, vespo),
                negative: self.vespo_negative.map_or(negative, vespo),
            },
        };
        let clips = matches!(kind, SurrogateName::Clip | SurrogateName::DualClip);
        let is = |other| kind == other;
        unused.note("clip_low", self.clip_low.is_some() && !clips);
        unused.note("clip_high", self.clip_high.is_some() && !clips && !is(SurrogateName::Cispo));
        unused.note("dual_clip", self.dual_clip.is_some() && !is(SurrogateName::DualClip));
        unused.note("cispo_min", self.cispo_min.is_some() && !is(SurrogateName::Cispo));
        unused.note("sapo_positive", self.sapo_positive.is_some() && !is(SurrogateName::Sapo));
        unused.note("sapo_negative", self.sapo_negative.is_some() && !is(SurrogateName::Sapo));
        unused.note("gmpo_range", self.gmpo_range.is_some() && !is(SurrogateName::Gmpo));
        unused.note("vespo_positive", self.vespo_positive.is_some() && !is(SurrogateName::Vespo));
        unused.note("vespo_negative", self.vespo_negative.is_some() && !is(SurrogateName::Vespo));
        surrogate
    }

    fn clip(&self, preset: Clip) -> Clip {
        Clip {
            low: self.clip_low.map_or(preset.low, Fraction::get),
            high: self.clip_high.map_or(preset.high, Positive::get),
        }
    }

    pub(super) fn aggregation(
        &self,
        preset: Aggregation,
        setting: Setting,
        unused: &mut Unused,
    ) -> Aggregation {
        let completion_tokens_max =
            self.aggregate_tokens.map_or(setting.completion_tokens_max, AtLeastOne::get);
        let constant = Aggregation::Constant { completion_tokens_max };
        let aggregation = match (self.aggregate, preset) {
            (None, Aggregation::Constant { .. }) | (Some(AggregateName::Constant), _) => constant,
            (None, other) => other,
            (Some(AggregateName::Token), _) => Aggregation::PerToken,
            (Some(AggregateName::Completion), _) => Aggregation::PerCompletion,
            (Some(AggregateName::CompletionSum), _) => Aggregation::PerCompletionSum,
        };
        unused.note("aggregate_tokens", self.aggregate_tokens.is_some() && aggregation != constant);
        aggregation
    }

    /// Recorded rollouts are what was left after any filter: a preset's does not apply to them.
    pub(super) fn groups(&self, preset: GroupFilter, setting: Setting) -> Groups {
        let resample = Groups::Resample { rounds: self.resample_rounds };
        match self.groups {
            None if setting.replay => Groups::Keep,
            None => match preset {
                GroupFilter::Keep => Groups::Keep,
                GroupFilter::DropWithoutSpread => resample,
            },
            Some(GroupsName::Keep) => Groups::Keep,
            Some(GroupsName::DropBefore) => Groups::DropBefore,
            Some(GroupsName::DropAfter) => Groups::DropAfter,
            Some(GroupsName::Resample) => resample,
        }
    }

    /// Recorded scores are final: penalties are in them already.
    pub(super) fn overlong(
        &self,
        preset: Overlong,
        setting: Setting,
        unused: &mut Unused,
    ) -> Overlong {
        let completion_tokens_max = setting.completion_tokens_max;
        let zone = || {
            // A fifth of the length, as in the paper: 4096 of 20480.
            let published = (completion_tokens_max / 5).max(1);
            let zone_tokens =
                self.overlong_zone.map_or(published, AtLeastOne::get).min(completion_tokens_max);
            Overlong::Penalize(OverlongPenalty { completion_tokens_max, zone_tokens })
        };
        let overlong = match (self.overlong, preset) {
            (None, Overlong::Penalize(_)) | (Some(OverlongName::Penalize), _) => zone(),
            (None, other) => other,
            (Some(OverlongName::Keep), _) => Overlong::Keep,
            (Some(OverlongName::Mask), _) => Overlong::Mask,
        };
        let penalizes = matches!(overlong, Overlong::Penalize(_));
        unused.note("overlong_zone", self.overlong_zone.is_some() && !penalizes);
        let final_scores = penalizes && setting.replay;
        unused.note("overlong", final_scores && self.overlong.is_some());
        if final_scores { Overlong::Keep } else { overlong }
    }

    pub(super) fn correction(
        &self,
        preset: Algorithm,
        surrogate: Surrogate,
        rollout: &RolloutConfig,
        unused: &mut Unused,
    ) -> Result<SamplerCorrection, Complaint> {
        let keys = CorrectionKeys {
            section: "grpo",
            has_ratio: surrogate != Surrogate::Reinforce,
            name: self.correction,
            level: self.correction_level.map(RatioLevel::from),
            min: self.correction_min,
            max: self.correction_max,
        };
        let (correction, keys) = keys.resolve(rollout, preset.correction)?;
        for key in keys {
            unused.note(key, true);
        }
        let is_ratio = correction == SamplerCorrection::Ratio;
        unused.note("correction", is_ratio && surrogate == Surrogate::Reinforce);
        Ok(correction)
    }

    pub(super) fn check_replay(
        &self,
        algorithm: &Algorithm,
        setting: Setting,
    ) -> Result<(), Complaint> {
        if setting.replay && algorithm.credit == Credit::Group(GroupBaseline::Greedy) {
            let key = if self.advantage.is_some() { "grpo.advantage" } else { "grpo.preset" };
            let reason = "a recorded rollout does not come with the score of a greedy completion";
            return Err(Complaint::exclusive("rollout.replay", key, reason));
        }
        Ok(())
    }
}

impl From<RatioName> for RatioLevel {
    fn from(raw: RatioName) -> Self {
        match raw {
            RatioName::Token => Self::Token,
            RatioName::Completion => Self::CompletionMean,
            RatioName::CompletionSum => Self::CompletionSum,
        }
    }
}

impl SurrogateName {
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

fn vespo([power, decay]: [NonNegative; 2]) -> Vespo {
    Vespo { power: *power, decay: *decay }
}

fn needs_critic(key: &str, found: &str) -> Complaint {
    let expected = "an advantage from scores alone; generalized advantage estimation needs a critic, which \
         `hearken ppo` trains";
    Complaint::unexpected(key, format!("{found:?}"), expected)
}
