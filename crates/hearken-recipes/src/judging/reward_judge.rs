//! Preferences and scores of a reward model in this process.

use std::path::Path;

use hearken_config::Truncation;
use hearken_data::feedback::Item;
use hearken_data::feedback::formats::contents_of;
use hearken_data::{Content, Solution, Source};
use hearken_judge::JudgeError;
use hearken_model::steps::StepTokens;
use hearken_model::{LoadOptions, Masters, Tokenizer};
use hearken_reward_source::StepAggregation;
use hearken_run::encode::{Encoder, LengthLimit};
use hearken_run::trained_model::load_tokenizer;
use hearken_tensor::Device;
use hearken_tensor::device::Precision;
use serde_json::Map;

use crate::search::Scorer;

/// Tokens that go through the model together.
const TOKENS_TOGETHER: usize = 4096;

/// A reward model with its tokenizer.
pub struct RewardJudge<D: Device> {
    name: String,
    scorer: Scorer<D>,
    tokenizer: Tokenizer,
    /// How many particles were read.
    particles: usize,
}

impl<D: Device> RewardJudge<D> {
    /// Reads the reward model in `dir`; it is known as `name`.
    ///
    /// # Errors
    /// If it cannot be used, or is none.
    pub fn load(
        device: D,
        dir: &Path,
        name: &str,
        precision: Precision,
        masters: Masters,
    ) -> Result<Self, JudgeError> {
        let failed =
            |reason: String| JudgeError::Model { model: dir.display().to_string(), reason };
        let options = LoadOptions { precision, masters, ..LoadOptions::scorer() };
        let scorer =
            Scorer::load(device, dir, &options).map_err(|error| failed(error.to_string()))?;
        let scorer = scorer.ok_or_else(|| {
            failed("found a language model without a score head, expected a reward model".into())
        })?;
        let tokenizer = load_tokenizer(dir).map_err(|error| failed(error.to_string()))?;
        let tokenizer =
            tokenizer.ok_or_else(|| failed("found no tokenizer.json, expected one".into()))?;
        Ok(Self::of(name, scorer, tokenizer))
    }

    /// One that was read already, known as `name`.
    pub fn of(name: &str, scorer: Scorer<D>, tokenizer: Tokenizer) -> Self {
        Self { name: name.to_owned(), scorer, tokenizer, particles: 0 }
    }

    /// The score of every candidate of every item: `scores[item][candidate]`. It reads what a trainer of reward models reads
    /// of them.
    ///
    /// # Errors
    /// If an item cannot be read, or is longer than the model takes.
    pub fn scores(&self, items: &[&Item]) -> Result<Vec<Vec<f64>>, JudgeError> {
        let tokens = self.tokens_of(items)?;
        let scored = self.scorer.scores(&tokens, StepAggregation::default(), TOKENS_TOGETHER);
        let mut scored = scored.into_iter().map(|one| one.score);
        let of = |item: &&Item| scored.by_ref().take(item.candidates.len()).collect();
        Ok(items.iter().map(of).collect())
    }

    /// The last hidden state of every candidate of every item: `states[item][candidate][coordinate]`.
    ///
    /// # Errors
    /// As [`scores`](Self::scores).
    pub fn hidden(&self, items: &[&Item]) -> Result<Vec<Vec<Vec<f64>>>, JudgeError> {
        let tokens = self.tokens_of(items)?;
        let mut states = self.scorer.hidden(&tokens, TOKENS_TOGETHER).into_iter();
        let of = |item: &&Item| states.by_ref().take(item.candidates.len()).collect();
        Ok(items.iter().map(of).collect())
    }

    /// Reads the particles beside the reward model in `dir` too, where there are any.
    ///
    /// # Errors
    /// If their file cannot be used.
    pub fn load_particles(&mut self, dir: &Path) -> Result<(), JudgeError> {
        let failed =
            |reason: String| JudgeError::Model { model: dir.display().to_string(), reason };
        self.particles =
            self.scorer.load_particles(dir).map_err(|error| failed(error.to_string()))?;
        Ok(())
    }

    /// What each particle says of every candidate of every item, `[item][candidate][particle]`; where none were read, the score alone.
    ///
    /// # Errors
    /// As [`scores`](Self::scores).
    pub fn opinions(&self, items: &[&Item]) -> Result<Vec<Vec<Vec<f64>>>, JudgeError> {
        if self.particles == 0 {
            let alone = |scores: Vec<f64>| scores.into_iter().map(|score| vec![score]).collect();
            return Ok(self.scores(items)?.into_iter().map(alone).collect());
        }
        let tokens = self.tokens_of(items)?;
        let mut said = self.scorer.particles(&tokens, TOKENS_TOGETHER).into_iter();
        let of = |item: &&Item| said.by_ref().take(item.candidates.len()).collect();
        Ok(items.iter().map(of).collect())
    }

    fn tokens_of(&self, items: &[&Item]) -> Result<Vec<StepTokens>, JudgeError> {
        let mut tokens: Vec<StepTokens> = Vec::new();
        for item in items {
            let failed = |reason: String| JudgeError::Model {
                model: self.name.clone(),
                reason: format!("the item {:?}: {reason}", item.id),
            };
            let (prompt, answers) = contents_of(item).map_err(|reason| failed(reason.into()))?;
            for answer in &answers {
                let found = self.tokens(prompt.as_ref(), answer);
                tokens.push(found.map_err(|error| failed(error.to_string()))?);
            }
        }
        Ok(tokens)
    }

    fn tokens(
        &self,
        prompt: Option<&Content>,
        answer: &Content,
    ) -> Result<StepTokens, hearken_run::error::EncodeError> {
        let config = self.scorer.model().config();
        let encoder = Encoder {
            tokenizer: Some(&self.tokenizer),
            vocab: config.vocab,
            length: LengthLimit { tokens_max: config.max_positions, truncation: Truncation::Error },
            completion_only: true,
            step_separator: self.scorer.separator().unwrap_or_default(),
        };
        let (columns, at) = (Map::new(), Source::default());
        if let (Some(separator), Some(prompt)) = (self.scorer.separator(), prompt) {
            let steps = answer.steps(separator);
            let solution = Solution::Texts { prompt: prompt.clone(), steps };
            return encoder.solution(&solution, &columns, &at);
        }
        let ids = encoder.completed(prompt, answer, &columns, &at)?;
        Ok(StepTokens { ids, ends: Vec::new(), prompt_len: 0 })
    }
}
