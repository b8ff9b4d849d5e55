//! Supervised fine-tuning: the policy imitates demonstrations.
//!
//! The loss of an optimizer step is the mean of −log π(token) over the supervised tokens of all its
//! examples, whatever the microbatches.

mod config;
mod evaluation;
mod metrics;

use hearken_config::LoadedConfig;
use hearken_model::{Batch, Head, Model, OutputGrads};
use hearken_run::budget::{BudgetModel, Tape, fit};
use hearken_run::dataset::Dataset;
use hearken_run::encode::{DemonstrationExample, Example};
use hearken_run::error::TrainError;
use hearken_run::progress::Progress;
use hearken_run::ranks::Shares;
use hearken_run::run::{Nothing, Opening, Run, RunOutcome};
use hearken_run::run_dir::OpenFor;
use hearken_run::stream::{Drawn, Stream};
use hearken_tensor::Device;
use hearken_tensor::device::{HeadOptions, Prediction, PredictionGrad};

use crate::records::{RecordStep, RecordTrainer, TrainingRows, train, write_evaluation};
use hearken_model::microbatch::microbatches;

pub use config::SftConfig;
pub use evaluation::evaluate;
pub use metrics::{SftEvaluation, SftStep, TokenSums};

/// Runs the configuration to its end, or until `progress` asks to stop; goes on from the last
/// checkpoint where there is one.
///
/// # Errors
/// If an input is not usable, a file cannot be written, or a number becomes NaN or infinite.
pub fn run<D: Device>(
    device: D,
    loaded: &LoadedConfig<SftConfig>,
    entry: impl Into<OpenFor>,
    progress: &mut dyn Progress,
) -> Result<RunOutcome, TrainError> {
    train::<D, Sft>(device, loaded, entry, progress)
}

/// Demonstrations, and how they are imitated.
pub struct Sft {
    config: SftConfig,
    data: Dataset<DemonstrationExample>,
}

impl<D: Device> RecordTrainer<D> for Sft {
    const STAGE: &'static str = "sft";
    type Config = SftConfig;
    type Kept = Nothing;
    type Sums = TokenSums;
    type Record = SftStep;

    fn within_memory(config: &SftConfig) -> Result<SftConfig, TrainError> {
        let part = BudgetModel::trained(&config.shared.model, Head::LanguageModel);
        let tape = Tape::new(&config.shared.model, false);
        Ok(SftConfig { shared: fit(&config.shared, tape, &[part])?, ..config.clone() })
    }

    fn read(config: SftConfig, opening: &mut Opening<'_>) -> Result<Self, TrainError> {
        Ok(Self { data: opening.dataset(&config.shared.data)?, config })
    }

    fn training(&self) -> TrainingRows<'_> {
        let rows_max = self.data.stream.as_ref().map(Stream::tokens_max);
        TrainingRows { rows: self.data.train_rows(), mix: &self.data.mix, rows_max }
    }

    fn evaluation_rows(&self) -> usize {
        self.data.eval.iter().map(Example::rows).sum()
    }

    fn load(&mut self, device: D, opening: &mut Opening<'_>) -> Result<Model<D>, TrainError> {
        opening.load(device, &opening.model_dir())
    }

    fn draw(&mut self, run: &mut Run<D, Nothing>) -> Result<Option<Drawn>, TrainError> {
        run.draw(&mut self.data.stream)
    }

    fn rows(&self, example: usize) -> usize {
        self.data.training(example).rows()
    }

    fn learn(&self, run: &mut Run<D, Nothing>, batch: &[usize], shares: &Shares) -> TokenSums {
        let examples: Vec<&DemonstrationExample> =
            batch.iter().map(|&index| self.data.training(index)).collect();
        let supervised: usize = examples.iter().map(|example| example.target_count()).sum();
        let examples = shares.pick(&examples);
        let rows: Vec<usize> = examples.iter().map(|example| example.rows()).collect();
        // d(−Σ log π / supervised) / d log π is known before the pass: one trip through the head.
        let grad = PredictionGrad { logprob: (-1.0 / supervised as f64) as f32, entropy: 0.0 };
        let mut sums = TokenSums::default();
        for group in microbatches(&rows, self.config.shared.train.microbatch_tokens) {
            let ExampleMicrobatch { batch, predictions } = ExampleMicrobatch::new(&examples[group]);
            let pass = run.forward(&batch);
            let grads = OutputGrads {
                predictions: &predictions,
                prediction_grads: &vec![grad; predictions.len()],
                head: STATISTICS,
                ..OutputGrads::default()
            };
            sums += TokenSums::new(&run.backward(pass, &grads));
        }
        sums
    }

    fn loss(&self, sums: &TokenSums) -> f64 {
        sums.loss.value().expect("every example has a supervised token")
    }

    fn record(&self, step: RecordStep<TokenSums>) -> SftStep {
        SftStep::new(step)
    }

    fn figures(record: &SftStep) -> Vec<(&'static str, f64)> {
        vec![("accuracy", record.mean_token_accuracy)]
    }

    fn evaluate(&self, run: &mut Run<D, Nothing>) -> Result<Option<f64>, TrainError> {
        let mut rng = run.seeds.stream("bootstrap", run.step);
        let tokens_max = self.config.shared.train.microbatch_tokens;
        let found = evaluate(&run.model, &self.data.eval, tokens_max, &mut rng);
        let Some(evaluation) = found else { return Ok(None) };
        write_evaluation(run, evaluation, evaluation.eval_loss.value)
    }

    fn prompts(&self, count: usize) -> Vec<&[u32]> {
        let Dataset { train, eval, .. } = &self.data;
        let from = if eval.is_empty() { train } else { eval };
        from.iter().take(count).map(DemonstrationExample::prompt).collect()
    }
}

/// Statistics are wanted of every prediction.
const STATISTICS: HeadOptions =
    HeadOptions { temperature: 1.0, chunk_bytes: 16 << 20, statistics: true, softcap: None };

/// Examples side by side, and what is predicted of them.
struct ExampleMicrobatch {
    batch: Batch,
    predictions: Vec<Prediction>,
}

impl ExampleMicrobatch {
    fn new(examples: &[&DemonstrationExample]) -> Self {
        let mut batch = Batch::new();
        let mut predictions = Vec::new();
        for example in examples {
            let segment = batch.push(None, &example.ids);
            predictions.extend(example.targets().map(|index| {
                let row = batch.row(segment, index - 1) as u32;
                Prediction { row, token: example.ids[index] }
            }));
        }
        Self { batch, predictions }
    }
}
