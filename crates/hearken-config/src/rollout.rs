//! `[rollout]`: how completions are sampled, or from which file they come instead.

use std::path::PathBuf;

use hearken_objective::reward::MissingEnd;
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
    /// Texts that end a completion.
    #[serde(deserialize_with = "texts")]
    pub stop: Vec<String>,
    /// Completions per prompt.
    pub completions: AtLeastOne,
    /// Recorded rollouts to train on instead of sampling.
    pub replay: Option<PathBuf>,
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
