//! How well a reward model tells held-out completions apart.

use hearken_model::{Keep, Model};
use hearken_objective::bradley_terry::{BradleyTerry, ScoredComparison};
use hearken_run::encode::{Example, PreferenceExample};
use hearken_stats::accuracy::{LengthMargin, accuracy, accuracy_by_length_difference};
use hearken_stats::bootstrap::bootstrap;
use hearken_stats::calibration::{Prediction, expected_calibration_error, reliability};
use hearken_stats::correlation::pearson;
use hearken_stats::mean::mean;
use hearken_tensor::Device;
use rand::Rng;

use super::metrics::{LengthAccuracy, ReliabilityBin, RewardEvaluation};
use super::{PairMicrobatch, compare};
use hearken_model::microbatch::microbatches;

/// Bins of the reliability curve over [0, 1].
pub(super) const BINS: usize = 10;
/// Replicates of the bootstrap interval.
pub(super) const ROUNDS: usize = 500;
/// Where buckets of length differences begin, in tokens; 0 alone is a bucket.
const LENGTH_EDGES: [i64; 6] = [-50, -10, 0, 1, 11, 51];

/// The scores of both sides of each pair. Forward passes take at most `tokens_max` rows, or one
/// pair.
pub fn pair_scores<D: Device>(
    model: &Model<D>,
    pairs: &[PreferenceExample],
    tokens_max: usize,
) -> Vec<ScoredComparison> {
    let rows: Vec<usize> = pairs.iter().map(Example::rows).collect();
    let mut comparisons = Vec::with_capacity(pairs.len());
    for group in microbatches(&rows, tokens_max) {
        let group: Vec<&PreferenceExample> = pairs[group].iter().collect();
        let microbatch = PairMicrobatch::new(&group);
        let pass = model.forward(&microbatch.batch, Keep::Nothing);
        comparisons.extend(compare(&group, &model.scalars(&pass, &microbatch.rows)));
    }
    comparisons
}

/// Loss, accuracy and calibration of scores on `pairs`; `None` without any. Accuracy and
/// calibration take labels as they are: margins and probabilities enter the loss alone.
///
/// # Panics
/// If there is not one comparison per pair.
pub fn evaluate(
    pairs: &[PreferenceExample],
    comparisons: &[ScoredComparison],
    objective: BradleyTerry,
    rng: &mut impl Rng,
) -> Option<RewardEvaluation> {
    assert_eq!(pairs.len(), comparisons.len(), "one comparison per pair");
    let losses: Vec<f64> =
        comparisons.iter().map(|&comparison| objective.loss(comparison).loss).collect();
    let margins: Vec<f64> = comparisons.iter().map(|pair| pair.chosen - pair.rejected).collect();
    let predictions: Vec<Prediction> =
        margins.iter().map(|&margin| Prediction::from_margin(margin)).collect();
    let by_length: Vec<LengthMargin> = pairs
        .iter()
        .zip(&margins)
        .map(|(pair, &margin)| LengthMargin { margin, length_difference: pair.length_difference() })
        .collect();
    let lengths: Vec<[(f64, f64); 2]> = pairs
        .iter()
        .zip(comparisons)
        .map(|(pair, of)| {
            let [chosen, rejected] = pair.completion_tokens().map(|tokens| tokens as f64);
            [(of.chosen, chosen), (of.rejected, rejected)]
        })
        .collect();
    let buckets = accuracy_by_length_difference(&by_length, &LENGTH_EDGES).into_iter();
    let bins = reliability(&predictions, BINS).into_iter();
    Some(RewardEvaluation {
        eval_loss: mean(&losses)?,
        eval_accuracy: accuracy(&margins)?,
        eval_margin: mean(&margins)?,
        eval_calibration_error: expected_calibration_error(&predictions, BINS, ROUNDS, rng)?,
        // Pairs are drawn whole: their completions are of one prompt.
        eval_length_correlation: bootstrap(
            &lengths,
            |drawn| pearson(drawn.iter().flat_map(|pair| pair.iter().copied())),
            ROUNDS,
            rng,
        ),
        eval_reliability: bins.map(ReliabilityBin::from).collect(),
        eval_accuracy_by_length: buckets
            .filter_map(|bucket| {
                let accuracy = bucket.accuracy?;
                Some(LengthAccuracy { from: bucket.from, below: bucket.below, accuracy })
            })
            .collect(),
        particles: None,
    })
}
