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

use hearken_model::{Batch, Head, LoadOptions, Model, OutputGrads, Tokenizer};
use hearken_objective::bradley_terry::{BradleyTerry, Comparison};
use hearken_tensor::Device;

use crate::budget::{Part, Tape, fit};
use crate::config::Loaded;
use crate::dataset::{Dataset, Example};
use crate::encode::{Encoder, PreferenceExample};
use crate::error::TrainError;
use crate::metrics::{Stopwatch, training_flops};
use crate::microbatch::microbatches;
use crate::progress::Progress;
use crate::record_run::{Opening, RecordRun};
use crate::run_dir::Start;
use crate::trained_model::{Outcome, Status};

pub use config::{RewardConfig, RewardObjective};
pub use evaluation::{evaluate, pair_scores};
pub use metrics::{LengthAccuracy, ReliabilityBin, RewardEvaluation, RewardStep};
pub use normalization::{NORMALIZATION_FILE, ScoreNormalizationFile};

/// What a run reads before its model.
struct Inputs {
    data: Dataset<PreferenceExample>,
    /// Sequences that measure mean and deviation of the scores.
    reference: Vec<Vec<u32>>,
}

/// A run between two optimizer steps.
struct Reward<'a, D: Device> {
    config: &'a RewardConfig,
    inputs: Inputs,
    run: RecordRun<'a, D>,
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
    let config = &within_memory(&loaded.config)?;
    let opening = Opening::new(config.settings(), &loaded.frozen, start, progress)?;
    let inputs = Inputs::read(config, &opening, progress)?;
    if let Some(outcome) = opening.already_finished::<()>(inputs.data.train.len(), progress)? {
        return Ok(outcome);
    }
    let mut reward = Reward::open(device, config, opening, inputs, progress)?;
    reward.run.announce(&reward.inputs.data.train_rows(), None, progress)?;
    progress.stage("reward", Some(reward.run.total));
    if reward.run.step == 0 {
        reward.evaluate()?;
    }
    while !reward.run.is_finished() {
        let record = reward.step(Stopwatch::start())?;
        let figures = [("accuracy", record.accuracy), ("margin", record.margin)];
        reward.run.report((record.tokens, record.loss), record.timing, &figures, progress);
        let stop = progress.stop_requested();
        reward.after_step(stop)?;
        if stop && !reward.run.is_finished() {
            return Ok(reward.run.stopped(progress));
        }
    }
    reward.save_model("final")?;
    Ok(reward.run.outcome(Status::Finished))
}

impl Inputs {
    fn read(
        config: &RewardConfig,
        opening: &Opening<'_>,
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        let tokenizer = opening.tokenizer.as_ref();
        let encoder = Encoder::for_model(&config.model.path, tokenizer, &config.data)?;
        let mut data: Dataset<PreferenceExample> =
            Dataset::load(&config.data, &encoder, opening.seeds)?;
        progress.note(&data.train_report.note("training"));
        if !data.eval.is_empty() {
            progress.note(&data.eval_report.note("evaluation"));
        }
        for example in data.train.iter_mut().chain(&mut data.eval) {
            config.reward.apply_columns(example);
        }
        let reference =
            normalization::reference_sequences(config, &encoder, &data.train, progress)?;
        Ok(Self { data, reference })
    }
}

/// The configuration with microbatches as large as memory has room for.
fn within_memory(config: &RewardConfig) -> Result<RewardConfig, TrainError> {
    let mut fitted = config.clone();
    let part = Part::trained(&config.model, Head::Score);
    fit(&mut fitted.train, &config.run, Tape::new(&config.model, false), &[part])?;
    Ok(fitted)
}

