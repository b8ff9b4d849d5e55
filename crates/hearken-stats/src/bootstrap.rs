//! The percentile bootstrap.

use rand::{Rng, RngExt};

use crate::{CONFIDENCE, Estimate, Method, quantile};

/// The percentile bootstrap of any statistic of independent observations.
///
/// Each round draws n observations with replacement and computes `statistic`; the interval runs between the 2.5 %
/// and the 97.5 % quantile of the replicates. A round whose statistic is `None` (undefined on that draw) is left
/// out; `None` is returned if the statistic is undefined on the data or on more than half of the rounds.
/// Zero rounds give the value with an unbounded interval.
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
        replicates.extend(statistic(&sample));
    }
    if 2 * replicates.len() < rounds {
        return None;
    }
    Some(percentile(value, &replicates, n))
}

/// The percentile interval of `replicates` around `value`, unbounded without replicates.
pub(crate) fn percentile(value: f64, replicates: &[f64], n: usize) -> Estimate {
    let sorted = quantile::sorted(replicates);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let low = quantile::of_sorted(&sorted, tail).unwrap_or(f64::NEG_INFINITY);
    let high = quantile::of_sorted(&sorted, 1.0 - tail).unwrap_or(f64::INFINITY);
    Estimate { value, low, high, n, method: Method::Bootstrap }
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
        assert!(bootstrap(&data, all_distinct, 200, &mut ChaCha8Rng::seed_from_u64(1)).is_none());
    }
}
