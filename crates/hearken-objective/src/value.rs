//! The critic's loss on one completion.

/// What a value loss reads, one entry per token.
#[derive(Clone, Copy, Debug)]
pub struct ValueTerms<'a> {
    /// V_θ(s_t), the critic being updated.
    pub values: &'a [f64],
    /// V_old(s_t), the critic before this iteration's first update.
    pub old_values: &'a [f64],
    /// R_t, from unwhitened advantages.
    pub returns: &'a [f64],
}

/// A completion's value loss: the sum over its tokens, and the derivative of that sum.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ValuesLoss {
    /// Σ_t of the tokens' losses, the ½ included.
    pub sum: f64,
    /// d sum / d V_θ(s_t).
    pub grad_values: Vec<f64>,
    /// Tokens whose clipped error was the larger one.
    pub clipped: usize,
}

/// Squared error of the values, plain or with a bounded change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueLoss {
    /// ½(V − R)².
    Plain,
    /// ½·max((V − R)², (V_old + clip(V − V_old, −range, range) − R)²).
    Clipped {
        /// Largest change of a value that counts.
        range: f64,
    },
}

impl ValueLoss {
    /// The loss of one completion.
    ///
    /// ```text
    /// sum = Σ_t ½·max((V_t − R_t)², (clip(V_t, V_old,t ± range) − R_t)²)
    /// ```
    ///
    /// Schulman et al. 2017, arXiv:1707.06347, in the form of OpenAI's published code; Huang et al.
    /// 2024, arXiv:2403.17031. Not multiplied by the value coefficient.
    ///
    /// | field        | length | meaning    |
    /// |--------------|--------|------------|
    /// | `values`     | T      | V_θ(s_t)   |
    /// | `old_values` | T      | V_old(s_t) |
    /// | `returns`    | T      | R_t        |
    ///
    /// # Panics
    /// If the lengths differ.
    ///
    /// ```
    /// use hearken_objective::value::{ValueLoss, ValueTerms};
    /// let terms = ValueTerms { values: &[1.0], old_values: &[0.0], returns: &[2.0] };
    /// let loss = ValueLoss::Clipped { range: 0.2 }.loss(terms);
    /// assert!((loss.sum - 1.62).abs() < 1e-12);
    /// ```
    pub fn loss(self, terms: ValueTerms<'_>) -> ValuesLoss {
        let n = terms.values.len();
        assert_eq!(terms.old_values.len(), n, "old_values: one per token");
        assert_eq!(terms.returns.len(), n, "returns: one per token");
        let mut loss = ValuesLoss { grad_values: vec![0.0; n], ..ValuesLoss::default() };
        for t in 0..n {
            let error = terms.values[t] - terms.returns[t];
            let clipped_error = match self {
                Self::Plain => error,
                Self::Clipped { range } => {
                    let old = terms.old_values[t];
                    terms.values[t].clamp(old - range, old + range) - terms.returns[t]
                }
            };
            if error * error < clipped_error * clipped_error {
                loss.sum += 0.5 * clipped_error * clipped_error;
                loss.clipped += 1;
            } else {
                loss.sum += 0.5 * error * error;
                loss.grad_values[t] = error;
            }
        }
        loss
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{assert_close, assert_gradient, uniform};

    #[test]
    fn the_clipped_loss_has_its_known_values() {
        let terms = ValueTerms { values: &[0.9, 0.1], old_values: &[0.5; 2], returns: &[1.0; 2] };
        let loss = ValueLoss::Clipped { range: 0.2 }.loss(terms);
        assert_close(&[loss.sum / 2.0], &[0.225], 1e-12);
        assert_eq!(loss.clipped, 1);
    }

    #[test]
    fn the_clip_never_makes_a_loss_smaller() {
        for seed in 0..50 {
            let (v, old, r) = (uniform(seed, 3), uniform(seed + 50, 3), uniform(seed + 99, 3));
            let terms = ValueTerms { values: &v, old_values: &old, returns: &r };
            let clipped = ValueLoss::Clipped { range: 0.1 }.loss(terms).sum;
            assert!(ValueLoss::Plain.loss(terms).sum <= clipped);
        }
    }

    #[test]
    fn values_that_have_not_moved_are_not_clipped() {
        let terms =
            ValueTerms { values: &[0.3, 2.0], old_values: &[0.3, 2.0], returns: &[1.0, -1.0] };
        assert_eq!(ValueLoss::Clipped { range: 0.2 }.loss(terms), ValueLoss::Plain.loss(terms));
    }

    #[test]
    fn gradients_are_those_of_central_differences() {
        for seed in 0..20 {
            let (v, old, r) = (uniform(seed, 4), uniform(seed + 50, 4), uniform(seed + 99, 4));
            for loss in [ValueLoss::Plain, ValueLoss::Clipped { range: 0.2 }] {
                let of = |values: &[f64]| {
                    loss.loss(ValueTerms { values, old_values: &old, returns: &r })
                };
                assert_gradient(|x| of(x).sum, &v, &of(&v).grad_values);
            }
        }
    }
}
