//! Supervised fine-tuning: the policy imitates demonstrations.
//!
//! The loss of an optimizer step is the mean of −log π(token) over the supervised tokens of all its
//! examples, whatever the microbatches.

pub(crate) mod benchmark;
mod config;
mod evaluation;
mod metrics;

use hearken_model::{Batch, Head, LoadOptions, Model, OutputGrads};
use hearken_objective::Mean;
use hearken_objective::cross_entropy::SupervisedLoss;
use hearken_tensor::Device;
use hearken_tensor::device::{HeadOptions, HeadOutput, Prediction, PredictionGrad};

use crate::budget::{Part, Tape, fit};
use crate::config::Loaded;
use crate::dataset::{Dataset, Example};
use crate::encode::{DemonstrationExample, Encoder};
use crate::error::TrainError;
use crate::metrics::{Stopwatch, training_flops};
use crate::microbatch::microbatches;
use crate::progress::Progress;
use crate::record_run::{Opening, RecordRun};
use crate::run_dir::Start;
use crate::trained_model::{Outcome, Status};

pub use config::SftConfig;
pub use evaluation::evaluate;
pub use metrics::{SftEvaluation, SftStep};

/// A run between two optimizer steps.
struct Sft<'a, D: Device> {
    config: &'a SftConfig,
    data: Dataset<DemonstrationExample>,
    run: RecordRun<'a, D>,
}

/// Runs the configuration to its end, or until `progress` asks to stop; goes on from the last
/// checkpoint where there is one.
///
/// # Errors
/// If an input is not usable, a file cannot be written, or a number becomes NaN or infinite.
pub fn run<D: Device>(
    device: D,
    loaded: &Loaded<SftConfig>,
    start: Start,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    let config = &within_memory(&loaded.config)?;
    let opening = Opening::new(config.settings(), &loaded.frozen, start, progress)?;
    let data = read_data(config, &opening, progress)?;
    if let Some(outcome) = opening.already_finished::<()>(data.train.len(), progress)? {
        return Ok(outcome);
    }
    let mut sft = Sft::open(device, config, opening, data)?;
    sft.run.announce(&sft.data.train_rows(), None, progress)?;
    progress.stage("sft", Some(sft.run.total));
    if sft.run.step == 0 {
        sft.evaluate()?;
    }
    while !sft.run.is_finished() {
        let record = sft.step(Stopwatch::start())?;
        let figures = [("accuracy", record.mean_token_accuracy)];
        sft.run.report((record.tokens, record.loss), record.timing, &figures, progress);
        let stop = progress.stop_requested();
        sft.after_step(stop)?;
        if stop && !sft.run.is_finished() {
            return Ok(sft.run.stopped(progress));
        }
    }
    sft.run.save_model("final")?;
    Ok(sft.run.outcome(Status::Finished))
}

fn read_data(
    config: &SftConfig,
    opening: &Opening<'_>,
    progress: &mut dyn Progress,
) -> Result<Dataset<DemonstrationExample>, TrainError> {
    let tokenizer = opening.tokenizer.as_ref();
    let encoder = Encoder::for_model(&config.model.path, tokenizer, &config.data)?;
    let data = Dataset::load(&config.data, &encoder, opening.seeds)?;
    progress.note(&data.train_report.note("training"));
    if !data.eval.is_empty() {
        progress.note(&data.eval_report.note("evaluation"));
    }
    Ok(data)
}

/// The configuration with microbatches as large as memory has room for.
fn within_memory(config: &SftConfig) -> Result<SftConfig, TrainError> {
    let mut fitted = config.clone();
    let part = Part::trained(&config.model, Head::LanguageModel);
    fit(&mut fitted.train, &config.run, Tape::new(&config.model, false), &[part])?;
    Ok(fitted)
}

impl<'a, D: Device> Sft<'a, D> {
    fn open(
        device: D,
        config: &'a SftConfig,
        opening: Opening<'a>,
        data: Dataset<DemonstrationExample>,
    ) -> Result<Self, TrainError> {
        let checkpoint = opening.checkpoint.as_ref();
        let dir = checkpoint.map_or(config.model.path.clone(), |found| found.model_dir(None));
        let precision = config.model.dtype.into();
        let options = LoadOptions { precision, ..LoadOptions::language_model() };
        let (model, _) = Model::load(device, &dir, &options)?;
        let run = opening.run(model, data.train.len())?;
        Ok(Self { config, data, run })
    }

