//! Distributions over the actions of a control task: log-probabilities, entropies and their derivatives.
//!
//! A language model's head does this on a device for tens of thousands of tokens; here an action is one of a few, or
//! a short vector.
//!
//! Not here: sampling, which needs a generator.

use crate::numerics::{log_sum_exp, softplus};

/// ½ ln 2π.
const HALF_LOG_TAU: f64 = 0.918_938_533_204_672_8;

/// What a derivative with respect to log-probability and entropy is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slopes {
    /// d loss / d log π(a).
    pub logprob: f64,
    /// d loss / d H.
    pub entropy: f64,
}

/// Log-probability of an action, and the entropy of the distribution that it is from; in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActionLogprob {
    /// log π(a).
    pub logprob: f64,
    /// H = −Σ π log π; of a density, its differential entropy.
    pub entropy: f64,
}

/// Writes the log-probabilities of several actions, by their logits.
///
/// ```text
/// log π_j = z_j − log Σ_k e^{z_k}
/// ```
///
/// # Panics
/// If the lengths differ.
pub fn log_softmax(logits: &[f64], logprobs: &mut [f64]) {
    assert_eq!(logprobs.len(), logits.len(), "logprobs: one per logit");
    let total = log_sum_exp(logits);
    for (logprob, logit) in logprobs.iter_mut().zip(logits) {
        *logprob = logit - total;
    }
}

/// One of several actions, by the log-probabilities of all.
///
/// ```text
/// H = −Σ_j π_j log π_j
/// ```
///
/// # Panics
/// If there is no such action.
///
/// ```
/// use hearken_objective::distribution::categorical;
/// let judged = categorical(&[0.5_f64.ln(); 2], 1);
/// assert!((judged.logprob + 2.0_f64.ln()).abs() < 1e-15 && (judged.entropy - 2.0_f64.ln()).abs() < 1e-15);
/// ```
pub fn categorical(logprobs: &[f64], action: usize) -> ActionLogprob {
    let entropy = -logprobs.iter().map(|log_p| log_p.exp() * log_p).sum::<f64>();
    ActionLogprob { logprob: logprobs[action], entropy }
}

/// Writes the derivative of a loss with respect to the logits of an action that [`categorical`] judged.
///
/// ```text
/// ∂log π(a)/∂z_j = 1[j = a] − π_j        ∂H/∂z_j = −π_j (log π_j + H)
/// ```
///
/// | argument | length | meaning |
/// |---|---|---|
/// | `logprobs` | A | log π |
/// | `entropy` | scalar | H |
/// | `grad` | A | d loss / d z, overwritten |
///
/// # Panics
/// If the lengths differ.
pub fn categorical_backward(
    logprobs: &[f64],
    entropy: f64,
    action: usize,
    slopes: Slopes,
    grad: &mut [f64],
) {
    assert_eq!(grad.len(), logprobs.len(), "grad: one per logit");
    for (j, (grad, log_p)) in grad.iter_mut().zip(logprobs).enumerate() {
        let p = log_p.exp();
        let hit = f64::from(u8::from(j == action));
        *grad = slopes.logprob * (hit - p) - slopes.entropy * p * (log_p + entropy);
    }
}

/// A vector of independent normal variates.
///
/// ```text
/// log π(a) = Σ_i −½((a_i − μ_i)/σ_i)² − log σ_i − ½ log 2π        H = Σ_i log σ_i + ½ log 2πe
/// ```
///
/// | argument | length | meaning |
/// |---|---|---|
/// | `means` | D | μ |
/// | `log_stds` | D | log σ |
/// | `action` | D | a |
///
/// # Panics
/// If the lengths differ.
pub fn gaussian(means: &[f64], log_stds: &[f64], action: &[f64]) -> ActionLogprob {
    assert_eq!([log_stds.len(), action.len()], [means.len(); 2], "one of each per dimension");
    let mut judged = ActionLogprob { logprob: 0.0, entropy: 0.0 };
    for ((mean, log_std), a) in means.iter().zip(log_stds).zip(action) {
        let z = (a - mean) * (-log_std).exp();
        judged.logprob -= 0.5 * z * z + log_std + HALF_LOG_TAU;
        judged.entropy += log_std + HALF_LOG_TAU + 0.5;
    }
    judged
}

/// Writes the derivative of a loss with respect to means, and adds that with respect to log σ, of [`gaussian`].
///
/// ```text
/// ∂log π/∂μ = (a − μ)/σ²        ∂log π/∂log σ = ((a − μ)/σ)² − 1        ∂H/∂log σ = 1
/// ```
///
/// # Panics
/// If the lengths differ.
pub fn gaussian_backward(
    (means, log_stds): (&[f64], &[f64]),
    action: &[f64],
    slopes: Slopes,
    (grad_means, grad_log_stds): (&mut [f64], &mut [f64]),
) {
    let lengths = [log_stds.len(), action.len(), grad_means.len(), grad_log_stds.len()];
    assert_eq!(lengths, [means.len(); 4], "one of each per dimension");
    for i in 0..means.len() {
        let inverse = (-log_stds[i]).exp();
        let z = (action[i] - means[i]) * inverse;
        grad_means[i] = slopes.logprob * z * inverse;
        grad_log_stds[i] += slopes.logprob * (z * z - 1.0) + slopes.entropy;
    }
}

