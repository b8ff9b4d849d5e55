//! PEFT's directories: adapter_config.json and adapter_model.safetensors.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{AdapterError, LayerChoice, LoraConfig, Targets};
use crate::checkpoint::TensorFiles;
use crate::config::{ADAPTER_CONFIG, ConfigError, JsonKeys};

/// The file with its tensors.
pub(crate) const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
const PICKLED: &str = "adapter_model.bin";

/// What stands before a module's name in the tensors' names.
pub(crate) const PREFIX: &str = "base_model.model.";
/// What stands behind it.
pub(crate) const A_SUFFIX: &str = ".lora_A.weight";
pub(crate) const B_SUFFIX: &str = ".lora_B.weight";

/// Keys whose value makes no difference to what a stored adapter computes.
const INDIFFERENT: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "fan_in_fan_out",
    "inference_mode",
    "loftq_config",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "modules_to_save",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
];

/// Keys that are read here.
const READ: &[&str] = &[
    "alpha_pattern",
    "bias",
    "exclude_modules",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "use_rslora",
];

/// Initializations that leave the base as it is; others move a part of it into the adapter.
const INITIALIZATIONS: &[&str] = &["gaussian", "eva", "orthogonal"];

/// adapter_config.json.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AdapterFile {
    pub(crate) lora: LoraConfig,
    /// The model that it was made for, as it was named.
    pub(crate) base: Option<String>,
    /// Where it has a name on the hub, its commit.
    pub(crate) revision: Option<String>,
    /// Whether a head and an embedding that are one stay one.
    pub(crate) ties_weights: bool,
}

/// An adapter on disk.
#[derive(Debug)]
pub struct Adapter {
    dir: PathBuf,
    file: AdapterFile,
    tensors: TensorFiles,
}

impl Adapter {
    /// Reads a PEFT directory.
    ///
    /// # Errors
    /// If a file is missing or damaged, or asks for what is not supported.
    pub fn read(dir: &Path) -> Result<Self, AdapterError> {
        let path = dir.join(ADAPTER_CONFIG);
        if !path.exists() {
            return Err(AdapterError::NoAdapter { dir: dir.to_owned() });
        }
        let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read {
            path: path.clone(),
            source,
            advice: String::new(),
        })?;
        let raw: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|error| ConfigError::Json { path: path.clone(), reason: error.to_string() })?;
        let file = AdapterFile::from_json(&JsonKeys::new(&path, &raw))?;
        let weights = dir.join(ADAPTER_WEIGHTS);
        if !weights.exists() {
            let dir = dir.to_owned();
            return Err(match dir.join(PICKLED).exists() {
                true => AdapterError::OnlyPickledWeights { dir },
                false => AdapterError::NoAdapter { dir },
            });
        }
        Ok(Self { dir: dir.to_owned(), file, tensors: TensorFiles::open_file(&weights)? })
    }

    /// Where it was read.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How it is made.
    pub fn config(&self) -> &LoraConfig {
        &self.file.lora
    }

    /// Changes how much is dropped in training.
    pub fn set_dropout(&mut self, rate: f64) {
        self.file.lora.dropout = rate;
    }

    /// The model that it was made for, as its file names it.
    pub fn base(&self) -> Option<&str> {
        self.file.base.as_deref()
    }

    /// Whether it brings the head of a scorer.
    pub fn has_scalar_head(&self) -> bool {
        ["score", "classifier"]
            .iter()
            .any(|module| self.tensors.contains(&format!("{PREFIX}{module}.weight")))
    }

    /// The first tensor that is no factor of a linear map, such as a weight that is stored whole; without one, the adapter
    /// can go beside weights that others use too.
    pub fn first_whole(&self) -> Option<&str> {
        self.tensors.names().find(|name| !name.ends_with(A_SUFFIX) && !name.ends_with(B_SUFFIX))
    }

    pub(crate) fn ties_weights(&self) -> bool {
        self.file.ties_weights
    }

    pub(crate) fn tensors(&self) -> &TensorFiles {
        &self.tensors
    }
}

