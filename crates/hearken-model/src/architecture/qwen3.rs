//! Qwen3: Llama with RMSNorm on query and key heads and a head width of its own.

use super::{Names, llama, qwen2};
use crate::config::{ConfigError, Family, Keys, ModelConfig, QueryKeyNorm};

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
    "layer_types",
    "use_sliding_window",
    "sliding_window",
    "max_window_layers",
];

pub(super) fn resolve(keys: &Keys<'_>) -> Result<ModelConfig, ConfigError> {
    let bias = keys.flag("attention_bias", false)?;
    let mut config = llama::resolve_like_llama(keys, Family::Qwen3)?;
    config.qkv_bias = bias;
    config.attention_output_bias = bias;
    config.query_key_norm = QueryKeyNorm::EachHead;
    config.windows = qwen2::windows(keys, config.layers)?;
    Ok(config)
}

pub(super) fn names() -> Names {
    Names { query_key_norm: Some(("self_attn.q_norm", "self_attn.k_norm")), ..llama::names() }
}
