//! One score of several reward models, and scores that a policy cannot push without end.
//!
//! A reward model is wrong somewhere, and a policy that is trained on its score finds out where. Models that
//! were fit apart are wrong in different places, so where they disagree the score is worth less; and what a
//! policy gains once it is clearly better than its reference is worth less too.

/// How the scores of several reward models become one.
///
/// With μ the mean of the k scores and v = 1/k·Σ(r_i − μ)² their variance:
///
/// ```text
/// mean             μ
/// worst case       min_i r_i
/// uncertainty      μ − λ·v
/// ```
///
/// Coste et al. 2023, arXiv:2310.02743, section 3.2, with λ from 0.1 to 0.5 and 3 to 5 models. The models'
/// scores must be on one scale.
///
/// ```
/// use hearken_objective::ensemble::Combination;
/// let combined = Combination::UncertaintyWeighted { weight: 0.5 }.combine(&[1.0, 2.0, 3.0]);
/// assert!((combined - 1.666_667).abs() < 1e-6);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Combination {
    /// Their mean.
    Mean,
    /// The lowest.
    WorstCase,
    /// The mean less so many times the variance.
    UncertaintyWeighted {
        /// λ, from 0.
        weight: f64,
    },
}

impl Combination {
    /// The score of a completion to which the members give `scores`.
    ///
    /// # Panics
    /// If there are none.
    pub fn combine(self, scores: &[f64]) -> f64 {
        assert!(!scores.is_empty(), "an ensemble has members");
        match self {
            Self::Mean => mean(scores),
            Self::WorstCase => scores.iter().copied().fold(f64::INFINITY, f64::min),
            Self::UncertaintyWeighted { weight } => mean(scores) - weight * variance(scores),
        }
    }
}

/// How far the members' scores of one completion are apart: their population standard deviation.
///
/// # Panics
/// If there are none.
///
/// ```
/// assert_eq!(hearken_objective::ensemble::spread(&[1.0, 3.0]), 1.0);
/// ```
pub fn spread(scores: &[f64]) -> f64 {
    assert!(!scores.is_empty(), "an ensemble has members");
    variance(scores).sqrt()
}

fn mean(scores: &[f64]) -> f64 {
    scores.iter().sum::<f64>() / scores.len() as f64
}

fn variance(scores: &[f64]) -> f64 {
    let center = mean(scores);
    scores.iter().map(|score| (score - center).powi(2)).sum::<f64>() / scores.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::assert_close;

    const ALL: [Combination; 3] = [
        Combination::Mean,
        Combination::WorstCase,
        Combination::UncertaintyWeighted { weight: 0.5 },
    ];

    #[test]
    fn combinations_have_their_known_values() {
        let combined = ALL.map(|combination| combination.combine(&[1.0, 2.0, 3.0]));
        assert_close(&combined, &[2.0, 1.0, 2.0 - 1.0 / 3.0], 1e-15);
        assert_close(&[spread(&[1.0, 2.0, 3.0])], &[(2.0_f64 / 3.0).sqrt()], 1e-15);
    }

    #[test]
    fn members_that_agree_are_one_model() {
        for combination in ALL {
            assert_eq!(combination.combine(&[0.7; 4]), combination.combine(&[0.7]));
        }
        assert_eq!(spread(&[-3.0; 5]), 0.0);
    }

    /// What makes the others careful: disagreement costs, whichever member is the higher one.
    #[test]
    fn disagreement_costs_but_for_the_mean() {
        for (combination, costs) in ALL.into_iter().zip([false, true, true]) {
            let (close, far) = ([0.9, 1.1], [0.0, 2.0]);
            assert_eq!(combination.combine(&far) < combination.combine(&close), costs);
            let mut turned = far;
            turned.reverse();
            assert_eq!(combination.combine(&far), combination.combine(&turned));
        }
    }

    #[test]
    fn a_shift_of_all_scores_shifts_the_combination() {
        for combination in ALL {
            let shifted = combination.combine(&[2.5, 1.0, 4.5]);
            assert_close(&[shifted], &[combination.combine(&[1.0, -0.5, 3.0]) + 1.5], 1e-14);
        }
    }

    #[test]
    fn without_a_weight_uncertainty_is_the_mean() {
        let scores = [0.3, -1.0, 2.0];
        let free = Combination::UncertaintyWeighted { weight: 0.0 };
        assert_eq!(free.combine(&scores), Combination::Mean.combine(&scores));
    }
}
