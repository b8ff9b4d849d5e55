//! Gemma 1 to 3 (the language models): Llama with gates of GELU, scaled embeddings and norms that multiply by
//! 1 + weight. Gemma 2 adds norms behind the parts of a block, windows in every other layer and bounds of
//! scores and logits; Gemma 3 norms of heads, and other positions for the layers with windows.

use hearken_tensor::device::{Gate, Gelu};

use super::llama::{self, Defaults, Kin};
use super::{Names, NormNames, gpt2, windows};
use crate::config::{
    ConfigError, EmbeddingScale, Family, JsonKeys, Logits, Mlp, ModelConfig, Norm, QueryKeyNorm,
    RotaryConfig, RotaryKeys,
};

/// The keys that Gemma 1 reads, beside those of all of Llama's kin.
pub(super) const KEYS_FIRST: &[&str] =
    &["hidden_activation", "attention_bias", "use_bidirectional_attention"];

/// The keys that Gemma 2 reads.
pub(super) const KEYS_SECOND: &[&str] = &[
    "hidden_activation",
    "attention_bias",
    "use_bidirectional_attention",
    "query_pre_attn_scalar",
    "sliding_window",
    "sliding_window_size",
    "sliding_window_pattern",
    "attn_logit_softcapping",
    "final_logit_softcapping",
];

/// The keys that Gemma 3 reads.
pub(super) const KEYS_THIRD: &[&str] = &[
    "hidden_activation",
    "attention_bias",
    "use_bidirectional_attention",
    "query_pre_attn_scalar",
    "rope_local_base_freq",
    "sliding_window",
    "sliding_window_size",
    "sliding_window_pattern",
    "_sliding_window_pattern",
    "attn_logit_softcapping",
    "final_logit_softcapping",
];

const FIRST: Defaults = Defaults {
    kv_heads: Some(16),
    head_dim: Some(256),
    positions: 8192,
    tied_head: true,
    ..Defaults::LLAMA
};
const SECOND: Defaults = Defaults { kv_heads: Some(4), ..FIRST };
const THIRD: Defaults = Defaults { positions: 131_072, theta: 1_000_000.0, ..SECOND };
/// Transformers' default of `rope_local_base_freq`.
const LOCAL_THETA: f64 = 10_000.0;
/// Transformers' default of `query_pre_attn_scalar`.
const DEFAULT_QUERY_SCALAR: f64 = 256.0;
/// Transformers' default of `sliding_window_pattern` for Gemma 3: the last of so many layers has no window.
const DEFAULT_PATTERN: usize = 6;

pub(super) fn resolve_first(keys: &JsonKeys<'_>) -> Result<ModelConfig, ConfigError> {
    let config = resolve(keys, Family::Gemma, &FIRST)?;
    windows::all_layers_are(keys, "full_attention")?;
    Ok(config)
}

pub(super) fn resolve_second(keys: &JsonKeys<'_>) -> Result<ModelConfig, ConfigError> {
    let mut config = resolve(keys, Family::Gemma2, &SECOND)?;
    config.windows = windows::by_layer(keys, config.layers, |layer| layer.is_multiple_of(2))?;
    let pattern = keys.optional_size("sliding_window_pattern")?;
    if pattern.is_some_and(|pattern| pattern != 2)
        && windows::listed(keys, config.layers)?.is_none()
    {
        let expected = "2: of two layers one has a window, or `layer_types` lists them";
        return Err(keys.unusable("sliding_window_pattern", expected));
    }
    read_query_scalar(keys, &mut config)?;
    config.attention_softcap = softcap(keys, "attn_logit_softcapping", Some(50.0))?;
    config.logits = logits(keys, Some(30.0))?;
    Ok(config)
}

pub(super) fn resolve_third(keys: &JsonKeys<'_>) -> Result<ModelConfig, ConfigError> {
    let mut config = resolve(keys, Family::Gemma3, &THIRD)?;
    let pattern = keys.optional_size("sliding_window_pattern")?.unwrap_or(DEFAULT_PATTERN);
    let is_listed = windows::listed(keys, config.layers)?.is_some();
    let second = keys.optional_size("_sliding_window_pattern")?;
    if second.is_some_and(|second| second != pattern) && !is_listed {
        let expected = format!("{pattern}, as `sliding_window_pattern`, or `layer_types`");
        return Err(keys.unusable("_sliding_window_pattern", &expected));
    }
    let has_window = |layer: usize| !(layer + 1).is_multiple_of(pattern);
    config.windows = windows::by_layer(keys, config.layers, has_window)?;
    config.rotated = llama::rotated_by_window(&config.windows);
    config.query_key_norm = QueryKeyNorm::EachHead;
    read_query_scalar(keys, &mut config)?;
    if softcap(keys, "attn_logit_softcapping", None)?.is_some() {
        let expected = "null: Transformers bounds no scores of Gemma 3, whatever this says";
        return Err(keys.unusable("attn_logit_softcapping", expected));
    }
    config.logits = logits(keys, None)?;
    Ok(config)
}

