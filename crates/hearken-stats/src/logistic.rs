//! Logistic regression with intervals.
//!
//! ```text
//! P(y = 1 | x) = σ(xᵀβ)     log L = Σ w·(y·log σ + (1 − y)·log(1 − σ)) − ridge·‖β‖²/2
//! ```
//!
//! There is no intercept unless a feature is constantly 1. A soft label y in (0, 1) counts as y of a success and
//! 1 − y of a failure.

use crate::bradley_terry::{Covariance, FitError};
use crate::linear::Symmetric;
use crate::newton::{self, Curve};
use crate::significance::{self, Significance};
use crate::ties::{log_sigmoid, sigmoid};
use crate::{Estimate, IntervalMethod};

/// One row of data.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// x, the same length in every row.
    pub features: Vec<f64>,
    /// y in [0, 1].
    pub outcome: f64,
    /// w, not negative.
    pub weight: f64,
}

/// A fitted regression.
#[derive(Clone, Debug)]
pub struct Logistic {
    coefficients: Vec<f64>,
    inverse: Symmetric,
    scores: Symmetric,
    log_likelihood: f64,
    n: usize,
}

/// Fits by Newton's method.
///
/// # Errors
/// [`FitError::Empty`] without rows or features, [`FitError::NotIdentified`] if features are linearly dependent,
/// [`FitError::Unbounded`] if they separate the classes; a positive `ridge` cures both.
///
/// # Panics
/// If the rows differ in length.
///
/// ```
/// # use hearken_stats::logistic::{Observation, fit};
/// // Three of four: β = log 3, standard error 1/√(4·¾·¼).
/// let row = |outcome, weight| Observation { features: vec![1.0], outcome, weight };
/// let regression = fit(&[row(1.0, 3.0), row(0.0, 1.0)], 0.0)?;
/// assert!((regression.coefficients()[0] - 3.0_f64.ln()).abs() < 1e-12);
/// # Ok::<(), hearken_stats::bradley_terry::FitError>(())
/// ```
pub fn fit(rows: &[Observation], ridge: f64) -> Result<Logistic, FitError> {
    let k = rows.first().map_or(0, |row| row.features.len());
    if k == 0 {
        return Err(FitError::Empty);
    }
    assert!(rows.iter().all(|row| row.features.len() == k), "every row has {k} features");
    let maximum = newton::maximize(vec![0.0; k], |x| Some(curve(rows, ridge, x)))?;
    let coefficients = maximum.at;
    let inverse = maximum.curve.information.cholesky().ok_or(FitError::NotIdentified)?.inverse();
    let penalty = ridge * dot(&coefficients, &coefficients) / 2.0;
    Ok(Logistic {
        scores: scores(rows, &coefficients),
        coefficients,
        inverse,
        log_likelihood: maximum.curve.value + penalty,
        n: rows.len(),
    })
}

impl Logistic {
    /// β. For intervals see [`Logistic::estimates`].
    pub fn coefficients(&self) -> &[f64] {
        &self.coefficients
    }

    /// P(y = 1 | x).
    ///
    /// # Panics
    /// If the number of features is not that of the fit.
    pub fn probability(&self, features: &[f64]) -> f64 {
        assert_eq!(features.len(), self.coefficients.len(), "one feature per coefficient");
        sigmoid(dot(features, &self.coefficients))
    }

    /// Log-likelihood without the ridge.
    pub fn log_likelihood(&self) -> f64 {
        self.log_likelihood
    }

    /// β with intervals; `n` is the number of rows.
    pub fn estimates(&self, covariance: Covariance) -> Vec<Estimate> {
        let method = match covariance {
            Covariance::Information => IntervalMethod::Information,
            Covariance::Sandwich => IntervalMethod::Sandwich,
        };
        let variances = self.variances(covariance).into_iter();
        let pairs = self.coefficients.iter().zip(variances);
        pairs.map(|(&b, v)| Estimate::symmetric(b, v.sqrt(), self.n, method)).collect()
    }

    /// Wald tests of each coefficient against 0; the statistic is z.
    pub fn significances(&self, covariance: Covariance) -> Vec<Significance> {
        let variances = self.variances(covariance).into_iter();
        let pairs = self.coefficients.iter().zip(variances);
        pairs.map(|(&b, v)| significance::normal(b / v.sqrt())).collect()
    }

