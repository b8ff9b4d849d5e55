//! Which format a file has.

use std::path::Path;

use serde_json::Value;

use super::error::FormatError;
use super::{Format, argilla, own, potato, prm800k};
use crate::kind::RecordKind;
use crate::options::ReadOptions;
use crate::report::ReadError;
use crate::row::Row;
use crate::rows::{RawColumns, Rows};
use crate::transcript::is_transcript;

/// Tells the format of a file by its first row.
///
/// # Errors
/// If the file cannot be read, has no row, or has one that fits no format; the error lists the
/// columns that were looked for.
pub fn detect(path: &Path) -> Result<Format, FormatError> {
    let options = ReadOptions::default();
    let Some(row) = first_row(path, &options)? else {
        return Err(FormatError::Empty { path: path.into() });
    };
    Format::all()
        .find(|format| is(*format, &row))
        .ok_or_else(|| FormatError::Unrecognized { path: path.into(), found: row.found_columns() })
}

/// The format of a file that holds items and judgements, by its first row: Hearken's own, as a store of JSON lines
/// has it, or PRM800K's, each of whose rows judges several solutions. `None` of files whose rows are records by
/// themselves.
///
/// # Errors
/// If the file cannot be opened, or read up to the end of that row.
pub fn holds_judgements(path: &Path, options: &ReadOptions) -> Result<Option<Format>, ReadError> {
    let formats = [Format::Hearken, Format::Prm800k];
    match first_row(path, options) {
        Ok(row) => Ok(row.and_then(|row| formats.into_iter().find(|format| is(*format, &row)))),
        // What is wrong with a row is for those to say who read it.
        Err(ReadError::Bad { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn first_row<'o>(path: &Path, options: &'o ReadOptions) -> Result<Option<Row<'o>>, ReadError> {
    let mut rows = Rows::open(path, options.line_bytes_max)?;
    let Some(row) = rows.advance()? else { return Ok(None) };
    let at = row.at;
    match row.columns.and_then(RawColumns::parsed) {
        Ok(columns) => Ok(Some(Row::of(columns, options, at))),
        Err(reason) => Err(ReadError::Bad { at, reason }),
    }
}

fn is(format: Format, row: &Row<'_>) -> bool {
    let columns = row.columns();
    let has = |column: &str| columns.contains_key(column) || row.unreadable(column).is_some();
    let text_starts =
        |key: &str| columns.get(key).and_then(Value::as_str).is_some_and(is_transcript);
    let kind = || RecordKind::of(has);
    match format {
        Format::Hearken => own::is_record(columns),
        Format::Argilla => argilla::is_record(columns),
        // Named columns alone would fit many a table of questions.
        Format::Prm800k => format.has_columns(has) && (has("labeler") || prm800k::is_row(columns)),
        Format::PotatoItems => potato::is_instance(columns),
        Format::HhRlhf => !has("prompt") && text_starts("chosen") && text_starts("rejected"),
        // What the trainers read, however wrong it is.
        Format::TrlPreference => kind() == Some(RecordKind::Preferences),
        Format::TrlUnpaired => kind() == Some(RecordKind::UnpairedPreferences),
        Format::TrlStepwise => kind() == Some(RecordKind::JudgedSteps),
        Format::TrlDemonstrations => kind() == Some(RecordKind::Demonstrations),
        // With an answer beside it, a prompt is half of a record that is wrong.
        Format::TrlPrompt => {
            let is_half = ["completions", "label"].iter().any(|key| has(key));
            kind() == Some(RecordKind::Prompts) && !is_half
        }
        // An empty cell of a CSV file is no column; every other format has the column at least.
        format => format.has_columns(has),
    }
}
