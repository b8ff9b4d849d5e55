//! Correlation with intervals on Fisher's z scale.

use std::cmp::Ordering;

use crate::{Estimate, Method, estimate::Z, mean};

/// Pearson's correlation, interval tanh(atanh r ± z/√(n−3)) (Fisher 1921). `None` with fewer than two pairs or if either
/// side is constant; unbounded, that is [−1, 1], with three or fewer, and where the pairs lie on a line: z is infinite there.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// let e = hearken_stats::correlation::pearson(&[1.0, 2.0, 3.0, 4.0], &[2.0, 4.0, 6.0, 8.0]).unwrap();
/// assert!((e.value - 1.0).abs() < 1e-12);
/// ```
pub fn pearson(x: &[f64], y: &[f64]) -> Option<Estimate> {
    let r = correlation(x, y)?;
    Some(fisher(r, x.len(), 1.0))
}

/// Spearman's rank correlation: Pearson's on midranks. The standard error on the z scale is √((1 + r²/2)/(n−3)),
/// Bonett and Wright 2000. `None` and unbounded as [`pearson`].
///
/// # Panics
/// If the lengths differ.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<Estimate> {
    let r = correlation(&midranks(x), &midranks(y))?;
    Some(fisher(r, x.len(), 1.0 + r * r / 2.0))
}

/// Ranks from 1, ties sharing the mean of the ranks they take up.
///
/// ```
/// assert_eq!(hearken_stats::correlation::midranks(&[5.0, 1.0, 5.0]), [2.5, 1.0, 2.5]);
/// ```
pub fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for tied in
        order.chunk_by(|&a, &b| values[a].partial_cmp(&values[b]).is_some_and(Ordering::is_eq))
    {
        let rank = first as f64 + (tied.len() + 1) as f64 / 2.0;
        for &i in tied {
            ranks[i] = rank;
        }
        first += tied.len();
    }
    ranks
}

fn correlation(x: &[f64], y: &[f64]) -> Option<f64> {
    assert_eq!(x.len(), y.len(), "x and y: one value per pair each");
    let (center_x, center_y) = (mean::average(x)?, mean::average(y)?);
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (a, b) in x.iter().zip(y) {
        let (a, b) = (a - center_x, b - center_y);
        xx += a * a;
        xy += a * b;
        yy += b * b;
    }
    (xx > 0.0 && yy > 0.0).then(|| (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0))
}

/// A correlation this close to ±1 differs from it by rounding.
const ROUNDING: f64 = 1e-14;

fn fisher(r: f64, n: usize, variance: f64) -> Estimate {
    let method = Method::FisherZ;
    if n <= 3 || 1.0 - r.abs() <= ROUNDING {
        return Estimate { value: r, low: -1.0, high: 1.0, n, method };
    }
    let half = Z * (variance / (n - 3) as f64).sqrt();
    let z = r.atanh();
    Estimate { value: r, low: (z - half).tanh(), high: (z + half).tanh(), n, method }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anscombe's first quartet: r = 0.816421; z ± 1.96/√8 gives 0.424391 to 0.950693, as R's `cor.test` prints.
    #[test]
    fn pearson_of_anscombes_first_set() {
        let x = [10.0, 8.0, 13.0, 9.0, 11.0, 14.0, 6.0, 4.0, 12.0, 7.0, 5.0];
        let y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68];
        let e = pearson(&x, &y).unwrap();
        assert!((e.value - 0.816_421).abs() < 1e-6);
        assert!((e.low - 0.424_391).abs() < 1e-5, "{e}");
        assert!((e.high - 0.950_693).abs() < 1e-5, "{e}");
    }

    #[test]
    fn spearman_sees_only_the_order() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0];
        let e = spearman(&x, &x.map(f64::exp)).unwrap();
        // A perfect correlation of a sample is no proof of one.
        assert_eq!((e.value, e.low, e.high), (1.0, -1.0, 1.0));
        let reversed = spearman(&x, &x.map(|v| -v.powi(3))).unwrap();
        assert_eq!(reversed.value, -1.0);
    }

    #[test]
    fn a_constant_correlates_with_nothing() {
        assert!(pearson(&[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0]).is_none());
        assert!(pearson(&[], &[]).is_none());
    }
}
