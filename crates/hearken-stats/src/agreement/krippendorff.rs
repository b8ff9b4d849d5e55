//! Krippendorff's alpha.

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::AgreementError;
use crate::{Estimate, bootstrap, quantile};

/// The squared distance δ² of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distance {
    /// 1 unless equal.
    Nominal,
    /// Squared difference of midranks among all pairable values.
    Ordinal,
    /// (c − k)².
    Interval,
    /// ((c − k)/(c + k))², for values that are not negative.
    Ratio,
}

/// Krippendorff's alpha: any number of annotators per unit, missing values left out.
///
/// ```text
/// α = 1 − D_o/D_e
/// D_o = 1/n · Σ_units Σ_{pairs i≠j} δ²(c_i, c_j)/(m_u − 1)
/// D_e = 1/(n(n−1)) · Σ_{c,k} n_c·n_k·δ²(c, k)
/// ```
///
/// There are `m_u` values on unit u, n on all units with at least two. Krippendorff 2011, *Computing Krippendorff's
/// alpha-reliability*. The interval resamples units; expected disagreement is computed anew in each round.
///
/// # Errors
/// If no unit has two values, all pairable values are the same, a value is not finite, or a ratio value is negative.
///
/// ```
/// # use hearken_stats::agreement::{Distance, krippendorff};
/// # use rand::SeedableRng;
/// let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
/// let units = [vec![1.0, 2.0], vec![2.0, 3.0], vec![3.0, 4.0]];
/// let alpha = krippendorff(&units, Distance::Interval, 0, &mut rng)?;
/// assert!((alpha.value - 0.545_454_5).abs() < 1e-7);
/// # Ok::<(), hearken_stats::agreement::AgreementError>(())
/// ```
pub fn krippendorff(
    units: &[Vec<f64>],
    distance: Distance,
    rounds: usize,
    rng: &mut impl Rng,
) -> Result<Estimate, AgreementError> {
    for (unit, values) in units.iter().enumerate() {
        let bad = |v: &&f64| !v.is_finite() || (distance == Distance::Ratio && **v < 0.0);
        if let Some(value) = values.iter().find(bad) {
            return Err(AgreementError::BadValue { unit, value: value.to_string() });
        }
    }
    let mut values = quantile::sorted(&units.concat());
    values.dedup();
    let index = |v: &f64| values.partition_point(|x| x < v);
    let pairable = units.iter().filter(|unit| unit.len() >= 2);
    let coded: Vec<Vec<usize>> = pairable.map(|unit| unit.iter().map(index).collect()).collect();
    if coded.is_empty() {
        return Err(AgreementError::NoPairableUnits);
    }
    let alpha = |sample: &[&Vec<usize>]| alpha(sample, &values, distance);
    bootstrap::bootstrap(&coded, alpha, rounds, rng).ok_or(AgreementError::NoVariation)
}

/// Alpha of units whose values are indices into the ascending `values`; `None` without variation.
fn alpha(units: &[&Vec<usize>], values: &[f64], distance: Distance) -> Option<f64> {
    let mut counts = vec![0.0; values.len()];
    units.iter().flat_map(|unit| unit.iter()).for_each(|&v| counts[v] += 1.0);
    let total: f64 = counts.iter().sum();
    let scale = distance.scale(&counts, values);
    let delta = |c: usize, k: usize| distance.squared(&scale, c, k);
    let mut observed = 0.0;
    for unit in units {
        let mut pairs = 0.0;
        for (i, &c) in unit.iter().enumerate() {
            pairs += unit[..i].iter().map(|&k| 2.0 * delta(c, k)).sum::<f64>();
        }
        observed += pairs / (unit.len() - 1) as f64;
    }
    let mut expected = 0.0;
    for (c, a) in counts.iter().enumerate() {
        for (k, b) in counts.iter().enumerate() {
            expected += a * b * delta(c, k);
        }
    }
    expected /= total - 1.0;
    (expected > 0.0).then(|| 1.0 - observed / expected)
}

impl Distance {
    /// The values on the scale that the distance measures: midranks for [`Distance::Ordinal`], given how often each
    /// value occurs.
    pub(super) fn scale(self, counts: &[f64], values: &[f64]) -> Vec<f64> {
        if self != Self::Ordinal {
            return values.to_vec();
        }
        let midranks = counts.iter().scan(0.0, |sum, count| {
            *sum += count;
            Some(*sum - count / 2.0)
        });
        midranks.collect()
    }

    /// δ² of the values numbered `c` and `k` on a scale made by [`Distance::scale`].
    pub(super) fn squared(self, scale: &[f64], c: usize, k: usize) -> f64 {
        match self {
            Self::Nominal => f64::from(u8::from(c != k)),
            Self::Ordinal | Self::Interval => (scale[c] - scale[k]).powi(2),
            // Two zeros are equal values.
            Self::Ratio if c == k => 0.0,
            Self::Ratio => ((scale[c] - scale[k]) / (scale[c] + scale[k])).powi(2),
        }
    }
}
