//! Typed access to the keys of a config.json, with errors that name file and key.

use std::path::Path;

use serde_json::{Map, Value};

use super::{ConfigError, says_none};

/// A JSON object and where it was read.
#[derive(Clone, Copy)]
pub(crate) struct JsonKeys<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
}

impl<'a> JsonKeys<'a> {
    pub(crate) fn new(path: &'a Path, map: &'a Map<String, Value>) -> Self {
        Self { path, map }
    }

    pub(crate) fn map(&self) -> &'a Map<String, Value> {
        self.map
    }

    /// The value of a key; null counts as absent, as in Transformers.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// An object below `key`; a value that says "none" counts as absent.
    pub(crate) fn object(&self, key: &str) -> Result<Option<JsonKeys<'a>>, ConfigError> {
        match self.get(key).filter(|value| !says_none(value)) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(JsonKeys { path: self.path, map })),
            Some(_) => Err(self.unusable(key, "an object")),
        }
    }

    /// The error for a value that cannot be used.
    pub(crate) fn unusable(&self, key: &str, expected: &str) -> ConfigError {
        ConfigError::Value {
            path: self.path.to_owned(),
            key: key.to_owned(),
            found: self.map.get(key).map_or_else(|| "absent".to_owned(), Value::to_string),
            expected: expected.to_owned(),
        }
    }

    fn missing(&self, key: &str) -> ConfigError {
        ConfigError::Missing { path: self.path.to_owned(), key: key.to_owned() }
    }

    /// A positive integer that must be there.
    pub(crate) fn size(&self, key: &str) -> Result<usize, ConfigError> {
        self.optional_size(key)?.ok_or_else(|| self.missing(key))
    }

    pub(crate) fn optional_size(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let size = value.as_u64().filter(|&size| 0 < size);
        Ok(Some(size.ok_or_else(|| self.unusable(key, "a positive integer"))? as usize))
    }

    /// How many positions a token sees; a value that says "none" is no limit.
    pub(crate) fn window(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        match self.get(key).is_none_or(says_none) {
            true => Ok(None),
            false => self.optional_size(key),
        }
    }

    pub(crate) fn number(&self, key: &str, default: f64) -> Result<f64, ConfigError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| self.unusable(key, "a number")),
        }
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.unusable(key, "true or false")),
        }
    }

    pub(crate) fn text(&self, key: &str, default: &'a str) -> Result<&'a str, ConfigError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_str().ok_or_else(|| self.unusable(key, "a string")),
        }
    }

    /// A token id, a list of them, or nothing.
    pub(crate) fn token_ids(&self, key: &str) -> Result<Vec<u32>, ConfigError> {
        let expected = "a token id, or a list of them";
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        match self.get(key) {
            None => Ok(Vec::new()),
            // Transformers writes -1 for "none" in some old configurations.
            Some(value) if value.as_i64() == Some(-1) => Ok(Vec::new()),
            Some(Value::Array(values)) => values
                .iter()
                .map(|value| id(value).ok_or_else(|| self.unusable(key, expected)))
                .collect(),
            Some(value) => Ok(vec![id(value).ok_or_else(|| self.unusable(key, expected))?]),
        }
    }
}
