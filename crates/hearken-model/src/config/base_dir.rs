//! A directory that holds an adapter in place of a model: its model lies elsewhere.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::ConfigError;

/// The file of a PEFT directory that says how its adapter is made.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Whether a directory holds an adapter, and no model.
pub fn is_adapter(dir: &Path) -> bool {
    dir.join(ADAPTER_CONFIG).exists() && !dir.join("config.json").exists()
}

/// Adapters of models that have been made with adapters, at most.
const DEPTH_MAX: usize = 16;

/// The directory with the config.json of the model that `dir` stands for: itself, or its base's, whose base may
/// be an adapter in turn.
///
/// # Errors
/// If adapter_config.json names no base, or none that is there, or a base is its own.
pub fn model_dir(dir: &Path) -> Result<PathBuf, ConfigError> {
    let mut found = dir.to_owned();
    for _ in 0..DEPTH_MAX {
        if !is_adapter(&found) {
            return Ok(found);
        }
        found = base_dir(&found)?;
    }
    Err(ConfigError::Value {
        path: dir.join(ADAPTER_CONFIG),
        key: "base_model_name_or_path".to_owned(),
        found: format!("an adapter of an adapter, {DEPTH_MAX} times"),
        expected: "one that leads to a model".to_owned(),
    })
}

/// The base of an adapter: what adapter_config.json names, seen from the working directory or else from the
/// adapter's; and itself of any other directory.
///
/// # Errors
/// If adapter_config.json names no base, or none that is there.
pub fn base_dir(dir: &Path) -> Result<PathBuf, ConfigError> {
    if !is_adapter(dir) {
        return Ok(dir.to_owned());
    }
    let path = dir.join(ADAPTER_CONFIG);
    let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read {
        path: path.clone(),
        source,
        advice: String::new(),
    })?;
    let raw: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|error| ConfigError::Json { path: path.clone(), reason: error.to_string() })?;
    let named = raw.get("base_model_name_or_path").filter(|value| !value.is_null());
    let name = named.and_then(Value::as_str).unwrap_or_default();
    let places = [PathBuf::from(name), dir.join(name)];
    let is_there =
        |place: &PathBuf| place.join("config.json").exists() || place.join(ADAPTER_CONFIG).exists();
    let found = places.into_iter().find(is_there);
    found.filter(|_| !name.is_empty()).ok_or_else(|| ConfigError::Value {
        path,
        key: "base_model_name_or_path".to_owned(),
        found: named.map_or_else(|| "absent".to_owned(), Value::to_string),
        expected: "the folder of the model that the adapter was made for, with its config.json; it can also \
                   be given apart, with the adapter beside it"
            .to_owned(),
    })
}