impl AdapterFile {
    fn from_json(keys: &JsonKeys<'_>) -> Result<Self, ConfigError> {
        refuse_unsupported(keys)?;
        let rank = keys.size("r")?;
        let alpha = keys.number("lora_alpha", 8.0)?;
        let dropout = keys.number("lora_dropout", 0.0)?;
        if !(0.0..1.0).contains(&dropout) {
            return Err(keys.unusable("lora_dropout", "a number from 0 to below 1"));
        }
        let rank_of = |value: &Value| value.as_u64().filter(|&rank| 0 < rank).map(|r| r as usize);
        let lora = LoraConfig {
            rank,
            alpha,
            dropout,
            rslora: keys.flag("use_rslora", false)?,
            targets: modules(keys, "target_modules")?
                .ok_or_else(|| keys.unusable("target_modules", "names, or a pattern"))?,
            exclude: modules(keys, "exclude_modules")?,
            layers: layers(keys)?,
            rank_pattern: pattern(keys, "rank_pattern", "positive integers", rank_of)?,
            alpha_pattern: pattern(keys, "alpha_pattern", "numbers", Value::as_f64)?,
        };
        let base = keys.text("base_model_name_or_path", "")?;
        Ok(Self {
            lora,
            base: (!base.is_empty()).then(|| base.to_owned()),
            revision: None,
            ties_weights: keys.flag("ensure_weight_tying", false)?,
        })
    }

    /// What PEFT writes; `task` is its task type, `saved` the modules that are stored whole.
    pub(crate) fn to_json(&self, task: &str, saved: &[&str], conv1d: bool) -> Value {
        let lora = &self.lora;
        let names = |targets: &Targets| match targets {
            Targets::AllLinear => json!("all-linear"),
            Targets::Names(names) => json!(names),
            Targets::Pattern(pattern) => json!(pattern),
        };
        let layers = lora.layers.as_ref();
        let patterns = layers.map(|layers| &layers.patterns).filter(|all| !all.is_empty());
        json!({
            "alpha_pattern": lora.alpha_pattern.iter().cloned().map(|(k, v)| (k, number(v))).collect::<Map<_, _>>(),
            "auto_mapping": null,
            "base_model_name_or_path": self.base,
            "bias": "none",
            "exclude_modules": lora.exclude.as_ref().map(names),
            "fan_in_fan_out": conv1d,
            "inference_mode": true,
            "init_lora_weights": true,
            "layer_replication": null,
            "layers_pattern": patterns,
            "layers_to_transform": layers.map(|layers| &layers.indices),
            "loftq_config": {},
            "lora_alpha": number(lora.alpha),
            "lora_bias": false,
            "lora_dropout": lora.dropout,
            "megatron_config": null,
            "megatron_core": "megatron.core",
            "modules_to_save": (!saved.is_empty()).then_some(saved),
            "peft_type": "LORA",
            "r": lora.rank,
            "rank_pattern": lora.rank_pattern.iter().cloned().map(|(k, v)| (k, json!(v))).collect::<Map<_, _>>(),
            "revision": self.revision,
            "target_modules": names(&lora.targets),
            "task_type": task,
            "use_dora": false,
            "use_rslora": lora.rslora,
        })
    }
}

/// A whole number as PEFT writes one, without a fraction.
fn number(value: f64) -> Value {
    match value.fract() == 0.0 && value.abs() < 1e15 {
        true => json!(value as i64),
        false => json!(value),
    }
}

