//! Process reward models: the probability that a step of a solution is right, read at the step's last token.
//!
//! The loss of an optimizer step is the cross-entropy of the classes of its labelled steps, a mean over all of them.
//! Lightman et al. 2023, arXiv:2305.20050; Wang et al. 2024, arXiv:2312.08935.

mod evaluation;
mod labels;
mod metrics;

use hearken_model::checkpoint::NoRoom;
use hearken_model::microbatch::microbatches;
use hearken_model::{Batch, Head, Keep, Model, OutputGrads};
use hearken_objective::process::{class_cross_entropy, class_probabilities};
use hearken_reward_source::process_file::{NeutralScore, PROCESS_FILE, ProcessRewardFile};
use hearken_run::dataset::Dataset;
use hearken_run::encode::{Example as _, StepsExample};
use hearken_run::error::TrainError;
use hearken_run::ranks::Shares;
use hearken_run::run::{Nothing, Opening, Run};
use hearken_run::run_dir::write_atomically;
use hearken_run::stream::{Drawn, Stream};
use hearken_tensor::Device;
use serde::{Deserialize, Serialize};

use super::config::{NeutralSteps, RewardConfig};
use super::scorer::{fitted, load_scorer};
use crate::records::{RecordStep, RecordTrainer, TrainingRows, write_evaluation};

pub(super) use labels::StepLabels;
pub use metrics::{ProcessEvaluation, ProcessStep};

/// Solutions, and what is learned from their steps.
pub struct ProcessReward {
    config: RewardConfig,
    labels: StepLabels,
    solutions: Dataset<StepsExample>,
}

/// A labelled step, and what the model says of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgedStep {
    /// The probabilities of its label.
    pub target: Vec<f64>,
    /// The model's.
    pub probabilities: Vec<f64>,
    /// Nats.
    pub loss: f64,
}

impl<D: Device> RecordTrainer<D> for ProcessReward {
    const STAGE: &'static str = "reward";
    type Config = RewardConfig;
    type Kept = Nothing;
    type Sums = Vec<JudgedStep>;
    type Record = ProcessStep;

    fn within_memory(config: &RewardConfig) -> Result<RewardConfig, TrainError> {
        fitted(config, head(config))
    }

    fn read(config: RewardConfig, opening: &mut Opening<'_>) -> Result<Self, TrainError> {
        let mut solutions: Dataset<StepsExample> = opening.dataset(&config.shared.data)?;
        let labels = config.reward.step_labels();
        let unlabelled =
            labels.settle_all(&mut solutions.train)? + labels.settle_all(&mut solutions.eval)?;
        if 0 < unlabelled {
            opening.progress.note(&format!(
                "{unlabelled} solutions are left out: only neutral steps of them are labelled"
            ));
        }
        let counts = labels.count(&solutions.train);
        opening.progress.note(&counts.note(solutions.train.len()));
        if solutions.stream.is_none() {
            counts.check(&config.shared.data)?;
        }
        Ok(Self { config, labels, solutions })
    }

    fn training(&self) -> TrainingRows<'_> {
        let rows_max = self.solutions.stream.as_ref().map(Stream::tokens_max);
        TrainingRows { rows: self.solutions.train_rows(), mix: &self.solutions.mix, rows_max }
    }

    fn evaluation_rows(&self) -> usize {
        self.solutions.eval.iter().map(StepsExample::rows).sum()
    }

    fn load(&mut self, device: D, opening: &mut Opening<'_>) -> Result<Model<D>, TrainError> {
        load_scorer(device, &self.config, head(&self.config), opening)
    }

    fn draw(&mut self, run: &mut Run<D, Nothing>) -> Result<Option<Drawn>, TrainError> {
        let drawn = run.draw(&mut self.solutions.stream)?;
        let drawn_solutions = self.solutions.stream.iter_mut().flat_map(Stream::batch_mut);
        for solution in drawn_solutions {
            self.labels.settle(solution)?;
        }
        Ok(drawn)
    }

    fn rows(&self, index: usize) -> usize {
        self.solutions.training(index).rows()
    }

    fn learn(
        &self,
        run: &mut Run<D, Nothing>,
        batch: &[usize],
        shares: &Shares,
    ) -> Vec<JudgedStep> {
        let solutions: Vec<_> = batch.iter().map(|&index| self.solutions.training(index)).collect();
        let labelled: usize = solutions.iter().map(|solution| labelled(solution)).sum();
        let count = labelled.max(1);
        let solutions = shares.pick(&solutions);
        let rows: Vec<usize> = solutions.iter().map(|solution| solution.rows()).collect();
        let mut steps = Vec::with_capacity(labelled);
        for group in microbatches(&rows, run.settings.train.microbatch_tokens) {
            let microbatch = SolutionMicrobatch::new(self.labels, &solutions[group]);
            let pass = run.forward(&microbatch.batch);
            let logits = run.model.scalars(&pass, &microbatch.rows);
            let (judged, scalar_grads) = microbatch.judge(&logits, count);
            let scalar_rows = &microbatch.rows;
            let grads = OutputGrads { scalar_rows, scalar_grads: &scalar_grads, ..<_>::default() };
            run.backward(pass, &grads);
            steps.extend(judged);
        }
        steps
    }

    fn loss(&self, steps: &Vec<JudgedStep>) -> f64 {
        steps.iter().map(|step| step.loss).sum::<f64>() / steps.len().max(1) as f64
    }

    fn record(&self, step: RecordStep<Vec<JudgedStep>>) -> ProcessStep {
        ProcessStep::new(&step)
    }

    fn figures(record: &ProcessStep) -> Vec<(&'static str, f64)> {
        vec![("accuracy", record.accuracy), ("good", record.good)]
    }

    fn evaluate(&self, run: &mut Run<D, Nothing>) -> Result<Option<f64>, TrainError> {
        let (solutions, step) = (&self.solutions.eval, run.step);
        let judged =
            judge(&run.model, self.labels, solutions, run.settings.train.microbatch_tokens);
        let rng = &mut run.seeds.stream("bootstrap", step);
        let Some(found) = evaluation::evaluate(&self.file(), solutions, &judged, rng) else {
            return Ok(None);
        };
        let loss = found.eval_loss.value;
        write_evaluation(run, found, loss)
    }

    /// Saves the model with how it reads steps.
    fn save_model(&self, run: &Run<D, Nothing>, name: &str) -> Result<Option<NoRoom>, TrainError> {
        run.dir.save_model(name, &run.model, run.tokenizer.as_ref(), |dir| {
            let text = serde_json::to_vec_pretty(&self.file()).expect("two texts");
            Ok(write_atomically(&dir.join(PROCESS_FILE), &text)?)
        })
    }
}

