//! What reward-model training writes to `metrics.jsonl`.

use hearken_objective::Mean;
use hearken_run::metrics::Timing;
use hearken_run::run::Update;
use hearken_stats::Estimate;
use hearken_stats::calibration::Bin;
use serde::Serialize;

use super::PairFindings;
use crate::records::RecordStep;

/// One optimizer step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RewardStep {
    /// The optimizer step, from 1.
    pub step: u64,
    /// Passes over the training pairs, with the fraction of the current one; of a stream, whole passes.
    pub epoch: f64,
    /// Mean loss of the batch's pairs, centering included, before the update. Nats.
    pub loss: f64,
    /// Norm of the gradient over all trained parameters, before clipping.
    pub grad_norm: f64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Share of pairs whose chosen score is the higher one; equal scores count as wrong.
    pub accuracy: f64,
    /// Mean of score(chosen) − score(rejected).
    pub margin: f64,
    /// Mean score of all chosen and rejected sequences.
    pub mean_reward: f64,
    /// Lowest score.
    pub min_reward: f64,
    /// Highest score.
    pub max_reward: f64,
    /// Correlation of the scores with the completions' lengths; with a head for the length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length_correlation: Option<f64>,
    /// Mean over pairs and particles of what a pair costs a particle, before the update. Nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub particle_loss: Option<f64>,
    /// Standard deviation over particles of the probability that chosen is preferred, mean over pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
    /// Tokens that went through the model; what a pair shares counts once.
    pub tokens: usize,
    /// `seconds` and `tokens_per_s`.
    #[serde(flatten)]
    pub timing: Timing,
}

impl RewardStep {
    pub(super) fn new(step: &RecordStep<PairFindings>) -> Self {
        let RecordStep {
            sums: PairFindings { comparisons, length_correlation, particles, .. },
            update,
            epoch,
        } = step;
        let Update { step, loss, grad_norm, learning_rate, tokens, timing } = *update;
        let pairs = comparisons.len() as f64;
        let right = comparisons.iter().filter(|pair| pair.rejected < pair.chosen).count();
        let margin: f64 = comparisons.iter().map(|pair| pair.chosen - pair.rejected).sum();
        let scores = || comparisons.iter().flat_map(|pair| [pair.chosen, pair.rejected]);
        Self {
            step,
            epoch: *epoch,
            loss,
            grad_norm,
            learning_rate,
            accuracy: right as f64 / pairs,
            margin: margin / pairs,
            mean_reward: scores().sum::<f64>() / (2.0 * pairs),
            min_reward: scores().fold(f64::INFINITY, f64::min),
            max_reward: scores().fold(f64::NEG_INFINITY, f64::max),
            length_correlation: *length_correlation,
            particle_loss: particles.iter().map(|one| one.loss).collect::<Mean>().value(),
            spread: particles.iter().map(|one| one.spread).collect::<Mean>().value(),
            tokens,
            timing,
        }
    }
}

/// An evaluation on held-out pairs. Intervals are 95 %; n counts pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RewardEvaluation {
    /// Mean loss of a pair. Nats.
    pub eval_loss: Estimate,
    /// Share of pairs with a positive margin; no margin counts half. Wilson's interval.
    pub eval_accuracy: Estimate,
    /// Mean of score(chosen) − score(rejected).
    pub eval_margin: Estimate,
    /// Expected calibration error of σ(|margin|) as the probability of being right, in bins of
    /// width 0.1; bootstrap interval. Noise alone makes it positive on few pairs.
    pub eval_calibration_error: Estimate,
    /// Pearson's correlation of scores with lengths, over the completions of the pairs; bootstrap interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_length_correlation: Option<Estimate>,
    /// The reliability curve behind it: predicted against observed share of right answers.
    pub eval_reliability: Vec<ReliabilityBin>,
    /// Accuracy where chosen is shorter or longer than rejected. A model that scores length shows
    /// here.
    pub eval_accuracy_by_length: Vec<LengthAccuracy>,
    /// What particles say, where there are any.
    #[serde(flatten)]
    pub particles: Option<ParticleEvaluation>,
}

/// What particles say of held-out pairs. P is the probability of a particle that chosen is preferred.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ParticleEvaluation {
    /// Standard deviation of P over the particles, mean over pairs.
    pub eval_spread: Estimate,
    /// −ln of the mean of P over the particles, mean over pairs. Nats.
    pub eval_mixture_loss: Estimate,
    /// Expected calibration error of the mean of P, as `eval_calibration_error` is that of the score's.
    pub eval_mixture_calibration_error: Estimate,
}

/// The pairs whose predicted probability lies in one bin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ReliabilityBin {
    /// Lower edge.
    pub low: f64,
    /// Upper edge.
    pub high: f64,
    /// Mean predicted probability.
    pub predicted: f64,
    /// Observed share.
    pub observed: Estimate,
}

impl From<Bin> for ReliabilityBin {
    fn from(Bin { low, high, predicted, observed }: Bin) -> Self {
        Self { low, high, predicted, observed }
    }
}

/// The pairs whose length difference lies in one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LengthAccuracy {
    /// Smallest difference, chosen − rejected in tokens; null in the first bucket.
    pub from: Option<i64>,
    /// First difference above the bucket; null in the last.
    pub below: Option<i64>,
    /// Share of pairs with a positive margin.
    pub accuracy: Estimate,
}
