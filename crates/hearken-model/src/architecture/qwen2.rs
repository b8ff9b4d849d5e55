//! Qwen2 and Qwen2.5: Llama with biases on query, key and value; later layers may have windows.

use super::{Names, llama, windows};
use crate::config::{ConfigError, Family, Keys, ModelConfig};

/// Transformers' default for the first layer that may have a window.
const DEFAULT_MAX_WINDOW_LAYERS: usize = 28;

/// The keys that are read here, beside those of all of Llama's kin.
pub(super) const KEYS: &[&str] = &["use_sliding_window", "sliding_window", "max_window_layers"];

pub(super) fn resolve(keys: &Keys<'_>) -> Result<ModelConfig, ConfigError> {
    let mut config = llama::resolve_like_llama(keys, Family::Qwen2)?;
    config.qkv_bias = true;
    config.windows = layer_windows(keys, config.layers)?;
    Ok(config)
}

/// The windows of Qwen's layers: by `layer_types`, else from layer `max_window_layers` on.
pub(super) fn layer_windows(
    keys: &Keys<'_>,
    layers: usize,
) -> Result<Vec<Option<usize>>, ConfigError> {
    let window = match keys.flag("use_sliding_window", false)? {
        true => windows::length(keys)?,
        false => None,
    };
    let first = keys.number("max_window_layers", DEFAULT_MAX_WINDOW_LAYERS as f64)? as usize;
    let has_window = windows::listed(keys, layers)?
        .unwrap_or_else(|| (0..layers).map(|layer| first <= layer).collect());
    Ok(has_window.into_iter().map(|has_window| window.filter(|_| has_window)).collect())
}

pub(super) fn names() -> Names {
    llama::names()
}
