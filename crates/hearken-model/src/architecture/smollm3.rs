//! SmolLM3: Llama, of which every few layers know no positions.

use super::{Names, llama, qwen2};
use crate::config::{ConfigError, Family, Keys, ModelConfig, says_none};

/// Transformers' default: of so many layers the last knows no positions.
const DEFAULT_INTERVAL: f64 = 4.0;

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
    "attention_bias",
    "mlp_bias",
    "no_rope_layers",
    "no_rope_layer_interval",
    "layer_types",
    "use_sliding_window",
    "sliding_window",
    "max_window_layers",
];

pub(super) fn resolve(keys: &Keys<'_>) -> Result<ModelConfig, ConfigError> {
    let bias = keys.flag("attention_bias", false)?;
    let mut config = llama::resolve_like_llama(keys, Family::SmolLm3)?;
    config.qkv_bias = bias;
    config.attention_output_bias = bias;
    config.mlp_bias = keys.flag("mlp_bias", false)?;
    config.tied_head = keys.flag("tie_word_embeddings", true)?;
    config.rotated = rotated(keys, config.layers)?;
    config.windows = qwen2::windows(keys, config.layers)?;
    if keys.get("layer_types").is_none_or(says_none) {
        // By default the layers that know positions have no windows.
        let windows = config.windows.iter().zip(&config.rotated);
        config.windows = windows.map(|(window, rotated)| window.filter(|_| !rotated)).collect();
    }
    Ok(config)
}

/// Which layers know positions: 1 in `no_rope_layers` says that one does.
fn rotated(keys: &Keys<'_>, layers: usize) -> Result<Vec<bool>, ConfigError> {
    let Some(listed) = keys.get("no_rope_layers").filter(|listed| !says_none(listed)) else {
        let interval = keys.number("no_rope_layer_interval", DEFAULT_INTERVAL)? as usize;
        if interval == 0 {
            return Err(keys.unusable("no_rope_layer_interval", "a count of layers"));
        }
        return Ok((1..=layers).map(|layer| !layer.is_multiple_of(interval)).collect());
    };
    let unusable = || keys.unusable("no_rope_layers", "0 or 1 for each layer");
    let listed = listed.as_array().filter(|listed| layers <= listed.len()).ok_or_else(unusable)?;
    let flag = |value: &serde_json::Value| match value.as_u64() {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(unusable()),
    };
    listed.iter().take(layers).map(flag).collect()
}

pub(super) fn names() -> Names {
    llama::names()
}
