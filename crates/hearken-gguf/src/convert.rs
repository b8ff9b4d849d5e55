//! A file into a directory, and a directory into a file.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use hearken_model::checkpoint::{
    CheckpointError, NoRoom, NumberFormat, TensorFiles, WeightFormat, save_weights,
    write_json_atomically,
};
use hearken_model::config::ModelConfig;
use hearken_model::config::{Family, Positions, RotaryScaling};
use serde_json::{Value as Json, json};

use crate::blocks::BlockFormat;
use crate::error::GgufError;
use crate::file::{GgufFile, TensorInfo};
use crate::names::{
    ARCHITECTURES, Architecture, Rotating, reorder, rotates, to_gguf, to_hugging_face,
};
use crate::rope::{FACTORS, llama3_factors, scaling};
use crate::tokenizer;
use crate::write::{HeaderValue, TensorToWrite, write_gguf};

/// What a conversion did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// Tensors converted.
    pub tensors: usize,
    /// What the file was, or is: `llama`.
    pub architecture: &'static str,
    /// Whether a tokenizer came along.
    pub tokenizer: bool,
}

/// Heads of attention.
#[derive(Clone, Copy)]
struct Heads {
    queries: usize,
    keys: usize,
}

impl Heads {
    fn of(self, rotating: Rotating) -> usize {
        match rotating {
            Rotating::Queries => self.queries,
            Rotating::Keys => self.keys,
        }
    }
}

/// Writes what a file holds into an empty folder, as Transformers has it: config.json,
/// weights as `format` says, and the tokenizer's files with the chat template.
///
/// # Errors
/// The file's architecture, tokenizer or way to stretch positions is not supported; a tensor is missing or
/// not known; a file cannot be written, or f16 has no room for a value.
pub fn read_into(
    file: &GgufFile,
    folder: &Path,
    format: impl Into<WeightFormat>,
) -> Result<Converted, GgufError> {
    let WeightFormat { stored, shard_bytes } = format.into();
    let name = file.text("general.architecture")?.unwrap_or("(none)");
    let known = ARCHITECTURES.iter().find(|known| known.gguf == name);
    let Some(architecture) = known else {
        let names = ARCHITECTURES.map(|known| known.gguf).join(", ");
        let what = format!("holds a model of the architecture {name:?}; expected one of {names}");
        return Err(GgufError::unsupported(file.path(), what));
    };
    let key = |name: &str| format!("{}.{name}", architecture.gguf);
    if file.count(&key("expert_count"))?.is_some_and(|count| 0 < count) {
        return Err(GgufError::unsupported(file.path(), "holds a mixture of experts"));
    }
    let queries = file.required(&key("attention.head_count"))?;
    let keys = file.count(&key("attention.head_count_kv"))?.unwrap_or(queries);
    let heads = Heads { queries, keys };
    let config = config(file, architecture, heads)?;
    let tensors = named(file)?;
    expect_all(file, &tensors, &config)?;
    let context = config["max_position_embeddings"].as_u64().unwrap_or(0) as usize;
    let tokenizer = tokenizer::read(file, context)?;

    write_json_atomically(
        &folder.join("config.json"),
        &with_ends(config, tokenizer.as_ref(), stored),
    )?;
    if let Some(files) = &tokenizer {
        write_json_atomically(&folder.join("tokenizer.json"), &files.tokenizer)?;
        write_json_atomically(&folder.join("tokenizer_config.json"), &files.config)?;
        write_json_atomically(&folder.join("generation_config.json"), &files.generation)?;
    }
    let described: Vec<_> =
        tensors.iter().map(|(name, _, info)| (name.clone(), info.shape.clone(), stored)).collect();
    save_weights(folder, &described, shard_bytes, |index| {
        let (_, name, info) = tensors[index];
        let values = file.values(info);
        match rotates(name).filter(|_| architecture.interleaves) {
            Some(rotating) => {
                Cow::Owned(reorder(&values, heads.of(rotating), info.shape[0], false))
            }
            None => Cow::Owned(values),
        }
    })?;
    Ok(Converted {
        tensors: tensors.len(),
        architecture: architecture.gguf,
        tokenizer: tokenizer.is_some(),
    })
}

/// The tensors under Hugging Face's names.
fn named(file: &GgufFile) -> Result<Vec<(String, &str, &TensorInfo)>, GgufError> {
    let mut named = Vec::new();
    for (name, info) in file.tensors().iter().filter(|(name, _)| *name != FACTORS) {
        let own = to_hugging_face(name).ok_or_else(|| {
            let what =
                format!("holds the tensor `{name}`, which its architecture does not have here");
            GgufError::unsupported(file.path(), what)
        })?;
        named.push((own, name.as_str(), info));
    }
    Ok(named)
}

