//! Losses that compare a batch's ranks: alignment by optimal transport in one dimension.

use super::kernel::{PairLoss, ScoreValue};
use super::{PairTerms, PairValue, Reference};

/// A batch's scores after divergence and length, one entry per pair.
pub(super) struct SortedScores {
    pub(super) chosen: Vec<f64>,
    pub(super) rejected: Vec<f64>,
}

/// Paired: sorts the policy's differences of log-probabilities and the reference's, separately.
/// Gradients go to the pair that holds the policy's rank, and so does the loss.
pub(super) fn paired(
    loss: PairLoss,
    beta: f64,
    pairs: &[PairTerms],
    reference: Reference,
) -> Vec<PairValue> {
    let policy: Vec<f64> = pairs.iter().map(|p| p.chosen.logprob - p.rejected.logprob).collect();
    let of_reference: Vec<f64> = pairs
        .iter()
        .map(|p| match reference {
            Reference::Model => p.chosen.ref_logprob - p.rejected.ref_logprob,
            Reference::Free => 0.0,
        })
        .collect();
    let mut values = vec![PairValue::default(); pairs.len()];
    for (i, j) in order(&policy).into_iter().zip(order(&of_reference)) {
        let at = loss.at(beta, policy[i], of_reference[j]);
        values[i] = PairValue { loss: at.loss, grad_chosen: at.chosen, grad_rejected: -at.chosen };
    }
    values
}

/// Unpaired: sorts chosen and rejected scores, separately. The loss of a rank is booked on the pair
/// whose chosen completion holds it; gradients go where the scores came from.
pub(super) fn unpaired(loss: PairLoss, beta: f64, scores: &SortedScores) -> Vec<ScoreValue> {
    let mut values = vec![ScoreValue::default(); scores.chosen.len()];
    for (i, j) in order(&scores.chosen).into_iter().zip(order(&scores.rejected)) {
        let at = loss.at(beta, scores.chosen[i], scores.rejected[j]);
        values[i].loss = at.loss;
        values[i].chosen = at.chosen;
        values[j].rejected = at.rejected;
    }
    values
}

/// Indices from the smallest to the largest; equal values keep their order.
fn order(values: &[f64]) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..values.len()).collect();
    indices.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    indices
}
