//! What each family's parameters are called, how large they are, and how they connect.
//!
//! To add a family: a file here that reads its keys into a [`ModelConfig`], lists them in `KEYS` and
//! names its tensors in a `Names`, one line in `MODEL_TYPES`, in `keys_read` and in `names`, and a fixture
//! for the tests.

mod gpt2;

mod llama;

mod mistral;

mod qwen2;

mod qwen3;

mod smollm3;

mod phi3;

mod olmo2;

mod olmo3;

mod gemma;

mod granite;

mod gpt_neox;

mod windows;

mod plan;

use std::path::Path;

use serde_json::{Map, Value};

use crate::config::{ConfigError, Family, JsonKeys, ModelConfig, model_dir, refuse_unknown};
pub(crate) use plan::{
    LayerPlan, LinearParams, MlpParams, NormParams, PartNorms, Plan, QkvParams, ScalarParams,
    VALUE_BIAS, VALUE_WEIGHT, scalar_module,
};

/// Which head a model has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Head {
    /// Predicts the next token: `*ForCausalLM`.
    LanguageModel,
    /// One output without bias, read at the last token: `*ForSequenceClassification`.
    Score,
    /// The same with a second output, which learns to say how long a completion is; the first is the score.
    /// Training has it; what is saved of it in the end is the score, [`Model::without_length_head`](crate::Model::without_length_head).
    ScoreAndLength,
    /// Logits of so many classes with biases, read at any token: `*ForTokenClassification`. Process reward models
    /// have two (bad, good) or three (bad, neutral, good).
    StepClasses(usize),
}

/// The names of a family's tensors.
pub(crate) struct Names {
    /// What stands before the body's names when a head is there: `model.`.
    pub(crate) prefix: &'static str,
    pub(crate) embedding: &'static str,
    pub(crate) position_embedding: Option<&'static str>,
    /// What stands before a layer's index.
    pub(crate) layer: &'static str,
    pub(crate) attention_norms: NormNames,
    pub(crate) qkv: QkvNames,
    /// Norms of query and key heads.
    pub(crate) query_key_norm: Option<(&'static str, &'static str)>,
    pub(crate) attention_output: &'static str,
    pub(crate) mlp_norms: NormNames,
    /// Gate (if any), up and down; a gated part without a gate of its own has it in one matrix with up, before it.
    pub(crate) mlp: (Option<&'static str>, &'static str, &'static str),
    pub(crate) final_norm: &'static str,
    /// The language-model head, without prefix.
    pub(crate) head: &'static str,
}

/// The names of the norms of one part of a block: of what it reads, and of what it gives.
#[derive(Clone, Copy)]
pub(crate) struct NormNames {
    pub(crate) before: Option<&'static str>,
    pub(crate) after: Option<&'static str>,
}

impl NormNames {
    fn before(name: &'static str) -> Self {
        Self { before: Some(name), after: None }
    }

    fn after(name: &'static str) -> Self {
        Self { before: None, after: Some(name) }
    }

