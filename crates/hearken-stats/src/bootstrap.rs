//! The percentile bootstrap.

use rand::{Rng, RngExt};

use crate::{CONFIDENCE, Estimate, IntervalMethod, quantile};

/// The percentile bootstrap of any statistic of independent observations.
///
/// Each round draws n observations with replacement and computes `statistic`; the interval runs between the 2.5 %
/// and the 97.5 % quantile of the replicates. A round whose statistic is `None` (undefined on that draw) could be
/// anything: it counts as unbounded below for the lower end and as unbounded above for the upper one, so that more
/// than 2.5 % of such rounds leave the interval unbounded. So do rounds that all give the same, and zero rounds.
/// `None` if the statistic is undefined on the data.
///
/// Efron and Tibshirani 1993, chapter 13.
///
/// ```
/// # use rand::SeedableRng;
/// let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
/// let data: Vec<f64> = (0..100).map(f64::from).collect();
/// let mean = |sample: &[&f64]| Some(sample.iter().copied().sum::<f64>() / sample.len() as f64);
/// let e = hearken_stats::bootstrap::bootstrap(&data, mean, 2000, &mut rng).unwrap();
/// assert_eq!(e.value, 49.5);
/// // The normal interval is 49.5 ± 5.66.
/// assert!((e.low - 43.84).abs() < 0.5 && (e.high - 55.16).abs() < 0.5);
/// ```
pub fn bootstrap<T>(
    data: &[T],
    statistic: impl Fn(&[&T]) -> Option<f64>,
    rounds: usize,
    rng: &mut impl Rng,
) -> Option<Estimate> {
    let n = data.len();
    let mut sample: Vec<&T> = data.iter().collect();
    let value = statistic(&sample)?;
    let mut replicates = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        for slot in &mut sample {
            *slot = &data[rng.random_range(0..n)];
        }
        replicates.push(Replicate::from(statistic(&sample)));
    }
    Some(percentile(value, &replicates, n))
}

/// What one round says about a quantity: a number, or no more than between what it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Replicate {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Replicate {
    /// Nothing is known of it.
    pub(crate) const ANYTHING: Self = Self { low: f64::NEG_INFINITY, high: f64::INFINITY };

    /// A number, which may be infinite.
    pub(crate) fn exactly(x: f64) -> Self {
        Self { low: x, high: x }
    }
}

impl From<Option<f64>> for Replicate {
    fn from(x: Option<f64>) -> Self {
        x.filter(|x| !x.is_nan()).map_or(Self::ANYTHING, Self::exactly)
    }
}

/// Replicates closer to each other than this, relative to their size, differ by rounding.
const ROUNDING: f64 = 1e-12;

/// The percentile interval of `replicates` around `value`: unbounded without replicates, and where they are all alike.
pub(crate) fn percentile(value: f64, replicates: &[Replicate], n: usize) -> Estimate {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let end = |of: fn(&Replicate) -> f64, q: f64| {
        let ends: Vec<f64> = replicates.iter().map(of).collect();
        quantile::of_sorted(&quantile::sorted(&ends), q)
    };
    // An end at the far infinity bounds nothing either.
    let low = end(|r| r.low, tail).filter(|x| x.is_finite()).unwrap_or(f64::NEG_INFINITY);
    let high = end(|r| r.high, 1.0 - tail).filter(|x| x.is_finite()).unwrap_or(f64::INFINITY);
    if high - low <= ROUNDING * low.abs().max(high.abs()) && low.is_finite() && high.is_finite() {
        return Estimate::unbounded(value, n, IntervalMethod::Bootstrap);
    }
    Estimate { value, low, high, n, method: IntervalMethod::Bootstrap }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn one_seed_gives_one_interval() {
        let data = [1.0, 5.0, 2.0, 8.0];
        let run = |seed| {
            let largest = |s: &[&f64]| s.iter().copied().copied().reduce(f64::max);
            bootstrap(&data, largest, 50, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap()
        };
        assert_eq!(run(3), run(3));
        assert_eq!(run(3).value, 8.0);
        assert_eq!(run(3).high, 8.0);
    }

    #[test]
    fn a_statistic_that_is_mostly_undefined_has_no_interval() {
        let data = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let all_distinct = |s: &[&f64]| {
            let distinct = (0..s.len()).all(|i| (0..i).all(|j| s[i] != s[j]));
            distinct.then_some(1.0)
        };
        let e = bootstrap(&data, all_distinct, 200, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        assert!(e.value == 1.0 && e.is_unbounded());
    }

    /// Of the rounds of ten observations 35 % have no other value than the common one, and the odds are infinite.
    #[test]
    fn rounds_without_a_finite_statistic_leave_an_end_open() {
        let data: Vec<f64> = (0..10).map(|i| f64::from(i32::from(i > 0))).collect();
        let log_odds = |s: &[&f64]| {
            let p = s.iter().copied().sum::<f64>() / s.len() as f64;
            Some((p / (1.0 - p)).ln())
        };
        let e = bootstrap(&data, log_odds, 500, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        assert!(e.low.is_finite() && e.high == f64::INFINITY, "{e}");
        let alike = bootstrap(&[2.0; 9], |s| Some(*s[0]), 50, &mut ChaCha8Rng::seed_from_u64(1));
        assert!(alike.unwrap().is_unbounded());
    }
}
