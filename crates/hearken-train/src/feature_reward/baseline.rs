//! What the network has to beat.

use hearken_stats::logistic::{self, Observation};

use super::FeaturePair;
use super::network::Scale;

/// Longer wins, or shorter wins: the sign that is right more often on `training`.
pub(super) fn length_direction(training: &[&FeaturePair]) -> f64 {
    let balance: f64 = training
        .iter()
        .filter(|pair| pair.length_margin() != 0.0)
        .map(|pair| pair.hit(pair.length_margin()) - 0.5)
        .sum();
    if balance < 0.0 { -1.0 } else { 1.0 }
}

impl FeaturePair {
    /// Above 0 where the first answer is longer.
    pub(super) fn length_margin(&self) -> f64 {
        self.first_length - self.second_length
    }
}

/// A logistic regression on differences of standardized features, without intercept, with a weak ridge against features that say
/// the same; `None` where it does not converge.
pub(super) fn logistic(training: &[&FeaturePair], scale: &Scale) -> Option<Vec<f64>> {
    const RIDGE: f64 = 1.0;
    let row = |pair: &&FeaturePair| Observation {
        features: differences(pair, scale),
        outcome: pair.target,
        weight: 1.0,
    };
    let rows: Vec<Observation> = training.iter().map(row).collect();
    logistic::fit(&rows, RIDGE).ok().map(|fit| fit.coefficients().to_vec())
}

/// The margin that a regression gives.
pub(super) fn margin(coefficients: &[f64], pair: &FeaturePair, scale: &Scale) -> f64 {
    differences(pair, scale).iter().zip(coefficients).map(|(x, b)| x * b).sum()
}

fn differences(pair: &FeaturePair, scale: &Scale) -> Vec<f64> {
    let (first, second) = (scale.standardize(&pair.first), scale.standardize(&pair.second));
    first.iter().zip(second).map(|(a, b)| a - b).collect()
}
