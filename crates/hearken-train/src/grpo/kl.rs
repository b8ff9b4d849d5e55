//! `[kl]` of algorithms that come with a penalty of their own.

use hearken_config::{
    Complaint, EstimatorName, KlPlacement, KlSteering, NonNegative, Positive, aimless,
};
use hearken_objective::grpo::{KlPlacement as Placed, KlWeight};
use hearken_objective::kl::KlEstimator;
use schemars::JsonSchema;
use serde::Deserialize;

/// `[kl]`. What is not given is the preset's.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PresetKl {
    /// Where the penalty enters.
    pub placement: Option<KlPlacement>,
    /// Which estimate of the KL is penalized.
    pub estimator: Option<EstimatorName>,
    /// The coefficient at the start, per nat.
    pub beta: Option<NonNegative>,
    /// The KL of a completion, in nats, that the coefficient steers towards; without it the coefficient
    /// is fixed.
    pub target: Option<Positive>,
    /// Completions over which a full error would double the coefficient.
    pub horizon: Positive,
    /// Whether the estimate in the loss is multiplied by the ratio.
    pub times_ratio: bool,
}

impl PresetKl {
    /// The preset's penalty with the section's keys over it.
    ///
    /// A `beta` for a preset without penalty places k3 in the loss, as TRL does. A `beta` of 0 is no
    /// penalty.
    pub(super) fn placed(&self, preset: Placed) -> Result<Placed, Complaint> {
        let of_preset = match preset {
            Placed::None => (KlPlacement::None, None),
            Placed::InReward { estimator, .. } => (KlPlacement::Reward, Some(estimator)),
            Placed::InLoss { estimator, .. } => (KlPlacement::Loss, Some(estimator)),
        };
        let placement = self.placement.unwrap_or(match (of_preset.0, self.beta) {
            (KlPlacement::None, Some(_)) => KlPlacement::Loss,
            (placement, _) => placement,
        });
        let beta = self.beta.map(NonNegative::get);
        if placement == KlPlacement::None || beta == Some(0.0) {
            return if self.target.is_some() { Err(aimless()) } else { Ok(Placed::None) };
        }
        let expected = "a coefficient, since the preset has none";
        let beta = beta.or(preset.beta());
        let beta = beta.ok_or_else(|| Complaint::missing("kl.beta", expected))?;
        let estimator = match self.estimator {
            Some(name) => name.into(),
            None => match (placement, of_preset) {
                (placement, (same, Some(estimator))) if placement == same => estimator,
                (KlPlacement::Loss, _) => KlEstimator::K3,
                _ => KlEstimator::K1,
            },
        };
        if placement == KlPlacement::Reward {
            return Ok(Placed::InReward { beta, estimator });
        }
        if estimator == KlEstimator::K1 && !self.times_ratio {
            let reason = "as a loss, k1 has an expected gradient of 0 and penalizes nothing; use \
                          \"k2\" (the gradient of the KL), \"k3\", or `kl.times_ratio = true`";
            return Err(Complaint::exclusive(
                "kl.placement = \"loss\"",
                "kl.estimator = \"k1\"",
                reason,
            ));
        }
        let weight = if self.times_ratio { KlWeight::Ratio } else { KlWeight::One };
        Ok(Placed::InLoss { beta, estimator, weight })
    }

    /// How the coefficient moves.
    pub(super) fn steering(&self) -> KlSteering {
        KlSteering { target_nats: self.target.map(Positive::get), horizon: *self.horizon }
    }
}
