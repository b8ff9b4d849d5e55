//! Means over all of what a part was drawn from, where not everything was drawn with the same probability.

use crate::{Estimate, IntervalMethod};

/// A value of something that was drawn, and the probability with which it was to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DrawnValue {
    /// What was found.
    pub value: f64,
    /// In (0, 1].
    pub propensity: f64,
}

/// The mean over everything that could have been drawn: each value counts by 1/propensity (Horvitz and Thompson 1952), and the sum is divided
/// by that of the weights (Hájek 1971), since what is drawn for certain is few.
///
/// ```text
/// w = 1/π,   m = Σ w x / Σ w,   v = n/(n − 1) · Σ w² (x − m)² / (Σ w)²
/// ```
///
/// with the normal interval of 95 %. With equal propensities it is the mean with its normal interval. `None` with fewer than two values.
///
/// # Panics
/// If a propensity is not in (0, 1].
///
/// ```
/// use hearken_stats::propensity::{DrawnValue, mean_of_all};
/// let drawn = [(1.0, 0.5), (0.0, 0.25)].map(|(value, propensity)| DrawnValue { value, propensity });
/// assert!((mean_of_all(&drawn).unwrap().value - 2.0 / 6.0).abs() < 1e-12);
/// ```
pub fn mean_of_all(drawn: &[DrawnValue]) -> Option<Estimate> {
    let n = drawn.len();
    if n < 2 {
        return None;
    }
    let weight = |one: &DrawnValue| {
        let DrawnValue { propensity, .. } = *one;
        assert!(0.0 < propensity && propensity <= 1.0, "propensity: {propensity}, in (0, 1]");
        1.0 / propensity
    };
    let total: f64 = drawn.iter().map(weight).sum();
    let value = drawn.iter().map(|one| weight(one) * one.value).sum::<f64>() / total;
    let squares: f64 = drawn.iter().map(|one| (weight(one) * (one.value - value)).powi(2)).sum();
    let standard_error = (n as f64 / (n as f64 - 1.0) * squares).sqrt() / total;
    Some(Estimate::symmetric(value, standard_error, n, IntervalMethod::Normal))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::mean::normal_mean;

    #[test]
    fn with_equal_propensities_it_is_the_mean() {
        let values = [0.0, 1.0, 1.0, 0.5, 0.25];
        let drawn = values.map(|value| DrawnValue { value, propensity: 0.2 });
        let (found, expected) = (mean_of_all(&drawn).unwrap(), normal_mean(&values).unwrap());
        for (found, expected) in
            [(found.value, expected.value), (found.low, expected.low), (found.high, expected.high)]
        {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        assert!(mean_of_all(&drawn[..1]).is_none());
    }

    /// Of 400 things the 60 with the lowest values are asked about for certain: the plain mean is far off, and this one is not; its
    /// intervals hold the mean as often as they say.
    #[test]
    fn what_was_asked_for_certain_does_not_stand_for_all() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let (mut held, mut sum, mut plain) = (0, 0.0, 0.0);
        let rounds = 400;
        for _ in 0..rounds {
            let rates: Vec<f64> = (0..400).map(|at| 0.3 + 0.6 * f64::from(at) / 400.0).collect();
            let truth = rates.iter().sum::<f64>() / 400.0;
            let mut drawn = Vec::new();
            for (at, rate) in rates.iter().enumerate() {
                let propensity = if at < 60 { 1.0 } else { 0.3 };
                if rng.random::<f64>() < propensity {
                    let value = f64::from(rng.random::<f64>() < *rate);
                    drawn.push(DrawnValue { value, propensity });
                }
            }
            let found = mean_of_all(&drawn).unwrap();
            held += usize::from(found.low <= truth && truth <= found.high);
            sum += (found.value - truth) / f64::from(rounds);
            let mean = drawn.iter().map(|one| one.value).sum::<f64>() / drawn.len() as f64;
            plain += (mean - truth) / f64::from(rounds);
        }
        assert!(sum.abs() < 0.01 && plain < -0.05, "{sum} {plain}");
        assert!((365..=395).contains(&held), "{held}");
    }
}
