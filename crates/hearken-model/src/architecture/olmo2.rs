//! OLMo 2: Llama with norms behind attention and feed-forward instead of before, and on all queries and all
//! keys of a row.

use super::llama::{self, Defaults};
use super::{Names, NormNames, windows};
use crate::config::{ConfigError, Family, JsonKeys, ModelConfig, QueryKeyNorm};

/// The keys that are read here, beside those of all of Llama's kin.
pub(super) const KEYS: &[&str] = &["attention_bias"];

const DEFAULTS: Defaults = Defaults { norm_eps: 1e-5, ..Defaults::LLAMA };

pub(super) fn resolve(keys: &JsonKeys<'_>) -> Result<ModelConfig, ConfigError> {
    let mut config = llama::resolve_like_llama(keys, Family::Olmo2, &DEFAULTS)?;
    like_olmo(keys, &mut config)?;
    windows::all_layers_are(keys, "full_attention")?;
    Ok(config)
}

/// What OLMo 2 and 3 have of their own.
pub(super) fn like_olmo(keys: &JsonKeys<'_>, config: &mut ModelConfig) -> Result<(), ConfigError> {
    llama::read_attention_bias(keys, config)?;
    config.query_key_norm = QueryKeyNorm::AllHeads;
    Ok(())
}

pub(super) fn names() -> Names {
    Names {
        attention_norms: NormNames::after("post_attention_layernorm"),
        mlp_norms: NormNames::after("post_feedforward_layernorm"),
        query_key_norm: Some(("self_attn.q_norm", "self_attn.k_norm")),
        ..llama::names()
    }
}
