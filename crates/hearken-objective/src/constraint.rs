//! A cost that must stay below a limit, held by a Lagrange multiplier.

/// The multiplier λ of a constraint E\[cost\] ≤ limit, kept positive by its logarithm.
///
/// ```text
/// ln λ ← ln λ + rate·λ·(mean cost − limit)
/// ```
///
/// Dai et al. 2023, arXiv:2310.12773 (Safe RLHF).
///
/// ```
/// use hearken_objective::constraint::Multiplier;
/// let mut multiplier = Multiplier::new(1.0, 0.1);
/// multiplier.observe(0.5, 0.3);
/// assert!((multiplier.lambda() - 0.02f64.exp()).abs() < 1e-12);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Multiplier {
    /// ln λ.
    pub log_lambda: f64,
    /// Step size of ln λ.
    pub rate: f64,
}

impl Multiplier {
    /// Starts at `lambda`, positive.
    pub fn new(lambda: f64, rate: f64) -> Self {
        Self { log_lambda: lambda.ln(), rate }
    }

    /// λ in force.
    pub fn lambda(self) -> f64 {
        self.log_lambda.exp()
    }

    /// Takes note of the mean cost of an iteration: λ rises while it is above the limit.
    pub fn observe(&mut self, mean_cost: f64, limit: f64) {
        self.log_lambda += self.rate * self.lambda() * (mean_cost - limit);
    }

    /// (Â_reward − λ·Â_cost) / (1 + λ): the advantage that the policy's update uses. The divisor keeps
    /// its size.
    ///
    /// ```
    /// use hearken_objective::constraint::Multiplier;
    /// assert_eq!(Multiplier::new(1.0, 0.1).advantage(3.0, 1.0), 1.0);
    /// ```
    pub fn advantage(self, of_reward: f64, of_cost: f64) -> f64 {
        let lambda = self.lambda();
        (of_reward - lambda * of_cost) / (1.0 + lambda)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::assert_close;

    /// max E[r − λ(c − 0.3)] − β·KL on four arms: the optimum given λ is ref·exp((r − λc)/β).
    #[test]
    fn the_multiplier_finds_the_constrained_optimum() {
        let (reference, r, c) =
            ([0.5, 0.3, 0.15, 0.05], [0.0, 0.5, 1.0, 2.0], [0.0, 0.0, 1.0, 1.0]);
        let cost = |lambda: f64| {
            let w: Vec<f64> =
                (0..4).map(|a| reference[a] * ((r[a] - lambda * c[a]) / 0.5_f64).exp()).collect();
            (w[2] + w[3]) / w.iter().sum::<f64>()
        };
        assert_close(&[cost(0.0)], &[0.744_752], 5e-7);
        let mut multiplier = Multiplier::new(0.1, 0.5);
        for _ in 0..2000 {
            multiplier.observe(cost(multiplier.lambda()), 0.3);
        }
        assert_close(&[multiplier.lambda(), cost(multiplier.lambda())], &[0.959_057, 0.3], 5e-7);
    }

    #[test]
    fn without_a_multiplier_costs_do_not_count() {
        assert_close(&[Multiplier::new(1e-12, 0.1).advantage(3.0, 100.0)], &[3.0], 1e-9);
    }
}
