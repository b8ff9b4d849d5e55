//! One JSON object of a file, its columns read with their types checked.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::bad_record::FieldError;
use crate::content::{Content, Message};
use crate::json::Columns;
use crate::kind::RecordKind;
use crate::options::ReadOptions;
use crate::source::Source;
use crate::value::{as_number, describe, messages, truth, unexpected};

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

    /// What becomes of judgements where a store of them is read as records of this type; `None`
    /// where nothing does.
    const FROM_JUDGEMENTS: Option<RecordKind> = None;

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
    columns: Columns,
    options: &'a ReadOptions,
    source: Source,
}

impl<'a> Row<'a> {
    /// A row of `columns`, found at `source`.
    pub fn new(columns: Map<String, Value>, options: &'a ReadOptions, source: Source) -> Self {
        Self::of(columns.into(), options, source)
    }

    /// The same, of columns of which some may be unreadable.
    pub(crate) fn of(columns: Columns, options: &'a ReadOptions, source: Source) -> Self {
        Self { columns, options, source }
    }

    /// The columns under the file's names, without those that hold something that is no JSON.
    pub(crate) fn columns(&self) -> &Map<String, Value> {
        &self.columns.values
    }

    /// What a column holds, under the file's name for it, if that is no JSON.
    pub(crate) fn unreadable(&self, column: &str) -> Option<&str> {
        self.columns.unreadable.get(column).map(String::as_str)
    }

    /// The columns that hold something that is no JSON, and what.
    pub(crate) fn all_unreadable(&self) -> &BTreeMap<String, String> {
        &self.columns.unreadable
    }

    /// How many columns hold something that is no JSON.
    pub(crate) fn unreadable_count(&self) -> usize {
        self.columns.unreadable.len()
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
        let all = self.columns.values.iter();
        let rest = all.filter(|(column, _)| !taken.contains(&column.as_str()));
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
        self.columns.values.get(self.column(field)).filter(|value| !value.is_null())
    }

    /// Whether `field` holds something.
    pub fn has(&self, field: &str) -> bool {
        self.get(field).is_some() || self.unreadable(self.column(field)).is_some()
    }

    fn check_mapping(&self) -> Result<(), FieldError> {
        let is_there = |column: &str| {
            self.columns.values.contains_key(column) || self.unreadable(column).is_some()
        };
        let missing = self.options.columns.iter().find(|(_, column)| !is_there(column));
        missing.map_or(Ok(()), |(field, column)| {
            Err(FieldError::MissingMapped {
                column: column.clone(),
                field: field.clone(),
                found: self.found_columns(),
            })
        })
    }

    /// The columns that hold something, as a phrase.
    pub(crate) fn found_columns(&self) -> String {
        let held = self.columns.values.iter().filter(|(_, value)| !value.is_null());
        let held = held.map(|(column, _)| column).chain(self.columns.unreadable.keys());
        let names: Vec<String> = held.map(|column| format!("`{column}`")).collect();
        if names.is_empty() { "(none)".into() } else { names.join(", ") }
    }

    fn required(&self, field: &str, expected: &'static str) -> Result<&Value, FieldError> {
        self.get(field).ok_or_else(|| {
            let found = self.unreadable(self.column(field)).unwrap_or("nothing");
            unexpected(self.name(field), found.into(), expected.into())
        })
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
        messages(self.list(field, "a list of messages")?, &self.name(field))
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
        as_number(value)
            .ok_or_else(|| unexpected(self.name(field), describe(value), "a number".into()))
    }

    /// A number that need not be there; a blank cell of a CSV file holds none.
    pub(crate) fn optional_number(&self, field: &str) -> Result<Option<f64>, FieldError> {
        let is_blank =
            self.get(field).and_then(Value::as_str).is_some_and(|text| text.trim().is_empty());
        (self.has(field) && !is_blank).then(|| self.number(field)).transpose()
    }

    /// A required count: an integer from 0.
    pub(crate) fn count(&self, field: &str) -> Result<u64, FieldError> {
        const EXPECTED: &str = "an integer from 0";
        let value = self.required(field, EXPECTED)?;
        value.as_u64().ok_or_else(|| unexpected(self.name(field), describe(value), EXPECTED.into()))
    }

    /// A required column, whatever it holds.
    ///
    /// # Errors
    /// If it is absent.
    pub fn value(&self, field: &str) -> Result<&Value, FieldError> {
        self.required(field, "a value")
    }

    /// A required column as a type of one's own; `expected` says in an error what it should hold.
    ///
    /// # Errors
    /// If it is absent, or of another form.
    pub fn parsed<T: serde::de::DeserializeOwned>(
        &self,
        field: &str,
        expected: &'static str,
    ) -> Result<T, FieldError> {
        let value = self.required(field, expected)?;
        T::deserialize(value)
            .map_err(|_| unexpected(self.name(field), describe(value), expected.into()))
    }

    pub(crate) fn list(&self, field: &str, expected: &'static str) -> Result<&[Value], FieldError> {
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

/// `Deserialize` for records by way of their columns, so that a record written by `Serialize` and
/// a line of a dataset are the same thing.
macro_rules! deserialize_from_columns {
    ($record:ty) => {
        impl<'de> serde::Deserialize<'de> for $record {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let columns = serde::Deserialize::deserialize(deserializer)?;
                let options = $crate::ReadOptions::default();
                let row = $crate::Row::new(columns, &options, $crate::Source::default());
                $crate::Record::from_row(&row).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use deserialize_from_columns;
