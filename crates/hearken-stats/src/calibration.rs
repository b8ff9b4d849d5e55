//! Whether predicted probabilities mean what they say.

use rand::Rng;

use crate::ties::sigmoid;
use crate::{Estimate, bootstrap, proportion};

/// A predicted probability and what happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// Predicted probability, in [0, 1].
    pub probability: f64,
    /// 1 if it happened, 0 if not, ½ for a tie.
    pub outcome: f64,
}

impl Prediction {
    /// A reward model's prediction on a preference: it gives σ(|margin|) to the side it prefers, and is right if
    /// that is the chosen one, that is if margin > 0. A margin of 0 prefers neither; one that is not a number prefers
    /// neither and is wrong, as in [`accuracy`](crate::accuracy::accuracy).
    ///
    /// ```
    /// # use hearken_stats::calibration::Prediction;
    /// let wrong = Prediction::from_margin(-3.0_f64.ln());
    /// assert!((wrong.probability - 0.75).abs() < 1e-15);
    /// assert_eq!(wrong.outcome, 0.0);
    /// ```
    pub fn from_margin(margin: f64) -> Self {
        let probability = if margin.is_nan() { 0.5 } else { sigmoid(margin.abs()) };
        let outcome = if margin == 0.0 { 0.5 } else { f64::from(margin > 0.0) };
        Self { probability, outcome }
    }
}

/// The predictions whose probability lies in [low, high); the last bin includes 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// Lower edge.
    pub low: f64,
    /// Upper edge.
    pub high: f64,
    /// Mean predicted probability in the bin.
    pub predicted: f64,
    /// Observed rate with Wilson's interval; `n` is the bin's count.
    pub observed: Estimate,
}

/// Reliability curve: the non-empty bins among `bins` of equal width over [0, 1], ascending.
///
/// # Panics
/// If `bins` is 0, or a probability or outcome is not in [0, 1].
///
/// ```
/// # use hearken_stats::calibration::{Prediction, reliability};
/// let curve = reliability(&[
///     Prediction { probability: 0.9, outcome: 1.0 },
///     Prediction { probability: 1.0, outcome: 0.0 },
/// ], 10);
/// assert_eq!((curve.len(), curve[0].predicted, curve[0].observed.value), (1, 0.95, 0.5));
/// ```
pub fn reliability(predictions: &[Prediction], bins: usize) -> Vec<Bin> {
    let width = 1.0 / bins as f64;
    let filled = sums(predictions.iter(), bins).into_iter().enumerate();
    let bin = |(i, sum): (usize, Sums)| {
        Some(Bin {
            low: i as f64 * width,
            high: (i + 1) as f64 * width,
            predicted: sum.probability / sum.count as f64,
            observed: proportion::wilson(sum.outcome, sum.count)?,
        })
    };
    filled.filter(|(_, sum)| sum.count > 0).filter_map(bin).collect()
}

/// Expected calibration error over `bins` bins of equal width, with a bootstrap interval of `rounds` rounds.
///
/// ```text
/// ECE = Σ_b (n_b / n)·|observed_b − predicted_b|
/// ```
///
/// Guo et al. 2017, arXiv:1706.04599, eq. 3 (with |acc − conf| for any binary event). The estimate is biased upwards
/// on small bins: noise alone makes it positive. `None` without predictions.
///
/// # Panics
/// As [`reliability`].
pub fn expected_calibration_error(
    predictions: &[Prediction],
    bins: usize,
    rounds: usize,
    rng: &mut impl Rng,
) -> Option<Estimate> {
    let error = |sample: &[&Prediction]| {
        let gaps = sums(sample.iter().copied(), bins);
        let total: f64 = gaps.iter().map(|s| (s.outcome - s.probability).abs()).sum();
        (!sample.is_empty()).then(|| total / sample.len() as f64)
    };
    bootstrap::bootstrap(predictions, error, rounds, rng)
}

/// What a bin accumulates.
#[derive(Clone, Copy, Default)]
struct Sums {
    probability: f64,
    outcome: f64,
    count: usize,
}

fn sums<'a>(predictions: impl Iterator<Item = &'a Prediction>, bins: usize) -> Vec<Sums> {
    assert!(bins > 0, "a reliability curve needs at least one bin");
    let mut sums = vec![Sums::default(); bins];
    for p in predictions {
        let unit = 0.0..=1.0;
        assert!(unit.contains(&p.probability) && unit.contains(&p.outcome), "not in [0, 1]: {p:?}");
        // Non-negative by the assertion above.
        #[allow(clippy::cast_sign_loss)]
        let sum = &mut sums[((p.probability * bins as f64) as usize).min(bins - 1)];
        sum.probability += p.probability;
        sum.outcome += p.outcome;
        sum.count += 1;
    }
    sums
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn ece(predictions: &[Prediction]) -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        expected_calibration_error(predictions, 10, 20, &mut rng).unwrap().value
    }

    #[test]
    fn a_model_that_is_always_sure_and_half_right_is_off_by_one_half() {
        let outcomes = [1.0, 0.0, 1.0, 0.0];
        assert_eq!(ece(&outcomes.map(|outcome| Prediction { probability: 1.0, outcome })), 0.5);
        assert_eq!(ece(&outcomes.map(|outcome| Prediction { probability: 0.5, outcome })), 0.0);
    }

    #[test]
    fn ece_weights_bins_by_their_counts() {
        // Three at 0.8 of which all happen (gap 0.2), one at 0.3 that does not (gap 0.3): 0.75·0.2 + 0.25·0.3.
        let mut predictions = vec![Prediction { probability: 0.8, outcome: 1.0 }; 3];
        predictions.push(Prediction { probability: 0.3, outcome: 0.0 });
        assert!((ece(&predictions) - 0.225).abs() < 1e-12);
    }

    #[test]
    fn margins_fold_at_one_half() {
        let tie = Prediction::from_margin(0.0);
        assert_eq!((tie.probability, tie.outcome), (0.5, 0.5));
        let broken = Prediction::from_margin(f64::NAN);
        assert_eq!((broken.probability, broken.outcome), (0.5, 0.0));
        assert!(
            reliability(&[tie, Prediction::from_margin(50.0)], 10).iter().all(|b| b.low >= 0.5)
        );
    }
}
