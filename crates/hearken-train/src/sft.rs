//! Supervised fine-tuning: the policy imitates demonstrations.
//!
//! The loss of an optimizer step is the mean of −log π(token) over the supervised tokens of all its
//! examples, whatever the microbatches.

pub(crate) mod benchmark;
mod config;
mod evaluation;
mod metrics;

use hearken_model::{Batch, Gradients, Head, Keep, LoadOptions, Model, OutputGrads, Tokenizer};
use hearken_objective::Mean;
use hearken_objective::cross_entropy::SupervisedLoss;
use hearken_tensor::Device;
use hearken_tensor::device::{HeadOptions, HeadOutput, Prediction, PredictionGrad};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, NamedModel, Snapshot};
use crate::config::Loaded;
use crate::dataset::{Dataset, Example};
use crate::encode::{DemonstrationExample, Encoder};
use crate::error::TrainError;
use crate::metrics::{Cost, Stopwatch, training_flops};
use crate::microbatch::microbatches;
use crate::optimizer::{Optimizer, Trained, check_loss};
use crate::order::{Cursor, Order};
use crate::plan::{BatchPlan, MemoryPlan, parameters_note};
use crate::progress::{Progress, StepReport};
use crate::run_dir::{RunDir, Start};
use crate::samples::sample_completions;
use crate::schedule::Schedule;
use crate::seeds::Seeds;
use crate::trained_model::{Outcome, Status, freeze, load_tokenizer};

pub use config::SftConfig;
pub use evaluation::evaluate;
pub use metrics::{SftEvaluation, SftStep};

/// What a checkpoint keeps besides weights and moments.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Counters {
    cursor: Cursor,
    /// The lowest evaluation loss so far.
    best: Option<f64>,
    cost: Cost,
}

/// A run between two optimizer steps.
struct Session<'a, D: Device> {
    config: &'a SftConfig,
    run: RunDir,
    seeds: Seeds,
    tokenizer: Option<Tokenizer>,
    data: Dataset<DemonstrationExample>,
    model: Model<D>,
    gradients: Gradients<D>,
    optimizer: Optimizer<D>,
    counters: Counters,
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
    let config = &loaded.config;
    let (run, checkpoint) = RunDir::open(&config.run, &loaded.frozen, start)?;
    progress.stage("read data", None);
    let seeds = Seeds::new(config.run.seed);
    let tokenizer = load_tokenizer(&config.model.path)?;
    let data = read_data(config, tokenizer.as_ref(), seeds, progress)?;
    let (examples, batch_size) = (data.train.len(), config.train.batch_size);
    let mut order = match config.data.shuffle {
        true => Order::shuffled(examples, batch_size, seeds),
        false => Order::sequential(examples, batch_size),
    };
    let total = config.length.steps(order.batches_per_epoch());
    if let Some(outcome) = already_finished(&run, checkpoint.as_ref(), total, progress)? {
        return Ok(outcome);
    }
    let done = checkpoint.as_ref().map_or(0, Checkpoint::step);
    let mut session =
        Session::open(device, config, run, checkpoint.as_ref(), (seeds, tokenizer, data))?;
    session.announce(total, done, progress);
    progress.stage("sft", Some(total));
    if done == 0 {
        session.evaluate(0)?;
    }
    let schedule = Schedule::new(&config.optimizer, total);
    for step in done + 1..=total {
        let watch = Stopwatch::start();
        let batch = order.next_batch(&mut session.counters.cursor);
        let record = session.step(step, schedule.learning_rate(step), &batch, watch)?;
        progress.step(&report(&record, total, &[("accuracy", record.mean_token_accuracy)]));
        let stop = progress.stop_requested();
        session.after_step(step, total, stop)?;
        if stop && step < total {
            let path = session.run.root().display();
            progress.note(&format!(
                "stopped after step {step} of {total}; {path} has a checkpoint, and the same \
                 command goes on from there"
            ));
            return Ok(session.outcome(Status::Stopped, step));
        }
    }
    session.run.save_model("final", &session.model, session.tokenizer.as_ref(), |_| Ok(()))?;
    Ok(session.outcome(Status::Finished, total))
}

