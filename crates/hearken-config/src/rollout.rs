//! `[rollout]`: how completions are sampled, or from which file they come instead.

use std::path::PathBuf;

use hearken_objective::reward::MissingEnd;
use hearken_tensor::device::Int8Scales;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::error::Complaint;
use super::number::{
    AtLeastOne, Fraction, NonNegative, Positive, Seconds, Share, count_unless_zero, unless_zero,
};
use super::secret::variable;

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
    /// Iterations that are sampled ahead of those that are trained on, by the policy of that time; 0 is none.
    #[serde(default, deserialize_with = "count_unless_zero")]
    #[schemars(with = "usize")]
    pub ahead: Option<usize>,
    /// Addresses of servers (`hearken serve`, SGLang or vLLM) that sample in place of this process; they can read the run directory.
    #[serde(deserialize_with = "addresses")]
    pub servers: Vec<String>,
    /// The environment variable that has the servers' key for new weights.
    #[serde(default, deserialize_with = "variable")]
    pub server_key_env: Option<String>,
    /// Seconds for an answer of a server.
    pub server_timeout_s: Seconds,
}

impl RolloutConfig {
    /// Checks that completions come from one place.
    ///
    /// # Errors
    /// If servers are named beside something else that says how completions come, or recorded ones are to be sampled.
    pub fn check(&self) -> Result<(), Complaint> {
        if self.ahead.is_some() && self.replay.is_some() {
            let reason = "recorded rollouts are not sampled";
            return Err(Complaint::exclusive("rollout.ahead", "rollout.replay", reason));
        }
        if self.servers.is_empty() {
            return Ok(());
        }
        let exclusive = |key, reason| Err(Complaint::exclusive("rollout.servers", key, reason));
        if self.replay.is_some() {
            return exclusive("rollout.replay", "recorded rollouts are not sampled");
        }
        if self.dtype != SamplingDtype::Model {
            return exclusive(
                "rollout.dtype",
                "how servers hold weights, they were told when they were started",
            );
        }
        Ok(())
    }

    /// Whether what samples has weights that are not, to the last bit, those that are trained.
    pub fn differs(&self) -> bool {
        let has_own = self.dtype.int8().is_some() || !self.servers.is_empty();
        self.replay.is_none() && (has_own || self.ahead.is_some())
    }
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

/// Whether a text begins as the address of a server.
pub(super) fn is_address(text: &str) -> bool {
    ["http://", "https://"].iter().any(|one| text.starts_with(one))
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    use serde::de::{Error, Unexpected};
    let addresses = Vec::<String>::deserialize(deserializer)?;
    match addresses.iter().find(|text| !is_address(text)) {
        Some(other) => {
            let expected = &"addresses as \"http://127.0.0.1:8000\"";
            Err(D::Error::invalid_value(Unexpected::Other(&super::secret::text(other)), expected))
        }
        None => Ok(addresses),
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
