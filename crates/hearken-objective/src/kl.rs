//! Divergence of the policy from a reference, estimated from tokens that the policy sampled.
//!
//! Throughout, `log_ratio` is log π(a|s) − log π_ref(a|s) with `a` sampled from π, and the estimated
//! quantity is KL(π ‖ π_ref). Schulman 2020, "Approximating KL divergence", names the three
//! estimators.
//!
//! What is not here: where the penalty is placed. See [`crate::reward`] and [`crate::grpo`].

mod controller;

pub use controller::KlController;

/// k1 = log ρ. Unbiased, may be negative.
///
/// ```
/// use hearken_objective::kl::k1;
/// assert_eq!(k1(-1.0 - -1.5), 0.5);
/// ```
pub fn k1(log_ratio: f64) -> f64 {
    log_ratio
}

/// k2 = ½·log²ρ. Biased, never negative; as a *loss* its expected on-policy gradient is that of the
/// KL itself.
///
/// ```
/// use hearken_objective::kl::k2;
/// assert_eq!(k2(-1.0 - -1.5), 0.125);
/// ```
pub fn k2(log_ratio: f64) -> f64 {
    0.5 * log_ratio * log_ratio
}

/// k3 = e^{−log ρ} − 1 + log ρ. Unbiased, never negative; as a *loss* its expected on-policy gradient
/// is that of KL(π_ref ‖ π).
///
/// ```
/// use hearken_objective::kl::k3;
/// assert!((k3(-1.0 - -1.5) - 0.106531).abs() < 1e-6);
/// ```
pub fn k3(log_ratio: f64) -> f64 {
    (-log_ratio).exp_m1() + log_ratio
}

/// Which of [`k1`], [`k2`], [`k3`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KlEstimator {
    /// log ρ.
    K1,
    /// ½·log²ρ.
    K2,
    /// e^{−log ρ} − 1 + log ρ.
    K3,
}

impl KlEstimator {
    /// The estimate at one token, in nats.
    pub fn value(self, log_ratio: f64) -> f64 {
        match self {
            Self::K1 => k1(log_ratio),
            Self::K2 => k2(log_ratio),
            Self::K3 => k3(log_ratio),
        }
    }

    /// Derivative of [`KlEstimator::value`] with respect to log π of that token:
    /// 1, log ρ, 1 − e^{−log ρ}.
    pub fn derivative(self, log_ratio: f64) -> f64 {
        match self {
            Self::K1 => 1.0,
            Self::K2 => log_ratio,
            Self::K3 => -(-log_ratio).exp_m1(),
        }
    }

    /// The estimates along one completion.
    ///
    /// | field          | length | meaning                     |
    /// |----------------|--------|-----------------------------|
    /// | `logprobs`     | T      | log π(a_t \| s_t)           |
    /// | `ref_logprobs` | T      | log π_ref(a_t \| s_t)       |
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn per_token(self, terms: ReferenceTerms<'_>) -> Vec<f64> {
        terms.log_ratios().map(|x| self.value(x)).collect()
    }

    /// The estimate of a whole completion: the sum over its tokens, in nats.
    ///
    /// # Panics
    /// If the lengths differ.
    ///
    /// ```
    /// use hearken_objective::kl::{KlEstimator, ReferenceTerms};
    /// let terms = ReferenceTerms { logprobs: &[-1.0, -2.0], ref_logprobs: &[-1.5, -1.0] };
    /// assert_eq!(KlEstimator::K1.per_completion(terms), -0.5);
    /// ```
    pub fn per_completion(self, terms: ReferenceTerms<'_>) -> f64 {
        terms.log_ratios().map(|x| self.value(x)).sum()
    }

    /// Derivatives of [`KlEstimator::per_token`], each with respect to the log-probability of its own
    /// token.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn gradient(self, terms: ReferenceTerms<'_>) -> Vec<f64> {
        terms.log_ratios().map(|x| self.derivative(x)).collect()
    }
}

/// Log-probabilities of one completion under the policy and under the reference.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceTerms<'a> {
    /// log π(a_t | s_t), in nats.
    pub logprobs: &'a [f64],
    /// log π_ref(a_t | s_t), in nats.
    pub ref_logprobs: &'a [f64],
}

