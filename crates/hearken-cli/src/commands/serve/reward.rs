//! A reward model, as `hearken score` scores with it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use hearken_data::Answer;
use hearken_hub::ModelPart;
use hearken_model::{LoadOptions, Masters, Tokenizer};
use hearken_recipes::search::Scorer;
use hearken_reward_source::StepAggregation;
use hearken_run::trained_model::load_tokenizer;
use hearken_serve::parts::{RewardScorer, Scored};
use hearken_tensor::AnyDevice;
use serde_json::{Map, Value};

use crate::commands::score::encode;
use crate::{device, hub};

/// The most tokens that go through the model at once.
const MICROBATCH_TOKENS: usize = 4096;

/// A reward model with its tokenizer.
pub(super) struct RewardModel {
    name: String,
    version: String,
    scorer: Scorer<AnyDevice>,
    tokenizer: Option<Tokenizer>,
}

impl RewardModel {
    pub(super) fn load(path: &Path) -> Result<Self> {
        let dir: PathBuf = hub::model(path, ModelPart::Whole)?;
        let options = LoadOptions { masters: Masters::Drop, ..LoadOptions::language_model() };
        let scorer = Scorer::load(device::open(), &dir, &options)?.with_context(|| {
            format!("{}: found no score head, expected a reward model", dir.display())
        })?;
        let version = hearken_serve::version(std::slice::from_ref(&dir))
            .with_context(|| dir.display().to_string())?;
        let tokenizer = load_tokenizer(&dir)?;
        Ok(Self { name: path.display().to_string(), version, scorer, tokenizer })
    }
}

impl RewardScorer for RewardModel {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn positions(&self) -> usize {
        self.scorer.model().config().max_positions
    }

    fn score(&self, answers: Vec<Map<String, Value>>) -> Result<Vec<Scored>, (usize, String)> {
        let mut encoded = Vec::new();
        for (index, columns) in answers.into_iter().enumerate() {
            let answer: Answer = serde_json::from_value(Value::Object(columns))
                .map_err(|error| (index, error.to_string()))?;
            let tokens = encode(&self.scorer, self.tokenizer.as_ref(), &[answer]);
            // Where the answer stands the index says.
            let tokens = tokens.map_err(|error| {
                let message = format!("{error:#}");
                let message = message.strip_prefix("(in memory): ").unwrap_or(&message).to_owned();
                (index, message)
            })?;
            encoded.extend(tokens);
        }
        let scored = self.scorer.scores(&encoded, StepAggregation::Product, MICROBATCH_TOKENS);
        let scored = scored.into_iter().zip(&encoded).map(|(scored, tokens)| Scored {
            score: scored.score,
            steps: scored.steps,
            tokens: tokens.ids.len(),
        });
        Ok(scored.collect())
    }
}
