//! Solutions whose steps were judged.

use hearken_data::{Content, JudgedSteps, Solution, Source, StepScale};
use hearken_model::steps::StepTokens;
use serde_json::{Map, Value};

use super::encoder::Encoder;
use super::example::{Encoded, Example};
use super::length::KeptSide;
use super::preference::sequence;
use crate::error::EncodeError;

/// A solution, and what was said of its steps.
#[derive(Clone, Debug, PartialEq)]
pub struct StepsExample {
    /// Prompt and steps.
    pub ids: Vec<u32>,
    /// Where steps end, rising, with their labels; at least one has a label.
    pub steps: Vec<StepEnd>,
    /// What the labels say, where the record tells.
    pub scale: Option<StepScale>,
    /// Where the record comes from.
    pub source: Source,
}

/// The last token of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepEnd {
    /// Its place in the sequence.
    pub row: usize,
    /// What was said of the step.
    pub label: Option<f64>,
}

impl Example for StepsExample {
    type Record = JudgedSteps;

    fn encode(record: &JudgedSteps, encoder: &Encoder<'_>) -> Result<Encoded<Self>, EncodeError> {
        let at = &record.source;
        let StepTokens { ids, ends, .. } = encoder.solution(&record.solution, &record.extra, at)?;
        let mut ids = encoder.check(ids, "the record", at)?;
        let labelled = |steps: &[StepEnd]| steps.iter().any(|step| step.label.is_some());
        let ends = ends.into_iter().zip(&record.labels);
        let mut steps: Vec<StepEnd> =
            ends.map(|(row, label)| StepEnd { row, label: *label }).collect();
        if !labelled(&steps) {
            return Err(EncodeError::NoStepLabel { at: at.clone(), steps: steps.len() });
        }
        let kept = encoder.length.keep(ids.len(), at)?;
        match &kept {
            KeptSide::Nothing => return Ok(Encoded::Dropped),
            KeptSide::Part(range) => {
                steps.retain(|step| range.contains(&step.row));
                for step in &mut steps {
                    step.row -= range.start;
                }
                ids = ids[range.clone()].to_vec();
            }
            KeptSide::Whole => {}
        }
        if !labelled(&steps) {
            return Ok(Encoded::Dropped);
        }
        let whole = kept == KeptSide::Whole;
        let example = Self { ids, steps, scale: record.scale, source: at.clone() };
        Ok(if whole { Encoded::Whole(example) } else { Encoded::Truncated(example) })
    }

    fn rows(&self) -> usize {
        self.ids.len()
    }
}

impl Encoder<'_> {
    /// The tokens of a solution and the ends of its steps. `columns` are the further ones of its record, which a chat
    /// template reads.
    ///
    /// # Errors
    /// If the tokenizer is missing or refuses, or a step holds what separates steps.
    pub fn solution(
        &self,
        solution: &Solution,
        columns: &Map<String, Value>,
        at: &Source,
    ) -> Result<StepTokens, EncodeError> {
        match solution {
            Solution::Ids { input_ids, ends } => {
                Ok(StepTokens { ids: input_ids.clone(), ends: ends.clone(), prompt_len: 0 })
            }
            Solution::Texts { prompt, steps } => {
                let separator = self.step_separator;
                // Whoever splits this solution later would find other steps.
                if let Some(step) = steps.iter().position(|step| step.contains(separator)) {
                    let separator = separator.to_owned();
                    return Err(EncodeError::Separator { at: at.clone(), step, separator });
                }
                self.steps(prompt, steps, columns, at)
            }
        }
    }

    /// The tokens at whose last one a completion is scored: behind its prompt, or alone.
    ///
    /// # Errors
    /// If the tokenizer is missing or refuses, a token is unknown, or there is none.
    pub fn completed(
        &self,
        prompt: Option<&Content>,
        completion: &Content,
        columns: &Map<String, Value>,
        at: &Source,
    ) -> Result<Vec<u32>, EncodeError> {
        let (ids, _) = sequence(prompt, completion, columns, self, at)?;
        self.check(ids, "the record", at)
    }
}
