//! Reward models of any kind, as answers are scored with them.

use std::path::Path;

use hearken_data::Content;
use hearken_model::microbatch::microbatches;
use hearken_model::steps::{StepTokens, encode_steps, with_first_token};
use hearken_model::tokenizer::{SpecialText, TokenizerError};
use hearken_model::{Batch, Head, Keep, LoadOptions, Model, ModelError, Tokenizer, stored_head};
use hearken_reward_source::process_file::ProcessRewardFile;
use hearken_reward_source::score_normalization::StoredError;
use hearken_reward_source::{StepAggregation, StepScorer};
use hearken_tensor::Device;

/// A reward model.
#[derive(Debug)]
pub enum Scorer<D: Device> {
    /// One number for the whole, read at the last token.
    Whole(Box<Model<D>>),
    /// A number for each step.
    Steps(Box<StepScorer<D>>),
}

/// Why a reward model cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ScorerError {
    /// Its weights or its configuration cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file beside it cannot be used.
    #[error(transparent)]
    Stored(#[from] StoredError),
}

/// What a reward model says of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// Of a process reward model, the score of each step.
    pub steps: Option<Vec<f64>>,
    /// One number for the whole.
    pub score: f64,
}

/// A prompt in a reward model's tokens.
#[derive(Clone, Copy, Debug)]
pub struct ScoredPrompt<'a> {
    /// Its tokens.
    pub ids: &'a [u32],
    /// Whether it is a text, which an answer continues.
    pub is_text: bool,
}

impl<D: Device> Scorer<D> {
    /// A model as `options` load it, whose head says what it is: a head of one output scores the whole, one of classes
    /// scores steps, as `file` has them.
    pub fn new(model: Model<D>, file: ProcessRewardFile) -> Option<Self> {
        match model.head() {
            Head::Score => Some(Self::Whole(Box::new(model))),
            Head::StepClasses(2 | 3) => {
                Some(Self::Steps(Box::new(StepScorer::of_classes(model, file))))
            }
            Head::LanguageModel | Head::ScoreAndLength | Head::StepClasses(_) => None,
        }
    }

    /// Loads the reward model in a directory; `None` of a language model, or a head of more classes than three.
    ///
    /// # Errors
    /// If a file of it cannot be used.
    pub fn load(device: D, dir: &Path, options: &LoadOptions) -> Result<Option<Self>, ScorerError> {
        let head = stored_head(dir)?;
        if head == Head::LanguageModel {
            return Ok(None);
        }
        let (model, _) = Model::load(device, dir, &LoadOptions { head, ..*options })?;
        let file = ProcessRewardFile::load(dir)?.unwrap_or_default();
        Ok(Self::new(model, file))
    }

    /// The model; of two, the one that was trained.
    pub fn model(&self) -> &Model<D> {
        match self {
            Self::Whole(model) => model,
            Self::Steps(steps) => steps.model(),
        }
    }

    /// What stands behind each step, where steps are scored.
    pub fn separator(&self) -> Option<&str> {
        match self {
            Self::Whole(_) => None,
            Self::Steps(steps) => Some(steps.separator()),
        }
    }

    /// The scores of answers that are tokens already. Forward passes take at most `tokens_max` rows, or one answer.
    ///
    /// # Panics
    /// If steps are scored and an answer has none.
    pub fn scores(
        &self,
        answers: &[StepTokens],
        aggregate: StepAggregation,
        tokens_max: usize,
    ) -> Vec<Scored> {
        match self {
            Self::Whole(model) => {
                let rows: Vec<usize> = answers.iter().map(|answer| answer.ids.len()).collect();
                let groups = microbatches(&rows, tokens_max).into_iter();
                groups.flat_map(|group| whole(model, &answers[group])).collect()
            }
            Self::Steps(steps) => {
                let of = |scores: Vec<f64>| Scored {
                    score: aggregate.of(&scores).expect("a solution has steps"),
                    steps: Some(scores),
                };
                steps.scores(answers, tokens_max).into_iter().map(of).collect()
            }
        }
    }

