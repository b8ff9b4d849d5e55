//! Phi-3, Phi-3.5 and Phi-4: Llama with one matrix for queries, keys and values and one for gate and up.

use super::llama::{self, Defaults};
use super::{Names, QkvNames, windows};
use crate::config::{ConfigError, Family, JsonKeys, ModelConfig};

/// The keys that are read here, beside those of all of Llama's kin.
pub(super) const KEYS: &[&str] =
    &["original_max_position_embeddings", "attention_bias", "sliding_window"];

const DEFAULTS: Defaults = Defaults { positions: 4096, norm_eps: 1e-5, ..Defaults::LLAMA };

pub(super) fn resolve(keys: &JsonKeys<'_>) -> Result<ModelConfig, ConfigError> {
    for key in ["rope_parameters", "rope_scaling"] {
        if let Some(parameters) = keys.object(key)? {
            check_rotary(keys, &parameters)?;
        }
    }
    let mut config = llama::resolve_like_llama(keys, Family::Phi3, &DEFAULTS)?;
    if keys.flag("attention_bias", false)? {
        return Err(keys.unusable("attention_bias", "false: this family has no biases"));
    }
    let window = keys.window("sliding_window")?;
    let kind = if window.is_some() { "sliding_attention" } else { "full_attention" };
    windows::all_layers_are(keys, kind)?;
    config.windows = vec![window; config.layers];
    Ok(config)
}

/// Positions of this family are stretched by LongRoPE or not at all, from a length that stands beside the
/// rotary parameters.
fn check_rotary(keys: &JsonKeys<'_>, parameters: &JsonKeys<'_>) -> Result<(), ConfigError> {
    const ORIGINAL: &str = "original_max_position_embeddings";
    let key = if parameters.get("rope_type").is_some() { "rope_type" } else { "type" };
    match parameters.text(key, "default")? {
        "default" => return Ok(()),
        "longrope" | "su" => {}
        _ => {
            let expected =
                "\"longrope\" or \"default\": this family has no other rotary parameters";
            return Err(parameters.unusable(key, expected));
        }
    }
    let original = keys.size(ORIGINAL)?;
    if parameters.optional_size(ORIGINAL)?.is_some_and(|own| own != original) {
        let expected =
            format!("{original}, as beside the rotary parameters, where Transformers reads it");
        return Err(parameters.unusable(ORIGINAL, &expected));
    }
    Ok(())
}

pub(super) fn names() -> Names {
    Names {
        qkv: QkvNames::Fused("self_attn.qkv_proj"),
        mlp: (None, "mlp.gate_up_proj", "mlp.down_proj"),
        ..llama::names()
    }
}
