//! Policies small enough to take expectations over, trained through the crate's own derivatives.

#![allow(dead_code)] // Each test binary uses a part.

#[path = "../../src/finite_difference.rs"]
pub(crate) mod finite_difference;

/// Reference policy of the four-armed bandit.
pub(crate) const REFERENCE: [f64; 4] = [0.5, 0.3, 0.15, 0.05];
/// Scores of its arms.
pub(crate) const SCORES: [f64; 4] = [0.0, 0.5, 1.0, 2.0];

/// Probabilities of logits.
pub(crate) fn softmax(logits: &[f64]) -> Vec<f64> {
    let high = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.iter().map(|x| (x - high).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|w| w / total).collect()
}

/// Elementwise logarithm.
pub(crate) fn logs(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| x.ln()).collect()
}

/// Logits of a loss whose derivative with respect to each log-probability is `grad_logprobs`: the
/// chain rule through log-softmax, g − π·Σg.
pub(crate) fn through_softmax(grad_logprobs: &[f64], probabilities: &[f64]) -> Vec<f64> {
    let total: f64 = grad_logprobs.iter().sum();
    grad_logprobs.iter().zip(probabilities).map(|(g, p)| g - p * total).collect()
}

/// Gradient descent on logits from `start`, given the derivative with respect to log-probabilities.
pub(crate) fn descend(
    start: &[f64],
    rate: f64,
    steps: usize,
    grad_logprobs: impl Fn(&[f64]) -> Vec<f64>,
) -> Vec<f64> {
    let mut logits = logs(start);
    for _ in 0..steps {
        let probabilities = softmax(&logits);
        let gradient = through_softmax(&grad_logprobs(&probabilities), &probabilities);
        for (x, g) in logits.iter_mut().zip(gradient) {
            *x -= rate * g;
        }
    }
    softmax(&logits)
}

/// The reference, tilted by e^{r/β}.
pub(crate) fn gibbs(reference: &[f64], scores: &[f64], beta: f64) -> Vec<f64> {
    let logits: Vec<f64> = reference.iter().zip(scores).map(|(p, r)| p.ln() + r / beta).collect();
    softmax(&logits)
}

/// Σ p·x.
pub(crate) fn expect(probabilities: &[f64], x: &[f64]) -> f64 {
    probabilities.iter().zip(x).map(|(p, x)| p * x).sum()
}

/// KL(p ‖ q) in nats.
pub(crate) fn kl(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum()
}
