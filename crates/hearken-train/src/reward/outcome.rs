//! Outcome reward models: the log-odds that a whole completion is right, read at its last token.
//!
//! The loss of an optimizer step is the mean binary cross-entropy of its completions. Cobbe et al. 2021,
//! arXiv:2110.14168.

use hearken_model::checkpoint::NoRoom;
use hearken_model::microbatch::microbatches;
use hearken_model::{Batch, Head, Keep, Model, OutputGrads};
use hearken_objective::numerics::sigmoid;
use hearken_objective::process::binary_cross_entropy;
use hearken_run::dataset::Dataset;
use hearken_run::encode::{Example as _, JudgedExamples, UnpairedExample};
use hearken_run::error::TrainError;
use hearken_run::metrics::Timing;
use hearken_run::ranks::Shares;
use hearken_run::run::{Nothing, Opening, Run, Update};
use hearken_run::stream::Drawn;
use hearken_stats::Estimate;
use hearken_stats::calibration::{Prediction, expected_calibration_error, reliability};
use hearken_stats::mean::mean;
use hearken_stats::proportion::wilson;
use hearken_tensor::Device;
use serde::{Deserialize, Serialize};

use super::config::RewardConfig;
use super::metrics::ReliabilityBin;
use super::normalization;
use super::scorer::{fitted, load_scorer};
use crate::records::{RecordStep, RecordTrainer, TrainingRows, write_evaluation};

/// Bins of the reliability curve over [0, 1].
const BINS: usize = 10;
/// Replicates of bootstrap intervals.
const ROUNDS: usize = 500;

/// Completions that are right or wrong, and what is learned from them.
pub struct OutcomeReward {
    config: RewardConfig,
    judged: Dataset<JudgedExamples>,
    /// Sequences that measure mean and deviation of the scores.
    reference: Vec<Vec<u32>>,
}

/// A completion, and what the model says of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgedOutcome {
    /// Whether it is right.
    is_right: bool,
    /// The log-odds that it is.
    score: f64,
    /// Nats.
    loss: f64,
}

impl<D: Device> RecordTrainer<D> for OutcomeReward {
    const STAGE: &'static str = "reward";
    type Config = RewardConfig;
    type Kept = Nothing;
    type Sums = Vec<JudgedOutcome>;
    type Record = OutcomeStep;

    fn within_memory(config: &RewardConfig) -> Result<RewardConfig, TrainError> {
        fitted(config, Head::Score)
    }

    fn read(config: RewardConfig, opening: &mut Opening<'_>) -> Result<Self, TrainError> {
        let judged: Dataset<JudgedExamples> = opening.dataset(&config.shared.data)?;
        let completions = || judged.train.iter().flat_map(|one| &one.completions);
        let right = completions().filter(|one| one.desirable).count();
        let all = completions().count();
        if judged.stream.is_none() && (right == 0 || right == all) {
            let file = config.shared.data.training_files().next();
            let file = file.map_or_else(String::new, |file| format!("{}: ", file.display()));
            let what = if right == 0 { "wrong" } else { "right" };
            return Err(TrainError::Other(format!(
                "{file}found {all} completions, all of them {what}, expected both kinds: there is nothing to tell apart"
            )));
        }
        let train: Vec<Vec<u32>> = completions().map(sequence).collect();
        let reference = normalization::reference_sequences(&config, train, opening)?;
        Ok(Self { config, judged, reference })
    }

    fn training(&self) -> TrainingRows<'_> {
        // A record may be a pair.
        let rows_max = self.judged.stream.as_ref().map(|stream| 2 * stream.tokens_max());
        TrainingRows { rows: self.judged.train_rows(), mix: &self.judged.mix, rows_max }
    }

    fn evaluation_rows(&self) -> usize {
        self.judged.eval.iter().map(JudgedExamples::rows).sum()
    }

    fn load(&mut self, device: D, opening: &mut Opening<'_>) -> Result<Model<D>, TrainError> {
        load_scorer(device, &self.config, Head::Score, opening)
    }

    fn draw(&mut self, run: &mut Run<D, Nothing>) -> Result<Option<Drawn>, TrainError> {
        run.draw(&mut self.judged.stream)
    }

    fn rows(&self, index: usize) -> usize {
        self.judged.training(index).rows()
    }

    fn learn(
        &self,
        run: &mut Run<D, Nothing>,
        batch: &[usize],
        shares: &Shares,
    ) -> Vec<JudgedOutcome> {
        let judged: Vec<_> = batch.iter().map(|&index| self.judged.training(index)).collect();
        let count = judged.iter().map(|record| record.completions.len()).sum();
        let judged = shares.pick(&judged).into_iter();
        let completions: Vec<&UnpairedExample> =
            judged.flat_map(|record| &record.completions).collect();
        let rows: Vec<usize> = completions.iter().map(|one| one.rows()).collect();
        let mut outcomes = Vec::with_capacity(completions.len());
        for group in microbatches(&rows, run.settings.train.microbatch_tokens) {
            let completions = &completions[group];
            let (batch, scalar_rows) = side_by_side(completions);
            let pass = run.forward(&batch);
            let scores = run.model.scalars(&pass, &scalar_rows);
            let (judged, scalar_grads) = judge(completions, &scores, count);
            let grads = OutputGrads {
                scalar_rows: &scalar_rows,
                scalar_grads: &scalar_grads,
                ..<_>::default()
            };
            run.backward(pass, &grads);
            outcomes.extend(judged);
        }
        outcomes
    }

    fn loss(&self, outcomes: &Vec<JudgedOutcome>) -> f64 {
        outcomes.iter().map(|one| one.loss).sum::<f64>() / outcomes.len() as f64
    }

    fn record(&self, step: RecordStep<Vec<JudgedOutcome>>) -> OutcomeStep {
        OutcomeStep::new(&step)
    }

    fn figures(record: &OutcomeStep) -> Vec<(&'static str, f64)> {
        vec![("accuracy", record.accuracy), ("mean reward", record.mean_reward)]
    }

    fn evaluate(&self, run: &mut Run<D, Nothing>) -> Result<Option<f64>, TrainError> {
        let completions: Vec<&UnpairedExample> =
            self.judged.eval.iter().flat_map(|record| &record.completions).collect();
        let rows: Vec<usize> = completions.iter().map(|one| one.rows()).collect();
        let mut judged = Vec::with_capacity(completions.len());
        for group in microbatches(&rows, run.settings.train.microbatch_tokens) {
            let completions = &completions[group];
            let (batch, rows) = side_by_side(completions);
            let pass = run.model.forward(&batch, Keep::Nothing);
            judged.extend(judge(completions, &run.model.scalars(&pass, &rows), 1).0);
        }
        let rng = &mut run.seeds.stream("bootstrap", run.step);
        let Some(found) = evaluation(&judged, rng) else { return Ok(None) };
        let loss = found.eval_loss.value;
        write_evaluation(run, found, loss)
    }

    /// Saves the model with mean and deviation of its scores on the reference completions.
    fn save_model(&self, run: &Run<D, Nothing>, name: &str) -> Result<Option<NoRoom>, TrainError> {
        normalization::save_model(run, name, &self.reference)
    }
}

