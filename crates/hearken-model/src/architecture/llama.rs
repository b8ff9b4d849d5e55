//! Llama: serial blocks, RMSNorm, rotary positions, gated SiLU, grouped-query attention.

use super::{Names, QkvNames};
use crate::config::{
    ConfigError, Family, Keys, Mlp, ModelConfig, Norm, Positions, QueryKeyNorm, Residual,
    RotaryConfig, RotaryKeys, says_none,
};

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
    "attention_bias",
    "mlp_bias",
    "rope_interleaved",
    "layer_types",
    "use_sliding_window",
    "sliding_window",
    "max_window_layers",
];

pub(super) fn resolve(keys: &Keys<'_>) -> Result<ModelConfig, ConfigError> {
    let bias = keys.flag("attention_bias", false)?;
    let mut config = resolve_like_llama(keys, Family::Llama)?;
    config.qkv_bias = bias;
    config.attention_output_bias = bias;
    config.mlp_bias = keys.flag("mlp_bias", false)?;
    refuse_windows(keys)?;
    if keys.flag("rope_interleaved", false)? {
        return Err(keys.unusable("rope_interleaved", "false"));
    }
    Ok(config)
}

/// Transformers' Llama has no windows: what asks for some was made for another program.
fn refuse_windows(keys: &Keys<'_>) -> Result<(), ConfigError> {
    let is_off = keys.get("use_sliding_window").is_some_and(|flag| flag == false);
    if !is_off && keys.window("sliding_window")?.is_some() {
        return Err(keys.unusable("sliding_window", "null: this family has no windows"));
    }
    all_layers_are(keys, "full_attention")
}

/// Refuses `layer_types` that has another kind.
pub(super) fn all_layers_are(keys: &Keys<'_>, kind: &str) -> Result<(), ConfigError> {
    let Some(types) = keys.get("layer_types").filter(|types| !says_none(types)) else {
        return Ok(());
    };
    let types = types.as_array().map_or(&[][..], Vec::as_slice);
    match !types.is_empty() && types.iter().all(|found| found == kind) {
        true => Ok(()),
        false => Err(keys.unusable("layer_types", &format!("{kind:?} for every layer"))),
    }
}

/// What Llama and its descendants have in common: no biases, no windows.
pub(super) fn resolve_like_llama(
    keys: &Keys<'_>,
    family: Family,
) -> Result<ModelConfig, ConfigError> {
    if !["silu", "swish"].contains(&keys.text("hidden_act", "silu")?) {
        return Err(keys.unusable("hidden_act", "\"silu\""));
    }
    let (width, heads) = (keys.size("hidden_size")?, keys.size("num_attention_heads")?);
    let layers = keys.size("num_hidden_layers")?;
    let head_dim = keys.optional_size("head_dim")?.unwrap_or(width / heads);
    let rotary = RotaryKeys {
        theta: "rope_theta",
        default_theta: if family == Family::SmolLm3 { 2_000_000.0 } else { 10_000.0 },
        fraction: (family == Family::Phi3).then_some("partial_rotary_factor"),
        default_fraction: 1.0,
    };
    let rotary = RotaryConfig::read(keys, head_dim, &rotary)?;
    let positions = keys.optional_size("max_position_embeddings")?.unwrap_or(2048);
    Ok(ModelConfig {
        family,
        vocab: keys.size("vocab_size")?,
        width,
        layers,
        heads,
        kv_heads: keys.optional_size("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        inner: keys.size("intermediate_size")?,
        max_positions: rotary.positions(positions),
        positions: Positions::Rotary(rotary),
        norm: Norm::RmsNorm,
        norm_eps: keys.number("rms_norm_eps", 1e-6)? as f32,
        mlp: Mlp::SiluGated,
        residual: Residual::Serial,
        qkv_bias: false,
        attention_output_bias: false,
        mlp_bias: false,
        query_key_norm: QueryKeyNorm::None,
        windows: vec![None; layers],
        rotated: vec![true; layers],
        attention_scales: vec![1.0 / (head_dim as f32).sqrt(); layers],
        tied_head: keys.flag("tie_word_embeddings", false)?,
        bos: keys.token_ids("bos_token_id")?.first().copied(),
        eos: keys.token_ids("eos_token_id")?,
        pad: keys.token_ids("pad_token_id")?.first().copied(),
        initializer_range: keys.number("initializer_range", 0.02)?,
        raw: keys.map().clone(),
    })
}

pub(super) fn names() -> Names {
    Names {
        prefix: "model.",
        embedding: "embed_tokens",
        position_embedding: None,
        layer: "layers.",
        attention_norm: "input_layernorm",
        qkv: QkvNames::Separate("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        query_key_norm: None,
        attention_output: "self_attn.o_proj",
        mlp_norm: "post_attention_layernorm",
        mlp: (Some("mlp.gate_proj"), "mlp.up_proj", "mlp.down_proj"),
        final_norm: "norm",
        head: "lm_head",
    }
}
