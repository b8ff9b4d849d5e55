//! Keys of a config.json that no family reads, and what may stand there.
//!
//! A key that is not known may change what the model computes. So every key is one that its family
//! reads, one that is listed here, or one whose value says "none"; any other is an error.

use serde_json::Value;

use super::{ConfigError, JsonKeys};

/// Keys that every family reads.
const READ: &[&str] = &[
    "model_type",
    "vocab_size",
    "tie_word_embeddings",
    "initializer_range",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
];

/// Keys that say nothing of what a model computes when it is evaluated: names and versions, labels,
/// number formats, dropout (which nothing here applies), caches, and the settings of other programs'
/// sampling and training.
const HARMLESS: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_attn_implementation_internal",
    "_commit_hash",
    "_name_or_path",
    "_num_labels",
    "architectures",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_implementation",
    "attn_pdrop",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    // How other programs keep keys and values.
    "cache_implementation",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "custom_pipelines",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dropout",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "hidden_dropout",
    "hidden_dropout_prob",
    "id2label",
    "is_decoder",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "label2id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "max_sequence_length",
    "min_length",
    "model_max_length",
    "n_ctx",
    "n_special",
    "name_or_path",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "num_steps",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "predict_special_tokens",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    // Scales keys before the products with queries instead of after: the same numbers in f32.
    "reorder_and_upcast_attn",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    // How GPT-2's class with two heads sums a sequence up; no other class reads it.
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
];

/// Factors and shares, which say nothing at 1.
const NEUTRAL_AT_ONE: &[&str] = &[
    "embedding_multiplier",
    "embedding_scale",
    "logit_scale",
    "logits_scaling",
    "num_experts",
    "num_local_experts",
    "partial_rotary_factor",
    "residual_multiplier",
    "rope_ratio",
    "rotary_pct",
    "scale_emb",
];

/// Switches that are on where they are missing: off says something.
const ON_IF_MISSING: &[&str] = &["causal", "is_causal"];

/// Whether a value is one that programs write to say "none".
pub(crate) fn says_none(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64().is_some_and(|n| [0.0, -1.0].contains(&n)),
        Value::String(text) => ["", "none", "None", "null", "default"].contains(&text.as_str()),
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
    }
}

/// Refuses a key that is neither among `read` nor known to change nothing.
///
/// # Errors
/// If there is one; it is named with its value.
pub(crate) fn refuse_unknown(keys: &JsonKeys<'_>, read: &[&[&str]]) -> Result<(), ConfigError> {
    let is_one = |value: &Value| value.as_f64().is_some_and(|number| (number - 1.0).abs() < 1e-12);
    for (key, value) in keys.map() {
        let name = key.as_str();
        let is_read = READ.contains(&name) || read.iter().any(|read| read.contains(&name));
        let is_known = is_read || HARMLESS.contains(&name);
        let is_neutral = NEUTRAL_AT_ONE.contains(&name) && is_one(value);
        let says_none = match ON_IF_MISSING.contains(&name) {
            true => matches!(value, Value::Null | Value::Bool(true)),
            false => says_none(value),
        };
        if is_known || is_neutral || says_none {
            continue;
        }
        return Err(keys.unusable(key, expected(name)));
    }
    Ok(())
}

/// What is said of keys that are met often, and of all others.
fn expected(key: &str) -> &'static str {
    match key {
        "quantization_config" | "quantization" | "compression_config" => {
            "no such key: quantized weights are not read, those of the model they were made from are"
        }
        "sliding_window" => "null: this family has no windows",
        "causal" | "is_causal" => "true: tokens see those before them alone",
        _ => {
            "no such key: nothing here reads it, and it may change what the model computes; if it \
             does not, remove it"
        }
    }
}
