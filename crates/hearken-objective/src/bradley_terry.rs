//! Losses of a reward model on comparisons, and of a cost model on comparisons with signs.

use serde::{Deserialize, Serialize};

use crate::numerics::{log_add_exp, log_sigmoid, sigmoid};

/// The scores of one comparison and what the annotator said of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredComparison {
    /// Score of the chosen completion.
    pub chosen: f64,
    /// Score of the rejected completion.
    pub rejected: f64,
    /// What the chosen score must exceed the rejected one by; 0 without graded preferences.
    pub margin: f64,
    /// Probability that the chosen completion is the better one: 1 for a plain label, ½ for a tie.
    pub probability: f64,
}

impl ScoredComparison {
    /// A plain label without margin.
    pub fn new(chosen: f64, rejected: f64) -> Self {
        Self { chosen, rejected, margin: 0.0, probability: 1.0 }
    }
}

/// How often labels are taken to be wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LabelNoise {
    /// Labels are as likely as the model of preference says.
    None,
    /// The target moves: probability p becomes (1−ε)p + ε(1−p).
    Smoothing {
        /// ε.
        epsilon: f64,
    },
    /// The prediction moves: P becomes (1−ε)P + ε/2, for annotators who answer at random with
    /// probability ε. Christiano et al. 2017, arXiv:1706.03741, section 2.2.3, with ε = 0.1.
    Uniform {
        /// ε.
        epsilon: f64,
    },
    /// The loss moves: ((1−ε)·ℓ_p − ε·ℓ_{1−p}) / (1−2ε), whose expectation over labels that are turned round
    /// with probability ε is the loss of the labels as they were. Chowdhury et al. 2024, arXiv:2403.00409.
    /// It is not bounded below: a pair that is ordered rightly by far is below 0.
    Unbiased {
        /// ε.
        epsilon: f64,
    },
}

impl LabelNoise {
    /// Labels of which a share ε is turned round, as a likelihood: P becomes (1−ε)P + ε(1−P), which is
    /// [`LabelNoise::Uniform`] of 2ε, since half of the random answers are right.
    ///
    /// ```
    /// use hearken_objective::bradley_terry::LabelNoise;
    /// assert_eq!(LabelNoise::flips(0.25), LabelNoise::Uniform { epsilon: 0.5 });
    /// ```
    pub fn flips(rate: f64) -> Self {
        Self::Uniform { epsilon: 2.0 * rate }
    }
}

/// Loss of a comparison and its derivatives.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ComparisonLoss {
    /// The loss, centering included.
    pub loss: f64,
    /// d loss / d chosen.
    pub grad_chosen: f64,
    /// d loss / d rejected.
    pub grad_rejected: f64,
}

/// Settings of the reward-model loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BradleyTerry {
    /// How labels are believed.
    pub noise: LabelNoise,
    /// η: weight of (r_chosen + r_rejected)²; 0 leaves scores free to drift by a constant.
    pub centering: f64,
}

impl BradleyTerry {
    /// No noise, no centering.
    pub const PLAIN: Self = Self { noise: LabelNoise::None, centering: 0.0 };

    /// Negative log-likelihood of a comparison.
    ///
    /// ```text
    /// z = r_chosen − r_rejected − margin
    /// loss = −p·ln σ(z) − (1−p)·ln σ(−z) + η·(r_chosen + r_rejected)²
    /// ```
    ///
    /// Bradley and Terry 1952; Ouyang et al. 2022, arXiv:2203.02155, eq. 1; margin: Touvron et al. 2023,
    /// arXiv:2307.09288, section 3.2.2; centering: Eisenstein et al. 2023, arXiv:2312.09244.
    ///
    /// ```
    /// use hearken_objective::bradley_terry::{BradleyTerry, ScoredComparison};
    /// let loss = BradleyTerry::PLAIN.loss(ScoredComparison::new(1.5, 0.2));
    /// assert!((loss.loss - 0.241008).abs() < 1e-6);
    /// ```
    pub fn loss(self, comparison: ScoredComparison) -> ComparisonLoss {
        let ScoredComparison { chosen, rejected, margin, probability: p } = comparison;
        let z = chosen - rejected - margin;
        let (loss, slope) = match self.noise {
            LabelNoise::None => cross_entropy(z, p),
            LabelNoise::Smoothing { epsilon } => {
                cross_entropy(z, (1.0 - epsilon) * p + epsilon * (1.0 - p))
            }
            LabelNoise::Uniform { epsilon } => noisy_cross_entropy(z, p, epsilon),
            // The weights of the two losses add up to 1, so that it is the cross-entropy of another target.
            LabelNoise::Unbiased { epsilon } => {
                cross_entropy(z, (p - epsilon) / (1.0 - 2.0 * epsilon))
            }
        };
        let sum = chosen + rejected;
        let pull = 2.0 * self.centering * sum;
        ComparisonLoss {
            loss: loss + self.centering * sum * sum,
            grad_chosen: slope + pull,
            grad_rejected: -slope + pull,
        }
    }
}

