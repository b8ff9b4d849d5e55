//! Mistral: Llama whose every layer may have a sliding window.

use super::{Names, llama};
use crate::config::{ConfigError, Family, Keys, ModelConfig};

/// What Transformers assumes where config.json has no `sliding_window` key at all.
const DEFAULT_WINDOW: usize = 4096;

pub(super) fn resolve(keys: &Keys<'_>) -> Result<ModelConfig, ConfigError> {
    let mut config = llama::resolve_like_llama(keys, Family::Mistral)?;
    let window = match keys.map().contains_key("sliding_window") {
        true => keys.optional_size("sliding_window")?,
        false => Some(DEFAULT_WINDOW),
    };
    config.windows = vec![window; config.layers];
    Ok(config)
}

pub(super) fn names() -> Names {
    llama::names()
}
