//! Reward models: a score that is higher for what people prefer.
//!
//! The loss of an optimizer step is the mean of Bradley and Terry's loss over its pairs. A pair is
//! one tree: the tokens that both sequences begin with, and two branches; the score is read at the
//! last token of each.

pub(crate) mod benchmark;
mod config;
mod evaluation;
mod metrics;
mod normalization;

use hearken_model::{Batch, Gradients, Head, Keep, LoadOptions, Model, OutputGrads, Tokenizer};
use hearken_objective::bradley_terry::{BradleyTerry, Comparison};
use hearken_tensor::Device;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, NamedModel, Snapshot};
use crate::config::Loaded;
use crate::dataset::{Dataset, Example};
use crate::encode::{Encoder, PreferenceExample};
use crate::error::TrainError;
use crate::metrics::{Cost, Stopwatch, training_flops};
use crate::microbatch::microbatches;
use crate::optimizer::{Optimizer, Trained, check_loss};
use crate::order::{Cursor, Order};
use crate::plan::{BatchPlan, MemoryPlan, parameters_note};
use crate::progress::{Progress, StepReport};
use crate::run_dir::{RunDir, Start};
use crate::schedule::Schedule;
use crate::seeds::Seeds;
use crate::trained_model::{Outcome, Status, freeze, load_tokenizer};

pub use config::{RewardConfig, RewardObjective};
pub use evaluation::{evaluate, pair_scores};
pub use metrics::{LengthAccuracy, ReliabilityBin, RewardEvaluation, RewardStep};
pub use normalization::{NORMALIZATION_FILE, ScoreNormalizationFile};

/// What a checkpoint keeps besides weights and moments.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Counters {
    cursor: Cursor,
    /// The lowest evaluation loss so far.
    best: Option<f64>,
    cost: Cost,
}

/// What a run reads before its model.
struct Inputs {
    seeds: Seeds,
    tokenizer: Option<Tokenizer>,
    data: Dataset<PreferenceExample>,
    /// Sequences that measure mean and deviation of the scores.
    reference: Vec<Vec<u32>>,
}

