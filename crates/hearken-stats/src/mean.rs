//! Means and their differences.

use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::{CONFIDENCE, Estimate, IntervalMethod};

/// The mean with Student's t interval, unbounded for one value and for values that are all alike; no value has no mean.
///
/// ```
/// let e = hearken_stats::mean::mean(&[1.0, 2.0, 3.0]).unwrap();
/// assert_eq!(e.value, 2.0);
/// assert!((e.high - 2.0 - 4.302_652_7 / 3.0_f64.sqrt()).abs() < 1e-6);
/// ```
pub fn mean(values: &[f64]) -> Option<Estimate> {
    let value = average(values)?;
    let n = values.len();
    let half = standard_error(values).map_or(0.0, |error| t_quantile((n - 1) as f64) * error);
    Some(Estimate::around(value, half, n, IntervalMethod::StudentT))
}

/// The mean with the normal interval, for comparison with tools that report value ± 1.96 standard errors; unbounded for
/// values that are all alike. `None` with fewer than two values.
pub fn normal_mean(values: &[f64]) -> Option<Estimate> {
    let standard_error = standard_error(values)?;
    Some(Estimate::symmetric(
        average(values)?,
        standard_error,
        values.len(),
        IntervalMethod::Normal,
    ))
}

/// Standard error of the mean: the sample standard deviation (divisor n − 1) over √n. `None` with fewer than
/// two values.
pub fn standard_error(values: &[f64]) -> Option<f64> {
    Some((variance(values)? / values.len() as f64).sqrt())
}

/// Two measurements of each of n units.
#[derive(Clone, Copy, Debug)]
pub struct Paired<'a> {
    /// What is looked at, length n.
    pub treatment: &'a [f64],
    /// What it is compared with, length n, in the same order.
    pub control: &'a [f64],
}

/// Mean of treatment − control over paired units, with Student's t interval of the differences.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// # use hearken_stats::mean::{Paired, paired_difference};
/// // The spread of the units does not matter, that of the gain does.
/// let e = paired_difference(Paired { treatment: &[2.0, 9.5], control: &[1.0, 8.0] }).unwrap();
/// assert!(e.value == 1.25 && (e.half_width() - 0.25 * 12.706_205).abs() < 1e-5);
/// ```
pub fn paired_difference(samples: Paired<'_>) -> Option<Estimate> {
    let Paired { treatment, control } = samples;
    assert_eq!(treatment.len(), control.len(), "treatment and control: one value per unit each");
    let gains: Vec<f64> = treatment.iter().zip(control).map(|(a, b)| a - b).collect();
    // What is left of the units in their differences is rounding.
    if alike(&gains, largest(treatment).max(largest(control))) {
        return Some(Estimate::unbounded(average(&gains)?, gains.len(), IntervalMethod::StudentT));
    }
    mean(&gains)
}

/// Arithmetic mean; `None` of nothing.
pub(crate) fn average(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Sample variance, divisor n − 1; `None` with fewer than two values.
pub(crate) fn variance(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    if alike(values, largest(values)) {
        return Some(0.0);
    }
    let center = average(values)?;
    let squares: f64 = values.iter().map(|x| (x - center).powi(2)).sum();
    Some(squares / (values.len() - 1) as f64)
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, x| most.max(x.abs()))
}

/// Whether values differ by no more than the rounding of numbers of size `scale`.
fn alike(values: &[f64], scale: f64) -> bool {
    let (low, high) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)));
    high - low <= 8.0 * f64::EPSILON * scale
}

/// The two-sided quantile of Student's t at [`CONFIDENCE`].
pub(crate) fn t_quantile(degrees: f64) -> f64 {
    let t = StudentsT::new(0.0, 1.0, degrees).expect("degrees of freedom are positive");
    t.inverse_cdf(f64::midpoint(1.0, CONFIDENCE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_quantiles_are_the_tabulated_ones() {
        for (degrees, expected) in [(1.0, 12.706_205), (4.0, 2.776_445), (30.0, 2.042_272)] {
            assert!((t_quantile(degrees) - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn one_value_says_nothing_about_the_spread() {
        let e = mean(&[4.0]).unwrap();
        assert_eq!((e.value, e.low, e.high), (4.0, f64::NEG_INFINITY, f64::INFINITY));
        assert!(mean(&[]).is_none());
        assert!(normal_mean(&[4.0]).is_none());
    }

    #[test]
    fn values_that_are_all_alike_say_nothing_about_the_spread() {
        // 0.1 summed ten times is not ten times 0.1.
        let alike = [0.1; 10];
        assert!(
            mean(&alike).unwrap().is_unbounded() && normal_mean(&alike).unwrap().is_unbounded()
        );
        let constant_gain = Paired { treatment: &[2.3, 9.1], control: &[1.3, 8.1] };
        assert!(paired_difference(constant_gain).unwrap().is_unbounded());
    }
}
