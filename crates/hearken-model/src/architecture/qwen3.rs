//! Qwen3: Llama with RMSNorm on query and key heads and a head width of its own.

use super::llama::{self, Defaults};
use super::{Names, qwen2};
use crate::config::{ConfigError, Family, JsonKeys, ModelConfig, QueryKeyNorm};

/// The keys that are read here, beside those of all of Llama's kin.
pub(super) const KEYS: &[&str] =
    &["attention_bias", "use_sliding_window", "sliding_window", "max_window_layers"];

const DEFAULTS: Defaults =
    Defaults { kv_heads: Some(32), head_dim: Some(128), positions: 32_768, ..Defaults::LLAMA };

pub(super) fn resolve(keys: &JsonKeys<'_>) -> Result<ModelConfig, ConfigError> {
    let mut config = llama::resolve_like_llama(keys, Family::Qwen3, &DEFAULTS)?;
    llama::read_attention_bias(keys, &mut config)?;
    config.query_key_norm = QueryKeyNorm::EachHead;
    config.windows = qwen2::layer_windows(keys, config.layers)?;
    Ok(config)
}

pub(super) fn names() -> Names {
    Names { query_key_norm: Some(("self_attn.q_norm", "self_attn.k_norm")), ..llama::names() }
}