/// A run between two optimizer steps.
struct Session<'a, D: Device> {
    config: &'a RewardConfig,
    run: RunDir,
    inputs: Inputs,
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
    loaded: &Loaded<RewardConfig>,
    start: Start,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    let config = &loaded.config;
    let (run, checkpoint) = RunDir::open(&config.run, &loaded.frozen, start)?;
    progress.stage("read data", None);
    let inputs = Inputs::read(config, progress)?;
    let (examples, batch_size) = (inputs.data.train.len(), config.train.batch_size);
    let mut order = match config.data.shuffle {
        true => Order::shuffled(examples, batch_size, inputs.seeds),
        false => Order::sequential(examples, batch_size),
    };
    let total = config.length.steps(order.batches_per_epoch());
    if let Some(outcome) = already_finished(&run, checkpoint.as_ref(), total, progress)? {
        return Ok(outcome);
    }
    let done = checkpoint.as_ref().map_or(0, Checkpoint::step);
    let mut session = Session::open(device, config, run, checkpoint.as_ref(), inputs, progress)?;
    session.announce(total, done, progress);
    progress.stage("reward", Some(total));
    if done == 0 {
        session.evaluate(0)?;
    }
    let schedule = Schedule::new(&config.optimizer, total);
    for step in done + 1..=total {
        let watch = Stopwatch::start();
        let batch = order.next_batch(&mut session.counters.cursor);
        let record = session.step(step, schedule.learning_rate(step), &batch, watch)?;
        let figures = [("accuracy", record.accuracy), ("margin", record.margin)];
        progress.step(&report(&record, total, &figures));
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
    session.save_model("final")?;
    Ok(session.outcome(Status::Finished, total))
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

fn report<'a>(record: &RewardStep, total: u64, figures: &'a [(&'a str, f64)]) -> StepReport<'a> {
    StepReport {
        step: record.step,
        total,
        tokens: record.tokens as u64,
        tokens_per_s: record.timing.tokens_per_s,
        loss: record.loss,
        figures,
    }
}

impl Inputs {
    fn read(config: &RewardConfig, progress: &mut dyn Progress) -> Result<Self, TrainError> {
        let seeds = Seeds::new(config.run.seed);
        let tokenizer = load_tokenizer(&config.model.path)?;
        let encoder = Encoder::for_model(&config.model.path, tokenizer.as_ref(), &config.data)?;
        let mut data: Dataset<PreferenceExample> = Dataset::load(&config.data, &encoder, seeds)?;
        progress.note(&data.train_report.note("training"));
        if !data.eval.is_empty() {
            progress.note(&data.eval_report.note("evaluation"));
        }
        for example in data.train.iter_mut().chain(&mut data.eval) {
            config.reward.apply_columns(example);
        }
        let reference =
            normalization::reference_sequences(config, &encoder, &data.train, progress)?;
        Ok(Self { seeds, tokenizer, data, reference })
    }
}

impl<'a, D: Device> Session<'a, D> {
    fn open(
        device: D,
        config: &'a RewardConfig,
        run: RunDir,
        checkpoint: Option<&Checkpoint>,
        inputs: Inputs,
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        let dir = checkpoint.map_or(config.model.path.clone(), |found| found.model_dir(None));
        let seed = inputs.seeds.derive("score_head", 0, 0);
        let options = LoadOptions {
            precision: config.model.dtype.into(),
            head: Head::Score,
            new_score_head: checkpoint.is_none().then_some(seed),
        };
        let (mut model, report) = Model::load(device, &dir, &options)?;
        for name in &report.created {
            progress.note(&format!(
                "{}: has no `{name}`; a new score head is drawn from the run's seed",
                dir.display()
            ));
        }
        set_pad(&mut model, inputs.tokenizer.as_ref(), progress);
        freeze(&mut model, &config.model.freeze)?;
        let optimizer = match checkpoint {
            Some(checkpoint) => checkpoint.optimizer(&config.optimizer, &[&model])?,
            None => Optimizer::new(&config.optimizer, &[&model]),
        };
        let counters = checkpoint.map(Checkpoint::counters).transpose()?.unwrap_or_default();
        let gradients = model.gradients();
        Ok(Self { config, run, inputs, model, gradients, optimizer, counters })
    }

    /// Batch arithmetic and memory, before the first step.
    fn announce(&self, total: u64, done: u64, progress: &mut dyn Progress) {
        let plan = BatchPlan {
            rows: &self.inputs.data.train_rows(),
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
    ) -> Result<RewardStep, TrainError> {
        let pairs: Vec<&PreferenceExample> =
            batch.iter().map(|&index| &self.inputs.data.train[index]).collect();
        let rows: Vec<usize> = pairs.iter().map(|pair| pair.rows()).collect();
        let objective = self.config.reward.objective();
        let mut comparisons = Vec::with_capacity(pairs.len());
        let (mut loss, mut flops) = (0.0, 0.0);
        self.gradients.zero();
        for group in microbatches(&rows, self.config.train.microbatch_tokens) {
            let microbatch = Microbatch::new(&pairs[group.clone()]);
            flops += training_flops(&self.model, &microbatch.batch);
            let keep =
                if self.config.model.recompute { Keep::BlockInputs } else { Keep::Activations };
            let pass = self.model.forward(&microbatch.batch, keep);
            let scores = self.model.scalars(&pass, &microbatch.rows);
            let found = compare(&pairs[group], &scores);
            let (sum, grads) = loss_and_grads(objective, &found, pairs.len());
            let grads = OutputGrads {
                scalar_rows: &microbatch.rows,
                scalar_grads: &grads,
                ..OutputGrads::default()
            };
            self.model.backward(pass, &grads, &mut self.gradients);
            loss += sum;
            comparisons.extend(found);
        }
        let loss = loss / pairs.len() as f64;
        check_loss(loss, &[&self.model]).map_err(|reason| reason.at(step))?;
        let trained = Trained { model: &mut self.model, gradients: &self.gradients, lr };
        let update = self.optimizer.step(&mut [trained]).map_err(|reason| reason.at(step))?;

        let tokens: usize = rows.iter().sum();
        let timing = watch.timing(tokens as u64);
        self.counters.cost.add(Cost { tokens: tokens as u64, flops, seconds: timing.seconds });
        let cursor = self.counters.cursor;
        let passes = cursor.index as f64 / self.inputs.data.train.len() as f64;
        let record = RewardStep {
            step,
            epoch: cursor.epoch as f64 + passes,
            loss,
            grad_norm: update.grad_norm,
            learning_rate: lr,
            tokens,
            timing,
            ..RewardStep::of_scores(&comparisons)
        };
        if step.is_multiple_of(self.config.train.log_every) {
            self.run.metrics.append(&record)?;
        }
        Ok(record)
    }

    /// Evaluation and checkpoint, where they are due.
    fn after_step(&mut self, step: u64, total: u64, stop: bool) -> Result<(), TrainError> {
        let due = |every: Option<u64>| every.is_some_and(|every| step.is_multiple_of(every));
        if due(self.config.train.eval_every) || step == total {
            self.evaluate(step)?;
        }
        if due(self.config.train.save_every) || step == total || stop {
            let models = [NamedModel { name: "reward_model", model: &self.model }];
            self.run.save_checkpoint(&Snapshot {
                step,
                models: &models,
                optimizer: &self.optimizer,
                tokenizer: self.inputs.tokenizer.as_ref(),
                counters: &self.counters,
            })?;
        }
        Ok(())
    }

    fn evaluate(&mut self, step: u64) -> Result<(), TrainError> {
        let mut rng = self.inputs.seeds.stream("bootstrap", step);
        let tokens_max = self.config.train.microbatch_tokens;
        let pairs = &self.inputs.data.eval;
        let comparisons = pair_scores(&self.model, pairs, tokens_max);
        let objective = self.config.reward.objective();
        let Some(evaluation) = evaluate(pairs, &comparisons, objective, &mut rng) else {
            return Ok(());
        };
        let loss = evaluation.eval_loss.value;
        self.run.metrics.append(&evaluation.at(step))?;
        if self.config.train.keep_best && self.counters.best.is_none_or(|best| loss < best) {
            self.counters.best = Some(loss);
            self.save_model("best")?;
        }
        Ok(())
    }

    /// Saves the model with mean and deviation of its scores on the reference completions.
    fn save_model(&self, name: &str) -> Result<(), TrainError> {
        let tokens_max = self.config.train.microbatch_tokens;
        let measured =
            ScoreNormalizationFile::measure(&self.model, &self.inputs.reference, tokens_max);
        self.run.save_model(name, &self.model, self.inputs.tokenizer.as_ref(), |dir| {
            measured.map_or(Ok(()), |measured| measured.save(dir))
        })
    }

    fn outcome(&self, status: Status, steps: u64) -> Outcome {
        Outcome { status, steps, cost: self.counters.cost, model_dir: self.run.path("final") }
    }
}

/// Transformers' classifiers find the last token of a padded row by config.json's `pad_token_id`.
/// The end token does not serve: they would read the score before it.
fn set_pad<D: Device>(
    model: &mut Model<D>,
    tokenizer: Option<&Tokenizer>,
    progress: &mut dyn Progress,
) {
    if model.config().pad.is_some() {
        return;
    }
    let end = tokenizer.and_then(Tokenizer::eos_for_training);
    match tokenizer.and_then(Tokenizer::pad).filter(|&pad| Some(pad) != end) {
        Some(pad) => model.set_pad(pad),
        None => progress.note(
            "neither config.json nor the tokenizer names a padding token of its own: Transformers \
             will score one sequence at a time until config.json has a pad_token_id",
        ),
    }
}

/// Pairs side by side, and the rows at which their scores are read: chosen, rejected, chosen, ….
struct Microbatch {
    batch: Batch,
    rows: Vec<usize>,
}

impl Microbatch {
    fn new(pairs: &[&PreferenceExample]) -> Self {
        let mut batch = Batch::new();
        let mut rows = Vec::with_capacity(2 * pairs.len());
        for pair in pairs {
            let segments = pair.push(&mut batch);
            for segment in [segments.chosen, segments.rejected] {
                rows.push(batch.last_row(segment).expect("both sequences have tokens"));
            }
        }
        Self { batch, rows }
    }
}

/// The scores of pairs, in the order of [`Microbatch::rows`], with what their records say.
fn compare(pairs: &[&PreferenceExample], scores: &[f32]) -> Vec<Comparison> {
    let of = |(pair, scores): (&&PreferenceExample, &[f32])| Comparison {
        chosen: scores[0].into(),
        rejected: scores[1].into(),
        margin: pair.margin,
        probability: pair.probability,
    };
    pairs.iter().zip(scores.chunks_exact(2)).map(of).collect()
}

/// The sum of the losses, and the derivative of their mean over `count` pairs with respect to each
/// score.
fn loss_and_grads(
    objective: BradleyTerry,
    comparisons: &[Comparison],
    count: usize,
) -> (f64, Vec<f32>) {
    let mut sum = 0.0;
    let mut grads = Vec::with_capacity(2 * comparisons.len());
    for &comparison in comparisons {
        let loss = objective.loss(comparison);
        sum += loss.loss;
        for grad in [loss.grad_chosen, loss.grad_rejected] {
            grads.push((grad / count as f64) as f32);
        }
    }
    (sum, grads)
}