fn read_data(
    config: &SftConfig,
    tokenizer: Option<&Tokenizer>,
    seeds: Seeds,
    progress: &mut dyn Progress,
) -> Result<Dataset<DemonstrationExample>, TrainError> {
    let encoder = Encoder::for_model(&config.model.path, tokenizer, &config.data)?;
    let data = Dataset::load(&config.data, &encoder, seeds)?;
    progress.note(&data.train_report.note("training"));
    if !data.eval.is_empty() {
        progress.note(&data.eval_report.note("evaluation"));
    }
    Ok(data)
}

fn already_finished(
    run: &RunDir,
    checkpoint: Option<&Checkpoint>,
    total: u64,
    progress: &mut dyn Progress,
) -> Result<Option<Outcome>, TrainError> {
    let Some(checkpoint) = checkpoint.filter(|checkpoint| total <= checkpoint.step()) else {
        return Ok(None);
    };
    if !run.has_final() {
        return Ok(None);
    }
    let counters: Counters = checkpoint.counters()?;
    let steps = checkpoint.step();
    progress.note(&format!("{}: finished after {steps} steps already", run.root().display()));
    let model_dir = run.path("final");
    Ok(Some(Outcome { status: Status::AlreadyFinished, steps, cost: counters.cost, model_dir }))
}

