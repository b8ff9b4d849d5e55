//! Llama: serial blocks, RMSNorm, rotary positions, gated SiLU, grouped-query attention.

use hearken_tensor::device::Gate;

use super::{Names, NormNames, QkvNames, windows};
use crate::config::{
    ConfigError, EmbeddingScale, Family, JsonKeys, Logits, Mlp, ModelConfig, Norm, Positions,
    QueryKeyNorm, Residual, RotaryConfig, RotaryKeys, Rotated,
};

/// The keys that all of Llama's kin read.
pub(super) const SHARED_KEYS: &[&str] = &[
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
];

/// The keys that Llama itself reads beside them.
pub(super) const KEYS: &[&str] = &[
    "attention_bias",
    "mlp_bias",
    "rope_interleaved",
    "use_sliding_window",
    "sliding_window",
    "max_window_layers",
];

pub(super) fn resolve(keys: &JsonKeys<'_>) -> Result<ModelConfig, ConfigError> {
    let mut config = resolve_like_llama(keys, Family::Llama, &Defaults::LLAMA)?;
    read_biases(keys, &mut config)?;
    refuse_windows(keys)?;
    if keys.flag("rope_interleaved", false)? {
        return Err(keys.unusable("rope_interleaved", "false"));
    }
    Ok(config)
}

/// Biases of attention and of the feed-forward part.
pub(super) fn read_biases(
    keys: &JsonKeys<'_>,
    config: &mut ModelConfig,
) -> Result<(), ConfigError> {
    read_attention_bias(keys, config)?;
    config.mlp_bias = keys.flag("mlp_bias", false)?;
    Ok(())
}

pub(super) fn read_attention_bias(
    keys: &JsonKeys<'_>,
    config: &mut ModelConfig,
) -> Result<(), ConfigError> {
    config.qkv_bias = keys.flag("attention_bias", false)?;
    config.attention_output_bias = config.qkv_bias;
    Ok(())
}

/// Transformers' Llama has no windows: what asks for some was made for another program.
fn refuse_windows(keys: &JsonKeys<'_>) -> Result<(), ConfigError> {
    let is_off = keys.get("use_sliding_window").is_some_and(|flag| flag == false);
    if !is_off && keys.window("sliding_window")?.is_some() {
        return Err(keys.unusable("sliding_window", "null: this family has no windows"));
    }
    windows::all_layers_are(keys, "full_attention")
}

/// What Transformers assumes of a family where config.json lacks a key.
pub(super) struct Defaults {
    /// As many as there are heads if `None`, which null stands for, too.
    pub(super) kv_heads: Option<usize>,
    /// The heads' shares of the model's width if `None`, which null stands for, too.
    pub(super) head_dim: Option<usize>,
    pub(super) positions: usize,
    pub(super) norm_eps: f64,
    pub(super) tied_head: bool,
    pub(super) theta: f64,
}

impl Defaults {
    pub(super) const LLAMA: Self = Self {
        kv_heads: None,
        head_dim: None,
        positions: 2048,
        norm_eps: 1e-6,
        tied_head: false,
        theta: 10_000.0,
    };

    /// The width of a head.
    pub(super) fn head_dim(&self, keys: &JsonKeys<'_>) -> Result<usize, ConfigError> {
        let (width, heads) = (keys.size("hidden_size")?, keys.size("num_attention_heads")?);
        let default = self.head_dim.filter(|_| !keys.map().contains_key("head_dim"));
        Ok(keys.optional_size("head_dim")?.or(default).unwrap_or(width / heads))
    }

    fn kv_heads(&self, keys: &JsonKeys<'_>, heads: usize) -> Result<usize, ConfigError> {
        const KEY: &str = "num_key_value_heads";
        let default = self.kv_heads.filter(|_| !keys.map().contains_key(KEY));
        Ok(keys.optional_size(KEY)?.or(default).unwrap_or(heads))
    }

    /// The keys of a rotation of whole heads.
    pub(super) fn rotary_keys(&self) -> RotaryKeys {
        RotaryKeys {
            theta: "rope_theta",
            default_theta: self.theta,
            fraction: None,
            default_fraction: 1.0,
        }
    }
}

