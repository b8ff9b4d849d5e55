//! What a config.json says, as one structure for all families.
//!
//! Written by Transformers 4 (`rope_theta`, `rope_scaling`) or 5 (`rope_parameters`); the keys of
//! each family are read by its file in [`crate::architecture`].

mod base_dir;

mod keys;

mod known_keys;

mod rotary;

use std::path::PathBuf;

use hearken_tensor::device::{Gate, Gelu, Precision};
use serde_json::{Map, Value};

pub use base_dir::{ADAPTER_CONFIG, BaseName, base_dir, is_adapter, model_dir, named_base};
pub(crate) use keys::JsonKeys;
pub(crate) use known_keys::{refuse_unknown, says_none};
pub(crate) use rotary::RotaryKeys;
pub use rotary::{RotaryConfig, RotaryScaling};

/// Why a config.json cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}{advice}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
        /// What stands there in place of a model, and what to do, behind a semicolon; may be empty.
        advice: String,
    },
    /// The file is no JSON object.
    #[error("{}: not a JSON object: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why parsing stopped.
        reason: String,
    },
    /// A key that the family needs is absent.
    #[error("{}: key `{key}` is missing", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A key has a value that cannot be used.
    #[error("{}: key `{key}` is {found}; expected {expected}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The value found, as JSON.
        found: String,
        /// What can be used.
        expected: String,
    },
}

/// The supported families of architectures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// GPT-2.
    Gpt2,
    /// Llama 1 to 3, and the many models that use its architecture.
    Llama,
    /// Mistral: Llama with a sliding window.
    Mistral,
    /// Qwen2 and Qwen2.5: Llama with biases on query, key and value.
    Qwen2,
    /// Qwen3: Llama with norms on query and key heads.
    Qwen3,
    /// SmolLM3: Llama, of which some layers know no positions.
    SmolLm3,
    /// Phi-3, 3.5 and 4: Llama with fused projections.
    Phi3,
    /// OLMo 2: Llama with norms behind attention and feed-forward, and on all queries and keys of a row.
    Olmo2,
    /// OLMo 3: OLMo 2 with windows in most layers, and positions of their own for these.
    Olmo3,
    /// Granite: Llama with factors on embeddings, on what blocks add, on scores and on logits.
    Granite,
    /// Gemma 1: Llama with GELU gates, scaled embeddings, norms of which 1 is no part.
    Gemma,
    /// Gemma 2: norms before and behind each part, windows in every other layer, bounded scores and logits.
    Gemma2,
    /// Gemma 3, the language model: norms on heads, and layers with windows have positions of their own.
    Gemma3,
    /// GPT-NeoX and Pythia.
    GptNeox,
}

/// How positions enter the model.
#[derive(Clone, Debug, PartialEq)]
pub enum Positions {
    /// A learned embedding is added to the token's.
    Learned,
    /// Queries and keys are rotated.
    Rotary(RotaryConfig),
}

/// The normalization of every block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Mean and variance, weight and bias.
    LayerNorm,
    /// Root mean square, weight only.
    RmsNorm,
    /// The same, but what multiplies is 1 + weight.
    ShiftedRmsNorm,
}

/// The feed-forward part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mlp {
    /// down(gelu(up(x))), with biases.
    Gelu(Gelu),
    /// down(a(gate(x))·up(x)).
    Gated(Gate),
}

/// How attention and feed-forward join the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// One after the other, each between the norms that the family has: x + after(attention(before(x))), then
    /// the same of the feed-forward part.
    Serial,
    /// Both read the block's input: x + attention(norm₁ x) + mlp(norm₂ x).
    Parallel,
}

/// What a layer's queries and keys are rotated by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// Nothing: the layer knows no positions, or has learned ones.
    Not,
    /// What [`ModelConfig::positions`] says.
    Shared,
    /// What [`ModelConfig::local_rotary`] says.
    Local,
}

/// What the embeddings of tokens are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EmbeddingScale {
    /// Nothing.
    One,
    /// A number.
    By(f32),
    /// A number that is rounded to what products read, as Transformers rounds it to the type of the weights.
    Rounded(f32),
}

