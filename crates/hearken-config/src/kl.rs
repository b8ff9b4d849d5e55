//! `[kl]`: what keeps the policy near the reference.

use hearken_objective::kl::{KlController, KlEstimator};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::error::Complaint;
use super::number::{NonNegative, Positive};

/// Where the KL penalty enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KlPlacement {
    /// In the reward of every token.
    Reward,
    /// In the loss, as a term of its own.
    Loss,
    /// Nowhere: the KL is measured only.
    None,
}

/// The name of an estimator in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EstimatorName {
    /// log ρ.
    K1,
    /// ½ log²ρ.
    K2,
    /// e^{−log ρ} − 1 + log ρ.
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

/// `[kl]`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KlConfig {
    /// Where the penalty enters.
    pub placement: KlPlacement,
    /// Which estimate of the KL is penalized.
    #[serde(deserialize_with = "estimator")]
    #[schemars(with = "EstimatorName")]
    pub estimator: KlEstimator,
    /// The coefficient at the start, per nat.
    pub beta: NonNegative,
    /// The KL of a completion, in nats, that the coefficient steers towards; without it the coefficient
    /// is fixed.
    pub target: Option<Positive>,
    /// Completions over which a full error would double the coefficient.
    pub horizon: Positive,
}

fn estimator<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KlEstimator, D::Error> {
    EstimatorName::deserialize(deserializer).map(KlEstimator::from)
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

impl KlConfig {
    /// Checks what its keys say together.
    ///
    /// # Errors
    /// If a coefficient of 0 has a target, or the estimator penalizes nothing where it stands.
    pub fn check(&self) -> Result<(), Complaint> {
        if self.target.is_some() && (*self.beta == 0.0 || self.placement == KlPlacement::None) {
            return Err(aimless());
        }
        if self.placement == KlPlacement::Loss && self.estimator == KlEstimator::K1 {
            let reason = "as a loss, k1 has an expected gradient of 0 and penalizes nothing; use \
                          \"k2\" (the gradient of the KL) or \"k3\"";
            return Err(Complaint::exclusive(
                "kl.placement = \"loss\"",
                "kl.estimator = \"k1\"",
                reason,
            ));
        }
        Ok(())
    }

    /// How the coefficient moves.
    pub fn steering(&self) -> KlSteering {
        KlSteering { target_nats: self.target.map(Positive::get), horizon: *self.horizon }
    }
}

/// The complaint of a target for a coefficient of 0.
pub fn aimless() -> Complaint {
    let reason = "a coefficient of 0 stays 0 whatever the target";
    Complaint::exclusive("kl.target", "a penalty that is off", reason)
}