/// Refuses what would change what the adapter computes and is not done here.
fn refuse_unsupported(keys: &JsonKeys<'_>) -> Result<(), ConfigError> {
    if keys.text("peft_type", "")?.to_uppercase() != "LORA" {
        return Err(keys.unusable("peft_type", "\"LORA\", the only kind of adapter that is read"));
    }
    if keys.text("bias", "none")? != "none" {
        return Err(keys.unusable("bias", "\"none\""));
    }
    let initialization = keys.get("init_lora_weights");
    if let Some(Value::String(name)) = initialization
        && !INITIALIZATIONS.contains(&name.as_str())
    {
        return Err(keys.unusable(
            "init_lora_weights",
            "true, false, \"gaussian\", \"eva\" or \"orthogonal\": others change the base, and PEFT's \
             save_pretrained(path_initial_model_for_weight_conversion=…) makes them plain adapters",
        ));
    }
    for (key, value) in keys.map() {
        let known = INDIFFERENT.contains(&key.as_str()) || READ.contains(&key.as_str());
        if !known && !is_off(value) {
            return Err(keys.unusable(key, "null or false: it is not supported"));
        }
    }
    Ok(())
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Modules as a pattern, or as a list of names; an empty list counts as absent.
fn modules(keys: &JsonKeys<'_>, key: &str) -> Result<Option<Targets>, ConfigError> {
    let expected = "a list of names, or a pattern";
    Ok(match keys.get(key) {
        None => None,
        Some(Value::String(text)) if text.to_lowercase() == "all-linear" => {
            Some(Targets::AllLinear)
        }
        Some(Value::String(text)) => Some(Targets::Pattern(text.clone())),
        Some(Value::Array(values)) if values.is_empty() => None,
        Some(Value::Array(values)) => {
            let names = values.iter().map(|value| value.as_str().map(str::to_owned));
            let names: Option<Vec<String>> = names.collect();
            Some(Targets::Names(names.ok_or_else(|| keys.unusable(key, expected))?))
        }
        Some(_) => return Err(keys.unusable(key, expected)),
    })
}

fn layers(keys: &JsonKeys<'_>) -> Result<Option<LayerChoice>, ConfigError> {
    let (key, expected) = ("layers_to_transform", "an index of a layer, or a list of them");
    let index = |value: &Value| value.as_u64().map(|index| index as usize);
    let indices: Vec<usize> = match keys.get(key) {
        None => return Ok(None),
        Some(Value::Array(values)) if values.is_empty() => return Ok(None),
        Some(Value::Array(values)) => values.iter().map(index).collect::<Option<_>>(),
        Some(value) => index(value).map(|index| vec![index]),
    }
    .ok_or_else(|| keys.unusable(key, expected))?;
    let key = "layers_pattern";
    let patterns = match keys.get(key) {
        None => Vec::new(),
        Some(Value::String(pattern)) if pattern.is_empty() => Vec::new(),
        Some(Value::String(pattern)) => vec![pattern.clone()],
        Some(Value::Array(values)) => values
            .iter()
            .map(|value| value.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| keys.unusable(key, "names"))?,
        Some(_) => return Err(keys.unusable(key, "names")),
    };
    Ok(Some(LayerChoice { indices, patterns }))
}

/// An object of patterns and what holds where they match, in the order of the file.
fn pattern<T>(
    keys: &JsonKeys<'_>,
    key: &str,
    values: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<(String, T)>, ConfigError> {
    let entries = match keys.get(key) {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) => {
            map.iter().map(|(pattern, value)| Some((pattern.clone(), read(value)?))).collect()
        }
        Some(_) => None,
    };
    entries.ok_or_else(|| keys.unusable(key, &format!("an object of patterns and {values}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Map<String, Value> {
        let raw = json!({
            "peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"],
            "bias": "none", "use_rslora": true, "rank_pattern": {"b": 2, "a": 3}, "use_dora": false,
            "base_model_name_or_path": "base", "corda_config": null, "layers_to_transform": 1,
        });
        raw.as_object().unwrap().clone()
    }

    fn read(raw: &Map<String, Value>) -> Result<AdapterFile, ConfigError> {
        AdapterFile::from_json(&JsonKeys::new(Path::new("adapter_config.json"), raw))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let file = read(&plain()).unwrap();
        assert_eq!(file.lora.rank_pattern, [("b".to_owned(), 2), ("a".to_owned(), 3)]);
        let written = file.to_json("CAUSAL_LM", &["score"], true);
        assert_eq!(written["lora_alpha"].to_string(), "8");
        assert_eq!(written["modules_to_save"], json!(["score"]));
        assert_eq!(read(written.as_object().unwrap()).unwrap(), file);
    }

    #[test]
    fn what_changes_the_function_and_is_not_supported_is_refused_by_name() {
        for (key, value) in [
            ("use_dora", json!(true)),
            ("bias", json!("all")),
            ("lora_bias", json!(true)),
            ("peft_type", json!("IA3")),
            ("init_lora_weights", json!("pissa_niter_4")),
            ("layer_replication", json!([[0, 1], [0, 1]])),
            ("trainable_token_indices", json!([3])),
            ("a_later_invention", json!({"x": 1})),
            ("lora_dropout", json!(1.5)),
            ("r", json!(0)),
            ("target_modules", json!([1])),
            ("rank_pattern", json!({"a": 0})),
        ] {
            let mut raw = plain();
            raw.insert(key.to_owned(), value.clone());
            let error = read(&raw).unwrap_err().to_string();
            let start = format!("adapter_config.json: key `{key}` is {value}; expected ");
            assert!(error.starts_with(&start), "{error}");
        }
    }
}
