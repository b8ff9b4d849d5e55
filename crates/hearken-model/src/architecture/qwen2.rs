//! Qwen2 and Qwen2.5: Llama with biases on query, key and value; later layers may have windows.

use super::{Names, llama};
use crate::config::{ConfigError, Family, Keys, ModelConfig, says_none};

/// Transformers' default where config.json has no `sliding_window` key at all.
const DEFAULT_WINDOW: usize = 4096;
/// Transformers' default for the first layer that may have a window.
const DEFAULT_MAX_WINDOW_LAYERS: usize = 28;

/// The keys that are read here.
pub(super) const KEYS: &[&str] = &[
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "num_hidden_layers",
    "head_dim",
    "intermediate_size",
    "max_position_embeddings",
    "rms_norm_eps",
    "hidden_act",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "partial_rotary_factor",
    "layer_types",
    "use_sliding_window",
    "sliding_window",
    "max_window_layers",
];

pub(super) fn resolve(keys: &Keys<'_>) -> Result<ModelConfig, ConfigError> {
    let mut config = llama::resolve_like_llama(keys, Family::Qwen2)?;
    config.qkv_bias = true;
    config.windows = windows(keys, config.layers)?;
    Ok(config)
}

/// The windows of Qwen's layers: by `layer_types`, else from layer `max_window_layers` on.
pub(super) fn windows(keys: &Keys<'_>, layers: usize) -> Result<Vec<Option<usize>>, ConfigError> {
    let window = match keys.flag("use_sliding_window", false)? {
        true if !keys.map().contains_key("sliding_window") => Some(DEFAULT_WINDOW),
        true => keys.window("sliding_window")?,
        false => None,
    };
    let Some(types) = keys.get("layer_types").filter(|types| !says_none(types)) else {
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
