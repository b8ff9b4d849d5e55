//! Reward models: a score that is higher for what people prefer.
//!
//! The loss of an optimizer step is the mean of Bradley and Terry's loss over its pairs. A pair is
//! one tree: the tokens that both sequences begin with, and two branches; the score is read at the
//! last token of each.

mod config;
mod evaluation;
mod metrics;
mod normalization;

use hearken_model::checkpoint::NoRoom;
use hearken_model::{Batch, Head, LoadOptions, Model, OutputGrads, Tokenizer};
use hearken_objective::bradley_terry::{BradleyTerry, Comparison};
use hearken_run::budget::{Part, Tape, fit};
use hearken_run::dataset::Dataset;
use hearken_run::encode::{Example, PreferenceExample};
use hearken_run::error::TrainError;
use hearken_run::progress::Progress;
use hearken_run::run::{Learned, Nothing, Opening, Run, load_model};
use hearken_run::stream::Drawn;
use hearken_tensor::Device;

use crate::records::{RecordTrainer, Step, TrainingRows, run_records};
use hearken_model::microbatch::microbatches;

pub use config::{RewardConfig, RewardObjective};
pub use evaluation::{evaluate, pair_scores};
pub use metrics::{LengthAccuracy, ReliabilityBin, RewardEvaluation, RewardStep};

run_records!(RewardConfig, Reward);

/// Pairs, and what is learned from them.
pub struct Reward {
    config: RewardConfig,
    objective: BradleyTerry,
    pairs: Dataset<PreferenceExample>,
    /// Sequences that measure mean and deviation of the scores.
    reference: Vec<Vec<u32>>,
}

impl<D: Device> RecordTrainer<D> for Reward {
    const STAGE: &'static str = "reward";
    type Config = RewardConfig;
    type Kept = Nothing;
    type Sums = Vec<Comparison>;
    type Record = RewardStep;

    fn within_memory(config: &RewardConfig) -> Result<RewardConfig, TrainError> {
        let RewardConfig { run, model, train, .. } = config;
        let scorer = Part::trained(model, Head::Score);
        let train = fit(train, run, Tape::new(model, false), &[scorer])?;
        Ok(RewardConfig { train, ..config.clone() })
    }

    fn read(config: RewardConfig, opening: &mut Opening<'_>) -> Result<Self, TrainError> {
        let mut pairs: Dataset<PreferenceExample> = opening.dataset(&config.data)?;
        pairs.train.iter_mut().chain(&mut pairs.eval).for_each(|pair| {
            config.reward.apply_columns(pair);
        });
        let reference = normalization::reference_sequences(&config, &pairs.train, opening)?;
        Ok(Self { objective: config.reward.objective(), config, pairs, reference })
    }

