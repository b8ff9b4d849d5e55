//! What the training of process reward models writes to `metrics.jsonl`.

use hearken_run::metrics::Timing;
use hearken_run::run::Update;
use hearken_stats::Estimate;
use serde::Serialize;

use super::JudgedStep;
use crate::records::RecordStep;
use crate::reward::ReliabilityBin;

/// One optimizer step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ProcessStep {
    /// The optimizer step, from 1.
    pub step: u64,
    /// Passes over the training solutions, with the fraction of the current one; of a stream, whole passes.
    pub epoch: f64,
    /// Mean loss of the batch's labelled steps of solutions, before the update. Nats.
    pub loss: f64,
    /// Norm of the gradient over all trained parameters, before clipping.
    pub grad_norm: f64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Share of labelled steps whose likeliest class is that of the label.
    pub accuracy: f64,
    /// Mean probability that a labelled step is good.
    pub good: f64,
    /// Labelled steps of the batch's solutions.
    pub labelled_steps: usize,
    /// Tokens that went through the model.
    pub tokens: usize,
    /// `seconds` and `tokens_per_s`.
    #[serde(flatten)]
    pub timing: Timing,
}

impl JudgedStep {
    /// Whether the likeliest class is that of the label.
    pub(super) fn is_right(&self) -> bool {
        likeliest(&self.probabilities) == likeliest(&self.target)
    }
}

/// The first of the largest.
fn likeliest(probabilities: &[f64]) -> usize {
    let better = |best: usize, at: usize| {
        if probabilities[best] < probabilities[at] { at } else { best }
    };
    (0..probabilities.len()).reduce(better).unwrap_or(0)
}

impl ProcessStep {
    pub(super) fn new(step: &RecordStep<Vec<JudgedStep>>) -> Self {
        let RecordStep { sums: judged, update, epoch } = step;
        let Update { step, loss, grad_norm, learning_rate, tokens, timing } = *update;
        let n = judged.len().max(1) as f64;
        let good = judged.iter().filter_map(|step| step.probabilities.last()).sum::<f64>();
        Self {
            step,
            epoch: *epoch,
            loss,
            grad_norm,
            learning_rate,
            accuracy: judged.iter().filter(|step| step.is_right()).count() as f64 / n,
            good: good / n,
            labelled_steps: judged.len(),
            tokens,
            timing,
        }
    }
}

/// An evaluation on held-out solutions. Intervals are 95 %.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProcessEvaluation {
    /// Mean loss of a labelled step; n counts steps. Nats.
    pub eval_loss: Estimate,
    /// Share of labelled steps whose likeliest class is that of the label; n counts steps. Wilson's interval.
    pub eval_accuracy: Estimate,
    /// The harmonic mean of the next two; null unless there are solutions of both kinds. n counts solutions.
    pub eval_first_error_f1: Option<Estimate>,
    /// Of solutions with a bad step, the share whose first bad step is the first with a score below ½.
    pub eval_first_error: Option<Estimate>,
    /// Of solutions without a bad step, the share of which no step has a score below ½.
    pub eval_all_good: Option<Estimate>,
    /// F1 of bad steps: the harmonic mean of the shares found among bad steps, and bad among those found.
    pub eval_step_f1: Option<Estimate>,
    /// Expected calibration error of a step's score as the probability that it is good, in bins of width 0.1;
    /// bootstrap interval. Noise alone makes it positive on few steps.
    pub eval_calibration_error: Estimate,
    /// The reliability curve behind it.
    pub eval_reliability: Vec<ReliabilityBin>,
}