    /// One optimizer step: gradients of the whole batch, update, record.
    fn step(&mut self, watch: Stopwatch) -> Result<SftStep, TrainError> {
        let batch = self.run.next_batch();
        let examples: Vec<&DemonstrationExample> =
            batch.iter().map(|&index| &self.data.train[index]).collect();
        let supervised: usize = examples.iter().map(|example| example.target_count()).sum();
        let rows: Vec<usize> = examples.iter().map(|example| example.rows()).collect();
        let mut sums = TokenSums::default();
        let mut flops = 0.0;
        let (keep, run) = (self.run.keep(), &mut self.run);
        run.gradients.zero();
        for group in microbatches(&rows, self.config.train.microbatch_tokens) {
            let microbatch = Microbatch::new(&examples[group]);
            flops += training_flops(&run.model, &microbatch.batch);
            let pass = run.model.forward(&microbatch.batch, keep);
            // d(−Σ log π / supervised) / d log π is known before the pass: one trip through the
            // head.
            let grad = PredictionGrad { logprob: (-1.0 / supervised as f64) as f32, entropy: 0.0 };
            let grads = OutputGrads {
                predictions: &microbatch.predictions,
                prediction_grads: &vec![grad; microbatch.predictions.len()],
                head: STATISTICS,
                ..OutputGrads::default()
            };
            sums += TokenSums::new(&run.model.backward(pass, &grads, &mut run.gradients));
        }
        let loss = sums.loss.value().expect("every example has a supervised token");
        let (learning_rate, grad_norm) = run.apply(loss)?;
        let tokens: usize = rows.iter().sum();
        let timing = watch.timing(tokens as u64);
        run.book(tokens, flops, timing);
        let record = SftStep {
            step: run.step,
            epoch: run.epoch(),
            loss,
            grad_norm,
            learning_rate,
            mean_token_accuracy: sums.hits.value().unwrap_or(0.0),
            entropy: sums.entropy.value().unwrap_or(0.0),
            tokens,
            supervised_tokens: supervised,
            timing,
        };
        run.log(&record)?;
        Ok(record)
    }

    /// Evaluation, samples and checkpoint, where they are due.
    fn after_step(&mut self, stop: bool) -> Result<(), TrainError> {
        let train = &self.config.train;
        if self.run.is_due(train.eval_every) || self.run.is_finished() {
            self.evaluate()?;
        }
        if self.run.is_due(train.sample_every) {
            let from = if self.data.eval.is_empty() { &self.data.train } else { &self.data.eval };
            let prompts = from.iter().take(self.config.samples.count);
            let prompts: Vec<&[u32]> = prompts.map(DemonstrationExample::prompt).collect();
            self.run.write_samples(&prompts, &self.config.samples)?;
        }
        self.run.checkpoint(stop, None)
    }

    fn evaluate(&mut self) -> Result<(), TrainError> {
        let run = &mut self.run;
        let mut rng = run.seeds.stream("bootstrap", run.step);
        let tokens_max = self.config.train.microbatch_tokens;
        let found = evaluate(&run.model, &self.data.eval, tokens_max, &mut rng);
        let Some(evaluation) = found else { return Ok(()) };
        run.run.metrics.append(&evaluation.at(run.step))?;
        if run.is_best(evaluation.eval_loss.value) {
            run.save_model("best")?;
        }
        Ok(())
    }
}

/// Statistics are wanted of every prediction.
const STATISTICS: HeadOptions =
    HeadOptions { temperature: 1.0, chunk_bytes: 16 << 20, statistics: true };

/// Examples side by side, and what is predicted of them.
struct Microbatch {
    batch: Batch,
    predictions: Vec<Prediction>,
}

impl Microbatch {
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

/// Sums over supervised tokens.
#[derive(Clone, Copy, Debug, Default)]
struct TokenSums {
    loss: Mean,
    hits: Mean,
    entropy: Mean,
}

impl TokenSums {
    fn new(output: &HeadOutput) -> Self {
        let logprobs: Vec<f64> = output.logprobs.iter().map(|&logprob| logprob.into()).collect();
        let loss = SupervisedLoss::CrossEntropy.loss(&logprobs);
        Self {
            loss: Mean { sum: loss.sum, count: logprobs.len() },
            hits: output.argmax_hit.iter().map(|&hit| f64::from(u8::from(hit))).collect(),
            entropy: output.entropy.iter().map(|&entropy| f64::from(entropy)).collect(),
        }
    }
}

impl std::ops::AddAssign for TokenSums {
    fn add_assign(&mut self, other: Self) {
        self.loss += other.loss;
        self.hits += other.hits;
        self.entropy += other.entropy;
    }
}
