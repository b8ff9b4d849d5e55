//! The model that learns in the small world, before it has learned anything.

use std::path::Path;

use hearken_model::{Head, Model, ModelConfig, Tokenizer, tokenizer::SpecialTokens};
use hearken_run::error::TrainError;
use hearken_run::seeds::Seeds;
use hearken_tensor::{Device, device::Precision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Corpus;

/// The dimensions of a small Llama and its vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaseOptions {
    /// The most tokens of the vocabulary.
    pub vocab: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width inside the gated MLP.
    pub inner: usize,
    /// The most tokens of a sequence.
    pub positions: usize,
}

/// Learns a tokenizer from the corpus, draws the weights of a model and writes both to `dir`.
///
/// # Errors
/// If the dimensions do not fit one another or a file cannot be written.
pub fn write_base<D: Device>(
    device: D,
    options: &BaseOptions,
    corpus: &Corpus,
    seeds: Seeds,
    dir: &Path,
) -> Result<(), TrainError> {
    let texts: Vec<String> = corpus.texts().collect();
    let tokenizer =
        Tokenizer::train_bpe(texts.into_iter(), options.vocab, &SpecialTokens::default())?;
    let json = config_json(options, &tokenizer);
    let config = ModelConfig::from_json(&dir.join("config.json"), &json)
        .map_err(hearken_model::ModelError::from)?;
    let seed = seeds.derive("quickstart/weights", 0, 0);
    let model = Model::init(device, config, Head::LanguageModel, Precision::F32, seed);
    model.save(dir)?;
    tokenizer.save(dir)?;
    Ok(())
}

fn config_json(options: &BaseOptions, tokenizer: &Tokenizer) -> Map<String, Value> {
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": tokenizer.vocab_size(),
        "hidden_size": options.width,
        "num_hidden_layers": options.layers,
        "num_attention_heads": options.heads,
        "num_key_value_heads": options.heads,
        "intermediate_size": options.inner,
        "max_position_embeddings": options.positions,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": true,
        "initializer_range": 0.05,
        "attention_bias": false,
        "mlp_bias": false,
        "bos_token_id": tokenizer.eos_for_training(),
        "eos_token_id": tokenizer.eos_for_training(),
        "pad_token_id": tokenizer.pad(),
    });
    match config {
        Value::Object(config) => config,
        _ => unreachable!("an object was written"),
    }
}
