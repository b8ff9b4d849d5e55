//! From one score per completion to one reward per token.
//!
//! What is not here: advantages. See [`crate::advantage`].

use crate::kl::{KlEstimator, ReferenceTerms};
use crate::moments::{Moments, Variance};

/// The penalty that keeps the policy near the reference.
#[derive(Clone, Copy, Debug)]
pub struct KlPenalty {
    /// Coefficient, per nat.
    pub beta: f64,
    /// [`KlEstimator::K1`] is the published choice.
    pub estimator: KlEstimator,
}

/// Per-token rewards of a completion: the KL penalty everywhere, the score on the last token.
///
/// ```text
/// r_t = −β·k(log π_old(a_t) − log π_ref(a_t)) + 1[t = T−1]·score
/// ```
///
/// Ziegler et al. 2019, arXiv:1909.08593, section 2; Stiennon et al. 2020, arXiv:2009.01325.
///
/// | argument             | length | meaning                                              |
/// |----------------------|--------|------------------------------------------------------|
/// | `score`              | scalar | of the whole completion                              |
/// | `terms.logprobs`     | T      | log π_old: under the policy that sampled             |
/// | `terms.ref_logprobs` | T      | log π_ref                                            |
///
/// The reward of a completion without tokens is empty: its score reaches nobody.
///
/// # Panics
/// If the log-probabilities differ in number.
///
/// ```
/// use hearken_objective::kl::{KlEstimator, ReferenceTerms};
/// use hearken_objective::reward::{KlPenalty, with_kl_penalty};
/// let terms = ReferenceTerms { logprobs: &[-1.0, -2.0], ref_logprobs: &[-1.5, -1.0] };
/// let penalty = KlPenalty { beta: 0.5, estimator: KlEstimator::K1 };
/// assert_eq!(with_kl_penalty(2.0, terms, penalty), [-0.25, 2.5]);
/// ```
pub fn with_kl_penalty(score: f64, terms: ReferenceTerms<'_>, penalty: KlPenalty) -> Vec<f64> {
    let mut rewards: Vec<f64> =
        terms.log_ratios().map(|x| -penalty.beta * penalty.estimator.value(x)).collect();
    if let Some(last) = rewards.last_mut() {
        *last += score;
    }
    rewards
}

/// Moves the part of a score that single tokens earned from the last token, where the whole score is, to
/// those tokens; nothing where `token_scores` is empty.
///
/// ```text
/// r_t += s_t,    r_{T−1} −= Σ_t s_t
/// ```
///
/// Lightman et al. 2023, arXiv:2305.20050, for scores of steps; the sum of the rewards stays.
///
/// # Panics
/// If there are token scores and they differ from the rewards in number.
///
/// ```
/// use hearken_objective::reward::spread_score;
/// let mut rewards = [0.0, 0.0, 2.0];
/// spread_score(&mut rewards, &[0.5, 0.0, 1.0]);
/// assert_eq!(rewards, [0.5, 0.0, 1.5]);
/// ```
pub fn spread_score(rewards: &mut [f64], token_scores: &[f64]) {
    if token_scores.is_empty() {
        return;
    }
    assert_eq!(token_scores.len(), rewards.len(), "token scores: one per token");
    rewards.iter_mut().zip(token_scores).for_each(|(reward, score)| *reward += score);
    if let Some(last) = rewards.last_mut() {
        *last -= token_scores.iter().sum::<f64>();
    }
}

/// A score from which the penalty of the whole completion is taken, for algorithms that credit the
/// completion as one action.
///
/// ```text
/// r = score − β·Σ_t k(log π_old(a_t) − log π_ref(a_t))
/// ```
///
/// Ahmadian et al. 2024, arXiv:2402.14740. Lengths as in [`with_kl_penalty`].
///
/// # Panics
/// If the log-probabilities differ in number.
///
/// ```
/// use hearken_objective::kl::{KlEstimator, ReferenceTerms};
/// use hearken_objective::reward::{KlPenalty, penalized_score};
/// let terms = ReferenceTerms { logprobs: &[-1.0, -2.0], ref_logprobs: &[-1.5, -1.0] };
/// let penalty = KlPenalty { beta: 0.5, estimator: KlEstimator::K1 };
/// assert_eq!(penalized_score(2.0, terms, penalty), 2.25);
/// ```
pub fn penalized_score(score: f64, terms: ReferenceTerms<'_>, penalty: KlPenalty) -> f64 {
    score - penalty.beta * penalty.estimator.per_completion(terms)
}

