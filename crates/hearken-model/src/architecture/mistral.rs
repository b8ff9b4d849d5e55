//! Mistral: Llama whose every layer may have a sliding window.

use super::{Names, llama};
use crate::config::{ConfigError, Family, Keys, ModelConfig};

/// What Transformers assumes where config.json has no `sliding_window` key at all.
const DEFAULT_WINDOW: usize = 4096;

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
    let mut config = llama::resolve_like_llama(keys, Family::Mistral)?;
    let window = match keys.map().contains_key("sliding_window") {
        true => keys.window("sliding_window")?,
        false => Some(DEFAULT_WINDOW),
    };
    if window.is_some() && keys.get("use_sliding_window").is_some_and(|flag| flag == false) {
        let expected = "true, or null for `sliding_window`: this family's window is always in use";
        return Err(keys.unusable("use_sliding_window", expected));
    }
    let kind = if window.is_some() { "sliding_attention" } else { "full_attention" };
    llama::all_layers_are(keys, kind)?;
    config.windows = vec![window; config.layers];
    Ok(config)
}

pub(super) fn names() -> Names {
    llama::names()
}
