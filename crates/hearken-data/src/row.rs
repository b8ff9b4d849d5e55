//! One JSON object of a file, its columns read with their types checked.

use serde_json::{Map, Value};

use crate::bad_record::FieldError;
use crate::content::{Content, Message, Role};
use crate::read::ReadOptions;
use crate::source::Source;

/// One combination of columns from which a record can be made.
pub struct Form<T> {
    /// The columns that have to be there.
    pub required: &'static [&'static str],
    /// The columns that may be there.
    pub optional: &'static [&'static str],
    /// Makes the record from a row that has the required columns.
    pub parse: fn(&Row<'_>) -> Result<T, FieldError>,
}

/// A type that is read from the rows of a file.
pub trait Record: Sized + 'static {
    /// The accepted combinations of columns. Where a row offers several, the first that uses a
    /// mapped column counts, else the first.
    const FORMS: &'static [Form<Self>];

    /// Makes the record from the columns of `row`.
    ///
    /// # Errors
    /// If no form is complete, or a column holds something else than it should.
    fn from_row(row: &Row<'_>) -> Result<Self, FieldError> {
        row.check_mapping()?;
        let complete =
            || Self::FORMS.iter().filter(|form| form.required.iter().all(|field| row.has(field)));
        let form = complete()
            .find(|form| form.required.iter().any(|field| row.is_mapped(field)))
            .or_else(|| complete().next());
        match form {
            Some(form) => (form.parse)(row),
            None => Err(FieldError::MissingColumns {
                found: row.found_columns(),
                accepted: accepted::<Self>(),
            }),
        }
    }
}

/// The accepted combinations as a phrase: "`text`, or `prompt` + `completion`".
fn accepted<T: Record>() -> String {
    let combination = |form: &Form<T>| {
        form.required.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(" + ")
    };
    T::FORMS.iter().map(combination).collect::<Vec<_>>().join(", or ")
}

/// Every column that `T` knows, for the check of a mapping.
pub(crate) fn known_columns<T: Record>() -> Vec<&'static str> {
    let mut known: Vec<&'static str> = Vec::new();
    for field in T::FORMS.iter().flat_map(|form| form.required.iter().chain(form.optional)) {
        if !known.contains(field) {
            known.push(field);
        }
    }
    known
}

/// One JSON object of a file, with the names that the caller gives to its columns. A column that
/// holds `null` counts as absent.
pub struct Row<'a> {
    columns: Map<String, Value>,
    options: &'a ReadOptions,
    source: Source,
}

impl<'a> Row<'a> {
    /// A row of `columns`, found at `source`.
    pub fn new(columns: Map<String, Value>, options: &'a ReadOptions, source: Source) -> Self {
        Self { columns, options, source }
    }

    /// Where the row comes from.
    pub fn source(&self) -> Source {
        self.source.clone()
    }