/// Says which tensor of a layer is missing, and which head does not divide.
fn expect_all(
    file: &GgufFile,
    tensors: &[(String, &str, &TensorInfo)],
    config: &Json,
) -> Result<(), GgufError> {
    let layers = config["num_hidden_layers"].as_u64().unwrap_or(0);
    for layer in 0..layers {
        for part in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
        {
            let name = format!("blk.{layer}.{part}.weight");
            let Some((_, _, info)) = tensors.iter().find(|(_, known, _)| *known == name) else {
                let what = format!("found no tensor `{name}`, and {layers} layers by its header");
                return Err(GgufError::malformed(file.path(), what));
            };
            if info.shape.len() != 2 {
                let what =
                    format!("tensor `{name}`: found the shape {:?}, expected two axes", info.shape);
                return Err(GgufError::malformed(file.path(), what));
            }
        }
    }
    let heads = |key: &str| config[key].as_u64().unwrap_or(1) as usize;
    for (_, name, info) in tensors {
        let heads = match rotates(name) {
            Some(Rotating::Queries) => heads("num_attention_heads"),
            Some(Rotating::Keys) => heads("num_key_value_heads"),
            None => continue,
        };
        if heads == 0 || !info.shape[0].is_multiple_of(2 * heads) {
            let what = format!("tensor `{name}`: found {} rows for {heads} heads", info.shape[0]);
            return Err(GgufError::malformed(file.path(), what));
        }
    }
    Ok(())
}

fn config(file: &GgufFile, architecture: &Architecture, heads: Heads) -> Result<Json, GgufError> {
    let key = |name: &str| format!("{}.{name}", architecture.gguf);
    let width = file.required(&key("embedding_length"))?;
    let embedding = file
        .tensors()
        .get("token_embd.weight")
        .ok_or_else(|| GgufError::malformed(file.path(), "found no tensor `token_embd.weight`"))?;
    let head_dim = match file.count(&key("attention.key_length"))? {
        Some(size) => size,
        None if heads.queries == 0 => 0,
        None => width / heads.queries,
    };
    if let Some(rotated) = file.count(&key("rope.dimension_count"))?
        && rotated != head_dim
    {
        let what = format!("rotates {rotated} of the {head_dim} values of a head; expected all");
        return Err(GgufError::unsupported(file.path(), what));
    }
    let theta = file.float(&key("rope.freq_base"))?.unwrap_or(10_000.0);
    let has = |name: &str| file.tensors().contains_key(name);
    let mut config = json!({
        "architectures": [architecture.class],
        "model_type": architecture.model_type,
        "hidden_act": "silu",
        "hidden_size": width,
        "intermediate_size": file.required(&key("feed_forward_length"))?,
        "max_position_embeddings": file.required(&key("context_length"))?,
        "num_attention_heads": heads.queries,
        "num_hidden_layers": file.required(&key("block_count"))?,
        "num_key_value_heads": heads.keys,
        "head_dim": head_dim,
        // Written as f32: the shortest decimal of that is what was meant.
        "rms_norm_eps": shortest(file.float(&key("attention.layer_norm_rms_epsilon"))?.unwrap_or(1e-6)),
        "rope_theta": shortest(theta),
        "tie_word_embeddings": !has("output.weight"),
        "vocab_size": embedding.shape[0],
    });
    if architecture.model_type == "llama" {
        config["attention_bias"] = has("blk.0.attn_q.bias").into();
        config["mlp_bias"] = has("blk.0.ffn_up.bias").into();
    }
    if let Some(scaling) = scaling(file, architecture.gguf, shortest(theta), head_dim)? {
        config["rope_scaling"] = scaling;
    }
    Ok(config)
}

/// The f64 that the decimal of an f32 says.
fn shortest(number: f64) -> f64 {
    (number as f32).to_string().parse().unwrap_or(number)
}

fn with_ends(
    mut config: Json,
    files: Option<&tokenizer::TokenizerFiles>,
    stored: NumberFormat,
) -> Json {
    config["dtype"] = stored.name().into();
    config["torch_dtype"] = stored.name().into();
    if let Some(files) = files {
        for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
            config[key] = files.generation[key].clone();
        }
    }
    config
}

/// What GGUF calls a family that is written.
fn architecture_of(family: Family) -> Option<&'static str> {
    match family {
        Family::Llama | Family::Mistral => Some("llama"),
        Family::Qwen2 => Some("qwen2"),
        Family::Qwen3 => Some("qwen3"),
        _ => None,
    }
}

