//! Prediction-powered inference: a mean of few labels by people and many by a judge.

use crate::mean::{average, standard_error, t_quantile, variance};
use crate::{Estimate, IntervalMethod};

/// Labels by people with what the judge says of the same units, and what it says of others. Both groups of units are drawn
/// from one population, and which ones people label depends on neither label.
#[derive(Clone, Copy, Debug)]
pub struct Predictions<'a> {
    /// Labels by people, length n.
    pub people: &'a [f64],
    /// Labels of the judge of the same units, length n.
    pub judge: &'a [f64],
    /// Labels of the judge of other units.
    pub others: &'a [f64],
}

/// A mean that a judge has sharpened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PredictionPowered {
    /// The corrected mean; n is the number of labels by people.
    pub mean: Estimate,
    /// The mean of the labels by people alone, with Student's t interval.
    pub people_alone: Estimate,
    /// λ: how much the judge counts; 0 where its labels say nothing about people's.
    pub weight: f64,
}

impl PredictionPowered {
    /// How many times as many labels by people a plain interval of the same width would need.
    pub fn worth(&self) -> Option<f64> {
        let ratio = self.people_alone.half_width() / self.mean.half_width();
        (ratio * ratio).is_finite().then_some(ratio * ratio)
    }
}

/// The mean of what people would say of all units.
///
/// ```text
/// θ = ȳ + λ(f̄_others − f̄_labelled),   λ = cov(y, f) / ((1 + n/N) var(f))
/// se² = var(y − λf)/n + λ² var(f)/N
/// ```
///
/// with y the labels of n units by people, f those of the judge, and N other units. The interval is valid whatever the judge's
/// bias; a judge that is worth nothing gets λ near 0. It is Student's t with n − 2 degrees of freedom, since λ is found
/// from the labels, too. Angelopoulos et al. 2023, arXiv:2301.09633, and for λ PPI++, arXiv:2311.01453, section 6. `None` with fewer
/// than three labels by people.
///
/// # Panics
/// If the lengths of `people` and `judge` differ.
///
/// ```
/// use hearken_stats::prediction_powered::{Predictions, prediction_powered_mean};
/// // A judge that is always 0.2 too high says all there is about the spread.
/// let people: Vec<f64> = (0..50).map(|i| f64::from(i % 10) / 10.0).collect();
/// let judge: Vec<f64> = people.iter().map(|y| y + 0.2).collect();
/// let others: Vec<f64> = (0..5000).map(|i| f64::from(i % 10) / 10.0 + 0.2).collect();
/// let found = prediction_powered_mean(Predictions { people: &people, judge: &judge, others: &others }).unwrap();
/// assert!((found.mean.value - 0.45).abs() < 1e-9 && found.worth().unwrap() > 50.0);
/// ```
pub fn prediction_powered_mean(labels: Predictions<'_>) -> Option<PredictionPowered> {
    let Predictions { people, judge, others } = labels;
    assert_eq!(people.len(), judge.len(), "people and judge: one label per unit each");
    let n = people.len();
    if n < 3 {
        return None;
    }
    let people_alone = crate::mean::mean(people)?;
    let alone = PredictionPowered { mean: people_alone, people_alone, weight: 0.0 };
    let spread = variance(&[judge, others].concat())?;
    if others.len() < 2 || spread <= 0.0 {
        return Some(alone);
    }
    let (count, further) = (n as f64, others.len() as f64);
    let weight = covariance(people, judge) / ((1.0 + count / further) * spread);
    let rest: Vec<f64> = people.iter().zip(judge).map(|(y, f)| y - weight * f).collect();
    let value = average(&rest)? + weight * average(others)?;
    let (own, of_judge) = (standard_error(&rest)?, weight * standard_error(others)?);
    let half = t_quantile((n - 2) as f64) * own.hypot(of_judge);
    let mean = Estimate::around(value, half, n, IntervalMethod::PredictionPowered);
    Some(PredictionPowered { mean, weight, ..alone })
}

/// Sample covariance, divisor n − 1.
fn covariance(a: &[f64], b: &[f64]) -> f64 {
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    let (center_a, center_b) = (mean(a), mean(b));
    let products = a.iter().zip(b).map(|(a, b)| (a - center_a) * (b - center_b));
    products.sum::<f64>() / (a.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// A unit: whether people prefer one answer, and how sure a judge is that they do, whose bias is `bias`.
    fn unit(rng: &mut ChaCha8Rng, bias: f64, skill: f64) -> (f64, f64) {
        let y = f64::from(u8::from(rng.random::<f64>() < 0.6));
        let noise: f64 = rng.random();
        (y, (bias + skill * y + (1.0 - skill) * noise).clamp(0.0, 1.0))
    }

    fn coverage(bias: f64, skill: f64) -> (f64, f64) {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let (mut covered, mut worth, rounds) = (0_u32, 0.0, 1000);
        for _ in 0..rounds {
            let labelled: Vec<(f64, f64)> = (0..60).map(|_| unit(&mut rng, bias, skill)).collect();
            let (people, judge): (Vec<f64>, Vec<f64>) = labelled.into_iter().unzip();
            let others: Vec<f64> = (0..600).map(|_| unit(&mut rng, bias, skill).1).collect();
            let labels = Predictions { people: &people, judge: &judge, others: &others };
            let found = prediction_powered_mean(labels).unwrap();
            covered += u32::from(found.mean.contains(0.6));
            worth += found.worth().unwrap() / f64::from(rounds);
        }
        (f64::from(covered) / f64::from(rounds), worth)
    }

    #[test]
    fn intervals_hold_whatever_the_bias_of_the_judge() {
        for (bias, skill) in [(0.0, 0.7), (0.3, 0.7), (-0.3, 0.3), (0.0, 0.0)] {
            let (covered, _) = coverage(bias, skill);
            assert!((covered - 0.95).abs() < 0.02, "bias {bias}, skill {skill}: {covered}");
        }
    }

    #[test]
    fn a_good_judge_saves_labels_and_a_useless_one_costs_next_to_none() {
        assert!(3.0 < coverage(0.0, 0.7).1);
        assert!((coverage(0.0, 0.0).1 - 1.0).abs() < 0.05);
    }

    #[test]
    fn too_little_to_go_on_is_people_alone_or_nothing() {
        let few = Predictions { people: &[1.0, 0.0], judge: &[1.0, 0.0], others: &[1.0, 0.0] };
        assert!(prediction_powered_mean(few).is_none());
        let people = [1.0, 0.0, 1.0];
        let constant = Predictions { people: &people, judge: &[0.5; 3], others: &[0.5; 9] };
        let found = prediction_powered_mean(constant).unwrap();
        assert_eq!((found.weight, found.mean), (0.0, found.people_alone));
    }
}