    /// The options under which the row is read.
    pub(crate) fn options(&self) -> &'a ReadOptions {
        self.options
    }

    /// All columns but those that hold the given fields.
    pub fn all_but(&self, fields: &[&str]) -> Map<String, Value> {
        let taken: Vec<&str> = fields.iter().map(|field| self.column(field)).collect();
        let rest = self.columns.iter().filter(|(column, _)| !taken.contains(&column.as_str()));
        rest.map(|(column, value)| (column.clone(), value.clone())).collect()
    }

    /// The file's name for `field`.
    fn column<'s>(&'s self, field: &'s str) -> &'s str {
        self.options.columns.get(field).map_or(field, String::as_str)
    }

    /// `field` as errors name it: its column, and what that is mapped to.
    pub(crate) fn name(&self, field: &str) -> String {
        match self.options.columns.get(field) {
            Some(column) if column != field => format!("`{column}` (as `{field}`)"),
            _ => format!("`{field}`"),
        }
    }

    fn is_mapped(&self, field: &str) -> bool {
        self.options.columns.contains_key(field)
    }

    /// The value of `field`, unless absent or null.
    fn get(&self, field: &str) -> Option<&Value> {
        self.columns.get(self.column(field)).filter(|value| !value.is_null())
    }

    /// Whether `field` holds something.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    fn check_mapping(&self) -> Result<(), FieldError> {
        let missing =
            self.options.columns.iter().find(|(_, column)| !self.columns.contains_key(*column));
        missing.map_or(Ok(()), |(field, column)| {
            Err(FieldError::MissingMapped {
                column: column.clone(),
                field: field.clone(),
                found: self.found_columns(),
            })
        })
    }

    fn found_columns(&self) -> String {
        let held = self.columns.iter().filter(|(_, value)| !value.is_null());
        let names: Vec<String> = held.map(|(column, _)| format!("`{column}`")).collect();
        if names.is_empty() { "(none)".into() } else { names.join(", ") }
    }

    fn required(&self, field: &str, expected: &'static str) -> Result<&Value, FieldError> {
        self.get(field)
            .ok_or_else(|| unexpected(self.name(field), "nothing".into(), expected.into()))
    }

    /// A required text with something in it.
    ///
    /// # Errors
    /// If it is absent, empty, or of another type.
    pub fn text(&self, field: &str) -> Result<String, FieldError> {
        let value = self.required(field, "text")?;
        let text = value
            .as_str()
            .ok_or_else(|| unexpected(self.name(field), describe(value), "text".into()))?;
        if text.is_empty() {
            return Err(FieldError::Empty { field: self.name(field), expected: "text" });
        }
        Ok(text.to_owned())
    }

    /// A required text or list of messages with something in it.
    ///
    /// # Errors
    /// If it is absent, empty, or of another type.
    pub fn content(&self, field: &str) -> Result<Content, FieldError> {
        const EXPECTED: &str = "text or a list of messages";
        match self.required(field, EXPECTED)? {
            Value::String(_) => self.text(field).map(Content::Text),
            Value::Array(values) if values.first().is_some_and(Value::is_number) => {
                Err(unexpected(
                    self.name(field),
                    "a list of numbers".into(),
                    format!("{EXPECTED} (token ids belong in a column `{field}_ids`)"),
                ))
            }
            Value::Array(_) => self.messages(field).map(Content::Messages),
            value => Err(unexpected(self.name(field), describe(value), EXPECTED.into())),
        }
    }

    /// A required list of messages with something in it.
    ///
    /// # Errors
    /// If it is absent, empty, or of another type.
    pub fn messages(&self, field: &str) -> Result<Vec<Message>, FieldError> {
        let values = self.list(field, "a list of messages")?;
        let named = |index: usize| format!("{}[{index}]", self.name(field));
        values.iter().enumerate().map(|(index, value)| message(value, &named(index))).collect()
    }

    /// A required list of token ids with something in it.
    ///
    /// # Errors
    /// If it is absent, empty, or of another type.
    pub fn ids(&self, field: &str) -> Result<Vec<u32>, FieldError> {
        let values = self.list(field, "a list of token ids")?;
        let id = |(index, value): (usize, &Value)| {
            value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
                unexpected(
                    format!("{}[{index}]", self.name(field)),
                    describe(value),
                    format!("a token id, an integer from 0 to {}", u32::MAX),
                )
            })
        };
        values.iter().enumerate().map(id).collect()
    }

    /// A required list of true/false or 1/0.
    pub(crate) fn mask(&self, field: &str) -> Result<Vec<bool>, FieldError> {
        let values = self.list(field, "a list of 0 and 1, or of true and false")?;
        let named = |index: usize| format!("{}[{index}]", self.name(field));
        let flag = |(index, value): (usize, &Value)| {
            truth(value).ok_or_else(|| {
                unexpected(named(index), describe(value), "0, 1, true or false".into())
            })
        };
        values.iter().enumerate().map(flag).collect()
    }

    /// A required true/false or 1/0.
    pub(crate) fn flag(&self, field: &str) -> Result<bool, FieldError> {
        const EXPECTED: &str = "true, false, 1 or 0";
        let value = self.required(field, EXPECTED)?;
        truth(value).ok_or_else(|| unexpected(self.name(field), describe(value), EXPECTED.into()))
    }

    /// A required number.
    pub(crate) fn number(&self, field: &str) -> Result<f64, FieldError> {
        let value = self.required(field, "a number")?;
        value
            .as_f64()
            .ok_or_else(|| unexpected(self.name(field), describe(value), "a number".into()))
    }

    /// A required count: an integer from 0.
    pub(crate) fn count(&self, field: &str) -> Result<u64, FieldError> {
        const EXPECTED: &str = "an integer from 0";
        let value = self.required(field, EXPECTED)?;
        value.as_u64().ok_or_else(|| unexpected(self.name(field), describe(value), EXPECTED.into()))
    }

    fn list(&self, field: &str, expected: &'static str) -> Result<&[Value], FieldError> {
        match self.required(field, expected)? {
            Value::Array(values) if values.is_empty() => {
                Err(FieldError::Empty { field: self.name(field), expected })
            }
            Value::Array(values) => Ok(values),
            value => Err(unexpected(self.name(field), describe(value), expected.into())),
        }
    }
}

