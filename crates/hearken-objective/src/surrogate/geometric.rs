//! Geometric-mean policy optimization: the only surrogate whose clip acts on tokens while its ratio
//! covers the completion.

use super::{PolicyTerms, TokenLoss};
use crate::numerics::{at_least, at_most};

/// −Â·exp(mean_t clipped log ρ_t), spread equally over the tokens: the sum is T times that.
pub(super) fn loss(log_range: f64, terms: PolicyTerms<'_>) -> TokenLoss {
    let n = terms.logprobs.len();
    let mut loss = TokenLoss { grad_logprobs: vec![0.0; n], ..TokenLoss::default() };
    if n == 0 {
        return loss;
    }
    let advantage = terms.advantages.iter().sum::<f64>() / n as f64;
    let mut total = 0.0;
    let mut moving = vec![true; n];
    for (t, log_ratio) in terms.log_ratios().enumerate() {
        let bounded = if 0.0 < advantage {
            at_most(log_ratio, log_range)
        } else {
            at_least(log_ratio, -log_range)
        };
        moving[t] = !(bounded < log_ratio || log_ratio < bounded);
        loss.clipped_high += usize::from(bounded < log_ratio);
        loss.clipped_low += usize::from(log_ratio < bounded);
        total += bounded;
    }
    let per_token = -advantage * (total / n as f64).exp();
    loss.sum = per_token * n as f64;
    for (grad, moves) in loss.grad_logprobs.iter_mut().zip(moving) {
        *grad = if moves { per_token } else { 0.0 };
    }
    loss
}
