//! Losses on single completions that were called good or bad.

use serde::{Deserialize, Serialize};

use super::CompletionSums;
use crate::mean::Mean;
use crate::numerics::{at_least, log_sigmoid, sigmoid};

/// What was said of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Desirability {
    /// More of this.
    Desirable,
    /// Less of this.
    Undesirable,
}

/// A completion's loss and its derivative with respect to Σ log π_θ.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UnpairedValue {
    /// The loss.
    pub loss: f64,
    /// d loss / d Σ log π_θ.
    pub grad: f64,
}

/// The loss of one completion, with a reference point in the place of a second one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnpairedLoss {
    /// Desirable: 1 − σ(β(h − z)); undesirable: 1 − σ(β(z − h)). Ethayarajh et al. 2024,
    /// arXiv:2402.01306, eq. 8. The reference point z is [`kto_reference_point`].
    Kto,
    /// [`UnpairedLoss::Kto`] with z = 0: no completion is compared with another prompt's.
    /// D'Oosterlinck et al. 2024, arXiv:2408.06266.
    ApoZero,
    /// Desirable: −ln σ(βh − δ); undesirable: −ln σ(δ − βh). Jung et al. 2024, arXiv:2404.04656. The
    /// reference point is δ/β, with δ of [`RewardShift`].
    Bco,
    /// [`UnpairedLoss::Bco`] with δ = 0: σ(βh) is the probability that the whole completion is right, and that of each
    /// part of it an implicit process reward. Yuan et al. 2024, arXiv:2412.01981, eq. 5.
    Outcome,
}

/// An objective on single completions. Its loss over an optimizer step is the mean over the step's
/// completions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnpairedObjective {
    /// Which loss.
    pub loss: UnpairedLoss,
    /// β: scale of the implicit reward.
    pub beta: f64,
    /// λ_D: weight of desirable completions. λ_D·n_D / (λ_U·n_U) belongs in [1, 4/3].
    pub desirable_weight: f64,
    /// λ_U: weight of undesirable completions.
    pub undesirable_weight: f64,
}

impl UnpairedObjective {
    /// Loss of one completion.
    ///
    /// `reference_point` is z in nats for KTO and δ/β for BCO; it takes no part in the derivative, and
    /// [`UnpairedLoss::ApoZero`] and [`UnpairedLoss::Outcome`] do not read it.
    ///
    /// ```
    /// use hearken_objective::dpo::CompletionSums;
    /// use hearken_objective::dpo::unpaired::{UnpairedLoss, UnpairedObjective, Desirability};
    /// let kto = UnpairedObjective {
    ///     loss: UnpairedLoss::Kto,
    ///     beta: 0.1,
    ///     desirable_weight: 1.0,
    ///     undesirable_weight: 1.0,
    /// };
    /// let good = CompletionSums { logprob: -10.0, ref_logprob: -11.0, tokens: 10 };
    /// assert!((kto.loss(good, Desirability::Desirable, 0.25).loss - 0.481259).abs() < 1e-6);
    /// ```
    pub fn loss(
        self,
        completion: CompletionSums,
        verdict: Desirability,
        reference_point: f64,
    ) -> UnpairedValue {
        let z = match self.loss {
            UnpairedLoss::Kto | UnpairedLoss::Bco => reference_point,
            UnpairedLoss::ApoZero | UnpairedLoss::Outcome => 0.0,
        };
        let (sign, weight) = match verdict {
            Desirability::Desirable => (1.0, self.desirable_weight),
            Desirability::Undesirable => (-1.0, self.undesirable_weight),
        };
        let x = sign * self.beta * (completion.log_ratio() - z);
        let (loss, slope) = match self.loss {
            UnpairedLoss::Kto | UnpairedLoss::ApoZero => (sigmoid(-x), -sigmoid(x) * sigmoid(-x)),
            UnpairedLoss::Bco | UnpairedLoss::Outcome => (-log_sigmoid(x), -sigmoid(-x)),
        };
        UnpairedValue { loss: weight * loss, grad: weight * sign * self.beta * slope }
    }
}

/// KTO's reference point: max(0, mean of h over prompts with completions of *other* prompts), an
/// estimate of KL(π_θ ‖ π_ref) in nats. 0 of an empty slice.
///
/// ```
/// use hearken_objective::dpo::unpaired::kto_reference_point;
/// assert_eq!(kto_reference_point(&[0.5, 0.0]), 0.25);
/// assert_eq!(kto_reference_point(&[-3.0]), 0.0);
/// ```
pub fn kto_reference_point(mismatched_log_ratios: &[f64]) -> f64 {
    at_least(Mean::of(mismatched_log_ratios).value().unwrap_or(0.0), 0.0)
}

/// BCO's δ: the running mean of the implicit rewards of desirable and undesirable completions, each side
/// counting half.
///
/// ```text
/// δ ← decay·δ + (1 − decay)·½(mean reward⁺ + mean reward⁻)
/// ```
///
/// Jung et al. 2024, arXiv:2404.04656.
///
/// ```
/// use hearken_objective::Mean;
/// use hearken_objective::dpo::unpaired::RewardShift;
/// let mut shift = RewardShift::new(0.5);
/// shift.observe([Mean::of(&[3.0]), Mean::of(&[1.0])]);
/// assert_eq!(shift.delta(), 1.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RewardShift {
    /// Share of the old value that stays, from 0 to 1.
    pub decay: f64,
    /// The current δ.
    pub value: f64,
}