/// What Llama and its descendants have in common: no biases, no windows.
pub(super) fn resolve_like_llama(
    keys: &JsonKeys<'_>,
    family: Family,
    defaults: &Defaults,
) -> Result<ModelConfig, ConfigError> {
    require_silu(keys)?;
    let head_dim = defaults.head_dim(keys)?;
    let fraction = (family == Family::Phi3).then_some("partial_rotary_factor");
    let rotary = RotaryKeys { fraction, ..defaults.rotary_keys() };
    let rotary = RotaryConfig::read(keys, head_dim, &rotary)?;
    let mlp = Mlp::Gated(Gate::Silu);
    resolve_kin(keys, defaults, Kin { family, head_dim, rotary, local_rotary: None, mlp })
}

pub(super) fn require_silu(keys: &JsonKeys<'_>) -> Result<(), ConfigError> {
    match keys.text("hidden_act", "silu")? {
        "silu" | "swish" => Ok(()),
        _ => Err(keys.unusable("hidden_act", "\"silu\"")),
    }
}

/// What is read of one of Llama's kin in its own way.
pub(super) struct Kin {
    pub(super) family: Family,
    pub(super) head_dim: usize,
    pub(super) rotary: RotaryConfig,
    /// Of layers with windows, where it differs.
    pub(super) local_rotary: Option<RotaryConfig>,
    pub(super) mlp: Mlp,
}

/// The rest of the configuration of one of Llama's kin.
pub(super) fn resolve_kin(
    keys: &JsonKeys<'_>,
    defaults: &Defaults,
    kin: Kin,
) -> Result<ModelConfig, ConfigError> {
    let Kin { family, head_dim, rotary, local_rotary, mlp } = kin;
    let (heads, layers) = (keys.size("num_attention_heads")?, keys.size("num_hidden_layers")?);
    let positions = keys.optional_size("max_position_embeddings")?.unwrap_or(defaults.positions);
    let positions = rotary.positions(positions);
    Ok(ModelConfig {
        family,
        vocab: keys.size("vocab_size")?,
        width: keys.size("hidden_size")?,
        layers,
        heads,
        kv_heads: defaults.kv_heads(keys, heads)?,
        head_dim,
        inner: keys.size("intermediate_size")?,
        max_positions: local_rotary.as_ref().map_or(positions, |local| local.positions(positions)),
        positions: Positions::Rotary(rotary),
        local_rotary,
        embedding_scale: EmbeddingScale::One,
        norm: Norm::RmsNorm,
        norm_eps: keys.number("rms_norm_eps", defaults.norm_eps)? as f32,
        mlp,
        residual: Residual::Serial,
        residual_scale: None,
        qkv_bias: false,
        attention_output_bias: false,
        mlp_bias: false,
        query_key_norm: QueryKeyNorm::None,
        windows: vec![None; layers],
        rotated: vec![Rotated::Shared; layers],
        attention_scales: vec![1.0 / (head_dim as f32).sqrt(); layers],
        attention_softcap: None,
        logits: Logits::Products,
        tied_head: keys.flag("tie_word_embeddings", defaults.tied_head)?,
        bos: keys.token_ids("bos_token_id")?.first().copied(),
        eos: keys.token_ids("eos_token_id")?,
        pad: keys.token_ids("pad_token_id")?.first().copied(),
        initializer_range: keys.number("initializer_range", 0.02)?,
        raw: keys.map().clone(),
    })
}

/// What layers with and without windows are rotated by, where that differs.
pub(super) fn rotated_by_window(windows: &[Option<usize>]) -> Vec<Rotated> {
    let rotated = |window: &Option<usize>| match window {
        Some(_) => Rotated::Local,
        None => Rotated::Shared,
    };
    windows.iter().map(rotated).collect()
}

pub(super) fn names() -> Names {
    Names {
        prefix: "model.",
        embedding: "embed_tokens",
        position_embedding: None,
        layer: "layers.",
        attention_norms: NormNames::before("input_layernorm"),
        qkv: QkvNames::Separate("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        query_key_norm: None,
        attention_output: "self_attn.o_proj",
        mlp_norms: NormNames::before("post_attention_layernorm"),
        mlp: (Some("mlp.gate_proj"), "mlp.up_proj", "mlp.down_proj"),
        final_norm: "norm",
        head: "lm_head",
    }
}