/// Refuses a value that f16 has no room for.
fn refuse_overflow(
    weights: &TensorFiles,
    name: &str,
    stored: BlockFormat,
    values: &[f32],
) -> Result<(), CheckpointError> {
    let lost = match stored {
        BlockFormat::F16 => NumberFormat::F16.without_room(values),
        _ => None,
    };
    lost.map_or(Ok(()), |value| {
        let no_room = NoRoom { name: name.to_owned(), value };
        Err(CheckpointError::NoRoom { path: weights.file_of(name).into(), no_room })
    })
}

/// Writes the model of a Hugging Face directory as one file, matrices in `format`: F32, F16, BF16 or Q8_0.
/// Vectors, and with Q8_0 matrices whose rows are no whole blocks, keep more bits.
///
/// # Errors
/// The directory's family, tokenizer or positions have no place in GGUF, or something cannot be read or
/// written.
///
/// # Panics
/// If `format` is one that is only read.
pub fn write_from(dir: &Path, path: &Path, format: BlockFormat) -> Result<Converted, GgufError> {
    let written = [BlockFormat::F32, BlockFormat::F16, BlockFormat::Bf16, BlockFormat::Q8_0];
    assert!(written.contains(&format), "{} is read and not written", format.name());
    let unsupported = |what: String| GgufError::unsupported(&dir.join("config.json"), what);
    let config = ModelConfig::read(dir).map_err(|error| {
        let what = error.to_string();
        let start = format!("{}: ", dir.join("config.json").display());
        unsupported(what.strip_prefix(&start).map_or(what.clone(), str::to_owned))
    })?;
    let name = architecture_of(config.family).ok_or_else(|| {
        unsupported(
            "found a family that is not written; expected Llama, Mistral, Qwen2 or Qwen3".into(),
        )
    })?;
    if config.windows.iter().flatten().any(|window| *window < config.max_positions) {
        let what = "found windows of attention, for which GGUF's llama has no place";
        return Err(unsupported(what.into()));
    }
    let architecture = ARCHITECTURES.iter().find(|known| known.gguf == name);
    let architecture = *architecture.expect("every name stands in the list");
    let weights = TensorFiles::open(dir)?;
    let heads = Heads { queries: config.heads, keys: config.kv_heads };
    let mut tensors = Vec::new();
    for own in weights.names() {
        // Tied heads that are stored all the same, and buffers, are what the file can be read without.
        if own.ends_with(".inv_freq") || config.tied_head && own == "lm_head.weight" {
            continue;
        }
        let Some(there) = to_gguf(own) else {
            let what = format!("holds the tensor `{own}`, for which GGUF has no name");
            return Err(GgufError::unsupported(weights.file_of(own), what));
        };
        let shape = weights.shape(own).unwrap_or_default().to_vec();
        let stored = match (shape.len(), format) {
            (1, _) => BlockFormat::F32,
            (_, BlockFormat::Q8_0) if !shape[shape.len() - 1].is_multiple_of(format.values()) => {
                BlockFormat::F16
            }
            _ => format,
        };
        tensors.push(TensorToWrite { name: there, source: Some(own.to_owned()), shape, stored });
    }
    let mut factors = None;
    if let Positions::Rotary(rotary) = &config.positions {
        factors = llama3_factors(rotary);
    }
    if let Some(factors) = &factors {
        let (name, shape) = (FACTORS.to_owned(), vec![factors.len()]);
        tensors.push(TensorToWrite { name, source: None, shape, stored: BlockFormat::F32 });
    }
    let mut header = header(&config, &architecture, format);
    let has_tokenizer = tokenizer_header(dir, &config, &mut header)?;
    write_gguf(path, &header, &tensors, |tensor| {
        let Some(own) = &tensor.source else { return Ok(factors.clone().unwrap_or_default()) };
        let values = weights.read(own, &tensor.shape)?;
        refuse_overflow(&weights, own, tensor.stored, &values)?;
        Ok(match rotates(&tensor.name).filter(|_| architecture.interleaves) {
            Some(rotating) => reorder(&values, heads.of(rotating), tensor.shape[0], true),
            None => values,
        })
    })?;
    Ok(Converted {
        tensors: tensors.len(),
        architecture: architecture.gguf,
        tokenizer: has_tokenizer,
    })
}

type Header = Vec<(String, HeaderValue)>;