    fn both(before: &'static str, after: &'static str) -> Self {
        Self { before: Some(before), after: Some(after) }
    }
}

/// The names of query, key and value projections.
pub(crate) enum QkvNames {
    /// Three matrices.
    Separate(&'static str, &'static str, &'static str),
    /// One matrix with the outputs [queries, keys, values], stored inputs by outputs.
    FusedConv1d(&'static str),
    /// One matrix with the outputs [queries, keys, values].
    Fused(&'static str),
    /// One matrix with the outputs [query, key, value] of head 0, then of head 1, …
    FusedPerHead(&'static str),
}

impl ModelConfig {
    /// Reads `dir/config.json`; of an adapter, that of its base.
    ///
    /// # Errors
    /// If the file is missing or no JSON object, or a key is missing or has a value that is not
    /// supported; the error names file and key.
    pub fn read(dir: &Path) -> Result<Self, ConfigError> {
        let dir = &model_dir(dir)?;
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read {
            path: path.clone(),
            source,
            advice: hearken_data::advice_on_model(dir),
        })?;
        let raw: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|error| ConfigError::Json { path: path.clone(), reason: error.to_string() })?;
        Self::from_json(&path, &raw)
    }

    /// Resolves the content of a config.json; `path` is for messages only.
    ///
    /// # Errors
    /// If a key is missing or has a value that is not supported.
    pub fn from_json(path: &Path, raw: &Map<String, Value>) -> Result<Self, ConfigError> {
        resolve(&JsonKeys::new(path, raw))
    }
}

/// Reads the keys of one family.
type Resolve = fn(&JsonKeys<'_>) -> Result<ModelConfig, ConfigError>;

/// What may stand as `model_type`.
const MODEL_TYPES: [(&str, Family, Resolve); 14] = [
    ("gpt2", Family::Gpt2, gpt2::resolve),
    ("llama", Family::Llama, llama::resolve),
    ("mistral", Family::Mistral, mistral::resolve),
    ("qwen2", Family::Qwen2, qwen2::resolve),
    ("qwen3", Family::Qwen3, qwen3::resolve),
    ("smollm3", Family::SmolLm3, smollm3::resolve),
    ("phi3", Family::Phi3, phi3::resolve),
    ("olmo2", Family::Olmo2, olmo2::resolve),
    ("olmo3", Family::Olmo3, olmo3::resolve),
    ("gemma", Family::Gemma, gemma::resolve_first),
    ("gemma2", Family::Gemma2, gemma::resolve_second),
    ("gemma3_text", Family::Gemma3, gemma::resolve_third),
    ("granite", Family::Granite, granite::resolve),
    ("gpt_neox", Family::GptNeox, gpt_neox::resolve),
];

/// Reads a config.json by its `model_type`.
fn resolve(keys: &JsonKeys<'_>) -> Result<ModelConfig, ConfigError> {
    let model_type = keys.text("model_type", "")?;
    if model_type == "gemma3" {
        let expected = "\"gemma3_text\": models of images and text are not read, their text part is when it \
                        is saved by itself, as Gemma3ForCausalLM";
        return Err(keys.unusable("model_type", expected));
    }
    let known = MODEL_TYPES.iter().find(|(known, ..)| *known == model_type);
    let (_, _, resolve) = known.ok_or_else(|| {
        let known: Vec<String> =
            MODEL_TYPES.iter().map(|(known, ..)| format!("{known:?}")).collect();
        keys.unusable("model_type", &format!("one of {}", known.join(", ")))
    })?;
    let config = resolve(keys)?;
    check_heads(keys, &config)?;
    refuse_unknown(keys, &keys_read(config.family))?;
    Ok(config)
}

/// The keys that a family reads, beside those that all read: its kin's and its own.
fn keys_read(family: Family) -> [&'static [&'static str]; 2] {
    let own = match family {
        Family::Gpt2 => return [&[], gpt2::KEYS],
        Family::GptNeox => return [&[], gpt_neox::KEYS],
        Family::Llama => llama::KEYS,
        Family::Mistral => mistral::KEYS,
        Family::Qwen2 => qwen2::KEYS,
        Family::Qwen3 => qwen3::KEYS,
        Family::SmolLm3 => smollm3::KEYS,
        Family::Phi3 => phi3::KEYS,
        Family::Olmo2 => olmo2::KEYS,
        Family::Olmo3 => olmo3::KEYS,
        Family::Granite => granite::KEYS,
        Family::Gemma => gemma::KEYS_FIRST,
        Family::Gemma2 => gemma::KEYS_SECOND,
        Family::Gemma3 => gemma::KEYS_THIRD,
    };
    [llama::SHARED_KEYS, own]
}

fn check_heads(keys: &JsonKeys<'_>, config: &ModelConfig) -> Result<(), ConfigError> {
    if !config.heads.is_multiple_of(config.kv_heads) {
        return Err(keys.unusable("num_key_value_heads", "a divisor of the number of heads"));
    }
    Ok(())
}

/// The names of a family's tensors.
pub(crate) fn names(family: Family) -> Names {
    match family {
        Family::Gpt2 => gpt2::names(),
        Family::Llama | Family::Gemma | Family::Granite => llama::names(),
        Family::Mistral => mistral::names(),
        Family::Qwen2 => qwen2::names(),
        Family::Qwen3 => qwen3::names(),
        Family::SmolLm3 => smollm3::names(),
        Family::Phi3 => phi3::names(),
        Family::Olmo2 | Family::Olmo3 => olmo2::names(),
        Family::Gemma2 => gemma::names_second(),
        Family::Gemma3 => gemma::names_third(),
        Family::GptNeox => gpt_neox::names(),
    }
}

/// What Transformers calls the family's class with a head.
pub(crate) fn class_name(family: Family, head: Head) -> String {
    let prefix = match (family, head) {
        (Family::Gpt2, Head::LanguageModel) => return "GPT2LMHeadModel".to_owned(),
        (Family::Gpt2, _) => "GPT2",
        (Family::Llama, _) => "Llama",
        (Family::Mistral, _) => "Mistral",
        (Family::Qwen2, _) => "Qwen2",
        (Family::Qwen3, _) => "Qwen3",
        (Family::SmolLm3, _) => "SmolLM3",
        (Family::Phi3, _) => "Phi3",
        (Family::Olmo2, _) => "Olmo2",
        (Family::Olmo3, _) => "Olmo3",
        (Family::Granite, _) => "Granite",
        (Family::Gemma, _) => "Gemma",
        (Family::Gemma2, _) => "Gemma2",
        (Family::Gemma3, Head::LanguageModel) => "Gemma3",
        (Family::Gemma3, _) => "Gemma3Text",
        (Family::GptNeox, _) => "GPTNeoX",
    };
    let suffix = match head {
        Head::LanguageModel => "ForCausalLM",
        Head::Score | Head::ScoreAndLength => "ForSequenceClassification",
        Head::StepClasses(_) => "ForTokenClassification",
    };
    format!("{prefix}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys in the row of docs/models.md that begins with such a name, in code.
    fn documented(page: &str, first: &str) -> Vec<String> {
        let start = format!("| keys of {first} |");
        let row = page.lines().find(|line| line.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("no row of docs/models.md begins with {start}"));
        let mut keys: Vec<String> =
            row[start.len()..].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        keys.sort();
        keys
    }

    #[test]
    fn the_page_on_models_lists_the_keys_that_are_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/models.md");
        let page = std::fs::read_to_string(path).unwrap();
        let sorted = |keys: &[&str]| {
            let mut keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
            keys.sort();
            keys
        };
        assert_eq!(documented(&page, "all Llama's kin"), sorted(llama::SHARED_KEYS));
        for (model_type, family, _) in MODEL_TYPES {
            let [_, own] = keys_read(family);
            assert_eq!(documented(&page, &format!("`{model_type}`")), sorted(own), "{model_type}");
        }
    }
}
