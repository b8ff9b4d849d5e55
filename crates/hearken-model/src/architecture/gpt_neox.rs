//! GPT-NeoX and Pythia: LayerNorm, partly rotated heads, queries, keys and values interleaved by
//! head, parallel residual.

use super::{Names, NormNames, QkvNames, gpt2};
use crate::config::{
    ConfigError, EmbeddingScale, Family, JsonKeys, Logits, Mlp, ModelConfig, Norm, Positions,
    QueryKeyNorm, Residual, RotaryConfig, RotaryKeys, Rotated,
};

/// The keys that are read here.
pub(super) const KEYS: &[&str] = &[
    "hidden_size",
    "num_attention_heads",
    "num_hidden_layers",
    "intermediate_size",
    "max_position_embeddings",
    "layer_norm_eps",
    "hidden_act",
    "attention_bias",
    "use_parallel_residual",
    "rotary_pct",
    "rotary_emb_base",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "partial_rotary_factor",
];

pub(super) fn resolve(keys: &JsonKeys<'_>) -> Result<ModelConfig, ConfigError> {
    let (width, heads) = (keys.size("hidden_size")?, keys.size("num_attention_heads")?);
    let layers = keys.size("num_hidden_layers")?;
    if !width.is_multiple_of(heads) {
        return Err(keys.unusable("num_attention_heads", "a divisor of hidden_size"));
    }
    let head_dim = width / heads;
    let bias = keys.flag("attention_bias", true)?;
    let theta = if keys.get("rope_theta").is_some() { "rope_theta" } else { "rotary_emb_base" };
    let rotary = RotaryKeys {
        theta,
        default_theta: 10_000.0,
        fraction: Some("rotary_pct"),
        default_fraction: 0.25,
    };
    Ok(ModelConfig {
        family: Family::GptNeox,
        vocab: keys.size("vocab_size")?,
        width,
        layers,
        heads,
        kv_heads: heads,
        head_dim,
        inner: keys.size("intermediate_size")?,
        positions: Positions::Rotary(RotaryConfig::read(keys, head_dim, &rotary)?),
        local_rotary: None,
        embedding_scale: EmbeddingScale::One,
        norm: Norm::LayerNorm,
        norm_eps: keys.number("layer_norm_eps", 1e-5)? as f32,
        mlp: Mlp::Gelu(gpt2::gelu(keys, "hidden_act", "gelu")?),
        residual: match keys.flag("use_parallel_residual", true)? {
            true => Residual::Parallel,
            false => Residual::Serial,
        },
        residual_scale: None,
        qkv_bias: bias,
        attention_output_bias: bias,
        mlp_bias: true,
        query_key_norm: QueryKeyNorm::None,
        windows: vec![None; layers],
        rotated: vec![Rotated::Shared; layers],
        attention_scales: vec![1.0 / (head_dim as f32).sqrt(); layers],
        attention_softcap: None,
        logits: Logits::Products,
        tied_head: keys.flag("tie_word_embeddings", false)?,
        max_positions: keys.optional_size("max_position_embeddings")?.unwrap_or(2048),
        bos: keys.token_ids("bos_token_id")?.first().copied(),
        eos: keys.token_ids("eos_token_id")?,
        pad: keys.token_ids("pad_token_id")?.first().copied(),
        initializer_range: keys.number("initializer_range", 0.02)?,
        raw: keys.map().clone(),
    })
}

pub(super) fn names() -> Names {
    Names {
        prefix: "gpt_neox.",
        embedding: "embed_in",
        position_embedding: None,
        layer: "layers.",
        attention_norms: NormNames::before("input_layernorm"),
        qkv: QkvNames::FusedPerHead("attention.query_key_value"),
        query_key_norm: None,
        attention_output: "attention.dense",
        mlp_norms: NormNames::before("post_attention_layernorm"),
        mlp: (None, "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
        final_norm: "final_layer_norm",
        head: "embed_out",
    }
}
