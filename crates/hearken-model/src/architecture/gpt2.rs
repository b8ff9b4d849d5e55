//! GPT-2: learned positions, LayerNorm, GELU, weights stored inputs by outputs.

use hearken_tensor::device::Gelu;

use super::{Names, NormNames, QkvNames};
use crate::config::{
    ConfigError, EmbeddingScale, Family, JsonKeys, Logits, Mlp, ModelConfig, Norm, Positions,
    QueryKeyNorm, Residual, Rotated,
};

/// The keys that are read here.
pub(super) const KEYS: &[&str] = &[
    "n_embd",
    "n_head",
    "n_layer",
    "n_inner",
    "n_positions",
    "layer_norm_epsilon",
    "activation_function",
    "scale_attn_weights",
    "scale_attn_by_inverse_layer_idx",
];

pub(super) fn resolve(keys: &JsonKeys<'_>) -> Result<ModelConfig, ConfigError> {
    let (width, heads, layers) =
        (keys.size("n_embd")?, keys.size("n_head")?, keys.size("n_layer")?);
    if !width.is_multiple_of(heads) {
        return Err(keys.unusable("n_head", "a divisor of n_embd"));
    }
    let head_dim = width / heads;
    Ok(ModelConfig {
        family: Family::Gpt2,
        vocab: keys.size("vocab_size")?,
        width,
        layers,
        heads,
        kv_heads: heads,
        head_dim,
        inner: keys.optional_size("n_inner")?.unwrap_or(4 * width),
        positions: Positions::Learned,
        local_rotary: None,
        embedding_scale: EmbeddingScale::One,
        norm: Norm::LayerNorm,
        norm_eps: keys.number("layer_norm_epsilon", 1e-5)? as f32,
        mlp: Mlp::Gelu(gelu(keys, "activation_function", "gelu_new")?),
        residual: Residual::Serial,
        residual_scale: None,
        qkv_bias: true,
        attention_output_bias: true,
        mlp_bias: true,
        query_key_norm: QueryKeyNorm::None,
        windows: vec![None; layers],
        rotated: vec![Rotated::Not; layers],
        attention_scales: scales(keys, head_dim, layers)?,
        attention_softcap: None,
        logits: Logits::Products,
        tied_head: keys.flag("tie_word_embeddings", true)?,
        max_positions: keys.optional_size("n_positions")?.unwrap_or(1024),
        bos: keys.token_ids("bos_token_id")?.first().copied(),
        eos: keys.token_ids("eos_token_id")?,
        pad: keys.token_ids("pad_token_id")?.first().copied(),
        initializer_range: keys.number("initializer_range", 0.02)?,
        raw: keys.map().clone(),
    })
}

fn scales(keys: &JsonKeys<'_>, head_dim: usize, layers: usize) -> Result<Vec<f32>, ConfigError> {
    let scale = match keys.flag("scale_attn_weights", true)? {
        true => 1.0 / (head_dim as f32).sqrt(),
        false => 1.0,
    };
    let by_layer = keys.flag("scale_attn_by_inverse_layer_idx", false)?;
    let divisor = |layer: usize| if by_layer { (layer + 1) as f32 } else { 1.0 };
    Ok((0..layers).map(|layer| scale / divisor(layer)).collect())
}

/// The form of GELU that an activation's name stands for.
pub(super) fn gelu(
    keys: &JsonKeys<'_>,
    key: &str,
    default: &'static str,
) -> Result<Gelu, ConfigError> {
    let name = match keys.get(key) {
        None => default,
        Some(_) => keys.text(key, "")?,
    };
    match name {
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Gelu::Tanh),
        "gelu" | "gelu_python" => Ok(Gelu::Erf),
        _ => {
            Err(keys
                .unusable(key, "\"gelu\", \"gelu_new\", \"gelu_fast\" or \"gelu_pytorch_tanh\""))
        }
    }
}

pub(super) fn names() -> Names {
    Names {
        prefix: "transformer.",
        embedding: "wte",
        position_embedding: Some("wpe"),
        layer: "h.",
        attention_norms: NormNames::before("ln_1"),
        qkv: QkvNames::FusedConv1d("attn.c_attn"),
        query_key_norm: None,
        attention_output: "attn.c_proj",
        mlp_norms: NormNames::before("ln_2"),
        mlp: (None, "mlp.c_fc", "mlp.c_proj"),
        final_norm: "ln_f",
        head: "lm_head",
    }
}
