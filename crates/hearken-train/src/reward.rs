//! Reward models: a score that is higher for what people prefer, or for what is right.
//!
//! Of preferences the loss of an optimizer step is the mean of Bradley and Terry's loss over its pairs. A pair is
//! one tree: the tokens that both sequences begin with, and two branches; the score is read at the
//! last token of each. With a head for the length, the score is what length does not explain; with particles, it is known where it is a guess. [`OutcomeReward`] learns from whole solutions that are right or wrong, [`ProcessReward`] from solutions
//! whose steps are.

mod config;
mod evaluation;
mod kinds;
mod metrics;
mod normalization;
mod outcome;
mod particles;
mod process;
mod scorer;
mod two_heads;

use hearken_model::checkpoint::NoRoom;
use hearken_model::{Batch, Head, Model, OutputGrads};
use hearken_objective::bradley_terry::{BradleyTerry, ScoredComparison};
use hearken_run::dataset::Dataset;
use hearken_run::encode::{Example, PreferenceExample};
use hearken_run::error::TrainError;
use hearken_run::ranks::{Joined, Shares};
use hearken_run::run::{Nothing, Opening, Run};
use hearken_run::stream::{Drawn, Stream};
use hearken_tensor::Device;
use serde::{Deserialize, Serialize};

use crate::records::{RecordStep, RecordTrainer, TrainingRows, write_evaluation};
use hearken_model::microbatch::microbatches;
use particles::ParticleFinding;
use scorer::{fitted, load_scorer};

pub use config::{Flips, Kind, LabelledSteps, NeutralSteps, RewardConfig, RewardObjective, Scale};
pub use evaluation::{evaluate, pair_scores};
pub use kinds::run;
pub use metrics::ParticleEvaluation;
pub use metrics::{LengthAccuracy, ReliabilityBin, RewardEvaluation, RewardStep};
pub use normalization::{measure_scores, save_normalization};
pub use outcome::{OutcomeEvaluation, OutcomeReward, OutcomeStep};
pub use process::{ProcessEvaluation, ProcessReward, ProcessStep};

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
    type Sums = PairFindings;
    type Record = RewardStep;

    fn within_memory(config: &RewardConfig) -> Result<RewardConfig, TrainError> {
        fitted(config, head(config))
    }

    fn read(config: RewardConfig, opening: &mut Opening<'_>) -> Result<Self, TrainError> {
        let mut pairs: Dataset<PreferenceExample> = opening.dataset(&config.shared.data)?;
        pairs.train.iter_mut().chain(&mut pairs.eval).for_each(|pair| {
            config.reward.apply_columns(pair);
        });
        let chosen = |pair: &PreferenceExample| [pair.prefix.as_slice(), &pair.chosen].concat();
        let chosen = pairs.train.iter().map(chosen);
        let reference = normalization::reference_sequences(&config, chosen, opening)?;
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
        let mut model = load_scorer(device, &self.config, head(&self.config), opening)?;
        if let Some(shape) = self.config.reward.particles() {
            particles::load(&mut model, shape, opening)?;
        }
        Ok(model)
    }

    fn draw(&mut self, run: &mut Run<D, Nothing>) -> Result<Option<Drawn>, TrainError> {
        let drawn = run.draw(&mut self.pairs.stream)?;
        for pair in self.pairs.stream.iter_mut().flat_map(Stream::batch_mut) {
            self.config.reward.apply_columns(pair);
        }
        Ok(drawn)
    }

    fn rows(&self, pair: usize) -> usize {
        self.pairs.training(pair).rows()
    }

    fn learn(&self, run: &mut Run<D, Nothing>, batch: &[usize], shares: &Shares) -> PairFindings {
        if let Some(heads) = self.config.reward.length_head() {
            let pairs: Vec<_> = batch.iter().map(|&index| self.pairs.training(index)).collect();
            return heads.learn(run, self.objective, &pairs, shares);
        }
        let own = shares.pick(batch).into_iter();
        let pairs: Vec<_> = own.map(|index| self.pairs.training(index)).collect();
        let rows: Vec<usize> = pairs.iter().map(|pair| pair.rows()).collect();
        let count = batch.len();
        let (mut loss, mut comparisons) = (0.0, Vec::with_capacity(pairs.len()));
        let mut particles = Vec::new();
        for group in microbatches(&rows, run.settings.train.microbatch_tokens) {
            let microbatch = PairMicrobatch::new(&pairs[group.clone()]);
            let pass = run.forward(&microbatch.batch);
            let scores = run.model.scalars(&pass, &microbatch.rows);
            let found = compare(&pairs[group], &scores);
            let (sum, scalar_grads) = loss_and_grads(self.objective, &found, count);
            let scalar_rows = &microbatch.rows;
            if 0 < run.model.particle_count() {
                particles.extend(particles::learn(
                    run,
                    &pass,
                    scalar_rows,
                    self.objective,
                    &found,
                    count,
                ));
            }
            let grads = OutputGrads { scalar_rows, scalar_grads: &scalar_grads, ..<_>::default() };
            run.backward(pass, &grads);
            loss += sum;
            comparisons.extend(found);
        }
        PairFindings { loss, comparisons, length_correlation: None, particles }
    }

    fn loss(&self, sums: &PairFindings) -> f64 {
        sums.loss / sums.comparisons.len() as f64
    }

    fn record(&self, step: RecordStep<PairFindings>) -> RewardStep {
        RewardStep::new(&step)
    }

    fn figures(record: &RewardStep) -> Vec<(&'static str, f64)> {
        vec![("accuracy", record.accuracy), ("margin", record.margin)]
    }

    fn evaluate(&self, run: &mut Run<D, Nothing>) -> Result<Option<f64>, TrainError> {
        let pairs = &self.pairs.eval;
        let comparisons = pair_scores(&run.model, pairs, run.settings.train.microbatch_tokens);
        let rng = &mut run.seeds.stream("bootstrap", run.step);
        let Some(mut found) = evaluate(pairs, &comparisons, self.objective, rng) else {
            return Ok(None);
        };
        if 0 < run.model.particle_count() {
            found.particles =
                particles::evaluate(&run.model, pairs, run.settings.train.microbatch_tokens, rng);
        }
        let loss = found.eval_loss.value;
        write_evaluation(run, found, loss)
    }

    /// Saves the model with mean and deviation of its scores on the reference completions.
    fn save_model(&self, run: &Run<D, Nothing>, name: &str) -> Result<Option<NoRoom>, TrainError> {
        normalization::save_model(run, name, &self.reference)
    }
}

