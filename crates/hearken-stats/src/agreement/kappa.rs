//! Kappa coefficients.

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{AgreementError, beyond_chance};
use crate::{Estimate, bootstrap};

/// How far two categories disagree, for [`cohen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// Any two categories alike.
    Unweighted,
    /// |i − j|: categories are steps of a scale.
    Linear,
    /// (i − j)².
    Quadratic,
}

impl Weights {
    fn disagreement(self, i: usize, j: usize) -> f64 {
        let gap = i.abs_diff(j) as f64;
        match self {
            Self::Unweighted => f64::from(u8::from(i != j)),
            Self::Linear => gap,
            Self::Quadratic => gap * gap,
        }
    }
}

/// Cohen's kappa of two raters over units, each unit the two categories that they gave, numbered from 0.
///
/// ```text
/// κ = (p_o − p_e)/(1 − p_e) = 1 − Σ v·observed/Σ v·expected
/// ```
///
/// Cohen 1960, weighted 1968.
///
/// # Errors
/// If there are no units, a category does not exist, or both raters give one and the same category throughout.
pub fn cohen(
    units: &[[usize; 2]],
    categories: usize,
    weights: Weights,
    rounds: usize,
    rng: &mut impl Rng,
) -> Result<Estimate, AgreementError> {
    for (unit, pair) in units.iter().enumerate() {
        if let Some(&category) = pair.iter().find(|&&c| categories <= c) {
            return Err(AgreementError::UnknownCategory { unit, category, categories });
        }
    }
    if units.is_empty() {
        return Err(AgreementError::NoPairableUnits);
    }
    let kappa = |sample: &[&[usize; 2]]| {
        let n = sample.len() as f64;
        let mut margins = [vec![0.0; categories], vec![0.0; categories]];
        let mut observed = 0.0;
        for &&[a, b] in sample {
            margins[0][a] += 1.0;
            margins[1][b] += 1.0;
            observed += weights.disagreement(a, b);
        }
        let mut expected = 0.0;
        for (i, a) in margins[0].iter().enumerate() {
            for (j, b) in margins[1].iter().enumerate() {
                expected += a * b / n * weights.disagreement(i, j);
            }
        }
        beyond_chance(observed, expected)
    };
    bootstrap::bootstrap(units, kappa, rounds, rng).ok_or(AgreementError::NoVariation)
}

/// Fleiss' kappa (1971) of a table with one row per unit: how many raters chose each category. Every unit has the
/// same number of raters, though not the same raters.
///
/// # Errors
/// If there are no units, fewer than two raters, rows with different sums, or one category throughout.
pub fn fleiss(
    table: &[Vec<usize>],
    rounds: usize,
    rng: &mut impl Rng,
) -> Result<Estimate, AgreementError> {
    let expected = table.first().map_or(0, |row| row.iter().sum::<usize>());
    if expected < 2 {
        return Err(AgreementError::NoPairableUnits);
    }
    for (unit, row) in table.iter().enumerate() {
        let found = row.iter().sum();
        if found != expected {
            return Err(AgreementError::UnequalRaters { unit, found, expected });
        }
    }
    let raters = expected as f64;
    let kappa = |sample: &[&Vec<usize>]| {
        let units = sample.len() as f64;
        let mut observed = 0.0;
        let mut margins = vec![0.0; sample.iter().map(|row| row.len()).max()?];
        for row in sample {
            let pairs: usize = row.iter().map(|&c| c * c.saturating_sub(1)).sum();
            observed += pairs as f64 / (raters * (raters - 1.0) * units);
            for (margin, &c) in margins.iter_mut().zip(row.iter()) {
                *margin += c as f64 / (raters * units);
            }
        }
        beyond_chance(1.0 - observed, 1.0 - margins.iter().map(|m| m * m).sum::<f64>())
    };
    bootstrap::bootstrap(table, kappa, rounds, rng).ok_or(AgreementError::NoVariation)
}
