//! Quantiles with distribution-free intervals.

use statrs::distribution::{Binomial, DiscreteCDF};

use crate::{CONFIDENCE, Estimate, IntervalMethod};

/// The `q` quantile, linear between order statistics (Hyndman and Fan's type 7, the default of `NumPy` and R), with
/// the interval between the order statistics that the binomial distribution puts on either side. An end is
/// unbounded where the sample is too small for the quantile, and both where all values are the same. `None` of nothing.
///
/// # Panics
/// If `q` is not in [0, 1] or a value is NaN.
///
/// ```
/// let e = hearken_stats::quantile::quantile(&[4.0, 1.0, 3.0, 2.0], 0.5).unwrap();
/// assert_eq!((e.value, e.low, e.high), (2.5, f64::NEG_INFINITY, f64::INFINITY));
/// ```
pub fn quantile(values: &[f64], q: f64) -> Option<Estimate> {
    let sorted = sorted(values);
    let value = of_sorted(&sorted, q)?;
    let n = sorted.len();
    if sorted.first() == sorted.last() {
        return Some(Estimate::unbounded(value, n, IntervalMethod::OrderStatistics));
    }
    let below = Binomial::new(q, n as u64).expect("q is a probability");
    let tail = (1.0 - CONFIDENCE) / 2.0;
    // The l-th smallest value exceeds the quantile with probability P(B < l): the largest l within the tail.
    let l = last_where(n, |l| below.cdf(l as u64 - 1) <= tail);
    // The u-th smallest value is below the quantile with probability P(B ≥ u): the smallest u within the tail.
    let u = last_where(n, |u| below.sf(u as u64 - 1) > tail) + 1;
    Some(Estimate {
        value,
        low: if l == 0 { f64::NEG_INFINITY } else { sorted[l - 1] },
        high: if u > n { f64::INFINITY } else { sorted[u - 1] },
        n,
        method: IntervalMethod::OrderStatistics,
    })
}

/// The last of 1 to `n` for which a condition holds that holds up to some number and not after it; 0 if for none.
fn last_where(n: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if holds(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

/// [`quantile`] at one half.
///
/// # Panics
/// If a value is NaN.
pub fn median(values: &[f64]) -> Option<Estimate> {
    quantile(values, 0.5)
}

/// The median as a number, where nobody asks how sure it is; `None` of nothing.
///
/// ```
/// assert_eq!(hearken_stats::quantile::middle(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
/// ```
pub fn middle(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    let half = values.len() / 2;
    let odd = values.len() % 2 == 1;
    values.get(half)?;
    let (below, upper, _) = values.select_nth_unstable_by(half, f64::total_cmp);
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(if odd { *upper } else { f64::midpoint(lower, *upper) })
}

/// Ascending copy.
pub(crate) fn sorted(values: &[f64]) -> Vec<f64> {
    assert!(values.iter().all(|x| !x.is_nan()), "a quantile of values that are not numbers");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Type 7 quantile of ascending values.
pub(crate) fn of_sorted(sorted: &[f64], q: f64) -> Option<f64> {
    assert!((0.0..=1.0).contains(&q), "{q} is not in [0, 1]");
    let last = sorted.len().checked_sub(1)?;
    let position = q * last as f64;
    let (below, fraction) = (position.floor(), position.fract());
    // `position` lies in [0, last].
    #[allow(clippy::cast_sign_loss)]
    let index = below as usize;
    let next = sorted[(index + 1).min(last)];
    // Between two infinities of one sign, and anywhere above −∞ short of the next value, there is nothing to interpolate.
    Some(if fraction > 0.0 && sorted[index].is_finite() {
        sorted[index] + fraction * (next - sorted[index])
    } else {
        sorted[index]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The textbook interval of the median of 20 values: the 6th to the 15th order statistic (95.9 %).
    #[test]
    fn median_of_twenty_lies_between_the_sixth_and_the_fifteenth() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        let e = median(&values).unwrap();
        assert_eq!((e.value, e.low, e.high), (10.5, 6.0, 15.0));
    }

    #[test]
    fn the_middle_is_the_median() {
        for values in [&[][..], &[5.0], &[5.0, 1.0], &[5.0, 1.0, 2.0], &[5.0, 1.0, 2.0, 4.0]] {
            assert_eq!(middle(values), median(values).map(|e| e.value));
        }
    }

    #[test]
    fn infinite_values_have_quantiles() {
        let values = [f64::NEG_INFINITY, 0.0, f64::INFINITY];
        assert_eq!(of_sorted(&values, 0.1), Some(f64::NEG_INFINITY));
        assert_eq!(of_sorted(&values, 0.9), Some(f64::INFINITY));
        assert_eq!(of_sorted(&[f64::INFINITY; 2], 0.5), Some(f64::INFINITY));
    }

    #[test]
    fn values_that_are_all_alike_bound_no_quantile() {
        assert!(median(&[2.0; 30]).unwrap().is_unbounded());
    }

    #[test]
    fn extreme_quantiles_are_the_extremes() {
        let values = [3.0, 1.0, 2.0];
        assert_eq!(quantile(&values, 0.0).unwrap().value, 1.0);
        assert_eq!(quantile(&values, 1.0).unwrap().value, 3.0);
        assert!(quantile(&[], 0.5).is_none());
    }
}
