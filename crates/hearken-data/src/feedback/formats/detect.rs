//! Which format a file has.

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Map, Value};

use super::error::FormatError;
use super::rows::{Row, Sink, each_row};
use super::{Format, argilla, own};
use crate::bad_record::BadRecord;
use crate::read::{ReadError, ReadOptions};
use crate::source::Source;
use crate::transcript::is_transcript;

/// Tells the format of a file by its first row.
///
/// # Errors
/// If the file cannot be read, has no row, or has one that fits no format; the error lists the
/// columns that were looked for.
pub fn detect(path: &Path) -> Result<Format, FormatError> {
    let mut first = First { row: None };
    each_row(path, ReadOptions::default().line_bytes_max, &mut first)?;
    let Some(row) = first.row else {
        return Err(FormatError::Empty { path: path.into() });
    };
    Format::all().find(|format| is(*format, &row.columns)).ok_or_else(|| {
        let found: Vec<String> = row.columns.keys().map(|key| format!("`{key}`")).collect();
        let found = if found.is_empty() { "(none)".to_owned() } else { found.join(", ") };
        FormatError::Unrecognized { path: path.into(), found }
    })
}

fn is(format: Format, columns: &Map<String, Value>) -> bool {
    let text_starts =
        |key: &str| columns.get(key).and_then(Value::as_str).is_some_and(is_transcript);
    match format {
        Format::Hearken => own::is_record(columns),
        Format::Argilla => argilla::is_record(columns),
        Format::HhRlhf => {
            !columns.contains_key("prompt") && text_starts("chosen") && text_starts("rejected")
        }
        // With an answer beside it, a prompt is half of a record that is wrong.
        Format::TrlPrompt => {
            let answers = ["chosen", "rejected", "completion", "completions", "label"];
            columns.contains_key("prompt") && !answers.iter().any(|key| columns.contains_key(*key))
        }
        // An empty cell of a CSV file is no column; every other format has the column at least.
        format => format.has_columns(|column| columns.contains_key(column)),
    }
}

/// Keeps the first row.
struct First {
    row: Option<Row>,
}

impl Sink for First {
    fn take(
        &mut self,
        row: Result<Row, (Source, BadRecord)>,
    ) -> Result<ControlFlow<()>, ReadError> {
        match row {
            Ok(row) => self.row = Some(row),
            Err((at, reason)) => return Err(ReadError::Bad { at, reason }),
        }
        Ok(ControlFlow::Break(()))
    }
}