/// What all have in common.
fn resolve(
    keys: &JsonKeys<'_>,
    family: Family,
    defaults: &Defaults,
) -> Result<ModelConfig, ConfigError> {
    if keys.flag("use_bidirectional_attention", false)? {
        let expected = "false: tokens see those before them";
        return Err(keys.unusable("use_bidirectional_attention", expected));
    }
    let head_dim = defaults.head_dim(keys)?;
    let shared = defaults.rotary_keys();
    let (rotary, local_rotary) = match family {
        Family::Gemma3 => {
            let local = RotaryKeys {
                theta: "rope_local_base_freq",
                default_theta: LOCAL_THETA,
                ..defaults.rotary_keys()
            };
            let [rotary, local] = RotaryConfig::read_by_kind(keys, head_dim, [&shared, &local])?;
            (rotary, Some(local))
        }
        _ => (RotaryConfig::read(keys, head_dim, &shared)?, None),
    };
    let mlp = Mlp::Gated(gate(keys, family)?);
    let mut config =
        llama::resolve_kin(keys, defaults, Kin { family, head_dim, rotary, local_rotary, mlp })?;
    llama::read_attention_bias(keys, &mut config)?;
    config.norm = Norm::ShiftedRmsNorm;
    config.embedding_scale = EmbeddingScale::Rounded((config.width as f64).sqrt() as f32);
    refuse_other_length(keys)?;
    Ok(config)
}

/// Old configurations of Gemma 2 say the length of windows twice.
fn refuse_other_length(keys: &JsonKeys<'_>) -> Result<(), ConfigError> {
    let second = keys.optional_size("sliding_window_size")?;
    if second.is_some() && second != windows::length(keys, Some(windows::DEFAULT))? {
        return Err(keys.unusable("sliding_window_size", "as `sliding_window`"));
    }
    Ok(())
}

/// What the gate goes through: `hidden_act` of Gemma 1, `hidden_activation` of the others. Where both stand
/// there, they say the same.
fn gate(keys: &JsonKeys<'_>, family: Family) -> Result<Gate, ConfigError> {
    let (own, other) = match family {
        Family::Gemma => ("hidden_act", "hidden_activation"),
        _ => ("hidden_activation", "hidden_act"),
    };
    let read = |key: &str| match (key, keys.text(key, "gelu_pytorch_tanh")?) {
        (_, "silu" | "swish") => Ok(Gate::Silu),
        // In this key the published models mean the other form by it, and Transformers takes it so.
        ("hidden_act", "gelu") => Ok(Gate::Gelu(Gelu::Tanh)),
        _ => Ok(Gate::Gelu(gpt2::gelu(keys, key, "gelu_pytorch_tanh")?)),
    };
    let gate = read(own)?;
    if keys.get(other).is_some() && read(other)? != gate {
        return Err(keys.unusable(other, &format!("as `{own}`, which says what is computed")));
    }
    Ok(gate)
}

fn read_query_scalar(keys: &JsonKeys<'_>, config: &mut ModelConfig) -> Result<(), ConfigError> {
    let scalar = keys.number("query_pre_attn_scalar", DEFAULT_QUERY_SCALAR)?;
    if scalar <= 0.0 {
        return Err(keys.unusable("query_pre_attn_scalar", "a positive number"));
    }
    config.attention_scales = vec![(1.0 / scalar.sqrt()) as f32; config.layers];
    Ok(())
}

fn logits(keys: &JsonKeys<'_>, default: Option<f32>) -> Result<Logits, ConfigError> {
    let cap = softcap(keys, "final_logit_softcapping", default)?;
    Ok(cap.map_or(Logits::Products, Logits::Capped))
}

/// A bound: null is none, and no key the default.
fn softcap(
    keys: &JsonKeys<'_>,
    key: &str,
    default: Option<f32>,
) -> Result<Option<f32>, ConfigError> {
    match keys.map().get(key) {
        None => Ok(default),
        Some(serde_json::Value::Null) => Ok(None),
        Some(_) => {
            let cap = keys.number(key, 0.0)?;
            match 0.0 < cap {
                true => Ok(Some(cap as f32)),
                false => Err(keys.unusable(key, "a positive number, or null")),
            }
        }
    }
}

pub(super) fn names_second() -> Names {
    Names {
        attention_norms: NormNames::both("input_layernorm", "post_attention_layernorm"),
        mlp_norms: NormNames::both("pre_feedforward_layernorm", "post_feedforward_layernorm"),
        ..llama::names()
    }
}

pub(super) fn names_third() -> Names {
    Names { query_key_norm: Some(("self_attn.q_norm", "self_attn.k_norm")), ..names_second() }
}
