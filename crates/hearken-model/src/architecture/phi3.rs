//! Phi-3, Phi-3.5 and Phi-4: Llama with one matrix for queries, keys and values and one for gate and up.

use super::{Names, QkvNames, llama};
use crate::config::{ConfigError, Family, Keys, ModelConfig};

/// The keys that are read here.
pub(super) const KEYS: &[&str] = &[
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "num_hidden_layers",
    "head_dim",
    "intermediate_size",
    "max_position_embeddings",
    "original_max_position_embeddings",
    "rms_norm_eps",
    "hidden_act",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "partial_rotary_factor",
    "attention_bias",
    "layer_types",
    "sliding_window",
];

pub(super) fn resolve(keys: &Keys<'_>) -> Result<ModelConfig, ConfigError> {
    let mut config = llama::resolve_like_llama(keys, Family::Phi3)?;
    if keys.flag("attention_bias", false)? {
        return Err(keys.unusable("attention_bias", "false: this family has no biases"));
    }
    let window = keys.window("sliding_window")?;
    let kind = if window.is_some() { "sliding_attention" } else { "full_attention" };
    llama::all_layers_are(keys, kind)?;
    config.windows = vec![window; config.layers];
    Ok(config)
}

pub(super) fn names() -> Names {
    Names {
        qkv: QkvNames::Fused("self_attn.qkv_proj"),
        mlp: (None, "mlp.gate_up_proj", "mlp.down_proj"),
        ..llama::names()
    }
}