/// A number that a normal variate became by the hyperbolic tangent: tanh(μ + σε).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Squashed {
    /// tanh(μ + σε), in (−1, 1).
    pub action: f64,
    /// Its log-density, of the action in (−1, 1).
    pub logprob: f64,
    /// d action / d μ.
    pub action_by_mean: f64,
    /// d action / d log σ, with ε fixed.
    pub action_by_log_std: f64,
    /// d logprob / d μ, with ε fixed.
    pub logprob_by_mean: f64,
    /// d logprob / d log σ, with ε fixed.
    pub logprob_by_log_std: f64,
}

/// One dimension of a squashed Gaussian, and its derivatives through the sample.
///
/// ```text
/// u = μ + σε        a = tanh u        log π(a) = −½ε² − log σ − ½ log 2π − log(1 − tanh² u)
/// log(1 − tanh² u) = 2(log 2 − u − softplus(−2u))
/// ```
///
/// Haarnoja et al. 2018, arXiv:1812.05905, appendix C; the last line keeps its digits for large |u|.
///
/// ```
/// use hearken_objective::distribution::squashed_gaussian;
/// let at = squashed_gaussian(0.0, 0.0, 0.0);
/// assert!(at.action == 0.0 && (at.logprob + 0.918_938_533).abs() < 1e-9);
/// ```
pub fn squashed_gaussian(mean: f64, log_std: f64, noise: f64) -> Squashed {
    let spread = log_std.exp() * noise;
    let u = mean + spread;
    let action = u.tanh();
    let log_slope = 2.0 * (std::f64::consts::LN_2 - u - softplus(-2.0 * u));
    let slope = log_slope.exp();
    Squashed {
        action,
        logprob: -0.5 * noise * noise - log_std - HALF_LOG_TAU - log_slope,
        action_by_mean: slope,
        action_by_log_std: slope * spread,
        logprob_by_mean: 2.0 * action,
        logprob_by_log_std: 2.0 * action * spread - 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{assert_close, assert_gradient, uniform};

    const SLOPES: Slopes = Slopes { logprob: 0.7, entropy: -0.3 };

    fn loss(judged: ActionLogprob) -> f64 {
        SLOPES.logprob * judged.logprob + SLOPES.entropy * judged.entropy
    }

    fn of_logits(logits: &[f64]) -> Vec<f64> {
        let mut logprobs = vec![0.0; logits.len()];
        log_softmax(logits, &mut logprobs);
        logprobs
    }

    #[test]
    fn probabilities_of_actions_sum_to_one_and_entropy_is_largest_when_they_are_equal() {
        let logprobs = of_logits(&uniform(1, 4));
        let total: f64 = (0..4).map(|action| categorical(&logprobs, action).logprob.exp()).sum();
        assert_close(&[total], &[1.0], 1e-14);
        let equal = of_logits(&[3.0; 4]);
        assert!(categorical(&logprobs, 0).entropy < categorical(&equal, 0).entropy);
    }

    #[test]
    fn the_density_of_a_squashed_number_integrates_to_one() {
        // Over noise: density of the noise is that of the action times |da/dε|, which is σ(1 − a²).
        let (mean, log_std): (f64, f64) = (0.4, -0.3);
        let ratio = |noise: f64| {
            let at = squashed_gaussian(mean, log_std, noise);
            let slope = log_std.exp() * (1.0 - at.action * at.action);
            at.logprob.exp() * slope / (-0.5 * noise * noise - HALF_LOG_TAU).exp()
        };
        assert_close(&[ratio(-1.0), ratio(0.2), ratio(2.0)], &[1.0; 3], 1e-12);
    }

    #[test]
    fn gradients_are_those_of_central_differences() {
        for seed in 0..10 {
            let logits = uniform(seed, 5);
            let mut grad = vec![9.0; 5];
            let logprobs = of_logits(&logits);
            let entropy = categorical(&logprobs, 2).entropy;
            categorical_backward(&logprobs, entropy, 2, SLOPES, &mut grad);
            assert_gradient(|z| loss(categorical(&of_logits(z), 2)), &logits, &grad);

            let (x, action) = (uniform(seed + 20, 6), uniform(seed + 40, 3));
            let (mut grad_means, mut grad_log_stds) = (vec![9.0; 3], vec![0.0; 3]);
            let grads = (grad_means.as_mut_slice(), grad_log_stds.as_mut_slice());
            gaussian_backward((&x[..3], &x[3..]), &action, SLOPES, grads);
            let of = |x: &[f64]| loss(gaussian(&x[..3], &x[3..], &action));
            assert_gradient(of, &x, &[grad_means, grad_log_stds].concat());

            let (x, noise) = (uniform(seed + 60, 2), 2.0 * uniform(seed + 80, 1)[0]);
            let at = squashed_gaussian(x[0], x[1], noise);
            let of = |x: &[f64]| squashed_gaussian(x[0], x[1], noise);
            assert_gradient(|x| of(x).action, &x, &[at.action_by_mean, at.action_by_log_std]);
            assert_gradient(|x| of(x).logprob, &x, &[at.logprob_by_mean, at.logprob_by_log_std]);
        }
    }

    #[test]
    fn far_out_a_squashed_number_stays_finite() {
        let at = squashed_gaussian(30.0, 0.0, 1.0);
        assert!(at.logprob.is_finite() && 50.0 < at.logprob && at.action_by_mean < 1e-20);
    }
}
