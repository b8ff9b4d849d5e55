//! Scores that are bounded by what the reference reaches.

use crate::numerics::{log_sigmoid, sigmoid};

/// What a policy gains by a score r over the score r_ref of a completion that it is compared with.
///
/// ```text
/// sigmoid        σ(r − r_ref)          in (0, 1)
/// log-sigmoid    ln σ(r − r_ref)       below 0
/// ```
///
/// The first is the probability, in Bradley and Terry's model, that the completion is preferred to the
/// reference's: Fu et al. 2025, arXiv:2502.18770 (PAR). The second is its logarithm, centered on the reference:
/// Wang et al. 2024, arXiv:2402.00742. Both rise with r, so that they order completions of a prompt as
/// the reward model does, and both flatten once a completion is clearly better than the reference's: there a
/// reward model has seen few comparisons. The first flattens below it too.
///
/// Of several references the mean is taken over them, as in PAR.
///
/// ```
/// use hearken_objective::bounded::Bound;
/// assert_eq!(Bound::Sigmoid.of(2.0, &[2.0]), 0.5);
/// assert!((Bound::LogSigmoid.of(1.0, &[0.0]) + 0.313_262).abs() < 1e-6);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// σ(r − r_ref).
    Sigmoid,
    /// ln σ(r − r_ref).
    LogSigmoid,
}

impl Bound {
    /// What is gained by `score` over `references`.
    ///
    /// # Panics
    /// If there are no references.
    pub fn of(self, score: f64, references: &[f64]) -> f64 {
        assert!(!references.is_empty(), "a score is compared with at least one reference's");
        let over = |reference: &f64| match self {
            Self::Sigmoid => sigmoid(score - reference),
            Self::LogSigmoid => log_sigmoid(score - reference),
        };
        references.iter().map(over).sum::<f64>() / references.len() as f64
    }

    /// d of(score) / d score: what one more point of the reward model is worth.
    ///
    /// # Panics
    /// As [`Bound::of`].
    pub fn slope(self, score: f64, references: &[f64]) -> f64 {
        assert!(!references.is_empty(), "a score is compared with at least one reference's");
        let over = |reference: &f64| match self {
            Self::Sigmoid => sigmoid(score - reference) * sigmoid(reference - score),
            Self::LogSigmoid => sigmoid(reference - score),
        };
        references.iter().map(over).sum::<f64>() / references.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{assert_close, assert_gradient};

    const BOTH: [Bound; 2] = [Bound::Sigmoid, Bound::LogSigmoid];

    #[test]
    fn bounded_scores_have_their_known_values() {
        assert_close(&[Bound::Sigmoid.of(1.0, &[0.0])], &[0.731_059], 5e-7);
        assert_close(&[Bound::LogSigmoid.of(0.0, &[2.0])], &[-2.126_928], 5e-7);
        let two = Bound::Sigmoid.of(1.0, &[0.0, 2.0]);
        assert_close(&[two], &[0.5], 1e-15);
    }

    #[test]
    fn slopes_are_those_of_central_differences_and_never_turn() {
        for bound in BOTH {
            for score in [-4.0, -0.3, 0.0, 1.7, 6.0] {
                let references = [0.4, -1.0];
                let slope = bound.slope(score, &references);
                assert_gradient(|x| bound.of(x[0], &references), &[score], &[slope]);
                assert!(0.0 < slope);
            }
        }
    }

    /// The more a completion is better already, the less more is worth; and nothing is infinite.
    #[test]
    fn what_is_far_above_the_reference_gains_no_more() {
        for bound in BOTH {
            assert!(bound.slope(5.0, &[0.0]) < 0.01 && bound.slope(0.0, &[0.0]) > 0.2);
            assert!(bound.of(1e4, &[0.0]).is_finite() && bound.of(-1e4, &[0.0]).is_finite());
        }
        assert_eq!(Bound::Sigmoid.of(1e4, &[0.0]), 1.0);
        assert_eq!(Bound::LogSigmoid.of(1e4, &[0.0]), 0.0);
    }

    #[test]
    fn the_order_of_completions_is_the_reward_models() {
        let scores = [-2.0, 0.1, 0.2, 3.0];
        for bound in BOTH {
            let bounded = scores.map(|score| bound.of(score, &[0.5, 1.0]));
            assert!(bounded.is_sorted_by(|a, b| a < b), "{bounded:?}");
        }
    }
}
