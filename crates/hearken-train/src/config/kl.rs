//! `[kl]`: what keeps the policy near the reference.

use hearken_objective::kl::{KlController, KlEstimator};
use serde::Deserialize;

use super::error::ConfigError;
use super::layers::Layers;

/// Where the KL penalty enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KlPlacement {
    /// In the reward of every token.
    Reward,
    /// In the loss, as a term of its own.
    Loss,
    /// Nowhere: the KL is measured only.
    None,
}

/// `[kl]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KlConfig {
    /// Where the penalty enters.
    pub placement: KlPlacement,
    /// Which estimate of the KL is penalized.
    pub estimator: KlEstimator,
    /// The coefficient at the start, per nat.
    pub beta: f64,
    /// The KL of a completion, in nats, that the coefficient steers towards; `None` keeps it fixed.
    pub target_nats: Option<f64>,
    /// Completions over which a full error would double the coefficient.
    pub horizon: f64,
}

/// How the coefficient of the KL penalty moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KlSteering {
    /// The KL of a completion, in nats, that it steers towards; `None` keeps it fixed.
    pub target_nats: Option<f64>,
    /// Completions over which a full error would double it.
    pub horizon: f64,
}

impl KlSteering {
    /// The controller of a coefficient that stands at `beta`.
    pub fn controller(&self, beta: f64) -> KlController {
        match self.target_nats {
            Some(target) => KlController::adaptive(beta, target, self.horizon),
            None => KlController::Fixed { beta },
        }
    }
}

/// The name of an estimator in a file.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EstimatorName {
    K1,
    K2,
    K3,
}

impl From<EstimatorName> for KlEstimator {
    fn from(name: EstimatorName) -> Self {
        match name {
            EstimatorName::K1 => Self::K1,
            EstimatorName::K2 => Self::K2,
            EstimatorName::K3 => Self::K3,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKl {
    placement: KlPlacement,
    estimator: EstimatorName,
    beta: f64,
    target: Option<f64>,
    horizon: f64,
}

impl KlConfig {
    /// Reads `[kl]`.
    ///
    /// # Errors
    /// Names the key that is unknown, out of range, or contradicts another.
    pub fn read(layers: &Layers) -> Result<Self, ConfigError> {
        let raw: RawKl = layers.section("kl")?;
        let holds = raw.beta.is_finite() && 0.0 <= raw.beta;
        layers.check("kl.beta", raw.beta, holds, "a number from 0")?;
        let holds = raw.horizon.is_finite() && 0.0 < raw.horizon;
        layers.check("kl.horizon", raw.horizon, holds, "a number above 0")?;
        if let Some(target) = raw.target {
            let holds = target.is_finite() && 0.0 < target;
            layers.check("kl.target", target, holds, "a number of nats above 0")?;
            let reason = "a coefficient of 0 stays 0 whatever the target";
            if raw.beta == 0.0 || raw.placement == KlPlacement::None {
                return Err(layers.exclusive("kl.target", "a penalty that is off", reason));
            }
        }
        let estimator = KlEstimator::from(raw.estimator);
        if raw.placement == KlPlacement::Loss && estimator == KlEstimator::K1 {
            let reason = "as a loss, k1 has an expected gradient of 0 and penalizes nothing; use \
                          \"k2\" (the gradient of the KL) or \"k3\"";
            return Err(layers.exclusive(
                "kl.placement = \"loss\"",
                "kl.estimator = \"k1\"",
                reason,
            ));
        }
        let RawKl { placement, beta, target, horizon, .. } = raw;
        Ok(Self { placement, estimator, beta, target_nats: target, horizon })
    }

    /// How the coefficient moves.
    pub fn steering(&self) -> KlSteering {
        KlSteering { target_nats: self.target_nats, horizon: self.horizon }
    }
}