impl RewardShift {
    /// Starts at 0.
    pub fn new(decay: f64) -> Self {
        Self { decay, value: 0.0 }
    }

    /// δ in force.
    pub fn delta(self) -> f64 {
        self.value
    }

    /// Takes note of a step's implicit rewards β·h, desirable and undesirable. A side without
    /// completions leaves the mean to the other; without both nothing changes.
    pub fn observe(&mut self, rewards: [Mean; 2]) {
        let sides: Mean = rewards.into_iter().filter_map(Mean::value).collect();
        if let Some(mean) = sides.value() {
            self.value = self.decay * self.value + (1.0 - self.decay) * mean;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{assert_close, assert_gradient};

    const KTO: UnpairedObjective = UnpairedObjective {
        loss: UnpairedLoss::Kto,
        beta: 0.1,
        desirable_weight: 1.0,
        undesirable_weight: 1.0,
    };

    fn at(log_ratio: f64) -> CompletionSums {
        CompletionSums { logprob: -11.0 + log_ratio, ref_logprob: -11.0, tokens: 10 }
    }

    fn check(log_ratio: f64, verdict: Desirability, z: f64, expected: f64) {
        assert_close(&[KTO.loss(at(log_ratio), verdict, z).loss], &[expected], 5e-7);
    }

    #[test]
    fn kto_has_its_known_values() {
        check(1.0, Desirability::Desirable, 0.25, 0.481_259);
        check(-1.0, Desirability::Undesirable, 0.25, 0.468_791);
        check(1.5, Desirability::Undesirable, 0.25, 0.531_209);
        check(1.0, Desirability::Desirable, 0.0, 0.475_021);
        check(-1.0, Desirability::Undesirable, 0.0, 0.475_021);
    }

    #[test]
    fn kto_starts_at_half_its_weight() {
        let weighted = UnpairedObjective { desirable_weight: 1.3, ..KTO };
        assert_eq!(weighted.loss(at(0.0), Desirability::Desirable, 0.0).loss, 0.65);
        assert_eq!(weighted.loss(at(0.0), Desirability::Undesirable, 0.0).loss, 0.5);
    }

    #[test]
    fn apo_zero_is_kto_without_reference_point() {
        let apo = UnpairedObjective { loss: UnpairedLoss::ApoZero, ..KTO };
        let found = apo.loss(at(0.7), Desirability::Desirable, 5.0);
        assert_eq!(found, KTO.loss(at(0.7), Desirability::Desirable, 0.0));
    }

    const LOSSES: [UnpairedLoss; 4] =
        [UnpairedLoss::Kto, UnpairedLoss::ApoZero, UnpairedLoss::Bco, UnpairedLoss::Outcome];

    #[test]
    fn outcomes_are_the_cross_entropy_of_the_implicit_reward() {
        let outcome = UnpairedObjective { loss: UnpairedLoss::Outcome, ..KTO };
        for (verdict, right) in [(Desirability::Desirable, 1.0), (Desirability::Undesirable, 0.0)] {
            let (loss, grad) = crate::process::binary_cross_entropy(0.1 * 3.0, right);
            let found = outcome.loss(at(3.0), verdict, 9.0);
            assert_close(&[found.loss, found.grad], &[loss, 0.1 * grad], 1e-14);
        }
    }

    #[test]
    fn both_halves_of_bco_make_its_pair() {
        let bco = UnpairedObjective { loss: UnpairedLoss::Bco, ..KTO };
        let sum = bco.loss(at(1.0), Desirability::Desirable, 0.0).loss
            + bco.loss(at(-1.0), Desirability::Undesirable, 0.0).loss;
        assert_close(&[sum], &[1.288_793], 5e-7);
    }

    #[test]
    fn desirable_completions_rise_and_undesirable_ones_fall() {
        for loss in LOSSES {
            let objective = UnpairedObjective { loss, ..KTO };
            assert!(objective.loss(at(0.3), Desirability::Desirable, 0.1).grad < 0.0);
            assert!(0.0 < objective.loss(at(0.3), Desirability::Undesirable, 0.1).grad);
        }
    }

    #[test]
    fn gradients_are_those_of_central_differences() {
        for loss in LOSSES {
            let objective = UnpairedObjective { loss, beta: 0.7, desirable_weight: 1.2, ..KTO };
            for verdict in [Desirability::Desirable, Desirability::Undesirable] {
                let of = |x: &[f64]| objective.loss(at(x[0]), verdict, 0.4);
                assert_gradient(|x| of(x).loss, &[1.1], &[of(&[1.1]).grad]);
            }
        }
    }

    #[test]
    fn the_reward_shift_follows_what_it_sees() {
        let mut shift = RewardShift::new(0.5);
        shift.observe([Mean::default(), Mean::default()]);
        assert_eq!(shift.delta(), 0.0);
        for _ in 0..60 {
            shift.observe([Mean::of(&[2.0, 4.0]), Mean::of(&[-1.0])]);
        }
        assert_close(&[shift.delta()], &[1.0], 1e-12);
    }
}