/// −p·ln σ(z) − (1−p)·ln σ(−z) and its derivative σ(z) − p.
fn cross_entropy(z: f64, p: f64) -> (f64, f64) {
    // At p = 1 the second factor is exactly 0, so a confident correct prediction costs nothing.
    let loss = -p * log_sigmoid(z) - (1.0 - p) * log_sigmoid(-z);
    (loss, p * (sigmoid(z) - 1.0) + (1.0 - p) * sigmoid(z))
}

/// The same with P = (1−ε)σ(z) + ε/2 in the place of σ(z).
fn noisy_cross_entropy(z: f64, p: f64, epsilon: f64) -> (f64, f64) {
    let floor = (0.5 * epsilon).ln();
    let log_prediction = |z: f64| log_add_exp((1.0 - epsilon).ln() + log_sigmoid(z), floor);
    let (log_right, log_wrong) = (log_prediction(z), log_prediction(-z));
    // dP/dz = (1−ε)σ(z)σ(−z).
    let slope = (1.0 - epsilon) * sigmoid(z) * sigmoid(-z);
    let loss = -p * log_right - (1.0 - p) * log_wrong;
    (loss, slope * ((1.0 - p) * (-log_wrong).exp() - p * (-log_right).exp()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{assert_close, assert_gradient};

    const NOISES: [LabelNoise; 4] = [
        LabelNoise::None,
        LabelNoise::Smoothing { epsilon: 0.1 },
        LabelNoise::Uniform { epsilon: 0.1 },
        LabelNoise::Unbiased { epsilon: 0.1 },
    ];

    fn mean(loss: BradleyTerry, margins: [f64; 2]) -> f64 {
        let pairs = [(1.5, 0.5, margins[0]), (0.2, 0.4, margins[1])];
        let each = pairs.map(|(chosen, rejected, margin)| {
            loss.loss(ScoredComparison { margin, ..ScoredComparison::new(chosen, rejected) }).loss
        });
        f64::midpoint(each[0], each[1])
    }

    #[test]
    fn reward_model_losses_have_their_known_values() {
        assert_close(&[mean(BradleyTerry::PLAIN, [0.0; 2])], &[0.555_700], 5e-7);
        assert_close(&[mean(BradleyTerry::PLAIN, [1.0, 0.5])], &[0.898_167], 5e-7);
        let centered = BradleyTerry { centering: 0.01, ..BradleyTerry::PLAIN };
        let added = mean(centered, [0.0; 2]) - mean(BradleyTerry::PLAIN, [0.0; 2]);
        assert_close(&[added], &[0.0218], 1e-12);
        let pair = ScoredComparison::new(1.5, 0.2);
        let added = centered.loss(pair).loss - BradleyTerry::PLAIN.loss(pair).loss;
        assert_close(&[added], &[0.0289], 1e-12);
    }

    #[test]
    fn uniform_noise_bounds_the_loss_and_keeps_a_floor() {
        let noisy = BradleyTerry { noise: LabelNoise::Uniform { epsilon: 0.1 }, centering: 0.0 };
        for (gap, expected) in [(2.0, 0.171_124), (1000.0, 0.051_293), (-1000.0, 2.995_732)] {
            assert_close(&[noisy.loss(ScoredComparison::new(gap, 0.0)).loss], &[expected], 5e-7);
        }
    }

    /// What robust DPO has of the same differences, and what makes it robust.
    #[test]
    fn the_unbiased_loss_expects_under_flips_what_clean_labels_cost() {
        let (rate, of) = (0.25, |noise, probability| {
            let pair = ScoredComparison { probability, ..ScoredComparison::new(1.5, 0.2) };
            BradleyTerry { noise, centering: 0.0 }.loss(pair)
        });
        let noise = LabelNoise::Unbiased { epsilon: rate };
        let (right, flipped) = (of(noise, 1.0), of(noise, 0.0));
        let clean = of(LabelNoise::None, 1.0);
        let expected = |right: f64, flipped: f64| (1.0 - rate) * right + rate * flipped;
        assert_close(
            &[expected(right.loss, flipped.loss), expected(right.grad_chosen, flipped.grad_chosen)],
            &[clean.loss, clean.grad_chosen],
            1e-14,
        );
        // (0.75·0.241008 − 0.25·1.541008) / 0.5.
        assert_close(&[right.loss], &[-0.408_992], 5e-7);
    }

    /// The likelihood of flips is bounded, so that one label that is surely wrong moves little.
    #[test]
    fn a_label_that_is_surely_wrong_pulls_less_under_flips() {
        let wrong = ScoredComparison::new(-8.0, 8.0);
        let pull = |noise| BradleyTerry { noise, centering: 0.0 }.loss(wrong).grad_chosen.abs();
        assert!(pull(LabelNoise::flips(0.25)) < 1e-5 && 0.99 < pull(LabelNoise::None));
    }

    #[test]
    fn a_confident_correct_prediction_costs_nothing_and_stays_finite() {
        let loss = BradleyTerry::PLAIN.loss(ScoredComparison::new(500.0, -500.0));
        assert_eq!((loss.loss, loss.grad_chosen), (0.0, 0.0));
        let wrong = BradleyTerry::PLAIN.loss(ScoredComparison::new(-500.0, 500.0));
        assert_eq!((wrong.loss, wrong.grad_chosen), (1000.0, -1.0));
    }

    #[test]
    fn a_shift_of_both_scores_matters_to_centering_only() {
        let (pair, shifted) = (ScoredComparison::new(1.0, 0.3), ScoredComparison::new(4.0, 3.3));
        for noise in NOISES {
            let free = BradleyTerry { noise, centering: 0.0 };
            assert_close(&[free.loss(pair).loss], &[free.loss(shifted).loss], 1e-14);
        }
        let centered = BradleyTerry { centering: 0.01, ..BradleyTerry::PLAIN };
        assert!(centered.loss(pair).loss < centered.loss(shifted).loss);
    }

    #[test]
    fn swapping_both_completions_and_label_changes_nothing() {
        for noise in NOISES {
            let model = BradleyTerry { noise, centering: 0.01 };
            let pair =
                ScoredComparison { chosen: 0.8, rejected: -0.4, margin: 0.0, probability: 0.7 };
            let swapped = ScoredComparison {
                chosen: -0.4,
                rejected: 0.8,
                margin: 0.0,
                probability: 1.0 - 0.7,
            };
            let (one, other) = (model.loss(pair), model.loss(swapped));
            assert_close(
                &[one.loss, one.grad_chosen, one.grad_rejected],
                &[other.loss, other.grad_rejected, other.grad_chosen],
                1e-14,
            );
        }
    }

    #[test]
    fn a_tie_is_best_at_equal_scores() {
        let tie = |gap| {
            let pair = ScoredComparison { probability: 0.5, ..ScoredComparison::new(gap, 0.0) };
            BradleyTerry::PLAIN.loss(pair)
        };
        assert_eq!(tie(0.0).grad_chosen, 0.0);
        assert!(tie(0.0).loss < tie(0.5).loss && tie(0.0).loss < tie(-0.5).loss);
    }

    #[test]
    fn gradients_are_those_of_central_differences() {
        for noise in NOISES {
            for probability in [1.0, 0.8, 0.5, 0.0] {
                let model = BradleyTerry { noise, centering: 0.01 };
                let of = |x: &[f64]| {
                    let [chosen, rejected] = [x[0], x[1]];
                    model.loss(ScoredComparison { chosen, rejected, margin: 0.3, probability })
                };
                let at = [0.7, -1.1];
                let loss = of(&at);
                assert_gradient(|x| of(x).loss, &at, &[loss.grad_chosen, loss.grad_rejected]);
            }
        }
    }
}