fn report<'a>(record: &SftStep, total: u64, figures: &'a [(&'a str, f64)]) -> StepReport<'a> {
    StepReport {
        step: record.step,
        total,
        tokens: record.tokens as u64,
        tokens_per_s: record.timing.tokens_per_s,
        loss: record.loss,
        figures,
    }
}

impl<'a, D: Device> Session<'a, D> {
    fn open(
        device: D,
        config: &'a SftConfig,
        run: RunDir,
        checkpoint: Option<&Checkpoint>,
        inputs: (Seeds, Option<Tokenizer>, Dataset<DemonstrationExample>),
    ) -> Result<Self, TrainError> {
        let (seeds, tokenizer, data) = inputs;
        let dir = checkpoint.map_or(config.model.path.clone(), |found| found.model_dir(None));
        let precision = config.model.dtype.into();
        let options = LoadOptions { precision, head: Head::LanguageModel, new_score_head: None };
        let (mut model, _) = Model::load(device, &dir, &options)?;
        freeze(&mut model, &config.model.freeze)?;
        let optimizer = match checkpoint {
            Some(checkpoint) => checkpoint.optimizer(&config.optimizer, &[&model])?,
            None => Optimizer::new(&config.optimizer, &[&model]),
        };
        let counters = checkpoint.map(Checkpoint::counters).transpose()?.unwrap_or_default();
        let gradients = model.gradients();
        Ok(Self { config, run, seeds, tokenizer, data, model, gradients, optimizer, counters })
    }

    /// Batch arithmetic and memory, before the first step.
    fn announce(&self, total: u64, done: u64, progress: &mut dyn Progress) {
        let plan = BatchPlan {
            rows: &self.data.train_rows(),
            batch_size: self.config.train.batch_size,
            microbatch_tokens: self.config.train.microbatch_tokens,
            steps: total,
        };
        progress.note(&plan.note());
        progress.note(&parameters_note(&self.model));
        let recompute = self.config.model.recompute.into();
        let memory = MemoryPlan::new(&self.model, plan.microbatch_rows_max(), recompute);
        progress.note(&memory.note());
        if 0 < done {
            progress.note(&format!("going on from the checkpoint of step {done}"));
        }
    }

    /// One optimizer step: gradients of the whole batch, update, record.
    fn step(
        &mut self,
        step: u64,
        lr: f64,
        batch: &[usize],
        watch: Stopwatch,
    ) -> Result<SftStep, TrainError> {
        let examples: Vec<&DemonstrationExample> =
            batch.iter().map(|&index| &self.data.train[index]).collect();
        let supervised: usize = examples.iter().map(|example| example.target_count()).sum();
        let rows: Vec<usize> = examples.iter().map(|example| example.rows()).collect();
        let mut sums = TokenSums::default();
        let mut flops = 0.0;
        self.gradients.zero();
        for group in microbatches(&rows, self.config.train.microbatch_tokens) {
            let microbatch = Microbatch::new(&examples[group]);
            flops += training_flops(&self.model, &microbatch.batch);
            let keep =
                if self.config.model.recompute { Keep::BlockInputs } else { Keep::Activations };
            let pass = self.model.forward(&microbatch.batch, keep);
            // d(−Σ log π / supervised) / d log π is known before the pass: one trip through the
            // head.
            let grad = PredictionGrad { logprob: (-1.0 / supervised as f64) as f32, entropy: 0.0 };
            let grads = OutputGrads {
                predictions: &microbatch.predictions,
                prediction_grads: &vec![grad; microbatch.predictions.len()],
                head: STATISTICS,
                ..OutputGrads::default()
            };
            sums += TokenSums::new(&self.model.backward(pass, &grads, &mut self.gradients));
        }
        let loss = sums.loss.value().expect("every example has a supervised token");
        check_loss(loss, &[&self.model]).map_err(|reason| reason.at(step))?;
        let trained = Trained { model: &mut self.model, gradients: &self.gradients, lr };
        let update = self.optimizer.step(&mut [trained]).map_err(|reason| reason.at(step))?;

        let tokens: usize = rows.iter().sum();
        let timing = watch.timing(tokens as u64);
        self.counters.cost.add(Cost { tokens: tokens as u64, flops, seconds: timing.seconds });
        let cursor = self.counters.cursor;
        let record = SftStep {
            step,
            epoch: cursor.epoch as f64 + cursor.index as f64 / self.data.train.len() as f64,
            loss,
            grad_norm: update.grad_norm,
            learning_rate: lr,
            mean_token_accuracy: sums.hits.value().unwrap_or(0.0),
            entropy: sums.entropy.value().unwrap_or(0.0),
            tokens,
            supervised_tokens: supervised,
            timing,
        };
        if step.is_multiple_of(self.config.train.log_every) {
            self.run.metrics.append(&record)?;
        }
        Ok(record)
    }

    /// Evaluation, samples and checkpoint, where they are due.
    fn after_step(&mut self, step: u64, total: u64, stop: bool) -> Result<(), TrainError> {
        let due = |every: Option<u64>| every.is_some_and(|every| step.is_multiple_of(every));
        let train = &self.config.train;
        if due(train.eval_every) || step == total {
            self.evaluate(step)?;
        }
        if due(train.sample_every) {
            self.sample(step)?;
        }
        if due(train.save_every) || step == total || stop {
            let models = [NamedModel { name: "policy", model: &self.model }];
            self.run.save_checkpoint(&Snapshot {
                step,
                models: &models,
                optimizer: &self.optimizer,
                tokenizer: self.tokenizer.as_ref(),
                counters: &self.counters,
            })?;
        }
        Ok(())
    }

    fn evaluate(&mut self, step: u64) -> Result<(), TrainError> {
        let mut rng = self.seeds.stream("bootstrap", step);
        let tokens_max = self.config.train.microbatch_tokens;
        let found = evaluate(&self.model, &self.data.eval, tokens_max, &mut rng);
        let Some(evaluation) = found else { return Ok(()) };
        self.run.metrics.append(&evaluation.at(step))?;
        let loss = evaluation.eval_loss.value;
        if self.config.train.keep_best && self.counters.best.is_none_or(|best| loss < best) {
            self.counters.best = Some(loss);
            self.run.save_model("best", &self.model, self.tokenizer.as_ref(), |_| Ok(()))?;
        }
        Ok(())
    }

    fn sample(&mut self, step: u64) -> Result<(), TrainError> {
        let Some(tokenizer) = &self.tokenizer else { return Ok(()) };
        let from = if self.data.eval.is_empty() { &self.data.train } else { &self.data.eval };
        let prompts: Vec<&[u32]> =
            from.iter().take(self.config.samples.count).map(DemonstrationExample::prompt).collect();
        let seed = self.seeds.derive("samples", step, 0);
        let samples =
            sample_completions(&self.model, tokenizer, &prompts, &self.config.samples, seed)?;
        samples.iter().try_for_each(|sample| self.run.samples.append(&sample.at(step)))?;
        Ok(())
    }

    fn outcome(&self, status: Status, steps: u64) -> Outcome {
        Outcome { status, steps, cost: self.counters.cost, model_dir: self.run.path("final") }
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
