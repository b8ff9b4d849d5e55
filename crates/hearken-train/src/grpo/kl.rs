//! Reads `[kl]` for algorithms that come with a penalty of their own.

use hearken_objective::grpo::{KlPlacement as Placed, KlWeight};
use hearken_objective::kl::KlEstimator;
use serde::Deserialize;

use crate::config::{ConfigError, EstimatorName, KlPlacement, KlSteering, Layers};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKl {
    placement: Option<KlPlacement>,
    estimator: Option<EstimatorName>,
    beta: Option<f64>,
    target: Option<f64>,
    horizon: f64,
    times_ratio: bool,
}

/// The preset's penalty with the section's keys over it.
///
/// A `beta` for a preset without penalty places k3 in the loss, as TRL does. A `beta` of 0 is no
/// penalty.
///
/// # Errors
/// Names the key that is unknown, out of range, missing, or contradicts another.
pub(super) fn read(layers: &Layers, preset: Placed) -> Result<(Placed, KlSteering), ConfigError> {
    let raw: RawKl = layers.section("kl")?;
    let holds = raw.horizon.is_finite() && 0.0 < raw.horizon;
    layers.check("kl.horizon", raw.horizon, holds, "a number above 0")?;
    if let Some(beta) = raw.beta {
        layers.check("kl.beta", beta, beta.is_finite() && 0.0 <= beta, "a number from 0")?;
    }
    let placed = raw.placed(layers, preset)?;
    if let Some(target) = raw.target {
        let holds = target.is_finite() && 0.0 < target;
        layers.check("kl.target", target, holds, "a number of nats above 0")?;
        if placed == Placed::None {
            let reason = "a coefficient of 0 stays 0 whatever the target";
            return Err(layers.exclusive("kl.target", "a penalty that is off", reason));
        }
    }
    Ok((placed, KlSteering { target_nats: raw.target, horizon: raw.horizon }))
}

impl RawKl {
    fn placed(&self, layers: &Layers, preset: Placed) -> Result<Placed, ConfigError> {
        let of_preset = match preset {
            Placed::None => (KlPlacement::None, None),
            Placed::InReward { estimator, .. } => (KlPlacement::Reward, Some(estimator)),
            Placed::InLoss { estimator, .. } => (KlPlacement::Loss, Some(estimator)),
        };
        let placement = self.placement.unwrap_or(match (of_preset.0, self.beta) {
            (KlPlacement::None, Some(_)) => KlPlacement::Loss,
            (placement, _) => placement,
        });
        if placement == KlPlacement::None || self.beta == Some(0.0) {
            return Ok(Placed::None);
        }
        let expected = "a coefficient, since the preset has none";
        let beta = self.beta.or(preset.beta());
        let beta = beta.ok_or_else(|| layers.missing("kl.beta", expected))?;
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
            return Err(layers.exclusive(
                "kl.placement = \"loss\"",
                "kl.estimator = \"k1\"",
                reason,
            ));
        }
        let weight = if self.times_ratio { KlWeight::Ratio } else { KlWeight::One };
        Ok(Placed::InLoss { beta, estimator, weight })
    }
}