    fn training(&self) -> TrainingRows<'_> {
        let rows = self.pairs.train.iter().map(Example::rows).collect();
        // A pair is two sequences, which may have nothing in common.
        let rows_max = self.pairs.stream.as_ref().map(|stream| 2 * stream.tokens_max());
        TrainingRows { rows, mix: &self.pairs.mix, rows_max }
    }

    fn evaluation_rows(&self) -> usize {
        self.pairs.eval.iter().map(Example::rows).sum()
    }

    fn load(&mut self, device: D, opening: &mut Opening<'_>) -> Result<Model<D>, TrainError> {
        let dir = opening.model_dir();
        let seed = opening.seeds.derive("score_head", 0, 0);
        let options = LoadOptions {
            precision: self.config.model.dtype.into(),
            new_score_head: opening.whole_checkpoint().is_none().then_some(seed),
            masters: opening.masters(),
            ..LoadOptions::scorer()
        };
        let (mut model, report) = load_model(device, &self.config.model, &dir, &options)?;
        // What training has made of the head lies with the adapter.
        let is_new = opening.checkpoint.is_none();
        for name in report.created.iter().filter(|_| is_new) {
            opening.progress.note(&format!(
                "{}: has no `{name}`; a new score head is drawn from the run's seed",
                dir.display()
            ));
        }
        set_pad(&mut model, opening.tokenizer.as_mut(), opening.progress);
        Ok(model)
    }

    fn draw(&mut self, run: &mut Run<D, Nothing>) -> Result<Option<Drawn>, TrainError> {
        let Some(stream) = &mut self.pairs.stream else { return Ok(None) };
        let (cursor, batch_size) = (&mut run.counters.cursor, *self.config.train.batch_size);
        let drawn = stream.draw(run.tokenizer.as_ref(), cursor, batch_size)?;
        stream.batch_mut().iter_mut().for_each(|pair| self.config.reward.apply_columns(pair));
        Ok(Some(drawn))
    }

    fn learn(&self, run: &mut Run<D, Nothing>, batch: &[usize]) -> Learned<Vec<Comparison>> {
        let pairs: Vec<_> = batch.iter().map(|&index| self.pairs.training(index)).collect();
        let rows: Vec<usize> = pairs.iter().map(|pair| pair.rows()).collect();
        let count = run.ranks.total(pairs.len());
        let (mut loss, mut comparisons) = (0.0, Vec::with_capacity(pairs.len()));
        for group in microbatches(&rows, run.settings.train.microbatch_tokens) {
            let microbatch = Microbatch::new(&pairs[group.clone()]);
            let pass = run.forward(&microbatch.batch);
            let scores = run.model.scalars(&pass, &microbatch.rows);
            let found = compare(&pairs[group], &scores);
            let (sum, scalar_grads) = loss_and_grads(self.objective, &found, count);
            let scalar_rows = &microbatch.rows;
            let grads = OutputGrads { scalar_rows, scalar_grads: &scalar_grads, ..<_>::default() };
            run.backward(pass, &grads);
            loss += sum;
            comparisons.extend(found);
        }
        Learned { loss: loss / pairs.len() as f64, sums: comparisons }
    }

    fn record(&self, step: Step<Vec<Comparison>>) -> RewardStep {
        RewardStep::new(&step)
    }

    fn figures(record: &RewardStep) -> Vec<(&'static str, f64)> {
        vec![("accuracy", record.accuracy), ("margin", record.margin)]
    }

    fn evaluate(&self, run: &mut Run<D, Nothing>) -> Result<Option<f64>, TrainError> {
        let pairs = &self.pairs.eval;
        let comparisons = pair_scores(&run.model, pairs, run.settings.train.microbatch_tokens);
        let rng = &mut run.seeds.stream("bootstrap", run.step);
        let Some(found) = evaluate(pairs, &comparisons, self.objective, rng) else {
            return Ok(None);
        };
        let loss = found.eval_loss.value;
        run.dir.metrics.append(&found.at(run.step))?;
        Ok(Some(loss))
    }

    /// Saves the model with mean and deviation of its scores on the reference completions.
    fn save_model(&self, run: &Run<D, Nothing>, name: &str) -> Result<Option<NoRoom>, TrainError> {
        let Run { model, tokenizer, settings, .. } = run;
        let tokens_max = settings.train.microbatch_tokens;
        let measured = normalization::measure(model, &self.reference, tokens_max);
        run.dir.save_model(name, model, tokenizer.as_ref(), |dir| {
            measured.map_or(Ok(()), |measured| normalization::save(&measured, dir))
        })
    }
}

/// Transformers' classifiers read a row at its last token that is not config.json's `pad_token_id`. A
/// token that ends texts does not serve: they would read the score before it.
fn set_pad<D: Device>(
    model: &mut Model<D>,
    tokenizer: Option<&mut Tokenizer>,
    progress: &mut dyn Progress,
) {
    let (found, ends) = (model.config().pad, model.config().eos.clone());
    let of_config = found.filter(|pad| !ends.contains(pad));
    let Some(tokenizer) = tokenizer else { return model.set_pad(of_config) };
    let of_config = of_config.filter(|pad| !tokenizer.eos().contains(pad));
    let is_known = |id: &u32| tokenizer.token(*id).is_some();
    let vocab = model.config().vocab;
    let of_tokenizer = || tokenizer.padding_apart_from(&ends).filter(|id| (*id as usize) < vocab);
    let pad = of_config.filter(is_known).or_else(of_tokenizer);
    model.set_pad(pad);
    let Some(pad) = pad else {
        return progress.note(
            "no token of the tokenizer can pad without ending texts too: the reward model is saved \
             without a padding token, and Transformers will score one sequence at a time",
        );
    };
    tokenizer.set_pad(pad);
    if let Some(found) = found.filter(|found| *found != pad) {
        let name = tokenizer.token(pad).unwrap_or_default();
        progress.note(&format!(
            "the padding token {found} ends texts too, and Transformers would read scores before it: \
             the reward model is saved with {name} ({pad}) in its place"
        ));
    }
}

/// Pairs side by side, and the rows at which their scores are read: chosen, rejected, chosen, ….
struct Microbatch {
    batch: Batch,
    rows: Vec<usize>,
}

impl Microbatch {
    fn new(pairs: &[&PreferenceExample]) -> Self {
        let (mut batch, mut rows) = (Batch::new(), Vec::with_capacity(2 * pairs.len()));
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