impl<'a, D: Device> Reward<'a, D> {
    fn open(
        device: D,
        config: &'a RewardConfig,
        opening: Opening<'a>,
        inputs: Inputs,
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        let checkpoint = opening.checkpoint.as_ref();
        let dir = checkpoint.map_or(config.model.path.clone(), |found| found.model_dir(None));
        let seed = opening.seeds.derive("score_head", 0, 0);
        let options = LoadOptions {
            precision: config.model.dtype.into(),
            new_score_head: checkpoint.is_none().then_some(seed),
            ..LoadOptions::scorer()
        };
        let (mut model, report) = Model::load(device, &dir, &options)?;
        for name in &report.created {
            progress.note(&format!(
                "{}: has no `{name}`; a new score head is drawn from the run's seed",
                dir.display()
            ));
        }
        set_pad(&mut model, opening.tokenizer.as_ref(), progress);
        let run = opening.run(model, inputs.data.train.len())?;
        Ok(Self { config, inputs, run })
    }

    /// One optimizer step: gradients of the whole batch, update, record.
    fn step(&mut self, watch: Stopwatch) -> Result<RewardStep, TrainError> {
        let batch = self.run.next_batch();
        let pairs: Vec<&PreferenceExample> =
            batch.iter().map(|&index| &self.inputs.data.train[index]).collect();
        let rows: Vec<usize> = pairs.iter().map(|pair| pair.rows()).collect();
        let objective = self.config.reward.objective();
        let mut comparisons = Vec::with_capacity(pairs.len());
        let (mut loss, mut flops) = (0.0, 0.0);
        let (keep, run) = (self.run.keep(), &mut self.run);
        run.gradients.zero();
        for group in microbatches(&rows, self.config.train.microbatch_tokens) {
            let microbatch = Microbatch::new(&pairs[group.clone()]);
            flops += training_flops(&run.model, &microbatch.batch);
            let pass = run.model.forward(&microbatch.batch, keep);
            let scores = run.model.scalars(&pass, &microbatch.rows);
            let found = compare(&pairs[group], &scores);
            let (sum, grads) = loss_and_grads(objective, &found, pairs.len());
            let grads = OutputGrads {
                scalar_rows: &microbatch.rows,
                scalar_grads: &grads,
                ..OutputGrads::default()
            };
            run.model.backward(pass, &grads, &mut run.gradients);
            loss += sum;
            comparisons.extend(found);
        }
        let loss = loss / pairs.len() as f64;
        let (learning_rate, grad_norm) = run.apply(loss)?;
        let tokens: usize = rows.iter().sum();
        let timing = watch.timing(tokens as u64);
        run.book(tokens, flops, timing);
        let record = RewardStep {
            step: run.step,
            epoch: run.epoch(),
            loss,
            grad_norm,
            learning_rate,
            tokens,
            timing,
            ..RewardStep::of_scores(&comparisons)
        };
        run.log(&record)?;
        Ok(record)
    }

    /// Evaluation and checkpoint, where they are due.
    fn after_step(&mut self, stop: bool) -> Result<(), TrainError> {
        if self.run.is_due(self.config.train.eval_every) || self.run.is_finished() {
            self.evaluate()?;
        }
        self.run.checkpoint(stop, None)
    }

    fn evaluate(&mut self) -> Result<(), TrainError> {
        let run = &mut self.run;
        let mut rng = run.seeds.stream("bootstrap", run.step);
        let tokens_max = self.config.train.microbatch_tokens;
        let pairs = &self.inputs.data.eval;
        let comparisons = pair_scores(&run.model, pairs, tokens_max);
        let objective = self.config.reward.objective();
        let Some(evaluation) = evaluate(pairs, &comparisons, objective, &mut rng) else {
            return Ok(());
        };
        let loss = evaluation.eval_loss.value;
        run.run.metrics.append(&evaluation.at(run.step))?;
        if run.is_best(loss) {
            self.save_model("best")?;
        }
        Ok(())
    }

    /// Saves the model with mean and deviation of its scores on the reference completions.
    fn save_model(&self, name: &str) -> Result<(), TrainError> {
        let tokens_max = self.config.train.microbatch_tokens;
        let RecordRun { run, model, tokenizer, .. } = &self.run;
        let measured = ScoreNormalizationFile::measure(model, &self.inputs.reference, tokens_max);
        run.save_model(name, model, tokenizer.as_ref(), |dir| {
            measured.map_or(Ok(()), |measured| measured.save(dir))
        })
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
