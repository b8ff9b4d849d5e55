//! SmolLM3: Llama, of which every few layers know no positions.

use super::{Names, llama, qwen2};
use crate::config::{ConfigError, Family, Keys, ModelConfig, Rotated, says_none};

/// Transformers' default: of so many layers the last knows no positions.
const DEFAULT_INTERVAL: f64 = 4.0;

/// The keys that are read here, beside those of all of Llama's kin.
pub(super) const KEYS: &[&str] = &[
    "attention_bias",
    "mlp_bias",
    "no_rope_layers",
    "no_rope_layer_interval",
    "use_sliding_window",
    "sliding_window",
    "max_window_layers",
];

pub(super) fn resolve(keys: &Keys<'_>) -> Result<ModelConfig, ConfigError> {
    let mut config = llama::resolve_like_llama(keys, Family::SmolLm3)?;
    llama::read_biases(keys, &mut config)?;
    config.tied_head = keys.flag("tie_word_embeddings", true)?;
    config.rotated = rotated(keys, config.layers)?;
    config.windows = qwen2::layer_windows(keys, config.layers)?;
    if keys.get("layer_types").is_none_or(says_none) {
        // By default the layers that know positions have no windows.
        let windows = config.windows.iter().zip(&config.rotated);
        config.windows =
            windows.map(|(window, rotated)| window.filter(|_| *rotated == Rotated::Not)).collect();
    }
    Ok(config)
}

/// Which layers know positions: 1 in `no_rope_layers` says that one does.
fn rotated(keys: &Keys<'_>, layers: usize) -> Result<Vec<Rotated>, ConfigError> {
    let Some(listed) = keys.get("no_rope_layers").filter(|listed| !says_none(listed)) else {
        let interval = keys.number("no_rope_layer_interval", DEFAULT_INTERVAL)? as usize;
        if interval == 0 {
            return Err(keys.unusable("no_rope_layer_interval", "a count of layers"));
        }
        let rotated = |layer: usize| match layer.is_multiple_of(interval) {
            true => Rotated::Not,
            false => Rotated::Shared,
        };
        return Ok((1..=layers).map(rotated).collect());
    };
    let unusable = || keys.unusable("no_rope_layers", "0 or 1 for each layer");
    let listed = listed.as_array().filter(|listed| layers <= listed.len()).ok_or_else(unusable)?;
    let flag = |value: &serde_json::Value| match value.as_u64() {
        Some(0) => Ok(Rotated::Not),
        Some(1) => Ok(Rotated::Shared),
        _ => Err(unusable()),
    };
    listed.iter().take(layers).map(flag).collect()
}

pub(super) fn names() -> Names {
    llama::names()
}