    fn variances(&self, covariance: Covariance) -> Vec<f64> {
        let k = self.coefficients.len();
        match covariance {
            Covariance::Information => (0..k).map(|i| self.inverse.at(i, i)).collect(),
            Covariance::Sandwich => {
                let sandwich = self.inverse.sandwich(&self.scores);
                (0..k).map(|i| sandwich.at(i, i)).collect()
            }
        }
    }
}

fn curve(rows: &[Observation], ridge: f64, x: &[f64]) -> Curve {
    let k = x.len();
    let mut value = -ridge * dot(x, x) / 2.0;
    let mut gradient: Vec<f64> = x.iter().map(|b| -ridge * b).collect();
    let mut information = Symmetric::zeros(k);
    (0..k).for_each(|i| information.add(i, i, ridge));
    for row in rows {
        let logit = dot(&row.features, x);
        let p = sigmoid(logit);
        let (hit, miss) = (log_sigmoid(logit), log_sigmoid(-logit));
        value += row.weight * (row.outcome * hit + (1.0 - row.outcome) * miss);
        let residual = row.weight * (row.outcome - p);
        let bend = row.weight * p * (1.0 - p);
        for (i, a) in row.features.iter().enumerate() {
            gradient[i] += residual * a;
            for (j, b) in row.features.iter().enumerate() {
                information.add(i, j, bend * a * b);
            }
        }
    }
    Curve { value, gradient, information }
}

/// Σ over rows of the outer product of the score; a row of weight w is one observation.
fn scores(rows: &[Observation], x: &[f64]) -> Symmetric {
    let mut scores = Symmetric::zeros(x.len());
    for row in rows {
        let residual = row.weight * (row.outcome - sigmoid(dot(&row.features, x)));
        let score: Vec<(usize, f64)> =
            row.features.iter().map(|a| a * residual).enumerate().collect();
        scores.add_outer(&score, 1.0);
    }
    scores
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(features: &[f64], outcome: f64) -> Observation {
        Observation { features: features.to_vec(), outcome, weight: 1.0 }
    }

    /// A 2 × 2 table: the slope is the log odds ratio, its variance the sum of the reciprocal counts (Woolf 1955), and
    /// both covariances agree because the model is saturated.
    #[test]
    fn a_binary_feature_gives_the_log_odds_ratio() {
        let cells = [(1.0, 1.0, 12), (1.0, 0.0, 5), (0.0, 1.0, 7), (0.0, 0.0, 9)];
        let repeat = |&(x, y, n): &(f64, f64, usize)| vec![row(&[1.0, x], y); n];
        let rows: Vec<_> = cells.iter().flat_map(repeat).collect();
        let regression = fit(&rows, 0.0).unwrap();
        let expected = (12.0_f64 * 9.0 / (5.0 * 7.0)).ln();
        let error = (1.0_f64 / 12.0 + 1.0 / 5.0 + 1.0 / 7.0 + 1.0 / 9.0).sqrt();
        for covariance in [Covariance::Information, Covariance::Sandwich] {
            let slope = regression.estimates(covariance)[1];
            assert!((slope.value - expected).abs() < 1e-12);
            assert!((slope.half_width() / 1.959_963_984_540_054 - error).abs() < 1e-12);
        }
    }

    #[test]
    fn separated_classes_and_dependent_features_are_errors() {
        let separated = [row(&[-1.0], 0.0), row(&[1.0], 1.0)];
        assert_eq!(fit(&separated, 0.0).unwrap_err(), FitError::Unbounded);
        assert!(fit(&separated, 0.1).is_ok());
        let dependent = [row(&[1.0, 2.0], 0.0), row(&[2.0, 4.0], 1.0), row(&[1.0, 2.0], 1.0)];
        assert_eq!(fit(&dependent, 0.0).unwrap_err(), FitError::NotIdentified);
    }

    #[test]
    fn a_soft_label_is_a_split_row() {
        let soft = fit(&[row(&[1.0], 0.3), row(&[0.5], 0.6)], 0.01).unwrap();
        let split = |x: f64, p: f64| {
            [(1.0, p), (0.0, 1.0 - p)].map(|(y, w)| Observation { weight: w, ..row(&[x], y) })
        };
        let rows = [split(1.0, 0.3), split(0.5, 0.6)].concat();
        let hard = fit(&rows, 0.01).unwrap();
        assert!((soft.coefficients()[0] - hard.coefficients()[0]).abs() < 1e-12);
    }
}
