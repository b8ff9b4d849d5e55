//! Qwen2 and Qwen2.5: Llama with biases on query, key and value; later layers may have windows.

use super::llama::{self, Defaults};
use super::{Names, windows};
use crate::config::{ConfigError, Family, JsonKeys, ModelConfig};

/// Transformers' default for the first layer that may have a window.
const DEFAULT_MAX_WINDOW_LAYERS: usize = 28;

/// The keys that are read here, beside those of all of Llama's kin.
pub(super) const KEYS: &[&str] = &["use_sliding_window", "sliding_window", "max_window_layers"];

const DEFAULTS: Defaults = Defaults { kv_heads: Some(32), positions: 32_768, ..Defaults::LLAMA };

pub(super) fn resolve(keys: &JsonKeys<'_>) -> Result<ModelConfig, ConfigError> {
    let mut config = llama::resolve_like_llama(keys, Family::Qwen2, &DEFAULTS)?;
    config.qkv_bias = true;
    config.windows = layer_windows(keys, config.layers)?;
    Ok(config)
}

/// The windows of Qwen's layers: by `layer_types`, else from layer `max_window_layers` on.
pub(super) fn layer_windows(
    keys: &JsonKeys<'_>,
    layers: usize,
) -> Result<Vec<Option<usize>>, ConfigError> {
    let first = keys.number("max_window_layers", DEFAULT_MAX_WINDOW_LAYERS as f64)? as usize;
    windows::where_on(keys, layers, Some(windows::DEFAULT), |layer| first <= layer)
}

pub(super) fn names() -> Names {
    llama::names()
}
