//! Reward models that say how sure they are: what particles are trained for, and what they say of a choice.
//!
//! A particle is one of many reward models on one trunk, which differ where nothing was learned. Not here: their networks, which are tensors.

use crate::bradley_terry::{BradleyTerry, ScoredComparison};
use crate::numerics::sigmoid;

/// What a comparison costs the particles, and its derivatives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParticleLoss {
    /// The mean of the particles' losses.
    pub loss: f64,
    /// d loss / d score of the chosen completion, of each particle.
    pub grad_chosen: Vec<f64>,
    /// d loss / d score of the rejected completion, of each particle.
    pub grad_rejected: Vec<f64>,
}

/// The loss of a comparison to which each particle gives scores of its own.
///
/// ```text
/// loss = 1/K·Σ_z ℓ(r_z(chosen), r_z(rejected))        ℓ of [`BradleyTerry`]
/// ```
///
/// Each particle is fit as if it were alone: Dwaracherla et al. 2024, arXiv:2402.00396; Asghari et al. 2026, arXiv:2603.17378.
///
/// | argument     | length | meaning                                                       |
/// |--------------|--------|---------------------------------------------------------------|
/// | `chosen`     | K      | r_z of the completion that was preferred                      |
/// | `rejected`   | K      | r_z of the other                                              |
/// | `comparison` | scalar | margin and probability of the label; its scores are not read  |
///
/// # Panics
/// If there is no particle, or the lengths differ.
///
/// ```
/// use hearken_objective::bradley_terry::{BradleyTerry, ScoredComparison};
/// use hearken_objective::epistemic::particle_loss;
/// // One particle knows the answer, the other has no idea: 0 and ln 2.
/// let label = ScoredComparison::new(0.0, 0.0);
/// let found = particle_loss(BradleyTerry::PLAIN, &[100.0, 0.0], &[0.0, 0.0], label);
/// assert!((found.loss - 0.5 * 2.0_f64.ln()).abs() < 1e-12);
/// assert_eq!(found.grad_chosen[1], -0.25);
/// ```
pub fn particle_loss(
    objective: BradleyTerry,
    chosen: &[f64],
    rejected: &[f64],
    comparison: ScoredComparison,
) -> ParticleLoss {
    assert_eq!(chosen.len(), rejected.len(), "chosen and rejected: one score per particle");
    assert!(!chosen.is_empty(), "chosen: at least one particle");
    let share = 1.0 / chosen.len() as f64;
    let mut sum = ParticleLoss::default();
    for (&chosen, &rejected) in chosen.iter().zip(rejected) {
        let found = objective.loss(ScoredComparison { chosen, rejected, ..comparison });
        sum.loss += share * found.loss;
        sum.grad_chosen.push(share * found.grad_chosen);
        sum.grad_rejected.push(share * found.grad_rejected);
    }
    sum
}

/// The probability of each particle that the first of two completions is preferred: σ(r_z(first) − r_z(second)).
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use hearken_objective::epistemic::choice_probabilities;
/// assert_eq!(choice_probabilities(&[1.0, 0.0], &[1.0, 800.0]), [0.5, 0.0]);
/// ```
pub fn choice_probabilities(first: &[f64], second: &[f64]) -> Vec<f64> {
    assert_eq!(first.len(), second.len(), "first and second: one score per particle");
    first.iter().zip(second).map(|(first, second)| sigmoid(first - second)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bradley_terry::LabelNoise;
    use crate::finite_difference::{assert_close, assert_gradient};

    const LABEL: ScoredComparison =
        ScoredComparison { chosen: f64::NAN, rejected: f64::NAN, margin: 0.3, probability: 0.8 };

    #[test]
    fn particles_that_agree_cost_what_one_does() {
        let one =
            BradleyTerry::PLAIN.loss(ScoredComparison { chosen: 0.7, rejected: -0.4, ..LABEL });
        let found = particle_loss(BradleyTerry::PLAIN, &[0.7; 5], &[-0.4; 5], LABEL);
        assert_close(&[found.loss], &[one.loss], 1e-15);
        assert_close(&[found.grad_chosen.iter().sum()], &[one.grad_chosen], 1e-15);
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let objectives =
            [BradleyTerry::PLAIN, BradleyTerry { noise: LabelNoise::flips(0.2), centering: 0.1 }];
        for objective in objectives {
            let scores = [0.5, -1.0, 2.0, 0.1, 0.4, -0.3];
            let loss = |x: &[f64]| particle_loss(objective, &x[..3], &x[3..], LABEL).loss;
            let found = particle_loss(objective, &scores[..3], &scores[3..], LABEL);
            assert_gradient(loss, &scores, &[found.grad_chosen, found.grad_rejected].concat());
        }
    }

    /// No particle learns from another.
    #[test]
    fn a_particle_learns_from_its_own_scores_alone() {
        let of = |other: f64| particle_loss(BradleyTerry::PLAIN, &[0.5, other], &[0.0, 0.0], LABEL);
        assert_eq!(of(-3.0).grad_chosen[0], of(7.0).grad_chosen[0]);
    }

    #[test]
    fn the_two_choices_of_a_pair_have_probabilities_that_add_up_to_one() {
        let (first, second) = ([0.3, -2.0], [1.0, 4.0]);
        let both = [(&first, &second), (&second, &first)]
            .map(|(one, other)| choice_probabilities(one, other));
        assert_close(&[both[0][0] + both[1][0], both[0][1] + both[1][1]], &[1.0, 1.0], 1e-15);
    }
}
