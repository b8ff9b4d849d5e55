//! `[rollout]`: how completions are sampled, or from which file they come instead.

use std::path::PathBuf;

use hearken_objective::reward::MissingEnd;
use hearken_tensor::device::Int8Scales;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::number::{
    AtLeastOne, Fraction, NonNegative, Positive, Share, count_unless_zero, unless_zero,
};

/// `[rollout]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutConfig {
    /// Logits are divided by it when sampling, and whenever log-probabilities are computed again.
    pub temperature: Positive,
    /// Only the most probable tokens whose probabilities sum to this are sampled; 1 is all.
    pub top_p: Share,
    /// Only that many tokens are sampled; 0 is all.
    #[serde(deserialize_with = "count_unless_zero")]
    #[schemars(with = "usize")]
    pub top_k: Option<usize>,
    /// Only tokens at least this many times as probable as the most probable one; 0 is all.
    pub min_p: Fraction,
    /// The most tokens of a completion.
    pub max_new_tokens: AtLeastOne,
    /// What weights are held in while completions are sampled.
    pub dtype: SamplingDtype,
    /// Texts that end a completion.
    #[serde(deserialize_with = "texts")]
    pub stop: Vec<String>,
    /// Completions per prompt.
    pub completions: AtLeastOne,
    /// Recorded rollouts to train on instead of sampling.
    pub replay: Option<PathBuf>,
}

/// What weights are held in while completions are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SamplingDtype {
    /// As the model is trained, `model.dtype`.
    Model,
    /// Eight bits, a scale for every 64 inputs of an output, rounded anew for every iteration.
    Int8,
}

impl SamplingDtype {
    /// What shares a scale, if weights are rounded to eight bits.
    pub fn int8(self) -> Option<Int8Scales> {
        match self {
            Self::Model => None,
            Self::Int8 => Some(Int8Scales::PerGroup),
        }
    }
}

fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    use serde::de::{Error, Unexpected};
    let texts = Vec::<String>::deserialize(deserializer)?;
    let (found, expected) =
        (Unexpected::Other("an empty text"), &"texts of at least one character");
    let empty = texts.iter().any(String::is_empty);
    if empty { Err(D::Error::invalid_value(found, expected)) } else { Ok(texts) }
}

/// Reads what a completion without an end loses of its score; 0 is nothing.
///
/// # Errors
/// If it is not a number from 0.
pub fn missing_end<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MissingEnd, D::Error> {
    let penalty: Option<NonNegative> = unless_zero(deserializer)?;
    Ok(penalty.map_or(MissingEnd::Keep, |penalty| MissingEnd::Subtract { penalty: *penalty }))
}
