//! Mistral: Llama whose every layer may have a sliding window.

use super::llama::{self, Defaults};
use super::{Names, windows};
use crate::config::{ConfigError, Family, JsonKeys, ModelConfig};

/// The keys that are read here, beside those of all of Llama's kin.
pub(super) const KEYS: &[&str] = &["use_sliding_window", "sliding_window", "max_window_layers"];

const DEFAULTS: Defaults = Defaults { kv_heads: Some(8), positions: 131_072, ..Defaults::LLAMA };

pub(super) fn resolve(keys: &JsonKeys<'_>) -> Result<ModelConfig, ConfigError> {
    let mut config = llama::resolve_like_llama(keys, Family::Mistral, &DEFAULTS)?;
    let window = windows::length(keys, Some(windows::DEFAULT))?;
    if window.is_some() && keys.get("use_sliding_window").is_some_and(|flag| flag == false) {
        let expected = "true, or null for `sliding_window`: this family's window is always in use";
        return Err(keys.unusable("use_sliding_window", expected));
    }
    let kind = if window.is_some() { "sliding_attention" } else { "full_attention" };
    windows::all_layers_are(keys, kind)?;
    config.windows = vec![window; config.layers];
    Ok(config)
}

pub(super) fn names() -> Names {
    llama::names()
}