/// The head that is trained.
fn head(config: &RewardConfig) -> Head {
    if config.reward.length_head().is_some() { Head::ScoreAndLength } else { Head::Score }
}

/// What a step finds of its pairs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PairFindings {
    /// The sum of their losses.
    loss: f64,
    comparisons: Vec<ScoredComparison>,
    /// Of the scores with length, over the whole step; with a head for the length.
    length_correlation: Option<f64>,
    /// Of each pair, where the model has particles.
    particles: Vec<ParticleFinding>,
}

impl Joined for PairFindings {
    fn join(self, other: Self) -> Self {
        let comparisons = self.comparisons.join(other.comparisons);
        let length_correlation = self.length_correlation;
        let particles = self.particles.join(other.particles);
        Self { loss: self.loss + other.loss, comparisons, length_correlation, particles }
    }
}

/// Pairs side by side, and the rows at which their scores are read: chosen, rejected, chosen, ….
struct PairMicrobatch {
    batch: Batch,
    rows: Vec<usize>,
}

impl PairMicrobatch {
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

/// The scores of pairs, in the order of [`PairMicrobatch::rows`], with what their records say. A head for the length has
/// numbers of its own behind each score, which are passed over.
fn compare(pairs: &[&PreferenceExample], scores: &[f32]) -> Vec<ScoredComparison> {
    let outputs = scores.len() / (2 * pairs.len().max(1));
    let of = |(pair, scores): (&&PreferenceExample, &[f32])| ScoredComparison {
        chosen: scores[0].into(),
        rejected: scores[outputs].into(),
        margin: pair.margin,
        probability: pair.probability,
    };
    pairs.iter().zip(scores.chunks_exact(2 * outputs)).map(of).collect()
}

/// The sum of the losses, and the derivative of their mean over `count` pairs with respect to each
/// score.
fn loss_and_grads(
    objective: BradleyTerry,
    comparisons: &[ScoredComparison],
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