fn header(config: &ModelConfig, architecture: &Architecture, format: BlockFormat) -> Header {
    let file_type = match format {
        BlockFormat::F32 => 0,
        BlockFormat::F16 => 1,
        BlockFormat::Bf16 => 32,
        _ => 7,
    };
    let count = |count: usize| HeaderValue::Count(count as u32);
    let mut header: Header = vec![
        ("general.architecture".into(), HeaderValue::Text(architecture.gguf.into())),
        ("general.type".into(), HeaderValue::Text("model".into())),
        ("general.file_type".into(), HeaderValue::Count(file_type)),
        ("general.quantization_version".into(), HeaderValue::Count(2)),
    ];
    let mut own = |name: &str, value: HeaderValue| {
        header.push((format!("{}.{name}", architecture.gguf), value));
    };
    own("block_count", count(config.layers));
    own("context_length", count(config.max_positions));
    own("embedding_length", count(config.width));
    own("feed_forward_length", count(config.inner));
    own("attention.head_count", count(config.heads));
    own("attention.head_count_kv", count(config.kv_heads));
    own("attention.key_length", count(config.head_dim));
    own("attention.value_length", count(config.head_dim));
    own("attention.layer_norm_rms_epsilon", HeaderValue::Float(config.norm_eps));
    own("vocab_size", count(config.vocab));
    if let Positions::Rotary(rotary) = &config.positions {
        own("rope.dimension_count", count(rotary.dim));
        own("rope.freq_base", HeaderValue::Float(rotary.theta as f32));
        let kind = match &rotary.scaling {
            RotaryScaling::Linear { factor } => Some(("linear", *factor)),
            RotaryScaling::Yarn { factor, .. } => Some(("yarn", *factor)),
            _ => None,
        };
        if let Some((kind, factor)) = kind {
            own("rope.scaling.type", HeaderValue::Text(kind.into()));
            own("rope.scaling.factor", HeaderValue::Float(factor as f32));
            let parameters = config.raw.get("rope_parameters").or(config.raw.get("rope_scaling"));
            let original =
                parameters.and_then(|own| own["original_max_position_embeddings"].as_u64());
            if let Some(original) = original {
                own("rope.scaling.original_context_length", count(original as usize));
            }
        }
    }
    header
}

/// Adds what is said of the tokenizer, if the directory has one.
fn tokenizer_header(
    dir: &Path,
    config: &ModelConfig,
    header: &mut Header,
) -> Result<bool, GgufError> {
    let read = |name: &str| -> Result<Option<Json>, GgufError> {
        let path = dir.join(name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(GgufError::Io { path, action: "read", error }),
        };
        let json = serde_json::from_slice(&text);
        json.map(Some).map_err(|error| GgufError::malformed(&path, format!("not JSON: {error}")))
    };
    let Some(tokenizer) = read("tokenizer.json")? else { return Ok(false) };
    let written = tokenizer::written(&dir.join("tokenizer.json"), &tokenizer, config.vocab)?;
    let settings = read("tokenizer_config.json")?.unwrap_or_default();
    let mut own = |name: &str, value: HeaderValue| {
        header.push((format!("tokenizer.ggml.{name}"), value));
    };
    own("model", HeaderValue::Text(written.model.into()));
    if let Some(cut) = written.cut {
        own("pre", HeaderValue::Text(cut.into()));
    }
    own("tokens", HeaderValue::Texts(written.tokens));
    own("token_type", HeaderValue::Integers(written.types));
    if let Some(scores) = written.scores {
        own("scores", HeaderValue::Floats(scores));
    }
    if let Some(merges) = written.merges {
        own("merges", HeaderValue::Texts(merges));
    }
    if let Some(space) = written.space {
        own("add_space_prefix", HeaderValue::Flag(space));
    }
    let adds_bos = tokenizer["post_processor"].to_string().contains("\"SpecialToken\"");
    own("add_bos_token", HeaderValue::Flag(adds_bos));
    let text = |key: &str| {
        let token = &settings[key];
        token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned)
    };
    let special = [
        ("bos_token_id", text("bos_token"), config.bos),
        ("eos_token_id", text("eos_token"), config.eos.first().copied()),
        ("padding_token_id", text("pad_token"), config.pad),
        ("unknown_token_id", text("unk_token"), None),
    ];
    for (name, token, otherwise) in special {
        let id = token.and_then(|token| written.ids.get(&token).copied());
        if let Some(id) = id.or(otherwise.map(|id| id as usize)) {
            own(name, HeaderValue::Count(id as u32));
        }
    }
    let template = match fs::read_to_string(dir.join("chat_template.jinja")) {
        Ok(text) => Some(text),
        Err(_) => settings["chat_template"].as_str().map(str::to_owned),
    };
    if let Some(template) = template {
        header.push(("tokenizer.chat_template".into(), HeaderValue::Text(template)));
    }
    Ok(true)
}
