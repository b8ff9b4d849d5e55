//! Models that score the steps of solutions.

use std::ops::Range;

use hearken_model::microbatch::microbatches;
use hearken_model::steps::StepTokens;
use hearken_model::{Batch, Keep, Model};
use hearken_objective::numerics::sigmoid;
use hearken_objective::process::class_probabilities;
use hearken_tensor::Device;
use hearken_tensor::device::{HeadOptions, Prediction};

use crate::process_file::ProcessRewardFile;

/// A model that says of each step how likely it is right.
#[derive(Debug)]
pub struct StepScorer<D: Device> {
    reads: StepReader<D>,
    file: ProcessRewardFile,
}

#[derive(Debug)]
enum StepReader<D: Device> {
    /// Classes at the last token of a step.
    Classes(Box<Model<D>>),
    /// β times the log-ratio of two language models.
    Implicit { policy: Box<Model<D>>, reference: Box<Model<D>>, beta: f64 },
}

impl<D: Device> StepScorer<D> {
    /// A model with a head of two or three classes.
    pub fn of_classes(model: Model<D>, file: ProcessRewardFile) -> Self {
        Self { reads: StepReader::Classes(Box::new(model)), file }
    }

    /// An implicit process reward model: a language model that was trained on outcomes alone, `hearken dpo` with
    /// `loss = "outcome"`, beside the reference of that training. A step's score is σ(β·log(π/π_ref)) of all tokens
    /// behind the prompt up to its last: the probability, from there, that the whole will be right. Yuan et al. 2024,
    /// arXiv:2412.01981.
    pub fn implicit(
        (policy, reference): (Model<D>, Model<D>),
        beta: f64,
        file: ProcessRewardFile,
    ) -> Self {
        let [policy, reference] = [policy, reference].map(Box::new);
        Self { reads: StepReader::Implicit { policy, reference, beta }, file }
    }

    /// What stands behind each step, as the model was trained.
    pub fn separator(&self) -> &str {
        &self.file.step_separator
    }

    /// The model; of two, the one that was trained.
    pub fn model(&self) -> &Model<D> {
        match &self.reads {
            StepReader::Classes(model) | StepReader::Implicit { policy: model, .. } => model,
        }
    }

    /// The scores of the steps of each solution, in [0, 1]. Forward passes take at most `tokens_max` rows, or one
    /// solution.
    pub fn scores(&self, solutions: &[StepTokens], tokens_max: usize) -> Vec<Vec<f64>> {
        let rows: Vec<usize> = solutions.iter().map(|solution| solution.ids.len()).collect();
        let mut scores = Vec::with_capacity(solutions.len());
        for group in microbatches(&rows, tokens_max) {
            scores.extend(self.together(solutions, group));
        }
        scores
    }

    /// The scores of solutions that go through the model together.
    fn together(&self, solutions: &[StepTokens], group: Range<usize>) -> Vec<Vec<f64>> {
        let solutions = &solutions[group];
        let steps = |all: Vec<f64>| -> Vec<Vec<f64>> {
            let mut all = all.into_iter();
            solutions.iter().map(|one| all.by_ref().take(one.ends.len()).collect()).collect()
        };
        match &self.reads {
            StepReader::Classes(model) => {
                let (mut batch, mut rows) = (Batch::new(), Vec::new());
                for solution in solutions {
                    let segment = batch.push(None, &solution.ids);
                    rows.extend(solution.ends.iter().map(|&end| batch.row(segment, end)));
                }
                let logits = model.scalars(&model.forward(&batch, Keep::Nothing), &rows);
                let classes = logits.len() / rows.len().max(1);
                let score = |logits: &[f32]| {
                    let logits: Vec<f64> = logits.iter().map(|&logit| logit.into()).collect();
                    self.file.score(&class_probabilities(&logits))
                };
                steps(logits.chunks_exact(classes.max(1)).map(score).collect())
            }
            StepReader::Implicit { policy, reference, beta } => {
                let [policy, reference] =
                    [policy, reference].map(|model| step_logprobs(model, solutions));
                let scores = policy.iter().zip(&reference).map(|(policy, reference)| {
                    let mut ratio = 0.0;
                    let step = |(policy, reference): (&f64, &f64)| {
                        ratio += policy - reference;
                        sigmoid(beta * ratio)
                    };
                    policy.iter().zip(reference).map(step).collect()
                });
                scores.collect()
            }
        }
    }
}

/// The log-probability of each step of each solution, given what stands before it.
fn step_logprobs<D: Device>(model: &Model<D>, solutions: &[StepTokens]) -> Vec<Vec<f64>> {
    let (mut batch, mut predictions) = (Batch::new(), Vec::new());
    for solution in solutions {
        let segment = batch.push(None, &solution.ids);
        let first_row = batch.row(segment, 0);
        for place in solution.first_token()..solution.ids.len() {
            let (row, token) = ((first_row + place - 1) as u32, solution.ids[place]);
            predictions.push(Prediction { row, token });
        }
    }
    let pass = model.forward(&batch, Keep::Nothing);
    let found = model.logprobs(&pass, &predictions, HeadOptions::default()).logprobs;
    let mut rest = found.iter().map(|&logprob| f64::from(logprob));
    let of_solution = |solution: &StepTokens| {
        let mut before = solution.first_token();
        let mut steps = Vec::with_capacity(solution.ends.len());
        for end in &solution.ends {
            steps.push(rest.by_ref().take(end + 1 - before).sum());
            before = end + 1;
        }
        // Tokens behind the last step belong to none.
        rest.by_ref().take(solution.ids.len() - before).for_each(drop);
        steps
    };
    solutions.iter().map(of_solution).collect()
}