impl ProcessReward {
    /// What is saved beside the model.
    fn file(&self) -> ProcessRewardFile {
        let neutral = match self.labels.neutral {
            NeutralSteps::Good | NeutralSteps::Drop => NeutralScore::Good,
            NeutralSteps::Bad => NeutralScore::Bad,
        };
        ProcessRewardFile {
            step_separator: self.config.shared.data.step_separator.clone(),
            neutral,
        }
    }
}

fn head(config: &RewardConfig) -> Head {
    Head::StepClasses(config.reward.step_labels().classes)
}

/// How many steps of a solution have a label.
fn labelled(solution: &StepsExample) -> usize {
    solution.steps.iter().filter(|step| step.label.is_some()).count()
}

/// What the model says of the labelled steps of each solution. Forward passes take at most `tokens_max` rows, or one
/// solution.
fn judge<D: Device>(
    model: &Model<D>,
    labels: StepLabels,
    solutions: &[StepsExample],
    tokens_max: usize,
) -> Vec<Vec<JudgedStep>> {
    let rows: Vec<usize> = solutions.iter().map(StepsExample::rows).collect();
    let mut all = Vec::with_capacity(solutions.len());
    for group in microbatches(&rows, tokens_max) {
        let solutions: Vec<&StepsExample> = solutions[group].iter().collect();
        let microbatch = SolutionMicrobatch::new(labels, &solutions);
        let pass = model.forward(&microbatch.batch, Keep::Nothing);
        let (judged, _) = microbatch.judge(&model.scalars(&pass, &microbatch.rows), 1);
        let mut judged = judged.into_iter();
        all.extend(solutions.iter().map(|one| judged.by_ref().take(labelled(one)).collect()));
    }
    all
}

/// Solutions side by side, the rows at which their labelled steps are read, and the labels.
struct SolutionMicrobatch {
    batch: Batch,
    rows: Vec<usize>,
    targets: Vec<Vec<f64>>,
}

impl SolutionMicrobatch {
    fn new(labels: StepLabels, solutions: &[&StepsExample]) -> Self {
        let (mut batch, mut rows, mut targets) = (Batch::new(), Vec::new(), Vec::new());
        for solution in solutions {
            let segment = batch.push(None, &solution.ids);
            for step in &solution.steps {
                if let Some(label) = step.label {
                    rows.push(batch.row(segment, step.row));
                    targets.push(labels.target(label));
                }
            }
        }
        Self { batch, rows, targets }
    }

    /// What logits say of the steps, and the derivative of the mean loss of `count` steps with respect to each.
    fn judge(&self, logits: &[f32], count: usize) -> (Vec<JudgedStep>, Vec<f32>) {
        let mut judged = Vec::with_capacity(self.rows.len());
        let mut grads = Vec::with_capacity(logits.len());
        let classes = self.targets.first().map_or(1, Vec::len);
        for (logits, target) in logits.chunks_exact(classes).zip(&self.targets) {
            let logits: Vec<f64> = logits.iter().map(|&logit| logit.into()).collect();
            let found = class_cross_entropy(&logits, target);
            grads.extend(found.grad_logits.iter().map(|grad| (grad / count as f64) as f32));
            judged.push(JudgedStep {
                target: target.clone(),
                probabilities: class_probabilities(&logits),
                loss: found.loss,
            });
        }
        (judged, grads)
    }
}
