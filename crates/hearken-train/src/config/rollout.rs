//! `[rollout]`: how completions are sampled, or from which file they come instead.

use std::path::PathBuf;

use serde::Deserialize;

use super::error::ConfigError;
use super::layers::Layers;

/// `[rollout]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutConfig {
    /// Logits are divided by it when sampling, and whenever log-probabilities are computed again.
    pub temperature: f64,
    /// Only the most probable tokens whose probabilities sum to this are sampled; 1 = all.
    pub top_p: f64,
    /// Only that many tokens are sampled; `None` = all.
    pub top_k: Option<usize>,
    /// Only tokens at least this many times as probable as the most probable one; 0 = all.
    pub min_p: f64,
    /// The most tokens of a completion.
    pub max_new_tokens: usize,
    /// Texts that end a completion.
    pub stop: Vec<String>,
    /// Completions per prompt.
    pub completions: usize,
    /// Recorded rollouts to train on instead of sampling.
    pub replay: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRollout {
    temperature: f64,
    top_p: f64,
    top_k: usize,
    min_p: f64,
    max_new_tokens: usize,
    stop: Vec<String>,
    completions: usize,
    replay: Option<PathBuf>,
}

impl RolloutConfig {
    /// Reads `[rollout]`.
    ///
    /// # Errors
    /// Names the key that is unknown or out of range.
    pub fn read(layers: &Layers) -> Result<Self, ConfigError> {
        let raw: RawRollout = layers.section("rollout")?;
        let t = raw.temperature;
        let holds = t.is_finite() && 0.0 < t;
        layers.check("rollout.temperature", t, holds, "a number above 0")?;
        let holds = 0.0 < raw.top_p && raw.top_p <= 1.0;
        layers.check("rollout.top_p", raw.top_p, holds, "a number above 0, up to 1")?;
        let holds = (0.0..=1.0).contains(&raw.min_p);
        layers.check("rollout.min_p", raw.min_p, holds, "a number from 0 to 1")?;
        for (key, value) in [
            ("rollout.max_new_tokens", raw.max_new_tokens),
            ("rollout.completions", raw.completions),
        ] {
            layers.check(key, value, 0 < value, "an integer from 1")?;
        }
        let empty = raw.stop.iter().any(String::is_empty);
        layers.check("rollout.stop", "an empty text", !empty, "texts of at least one character")?;
        Ok(Self {
            temperature: t,
            top_p: raw.top_p,
            top_k: (0 < raw.top_k).then_some(raw.top_k),
            min_p: raw.min_p,
            max_new_tokens: raw.max_new_tokens,
            stop: raw.stop,
            completions: raw.completions,
            replay: raw.replay,
        })
    }
}
