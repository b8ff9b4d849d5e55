//! Qwen2 and Qwen2.5: Llama with biases on query, key and value; later layers may have windows.

use super::{Names, llama};
use crate::config::{ConfigError, Family, Keys, ModelConfig};

/// Transformers' default for the first layer that may have a window.
const DEFAULT_MAX_WINDOW_LAYERS: usize = 28;

pub(super) fn resolve(keys: &Keys<'_>) -> Result<ModelConfig, ConfigError> {
    let mut config = llama::resolve_like_llama(keys, Family::Qwen2)?;
    config.qkv_bias = true;
    config.windows = windows(keys, config.layers)?;
    Ok(config)
}

/// The windows of Qwen's layers: by `layer_types`, else from layer `max_window_layers` on.
pub(super) fn windows(keys: &Keys<'_>, layers: usize) -> Result<Vec<Option<usize>>, ConfigError> {
    let window = match keys.flag("use_sliding_window", false)? {
        true => keys.optional_size("sliding_window")?,
        false => None,
    };
    let Some(types) = keys.get("layer_types") else {
        let first = keys.number("max_window_layers", DEFAULT_MAX_WINDOW_LAYERS as f64)? as usize;
        return Ok((0..layers).map(|layer| window.filter(|_| first <= layer)).collect());
    };
    let expected = "one \"full_attention\" or \"sliding_attention\" for each layer";
    let unusable = || keys.unusable("layer_types", expected);
    let types = types.as_array().filter(|types| types.len() == layers).ok_or_else(unusable)?;
    types
        .iter()
        .map(|layer_type| match layer_type.as_str() {
            Some("full_attention") => Ok(None),
            Some("sliding_attention") => Ok(window),
            _ => Err(unusable()),
        })
        .collect()
}

pub(super) fn names() -> Names {
    llama::names()
}