impl EmbeddingScale {
    /// The factor in a model whose products read this.
    pub(crate) fn factor(self, precision: Precision) -> Option<f32> {
        match (self, precision) {
            (Self::One, _) => None,
            (Self::By(factor), _) | (Self::Rounded(factor), Precision::F32) => Some(factor),
            (Self::Rounded(factor), Precision::Bf16) => Some(half::bf16::from_f32(factor).to_f32()),
        }
    }
}

/// What becomes of the products with the head's weight before they are logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Logits {
    /// They are logits.
    Products,
    /// They are divided.
    Divided(f32),
    /// They are bounded smoothly: cap·tanh(x/cap).
    Capped(f32),
}

/// What of queries and keys is normalized before rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKeyNorm {
    /// Nothing.
    None,
    /// Each head by itself, all with the same weights.
    EachHead,
    /// All queries of a row together, and all its keys.
    AllHeads,
}

/// A transformer's dimensions and choices.
#[expect(clippy::struct_excessive_bools, reason = "each says whether tensors exist")]
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The family, which fixes names and wiring of parameters.
    pub family: Family,
    /// V: rows of the embedding.
    pub vocab: usize,
    /// d: width of the residual stream.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// H: query heads.
    pub heads: usize,
    /// G: key and value heads.
    pub kv_heads: usize,
    /// D: width of a head.
    pub head_dim: usize,
    /// Width of the feed-forward part.
    pub inner: usize,
    /// How positions enter.
    pub positions: Positions,
    /// Where layers with windows are rotated by something else, by what.
    pub local_rotary: Option<RotaryConfig>,
    /// What the embeddings of tokens are multiplied by.
    pub embedding_scale: EmbeddingScale,
    /// The kind of norm.
    pub norm: Norm,
    /// Added to variances.
    pub norm_eps: f32,
    /// The feed-forward part.
    pub mlp: Mlp,
    /// How the parts of a block join.
    pub residual: Residual,
    /// What the outputs of a block's parts are multiplied by before they are added, if by anything.
    pub residual_scale: Option<f32>,
    /// Whether query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub attention_output_bias: bool,
    /// Whether a gated feed-forward part has biases.
    pub mlp_bias: bool,
    /// What of queries and keys is normalized before rotation.
    pub query_key_norm: QueryKeyNorm,
    /// For each layer, how many positions a token sees, itself included; `None` for all.
    pub windows: Vec<Option<usize>>,
    /// For each layer, what its queries and keys are rotated by, where positions are no learned ones.
    pub rotated: Vec<Rotated>,
    /// For each layer, what multiplies the products of queries and keys.
    pub attention_scales: Vec<f32>,
    /// What bounds them then, if anything does: cap·tanh(x/cap).
    pub attention_softcap: Option<f32>,
    /// What becomes of the products with the head's weight.
    pub logits: Logits,
    /// Whether the language-model head is the embedding.
    pub tied_head: bool,
    /// The positions the model was made for.
    pub max_positions: usize,
    /// Token that starts a text.
    pub bos: Option<u32>,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
    /// Token that fills batches in other software.
    pub pad: Option<u32>,
    /// Standard deviation of freshly drawn weights.
    pub initializer_range: f64,
    /// config.json as it was read, so that saving loses nothing.
    pub raw: Map<String, Value>,
}

impl ModelConfig {
    /// H·D, the width of all query heads.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// G·D, the width of all key heads, and of all value heads.
    pub fn key_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Transformers' own comment: √3072 is 55.5 in bfloat16.
    #[test]
    fn a_factor_on_embeddings_is_rounded_with_the_weights() {
        let scale = EmbeddingScale::Rounded(3072_f32.sqrt());
        assert_eq!(scale.factor(Precision::Bf16), Some(55.5));
        assert_eq!(scale.factor(Precision::F32), Some(3072_f32.sqrt()));
        assert_eq!(EmbeddingScale::By(0.22).factor(Precision::Bf16), Some(0.22));
    }
}