/// Reads a column that need not be there: `None` where it is absent.
pub(crate) fn optional<'r, T>(
    row: &'r Row<'_>,
    field: &str,
    read: impl FnOnce(&'r Row<'_>) -> Result<T, FieldError>,
) -> Result<Option<T>, FieldError> {
    row.has(field).then(|| read(row)).transpose()
}

pub(crate) fn unexpected(field: String, found: String, expected: String) -> FieldError {
    FieldError::Unexpected { field, found, expected }
}

fn truth(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| match value.as_u64() {
        Some(0) => Some(false),
        Some(1) => Some(true),
        _ => None,
    })
}

pub(crate) fn message(value: &Value, name: &str) -> Result<Message, FieldError> {
    const EXPECTED: &str = "an object with `role` and `content`";
    let error = |at: &str, found: String, expected: String| {
        Err(unexpected(format!("{name}{at}"), found, expected))
    };
    let Value::Object(fields) = value else { return error("", describe(value), EXPECTED.into()) };
    let (Some(role), Some(content)) = (fields.get("role"), fields.get("content")) else {
        return error("", describe(value), EXPECTED.into());
    };
    // A call would be lost without a word if the text around it alone were kept.
    if let Some(calls) = fields.get("tool_calls").filter(|calls| !calls.is_null()) {
        return error(".tool_calls", describe(calls), "messages that hold text alone".into());
    }
    let Some(known) = Role::ALL.into_iter().find(|known| role == known.as_str()) else {
        let roles: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
        return error(".role", describe(role), format!("one of {}", roles.join(", ")));
    };
    match content {
        Value::String(content) => Ok(Message::new(known, content.as_str())),
        other => error(".content", describe(other), "text".into()),
    }
}

/// A value as errors show it: its type, and enough of it to find it.
pub(crate) fn describe(value: &Value) -> String {
    const SHOWN_CHARS: usize = 40;
    match value {
        Value::Null => "null".into(),
        Value::Bool(flag) => format!("{flag}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.chars().count() <= SHOWN_CHARS => format!("the text {text:?}"),
        Value::String(text) => {
            let start: String = text.chars().take(SHOWN_CHARS).collect();
            format!("a text that starts {start:?}")
        }
        Value::Array(values) => format!("a list of {}", values.len()),
        Value::Object(fields) if fields.is_empty() => "an empty object".into(),
        Value::Object(fields) => {
            let keys: Vec<String> = fields.keys().take(8).map(|key| format!("`{key}`")).collect();
            format!("an object with {}", keys.join(", "))
        }
    }
}

/// `Deserialize` for records by way of their columns, so that a record written by `Serialize` and
/// a line of a dataset are the same thing.
macro_rules! deserialize_from_columns {
    ($($record:ty),+) => {$(
        impl<'de> serde::Deserialize<'de> for $record {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let columns = serde::Deserialize::deserialize(deserializer)?;
                let options = $crate::ReadOptions::default();
                let row = $crate::Row::new(columns, &options, $crate::Source::default());
                $crate::Record::from_row(&row).map_err(serde::de::Error::custom)
            }
        }
    )+};
}

deserialize_from_columns!(
    crate::Demonstration,
    crate::Preference,
    crate::UnpairedPreference,
    crate::Prompt,
    crate::RecordedRollout
);
