//! On-policy algorithms as products of orthogonal choices.
//!
//! An [`Algorithm`] says how completions are credited, what the ratio covers, what the surrogate is, how
//! tokens aggregate, where the KL penalty stands, and what happens to groups without spread, to
//! completions cut off by their length, and to tokens that the sampler saw differently. [`preset`] holds
//! the published combinations; the training loop never asks for an algorithm's name.
//!
//! The order of an iteration:
//!
//! 1. [`Overlong::score`](shaping::Overlong::score) and the group filter, on scores;
//! 2. [`Algorithm::credit`], over the whole iteration;
//! 3. [`Algorithm::loss`] per completion, times
//!    [`token_weight`](crate::aggregation::Aggregation::token_weight).
//!
//! What is not here: sampling, models, entropy (its derivative needs logits), the critic's loss
//! ([`crate::value`]).

pub mod credit;
pub mod preset;
pub mod shaping;

mod loss;

pub use loss::{CompletionLoss, CompletionTerms};

use crate::advantage::gae::Gae;
use crate::advantage::group::Standardization;
use crate::aggregation::Aggregation;
use crate::kl::KlEstimator;
use crate::moments::Variance;
use crate::surrogate::{RatioLevel, Surrogate};
use shaping::{Overlong, SamplerCorrection};

/// Everything that tells one on-policy algorithm from another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Algorithm {
    /// From scores to advantages.
    pub credit: Credit,
    /// What one ratio covers.
    pub ratio: RatioLevel,
    /// What is done with ratio and advantage.
    pub surrogate: Surrogate,
    /// What a token's loss weighs.
    pub aggregation: Aggregation,
    /// Where the KL penalty stands.
    pub kl: KlPlacement,
    /// What becomes of groups whose scores are all equal.
    pub groups: GroupFilter,
    /// What becomes of completions that are too long.
    pub overlong: Overlong,
    /// What becomes of tokens whose sampled and recomputed log-probabilities differ.
    pub correction: SamplerCorrection,
}

/// From scores to advantages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Credit {
    /// A critic's values and [`gae`](crate::advantage::gae::gae), whitened over the iteration's tokens.
    /// Nothing follows a completion's last token: the bootstrap is 0.
    Gae {
        /// Discount and trace decay.
        gae: Gae,
        /// Variance of the whitening.
        variance: Variance,
    },
    /// One advantage per completion, from the scores of its group.
    Group(GroupBaseline),
    /// Sum of a token's own and later rewards, whitened over the iteration's tokens. Hu 2025,
    /// arXiv:2501.03262.
    RewardsToGo {
        /// Subtracted from the score beforehand.
        baseline: ScoreBaseline,
        /// Variance of the whitening.
        variance: Variance,
    },
}

/// How a completion is compared with its group. See [`crate::advantage::group`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GroupBaseline {
    /// r_i − mean(r).
    Mean,
    /// (r_i − mean(r)) / (std(r) + eps).
    Standardized(Standardization),
    /// (r_i − mean(r)) / (std of all groups' scores + eps).
    OverBatchStd(Standardization),
    /// r_i − mean of the others.
    LeaveOneOut,
    /// r_i − score of the greedy completion.
    Greedy,
}

/// What is taken from a score before it is spread over tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreBaseline {
    /// Nothing.
    None,
    /// The mean of the group.
    GroupMean,
}

/// Where the KL penalty stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KlPlacement {
    /// Nowhere; no reference model is needed.
    None,
    /// Subtracted from rewards: per token where rewards are per token, else from the score.
    InReward {
        /// Coefficient, per nat.
        beta: f64,
        /// [`KlEstimator::K1`] is the published choice.
        estimator: KlEstimator,
    },
    /// Added to the loss of each token.
    InLoss {
        /// Coefficient, per nat.
        beta: f64,
        /// [`KlEstimator::K3`] in GRPO.
        estimator: KlEstimator,
        /// Whether the estimate is corrected for a policy that has moved.
        weight: KlWeight,
    },
}

/// What multiplies the KL estimate of a token that π_old sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KlWeight {
    /// Nothing: biased as soon as π_θ leaves π_old.
    One,
    /// The ratio at the algorithm's level; its derivative counts. `use_bias_correction_kl` in TRL.
    Ratio,
}

/// What becomes of groups whose scores are all equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupFilter {
    /// They stay, and count in every mean.
    Keep,
    /// They are dropped and others sampled in their place: dynamic sampling.
    DropWithoutSpread,
}

impl GroupFilter {
    /// Whether a group of these scores is trained on.
    ///
    /// ```
    /// use hearken_objective::grpo::GroupFilter;
    /// assert!(!GroupFilter::DropWithoutSpread.keeps(&[1.0, 1.0]));
    /// assert!(GroupFilter::Keep.keeps(&[1.0, 1.0]));
    /// ```
    pub fn keeps(self, scores: &[f64]) -> bool {
        match self {
            Self::Keep => true,
            Self::DropWithoutSpread => crate::advantage::group::has_spread(scores),
        }
    }
}

impl KlPlacement {
    /// The coefficient; `None` without penalty.
    pub fn beta(self) -> Option<f64> {
        match self {
            Self::None => None,
            Self::InReward { beta, .. } | Self::InLoss { beta, .. } => Some(beta),
        }
    }

    /// The same placement with another coefficient, as a
    /// [`KlController`](crate::kl::KlController) asks for.
    #[must_use]
    pub fn with_beta(self, beta: f64) -> Self {
        match self {
            Self::None => Self::None,
            Self::InReward { estimator, .. } => Self::InReward { beta, estimator },
            Self::InLoss { estimator, weight, .. } => Self::InLoss { beta, estimator, weight },
        }
    }

    /// Whether log-probabilities under the reference are needed.
    pub fn needs_reference(self) -> bool {
        self != Self::None
    }
}

#[cfg(test)]
mod tests;