/// What happens to the score of a completion that stopped for its length and not at an end.
///
/// ```
/// use hearken_objective::reward::MissingEnd;
/// assert_eq!(MissingEnd::Subtract { penalty: 1.0 }.score(0.5), -0.5);
/// assert_eq!(MissingEnd::Replace { score: -1.0 }.score(0.5), -1.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MissingEnd {
    /// The score stays.
    Keep,
    /// The score loses a fixed amount, as in TRL.
    Subtract {
        /// Taken from the score.
        penalty: f64,
    },
    /// The score is replaced, as in Ziegler et al. 2019.
    Replace {
        /// Stands in for the score.
        score: f64,
    },
}

impl MissingEnd {
    /// The score to use for a completion that has no end.
    pub fn score(self, score: f64) -> f64 {
        match self {
            Self::Keep => score,
            Self::Subtract { penalty } => score - penalty,
            Self::Replace { score } => score,
        }
    }
}

/// An affine map of scores: (score − shift) / scale.
///
/// ```
/// use hearken_objective::moments::{Moments, Variance};
/// use hearken_objective::reward::ScoreNormalization;
/// let n = ScoreNormalization::standard(Moments::of(&[1.0, 3.0]), Variance::Population);
/// assert_eq!(n.apply(4.0), 2.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreNormalization {
    /// Subtracted first.
    pub shift: f64,
    /// Divides what is left; positive.
    pub scale: f64,
}

impl ScoreNormalization {
    /// Leaves every score as it is.
    pub const IDENTITY: Self = Self { shift: 0.0, scale: 1.0 };

    /// Subtracts the mean: scores of demonstrations, say, become 0 on average.
    pub fn centered(moments: Moments) -> Self {
        Self { shift: moments.mean().unwrap_or(0.0), scale: 1.0 }
    }

    /// Subtracts the mean and divides by the standard deviation. Scores without spread are only
    /// centered: no division by 0.
    pub fn standard(moments: Moments, variance: Variance) -> Self {
        let scale = moments.std(variance).filter(|std| 0.0 < *std).unwrap_or(1.0);
        Self { scale, ..Self::centered(moments) }
    }

    /// The normalized score.
    pub fn apply(self, score: f64) -> f64 {
        (score - self.shift) / self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::assert_close;

    const LOGPROBS: [f64; 3] = [-1.0, -2.0, -0.5];
    const REF_LOGPROBS: [f64; 3] = [-1.2, -1.5, -0.5];
    const TERMS: ReferenceTerms<'_> =
        ReferenceTerms { logprobs: &LOGPROBS, ref_logprobs: &REF_LOGPROBS };

    #[test]
    fn rewards_sum_to_the_penalized_score() {
        for estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3] {
            let penalty = KlPenalty { beta: 0.05, estimator };
            let total: f64 = with_kl_penalty(1.0, TERMS, penalty).iter().sum();
            assert_close(&[total], &[penalized_score(1.0, TERMS, penalty)], 1e-14);
        }
    }

    #[test]
    fn the_score_enters_at_the_last_token_only() {
        let penalty = KlPenalty { beta: 0.1, estimator: KlEstimator::K1 };
        let (low, high) =
            (with_kl_penalty(0.0, TERMS, penalty), with_kl_penalty(3.0, TERMS, penalty));
        assert_eq!(low[..2], high[..2]);
        assert_close(&[high[2] - low[2]], &[3.0], 1e-14);
    }

    #[test]
    fn a_policy_likelier_than_the_reference_pays() {
        let penalty = KlPenalty { beta: 0.1, estimator: KlEstimator::K1 };
        let rewards = with_kl_penalty(0.0, TERMS, penalty);
        assert!(rewards[0] < 0.0 && 0.0 < rewards[1]);
    }

    #[test]
    fn normalized_scores_have_mean_zero_and_unit_spread() {
        let scores = [0.3, 1.7, -2.0, 0.4];
        let normalization = ScoreNormalization::standard(Moments::of(&scores), Variance::Sample);
        let after = Moments::of(&scores.map(|s| normalization.apply(s)));
        assert_close(&[after.mean, after.variance(Variance::Sample).unwrap()], &[0.0, 1.0], 1e-14);
    }

    #[test]
    fn equal_scores_are_centered_and_not_divided_by_zero() {
        let moments = Moments::of(&[2.0, 2.0]);
        assert_eq!(ScoreNormalization::standard(moments, Variance::Sample).apply(2.5), 0.5);
        assert_eq!(
            ScoreNormalization::standard(Moments::default(), Variance::Sample),
            ScoreNormalization::IDENTITY
        );
    }
}
