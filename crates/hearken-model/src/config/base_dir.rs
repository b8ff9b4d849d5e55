//! A directory that holds an adapter in place of a model: its model lies elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value};

use super::ConfigError;

/// The file of a PEFT directory that says how its adapter is made.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Folders of bases that adapters name without a path, such as names of the Hugging Face Hub. Adapters name each
/// other's bases at any depth, wherever one is read, so that this is known to the whole process.
static KNOWN: Mutex<BTreeMap<BaseName, PathBuf>> = Mutex::new(BTreeMap::new());

/// The base of an adapter as adapter_config.json names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BaseName {
    /// A folder, or a name of the hub.
    pub name: String,
    /// Of a name, the revision.
    pub revision: Option<String>,
}

impl BaseName {
    /// Says that adapters that name this base mean the model in `folder`, unless a folder of that name is there.
    pub fn lead(self, folder: &Path) {
        KNOWN.lock().unwrap_or_else(PoisonError::into_inner).insert(self, folder.to_owned());
    }

    fn known(&self) -> Option<PathBuf> {
        KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(self).cloned()
    }
}

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
        key: KEY.to_owned(),
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
    let raw = read(&path)?;
    let found = base_name(&raw);
    let places = found.iter().flat_map(|base| {
        [PathBuf::from(&base.name), dir.join(&base.name)].into_iter().chain(base.known())
    });
    let is_there =
        |place: &PathBuf| place.join("config.json").exists() || place.join(ADAPTER_CONFIG).exists();
    let place = places.into_iter().find(is_there);
    place.ok_or_else(|| ConfigError::Value {
        path,
        key: KEY.to_owned(),
        found: raw.get(KEY).map_or_else(|| "absent".to_owned(), Value::to_string),
        expected: "the folder of the model that the adapter was made for, with its config.json; it can also \
                   be given apart, with the adapter beside it"
            .to_owned(),
    })
}

/// How the adapter in `dir` names its base; `None` where it is no adapter, or names none.
///
/// # Errors
/// If adapter_config.json cannot be read.
pub fn named_base(dir: &Path) -> Result<Option<BaseName>, ConfigError> {
    if !is_adapter(dir) {
        return Ok(None);
    }
    Ok(base_name(&read(&dir.join(ADAPTER_CONFIG))?))
}

const KEY: &str = "base_model_name_or_path";

fn base_name(raw: &Map<String, Value>) -> Option<BaseName> {
    let text = |key: &str| raw.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let revision = text("revision").map(str::to_owned);
    Some(BaseName { name: text(KEY)?.to_owned(), revision })
}

fn read(path: &Path) -> Result<Map<String, Value>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
        advice: String::new(),
    })?;
    serde_json::from_str(&text)
        .map_err(|error| ConfigError::Json { path: path.to_owned(), reason: error.to_string() })
}
