//! Strengths from choices among more than two: Luce's choice axiom, and Plackett's rankings as repeated choices.
//!
//! ```text
//! P(best | best and others) = e^θ_best / Σ e^θ     log L = Σ over choices
//! ```
//!
//! Luce 1959, Plackett 1975. Strengths sum to zero.

use crate::bradley_terry::FitError;
use crate::comparison::strong_components;
use crate::linear::Symmetric;
use crate::newton::{self, Curve};

/// One choice of the best among several items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The item chosen.
    pub best: usize,
    /// The items it was chosen over, without it.
    pub others: Vec<usize>,
}

/// A ranking, best first, as its choices: the first of all, the second of the rest, and so on.
///
/// ```
/// # use hearken_stats::plackett_luce::{Choice, choices};
/// assert_eq!(choices(&[2, 0, 1]), [
///     Choice { best: 2, others: vec![0, 1] },
///     Choice { best: 0, others: vec![1] },
/// ]);
/// ```
pub fn choices(ranking: &[usize]) -> Vec<Choice> {
    let tails =
        (1..ranking.len()).map(|i| Choice { best: ranking[i - 1], others: ranking[i..].to_vec() });
    tails.collect()
}

/// Log-likelihood of the choices under strengths θ.
///
/// # Panics
/// If a choice names an item that has no strength.
pub fn log_likelihood(choices: &[Choice], strengths: &[f64]) -> f64 {
    choices.iter().map(|c| strengths[c.best] - softmax(c, strengths).1).sum()
}

/// The maximum-likelihood strengths of `items` items, summing to zero.
///
/// # Errors
/// [`FitError`] if there is no unique finite estimate.
///
/// # Panics
/// If a choice names an item that does not exist.
pub fn fit(items: usize, choices: &[Choice]) -> Result<Vec<f64>, FitError> {
    if items < 2 || choices.is_empty() {
        return Err(FitError::Empty);
    }
    let beats = |c: &Choice| c.others.iter().map(|&o| (c.best, o)).collect::<Vec<_>>();
    let components = strong_components(items, &choices.iter().flat_map(beats).collect::<Vec<_>>());
    if components.len() > 1 {
        return Err(FitError::NotConnected { components });
    }
    let mut strengths = newton::maximize(vec![0.0; items], |x| Some(curve(choices, x)))?.at;
    let drift = strengths.iter().sum::<f64>() / items as f64;
    for x in &mut strengths {
        *x -= drift;
    }
    Ok(strengths)
}

/// Probabilities of best and others, and the logarithm of their normalizer.
fn softmax(choice: &Choice, strengths: &[f64]) -> (Vec<(usize, f64)>, f64) {
    let items = || std::iter::once(choice.best).chain(choice.others.iter().copied());
    let largest = items().map(|i| strengths[i]).fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = items().map(|i| (strengths[i] - largest).exp()).sum();
    let log_total = largest + total.ln();
    (items().map(|i| (i, (strengths[i] - log_total).exp())).collect(), log_total)
}

fn curve(choices: &[Choice], x: &[f64]) -> Curve {
    let mut value = 0.0;
    let mut gradient = vec![0.0; x.len()];
    // The sum of strengths is free: pin it.
    let mut information = Symmetric { size: x.len(), entries: vec![1.0; x.len() * x.len()] };
    for choice in choices {
        let (probabilities, log_total) = softmax(choice, x);
        value += x[choice.best] - log_total;
        gradient[choice.best] += 1.0;
        for &(i, p) in &probabilities {
            gradient[i] -= p;
            information.add(i, i, p);
        }
        information.add_outer(&probabilities, -1.0);
    }
    Curve { value, gradient, information }
}
