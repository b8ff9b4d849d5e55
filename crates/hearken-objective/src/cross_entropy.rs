//! Supervised fine-tuning: what the log-probability of each trained token weighs.

use crate::surrogate::TokenLoss;

/// Loss on demonstrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupervisedLoss {
    /// −log π(a_t | s_t).
    CrossEntropy,
    /// −sg(π(a_t | s_t))·log π(a_t | s_t): tokens the model finds unlikely pull less. Wu et al. 2025,
    /// arXiv:2508.05629 (DFT).
    ProbabilityWeighted,
}

impl SupervisedLoss {
    /// The loss of one example: the sum over its trained tokens and the derivative of that sum.
    ///
    /// The loss of an optimizer step is the sum of these over the number of trained tokens in the
    /// whole step.
    ///
    /// | argument   | length | meaning                              |
    /// |------------|--------|--------------------------------------|
    /// | `logprobs` | T      | log π(a_t \| s_t) of trained tokens  |
    ///
    /// ```
    /// use hearken_objective::cross_entropy::SupervisedLoss;
    /// let loss = SupervisedLoss::CrossEntropy.loss(&[-0.5, -2.0]);
    /// assert_eq!((loss.sum, loss.grad_logprobs), (2.5, vec![-1.0, -1.0]));
    /// ```
    pub fn loss(self, logprobs: &[f64]) -> TokenLoss {
        let grad_logprobs: Vec<f64> = logprobs.iter().map(|x| -self.weight(*x)).collect();
        let sum = grad_logprobs.iter().zip(logprobs).map(|(g, x)| g * x).sum();
        TokenLoss { sum, grad_logprobs, ..TokenLoss::default() }
    }

    fn weight(self, logprob: f64) -> f64 {
        match self {
            Self::CrossEntropy => 1.0,
            Self::ProbabilityWeighted => logprob.exp(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{assert_close, assert_gradient};

    #[test]
    fn the_gradient_of_cross_entropy_is_that_of_central_differences() {
        let logprobs = [-0.1, -3.0];
        let of = |x: &[f64]| SupervisedLoss::CrossEntropy.loss(x);
        assert_gradient(|x| of(x).sum, &logprobs, &of(&logprobs).grad_logprobs);
    }

    #[test]
    fn probability_weights_are_held_constant() {
        let loss = SupervisedLoss::ProbabilityWeighted.loss(&[0.5f64.ln(), 0.1f64.ln()]);
        assert_close(&loss.grad_logprobs, &[-0.5, -0.1], 1e-14);
    }
}
