//! Rows as they stand, whatever they mean, from one kind of file into another.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::bad_record::FieldError;
use crate::data_files::{TextLayout, text_layout};
use crate::row::{Form, Record, Row};
use crate::source::Source;

/// A row of any file of records: its columns, whatever they are.
///
/// ```
/// use hearken_data::{AnyRow, ReadOptions, read};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("cells.csv");
/// std::fs::write(&path, "question,n\nWhy?,1\n")?;
/// let (rows, _) = read::<AnyRow>(&path, &ReadOptions::default())?;
/// assert_eq!(rows[0].columns["question"], "Why?");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AnyRow {
    /// The columns in the file's order.
    #[serde(flatten)]
    pub columns: Map<String, Value>,
    /// Columns that hold what JSON does not have (NaN, bytes), and what.
    #[serde(skip)]
    pub left_out: BTreeMap<String, String>,
    /// Where it was read.
    #[serde(skip)]
    pub source: Source,
}

impl Record for AnyRow {
    const FORMS: &'static [Form<Self>] = &[];

    fn from_row(row: &Row<'_>) -> Result<Self, FieldError> {
        let left_out = row.all_unreadable().clone();
        Ok(Self { columns: row.columns().clone(), left_out, source: row.source() })
    }
}

/// Writes rows in the layout that the name of `path` says, into a writer: JSON lines, one JSON array, or
/// cells with the given header, and returns how many. What is no text stands in a cell as JSON, and null as
/// an empty cell.
///
/// # Errors
/// If the writer or the rows fail.
pub fn write_rows<E: From<io::Error>>(
    path: &Path,
    header: &[String],
    rows: impl IntoIterator<Item = Result<AnyRow, E>>,
    mut sink: &mut dyn Write,
) -> Result<usize, E> {
    let layout = text_layout(path);
    let mut count = 0;
    if let TextLayout::Cells(separator) = layout {
        let mut cells = csv::WriterBuilder::new().delimiter(separator).from_writer(sink);
        cells.write_record(header).map_err(io::Error::other)?;
        for row in rows {
            let row = row?;
            let texts = header.iter().map(|name| cell(row.columns.get(name)));
            cells.write_record(texts).map_err(io::Error::other)?;
            count += 1;
        }
        cells.flush()?;
        return Ok(count);
    }
    let is_array = layout == TextLayout::Array;
    let (start, between, end): (&[u8], &[u8], &[u8]) =
        if is_array { (b"[\n", b",\n", b"\n]\n") } else { (b"", b"\n", b"\n") };
    sink.write_all(start)?;
    for row in rows {
        let row = row?;
        if 0 < count {
            sink.write_all(between)?;
        }
        serde_json::to_writer(&mut sink, &row).map_err(io::Error::from)?;
        count += 1;
    }
    if 0 < count || is_array {
        sink.write_all(end)?;
    }
    Ok(count)
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
