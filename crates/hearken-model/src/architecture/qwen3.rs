//! Qwen3: Llama with RMSNorm on query and key heads and a head width of its own.

use super::{Names, llama, qwen2};
use crate::config::{ConfigError, Family, Keys, ModelConfig};

pub(super) fn resolve(keys: &Keys<'_>) -> Result<ModelConfig, ConfigError> {
    let bias = keys.flag("attention_bias", false)?;
    let mut config = llama::resolve_like_llama(keys, Family::Qwen3)?;
    config.qkv_bias = bias;
    config.attention_output_bias = bias;
    config.query_key_norm = true;
    config.windows = qwen2::windows(keys, config.layers)?;
    Ok(config)
}

pub(super) fn names() -> Names {
    Names { query_key_norm: Some(("self_attn.q_norm", "self_attn.k_norm")), ..llama::names() }
}