    /// The last hidden state of each answer, which the head reads.
    pub fn hidden(&self, answers: &[StepTokens], tokens_max: usize) -> Vec<Vec<f64>> {
        let model = self.model();
        last_states(answers, tokens_max, model.config().width, |batch, rows| {
            model.hidden(&model.forward(batch, Keep::Nothing), rows)
        })
    }

    /// Reads the particles beside a model in a directory too, where there are any; says how many.
    ///
    /// # Errors
    /// If their file cannot be used.
    pub fn load_particles(&mut self, dir: &Path) -> Result<usize, ScorerError> {
        let Self::Whole(model) = self else { return Ok(0) };
        model.load_particles(dir)?;
        Ok(model.particle_count())
    }

    /// What each particle says of each answer, `[answer][particle]`.
    ///
    /// # Panics
    /// If no particles were read.
    pub fn particles(&self, answers: &[StepTokens], tokens_max: usize) -> Vec<Vec<f64>> {
        let model = self.model();
        last_states(answers, tokens_max, model.particle_count(), |batch, rows| {
            model.particle_scores(&model.forward(batch, Keep::Nothing), rows)
        })
    }

    /// A prompt's tokens with an answer to it in the reward model's own.
    ///
    /// # Errors
    /// If its tokenizer refuses.
    pub fn tokens(
        &self,
        tokenizer: &Tokenizer,
        ScoredPrompt { ids: prompt, is_text }: ScoredPrompt<'_>,
        text: &str,
        ended: bool,
    ) -> Result<StepTokens, TokenizerError> {
        match self {
            Self::Whole(_) => {
                // What a policy wrote is text: it spells no special token.
                let answer = tokenizer.encode_continuation(text, SpecialText::Literal)?;
                let mut ids = [prompt, &answer].concat();
                if ended {
                    let end = if is_text { None } else { tokenizer.end_of_turn() };
                    ids.extend(end.or_else(|| tokenizer.eos_for_training()));
                }
                Ok(StepTokens { ids, ends: Vec::new(), prompt_len: prompt.len() })
            }
            Self::Steps(steps) => {
                let separator = steps.separator();
                let parts = Content::Text(text.to_owned()).steps(separator);
                let prompt = match is_text {
                    true => with_first_token(tokenizer, prompt.to_vec()),
                    false => prompt.to_vec(),
                };
                encode_steps(tokenizer, &prompt, &parts, separator)
            }
        }
    }
}

/// The scores of answers that go through the model together.
fn whole<D: Device>(model: &Model<D>, answers: &[StepTokens]) -> Vec<Scored> {
    let (batch, rows) = last_rows(answers);
    let scores = model.scalars(&model.forward(&batch, Keep::Nothing), &rows);
    scores.into_iter().map(|score| Scored { steps: None, score: score.into() }).collect()
}

/// Answers as a batch, with the row of the last token of each.
fn last_rows(answers: &[StepTokens]) -> (Batch, Vec<usize>) {
    let mut batch = Batch::new();
    let row = |answer: &StepTokens| {
        let segment = batch.push(None, &answer.ids);
        batch.last_row(segment).expect("an answer has tokens")
    };
    let rows = answers.iter().map(row).collect();
    (batch, rows)
}

/// As many numbers as `width` of the last token of each answer.
fn last_states(
    answers: &[StepTokens],
    tokens_max: usize,
    width: usize,
    read: impl Fn(&Batch, &[usize]) -> Vec<f32>,
) -> Vec<Vec<f64>> {
    let rows: Vec<usize> = answers.iter().map(|answer| answer.ids.len()).collect();
    let groups = microbatches(&rows, tokens_max).into_iter();
    let of = |group: std::ops::Range<usize>| {
        let (batch, rows) = last_rows(&answers[group]);
        let widened: Vec<f64> = read(&batch, &rows).into_iter().map(f64::from).collect();
        widened.chunks_exact(width).map(<[f64]>::to_vec).collect::<Vec<_>>()
    };
    groups.flat_map(of).collect()
}