impl<'a> ReferenceTerms<'a> {
    /// log π − log π_ref, token by token.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn log_ratios(self) -> impl Iterator<Item = f64> + 'a {
        assert_eq!(self.logprobs.len(), self.ref_logprobs.len(), "ref_logprobs: one per token");
        self.logprobs.iter().zip(self.ref_logprobs).map(|(p, q)| p - q)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{assert_close, assert_gradient};
    use KlEstimator::{K1, K2, K3};

    const LOGPROBS: [f64; 3] = [-1.0, -2.0, -0.5];
    const REF_LOGPROBS: [f64; 3] = [-1.2, -1.5, -0.5];

    #[test]
    fn estimators_have_their_known_values() {
        let terms = ReferenceTerms { logprobs: &LOGPROBS, ref_logprobs: &REF_LOGPROBS };
        assert_close(&K1.per_token(terms), &[0.2, -0.5, 0.0], 1e-12);
        assert_close(&K2.per_token(terms), &[0.02, 0.125, 0.0], 1e-12);
        assert_close(&K3.per_token(terms), &[0.018_731, 0.148_721, 0.0], 5e-7);
    }

    #[test]
    fn estimators_of_a_policy_against_itself_are_zero() {
        let terms = ReferenceTerms { logprobs: &LOGPROBS, ref_logprobs: &LOGPROBS };
        for estimator in [K1, K2, K3] {
            assert_eq!(estimator.per_token(terms), [0.0; 3]);
        }
    }

    #[test]
    fn derivatives_are_those_of_central_differences() {
        for estimator in [K1, K2, K3] {
            let value = |logprobs: &[f64]| {
                let terms = ReferenceTerms { logprobs, ref_logprobs: &REF_LOGPROBS };
                estimator.per_token(terms).iter().sum::<f64>()
            };
            let terms = ReferenceTerms { logprobs: &LOGPROBS, ref_logprobs: &REF_LOGPROBS };
            assert_gradient(value, &LOGPROBS, &estimator.gradient(terms));
        }
    }

    /// N(0,1) against N(1,1): KL is ½. Expectations by the trapezoid rule on a wide grid.
    #[test]
    fn bias_and_spread_on_two_gaussians_are_the_known_ones() {
        let expect = |f: &dyn Fn(f64) -> f64| {
            let h = 1e-3;
            (-12_000..=12_000)
                .map(|i| {
                    let x = f64::from(i) * h;
                    let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
                    h * density * f(0.5 - x)
                })
                .sum::<f64>()
        };
        let moments = |k: KlEstimator| {
            let mean = expect(&|x| k.value(x));
            let std = (expect(&|x| k.value(x).powi(2)) - mean * mean).sqrt();
            [(mean - 0.5) / 0.5, std / 0.5]
        };
        assert_close(&moments(K1), &[0.0, 2.0], 1e-6);
        assert_close(&moments(K2), &[0.25, 1.7321], 5e-5);
        assert_close(&moments(K3), &[0.0, 1.6950], 5e-5);
    }

    /// Expected on-policy derivative with respect to softmax logits: Σ_a π_a·k'(a)·(onehot_a − π).
    #[test]
    fn as_losses_k1_is_flat_k2_follows_kl_and_k3_the_reverse() {
        let (p, q) = ([0.2_f64, 0.5, 0.3], [0.5_f64, 0.3, 0.2]);
        let expected = |k: KlEstimator| -> Vec<f64> {
            let d: Vec<f64> = (0..3).map(|a| p[a] * k.derivative((p[a] / q[a]).ln())).collect();
            (0..3).map(|i| d[i] - p[i] * d.iter().sum::<f64>()).collect()
        };
        let kl: f64 = (0..3).map(|a| p[a] * (p[a] / q[a]).ln()).sum();
        let true_gradient: Vec<f64> = (0..3).map(|i| p[i] * ((p[i] / q[i]).ln() - kl)).collect();
        assert_close(&expected(K1), &[0.0; 3], 1e-15);
        assert_close(&expected(K2), &true_gradient, 1e-14);
        assert_close(&expected(K3), &[p[0] - q[0], p[1] - q[1], p[2] - q[2]], 1e-14);
    }
}
