//! Granite: Llama with factors on embeddings, on what blocks add, on scores and on logits.

use super::llama::{self, Defaults};
use super::windows;
use crate::config::{ConfigError, EmbeddingScale, Family, JsonKeys, Logits, ModelConfig};

/// The keys that are read here, beside those of all of Llama's kin.
pub(super) const KEYS: &[&str] = &[
    "attention_bias",
    "mlp_bias",
    "embedding_multiplier",
    "residual_multiplier",
    "attention_multiplier",
    "logits_scaling",
];

pub(super) fn resolve(keys: &JsonKeys<'_>) -> Result<ModelConfig, ConfigError> {
    let mut config = llama::resolve_like_llama(keys, Family::Granite, &Defaults::LLAMA)?;
    llama::read_biases(keys, &mut config)?;
    windows::all_layers_are(keys, "full_attention")?;
    // Without its key, too, the factor is 1, and not the one that follows from the width of heads.
    let scale = factor(keys, "attention_multiplier")?.unwrap_or(1.0);
    config.attention_scales = vec![scale; config.layers];
    config.residual_scale = factor(keys, "residual_multiplier")?;
    let embeddings = factor(keys, "embedding_multiplier")?;
    config.embedding_scale = embeddings.map_or(EmbeddingScale::One, EmbeddingScale::By);
    let logits = factor(keys, "logits_scaling")?;
    config.logits = logits.map_or(Logits::Products, Logits::Divided);
    Ok(config)
}

/// A factor, unless it is 1.
fn factor(keys: &JsonKeys<'_>, key: &str) -> Result<Option<f32>, ConfigError> {
    let factor = keys.number(key, 1.0)?;
    if factor <= 0.0 {
        return Err(keys.unusable(key, "a positive number"));
    }
    Ok(((factor - 1.0).abs() > 0.0).then_some(factor as f32))
}