fn sequence(example: &UnpairedExample) -> Vec<u32> {
    [example.prompt.as_slice(), &example.completion].concat()
}

/// Completions side by side, and the rows at which their scores are read.
fn side_by_side(completions: &[&UnpairedExample]) -> (Batch, Vec<usize>) {
    let mut batch = Batch::new();
    let rows = completions.iter().map(|one| {
        let segment = batch.push(None, &sequence(one));
        batch.last_row(segment).expect("a completion has tokens")
    });
    let rows = rows.collect();
    (batch, rows)
}

/// What scores say of completions, and the derivative of the mean loss of `count` with respect to each.
fn judge(
    completions: &[&UnpairedExample],
    scores: &[f32],
    count: usize,
) -> (Vec<JudgedOutcome>, Vec<f32>) {
    let of = |(one, &score): (&&UnpairedExample, &f32)| {
        let (is_right, score) = (one.desirable, f64::from(score));
        let (loss, grad) = binary_cross_entropy(score, f64::from(u8::from(is_right)));
        (JudgedOutcome { is_right, score, loss }, (grad / count as f64) as f32)
    };
    completions.iter().zip(scores).map(of).unzip()
}

impl JudgedOutcome {
    /// Whether the likelier outcome is that of the label.
    fn is_told(&self) -> bool {
        (0.0 < self.score) == self.is_right
    }
}

fn evaluation(judged: &[JudgedOutcome], rng: &mut impl rand::Rng) -> Option<OutcomeEvaluation> {
    let losses: Vec<f64> = judged.iter().map(|one| one.loss).collect();
    let predictions: Vec<Prediction> = judged
        .iter()
        .map(|one| Prediction {
            probability: sigmoid(one.score),
            outcome: f64::from(u8::from(one.is_right)),
        })
        .collect();
    let bins = reliability(&predictions, BINS).into_iter();
    Some(OutcomeEvaluation {
        eval_loss: mean(&losses)?,
        eval_accuracy: wilson(
            judged.iter().filter(|one| one.is_told()).count() as f64,
            judged.len(),
        )?,
        eval_calibration_error: expected_calibration_error(&predictions, BINS, ROUNDS, rng)?,
        eval_reliability: bins.map(ReliabilityBin::from).collect(),
    })
}

/// One optimizer step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct OutcomeStep {
    /// The optimizer step, from 1.
    pub step: u64,
    /// Passes over the training records, with the fraction of the current one; of a stream, whole passes.
    pub epoch: f64,
    /// Mean loss of the batch's completions, before the update. Nats.
    pub loss: f64,
    /// Norm of the gradient over all trained parameters, before clipping.
    pub grad_norm: f64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Share of completions that are right and score above 0, or are wrong and do not.
    pub accuracy: f64,
    /// Mean score: log-odds.
    pub mean_reward: f64,
    /// Tokens that went through the model.
    pub tokens: usize,
    /// `seconds` and `tokens_per_s`.
    #[serde(flatten)]
    pub timing: Timing,
}

impl OutcomeStep {
    fn new(step: &RecordStep<Vec<JudgedOutcome>>) -> Self {
        let RecordStep { sums: judged, update, epoch } = step;
        let Update { step, loss, grad_norm, learning_rate, tokens, timing } = *update;
        let n = judged.len() as f64;
        Self {
            step,
            epoch: *epoch,
            loss,
            grad_norm,
            learning_rate,
            accuracy: judged.iter().filter(|one| one.is_told()).count() as f64 / n,
            mean_reward: judged.iter().map(|one| one.score).sum::<f64>() / n,
            tokens,
            timing,
        }
    }
}

/// An evaluation on held-out completions. Intervals are 95 %; n counts completions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutcomeEvaluation {
    /// Mean loss of a completion. Nats.
    pub eval_loss: Estimate,
    /// Share of completions that are right and score above 0, or are wrong and do not. Wilson's interval.
    pub eval_accuracy: Estimate,
    /// Expected calibration error of σ(score), in bins of width 0.1; bootstrap interval.
    pub eval_calibration_error: Estimate,
    /// The reliability curve behind it.
    pub eval_reliability: Vec<ReliabilityBin>,
}
