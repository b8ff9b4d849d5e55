//! Reading the columns of a row with their types checked.

use serde_json::{Map, Value};

use crate::bad_record::FieldError;
use crate::content::Message;
use crate::row::Row;
use crate::value::{as_number, describe, messages, truth, unexpected};

/// A JSON object inside a row, and the way to it. A key that holds `null` counts as absent.
#[derive(Clone)]
pub(super) struct JsonFields<'v> {
    /// The way from the row, for errors: "" or `steps[0].`.
    prefix: String,
    map: &'v Map<String, Value>,
    /// The row, where these are its columns.
    row: Option<&'v Row<'v>>,
}

impl<'v> JsonFields<'v> {
    /// The columns of a row.
    pub(super) fn of(row: &'v Row<'v>) -> Self {
        Self { prefix: String::new(), map: row.columns(), row: Some(row) }
    }

    /// Columns that were kept of a row.
    pub(super) fn of_map(map: &'v Map<String, Value>) -> Self {
        Self { prefix: String::new(), map, row: None }
    }

    /// The name of `key` in errors.
    pub(super) fn name(&self, key: &str) -> String {
        format!("`{}{key}`", self.prefix)
    }

    /// An error about `key`.
    pub(super) fn error(&self, key: &str, found: String, expected: &str) -> FieldError {
        unexpected(self.name(key), found, expected.to_owned())
    }

    /// An error about the value of `key`.
    pub(super) fn wrong(&self, key: &str, expected: &str) -> FieldError {
        let unreadable = self.row.and_then(|row| row.unreadable(key));
        let nothing = || unreadable.unwrap_or("nothing").to_owned();
        self.error(key, self.get(key).map_or_else(nothing, describe), expected)
    }

    pub(super) fn get(&self, key: &str) -> Option<&'v Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some() || self.row.is_some_and(|row| row.unreadable(key).is_some())
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &'v str> {
        self.map.keys().map(String::as_str)
    }

    fn required(&self, key: &str, expected: &str) -> Result<&'v Value, FieldError> {
        self.get(key).ok_or_else(|| self.wrong(key, expected))
    }

    /// A text, which may be empty.
    pub(super) fn text(&self, key: &str) -> Result<&'v str, FieldError> {
        let value = self.required(key, "text")?;
        value.as_str().ok_or_else(|| self.wrong(key, "text"))
    }

    pub(super) fn optional_text(&self, key: &str) -> Result<Option<&'v str>, FieldError> {
        self.has(key).then(|| self.text(key)).transpose()
    }

    /// A name: a text, or a number as text.
    pub(super) fn label(&self, key: &str) -> Result<String, FieldError> {
        const EXPECTED: &str = "a name: text or an integer";
        match self.required(key, EXPECTED)? {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err(self.wrong(key, EXPECTED)),
        }
    }

    pub(super) fn optional_label(&self, key: &str) -> Result<Option<String>, FieldError> {
        self.has(key).then(|| self.label(key)).transpose()
    }

    /// A number, or text that is one.
    pub(super) fn number(&self, key: &str) -> Result<f64, FieldError> {
        let value = self.required(key, "a number")?;
        as_number(value).ok_or_else(|| self.wrong(key, "a number"))
    }

    pub(super) fn optional_number(&self, key: &str) -> Result<Option<f64>, FieldError> {
        self.has(key).then(|| self.number(key)).transpose()
    }

    /// An integer from `low` to `high`, or text that is one.
    pub(super) fn integer(&self, key: &str, low: i64, high: i64) -> Result<i64, FieldError> {
        let expected = || format!("an integer from {low} to {high}");
        let value = self.required(key, &expected())?;
        as_number(value)
            .filter(|number| number.fract() == 0.0)
            .map(|number| number as i64)
            .filter(|number| (low..=high).contains(number))
            .ok_or_else(|| self.wrong(key, &expected()))
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, FieldError> {
        const EXPECTED: &str = "true or false, or 1 or 0";
        truth(self.required(key, EXPECTED)?).ok_or_else(|| self.wrong(key, EXPECTED))
    }

    /// A flag that is off where it is absent.
    pub(super) fn is_set(&self, key: &str) -> Result<bool, FieldError> {
        if self.has(key) { self.flag(key) } else { Ok(false) }
    }

    pub(super) fn list(&self, key: &str) -> Result<&'v [Value], FieldError> {
        let value = self.required(key, "a list")?;
        value.as_array().map(Vec::as_slice).ok_or_else(|| self.wrong(key, "a list"))
    }

    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>, FieldError> {
        let text = |(index, value): (usize, &Value)| {
            value
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| self.error(&format!("{key}[{index}]"), describe(value), "text"))
        };
        self.list(key)?.iter().enumerate().map(text).collect()
    }

    pub(super) fn object(&self, key: &str) -> Result<JsonFields<'v>, FieldError> {
        match self.required(key, "an object")? {
            Value::Object(map) => {
                Ok(Self { prefix: format!("{}{key}.", self.prefix), map, row: None })
            }
            _ => Err(self.wrong(key, "an object")),
        }
    }

    /// A list of objects.
    pub(super) fn objects(&self, key: &str) -> Result<Vec<JsonFields<'v>>, FieldError> {
        let object = |(index, value): (usize, &'v Value)| match value {
            Value::Object(map) => {
                Ok(Self { prefix: format!("{}{key}[{index}].", self.prefix), map, row: None })
            }
            other => Err(self.error(&format!("{key}[{index}]"), describe(other), "an object")),
        };
        self.list(key)?.iter().enumerate().map(object).collect()
    }

    /// A list of messages, which may be empty; what a message says beside role and content is left
    /// out.
    pub(super) fn messages(&self, key: &str) -> Result<Vec<Message>, FieldError> {
        messages(self.list(key)?, &self.name(key))
    }

    /// All keys but those given, as they stand.
    pub(super) fn rest(&self, known: &[&str]) -> Map<String, Value> {
        let rest = self
            .map
            .iter()
            .filter(|(key, value)| !known.contains(&key.as_str()) && !value.is_null());
        rest.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}
