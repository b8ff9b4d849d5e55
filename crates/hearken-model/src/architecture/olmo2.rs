//! OLMo 2: Llama with norms behind attention and feed-forward instead of before, and on all queries and all
//! keys of a row.

use super::{Names, llama};
use crate::config::{ConfigError, Family, Keys, ModelConfig, QueryKeyNorm, Residual};

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
];

pub(super) fn resolve(keys: &Keys<'_>) -> Result<ModelConfig, ConfigError> {
    let bias = keys.flag("attention_bias", false)?;
    let mut config = llama::resolve_like_llama(keys, Family::Olmo2)?;
    config.qkv_bias = bias;
    config.attention_output_bias = bias;
    config.residual = Residual::NormedOutputs;
    config.query_key_norm = QueryKeyNorm::AllHeads;
    config.norm_eps = keys.number("rms_norm_eps", 1e-5)? as f32;
    llama::all_layers_are(keys, "full_attention")?;
    Ok(config)
}

pub(super) fn names() -> Names {
    Names {
        attention_norm: "post_attention_layernorm",
        mlp_norm: "post_feedforward_layernorm",
        query_key_norm: Some(("self_attn.q_norm", "self_attn.k_norm")),
        ..llama::names()
    }
}
