//! SmolLM3: Llama, of which every few layers know no positions.

use super::llama::{self, Defaults};
use super::{Names, windows};
use crate::config::{ConfigError, Family, JsonKeys, ModelConfig, Rotated, says_none};

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
    // Published configurations have it; Transformers reads it for other families.
    "max_window_layers",
];

const DEFAULTS: Defaults = Defaults {
    kv_heads: Some(4),
    positions: 32_768,
    tied_head: true,
    theta: 2_000_000.0,
    ..Defaults::LLAMA
};

pub(super) fn resolve(keys: &JsonKeys<'_>) -> Result<ModelConfig, ConfigError> {
    let mut config = llama::resolve_like_llama(keys, Family::SmolLm3, &DEFAULTS)?;
    llama::read_biases(keys, &mut config)?;
    config.rotated = rotated(keys, config.layers)?;
    // By default it is the layers that know no positions that have windows.
    let rotated = &config.rotated;
    let rule = |layer: usize| rotated[layer] == Rotated::Not;
    config.windows = windows::where_on(keys, config.layers, None, rule)?;
    Ok(config)
}

/// Which layers know positions: 1 in `no_rope_layers` says that one does.
fn rotated(keys: &JsonKeys<'_>, layers: usize) -> Result<Vec<Rotated>, ConfigError> {
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
