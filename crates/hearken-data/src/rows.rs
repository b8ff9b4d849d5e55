//! The rows of a file one by one: JSON lines, a JSON array or CSV, plain or gzip.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::bad_record::BadRecord;
use crate::foreign;
use crate::json::{self, Columns};
use crate::lines::{Element, Layout, Text};
use crate::report::ReadError;
use crate::source::Source;

/// One row of a file, or what is wrong with it.
pub(crate) struct RawRow {
    /// Where it stands.
    pub(crate) at: Source,
    /// What it says.
    pub(crate) columns: Result<RawColumns, BadRecord>,
}

/// The columns of a row as the file has them.
pub(crate) enum RawColumns {
    /// A JSON object, not parsed yet.
    Json(Vec<u8>),
    /// The cells of a CSV file, each a text.
    Cells(Map<String, Value>),
}

impl RawColumns {
    /// The columns.
    pub(crate) fn parsed(self) -> Result<Columns, BadRecord> {
        match self {
            Self::Json(bytes) => json::columns(&bytes),
            Self::Cells(cells) => Ok(cells.into()),
        }
    }
}

/// The rows of a file. The text of the file is never held as a whole.
pub(crate) struct Rows {
    path: Arc<Path>,
    layout: Laid,
    line_bytes_max: usize,
}

enum Laid {
    Nothing,
    Lines(Text),
    Array { text: Text, is_first: bool },
    Csv(Box<Cells>),
}

struct Cells {
    reader: csv::Reader<Text>,
    names: Vec<String>,
    record: csv::ByteRecord,
}

/// Whether the name of the file says that it holds comma-separated values.
pub(crate) fn is_csv(path: &Path) -> bool {
    let has = |path: &Path, wanted: &str| {
        path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
    };
    has(path, "csv")
        || (has(path, "gz") && path.file_stem().is_some_and(|stem| has(stem.as_ref(), "csv")))
}

impl Rows {
    /// Opens a file; rows of more than `line_bytes_max` are bad ones.
    pub(crate) fn open(path: &Path, line_bytes_max: usize) -> Result<Self, ReadError> {
        let open_error = |error: io::Error| {
            let advice = foreign::advice_on_opening(path, &error);
            ReadError::Open { path: path.into(), error, advice }
        };
        let mut file = File::open(path).map_err(open_error)?;
        if path.is_dir() {
            let refusal = file.read(&mut [0]).err();
            return Err(open_error(refusal.unwrap_or(io::ErrorKind::IsADirectory.into())));
        }
        Self::of(file, path, line_bytes_max)
    }

    /// The rows of what a reader gives, named after `path`.
    pub(crate) fn of(
        reader: impl io::Read + 'static,
        path: &Path,
        line_bytes_max: usize,
    ) -> Result<Self, ReadError> {
        let (mut text, start) = Text::open(reader).map_err(|error| ReadError::Open {
            path: path.into(),
            error,
            advice: String::new(),
        })?;
        if let Some((found, advice)) = foreign::in_file(path, &start) {
            return Err(ReadError::Foreign { path: path.into(), found, advice });
        }
        let layout = if is_csv(path) {
            Laid::Csv(Box::new(Cells::open(path, text)?))
        } else {
            let layout = text.layout().map_err(|error| ReadError::Read {
                path: path.into(),
                line: text.line(),
                error,
            })?;
            match layout {
                None => Laid::Nothing,
                Some(Layout::Lines) => Laid::Lines(text),
                Some(Layout::Array) => Laid::Array { text, is_first: true },
            }
        };
        Ok(Self { path: path.into(), layout, line_bytes_max })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The rows of JSON lines in memory, named after `path`.
    pub(crate) fn of_lines(path: &Path, lines: Vec<u8>) -> Self {
        let layout = Laid::Lines(Text::of_bytes(lines));
        Self { path: path.into(), layout, line_bytes_max: usize::MAX }
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// If the file cannot be read on, after which there is no next row.
    pub(crate) fn advance(&mut self) -> Result<Option<RawRow>, ReadError> {
        let row = match &mut self.layout {
            Laid::Nothing => return Ok(None),
            Laid::Lines(text) => {
                let next = text.next_line(self.line_bytes_max);
                next.map_err(|error| ReadError::Read {
                    path: self.path.to_path_buf(),
                    line: text.line(),
                    error,
                })?
            }
            Laid::Array { text, is_first } => {
                let next = text.next_element(std::mem::take(is_first), self.line_bytes_max);
                let (path, line) = (self.path.to_path_buf(), text.line());
                match next.map_err(|error| ReadError::Read { path: path.clone(), line, error })? {
                    Element::Next(piece) => Some(piece),
                    Element::End => None,
                    Element::Broken(message) => {
                        let message = message.to_owned();
                        return Err(ReadError::BrokenArray { path, line, message });
                    }
                }
            }
            Laid::Csv(cells) => {
                let next = cells.next(&self.path, self.line_bytes_max)?;
                return Ok(next.map(|(line, cells)| RawRow {
                    at: Source { path: Arc::clone(&self.path), line },
                    columns: cells.map(RawColumns::Cells),
                }));
            }
        };
        let at = |line| Source { path: Arc::clone(&self.path), line };
        let raw = |(line, bytes): crate::lines::Piece| RawRow {
            at: at(line),
            columns: bytes.map(RawColumns::Json),
        };
        Ok(row.map(raw))
    }
}

/// The line of a row and its cells, or what is wrong with them.
type NamedCells = (usize, Result<Map<String, Value>, BadRecord>);

impl Cells {
    fn open(path: &Path, text: Text) -> Result<Self, ReadError> {
        let mut reader = csv::ReaderBuilder::new().from_reader(text);
        let header = reader.byte_headers().map_err(|error| broken_csv(path, 1, error))?;
        let names = header.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        Ok(Self { reader, names, record: csv::ByteRecord::new() })
    }

    fn next(&mut self, path: &Path, limit: usize) -> Result<Option<NamedCells>, ReadError> {
        let line = self.reader.position().line() as usize;
        match self.reader.read_byte_record(&mut self.record) {
            Ok(false) => Ok(None),
            Ok(true) => {
                let position = self.record.position();
                let line = position.map_or(line, |position| position.line() as usize);
                Ok(Some((line, named(&self.names, &self.record, limit))))
            }
            Err(error) => match error.kind() {
                csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
                    let line = pos.as_ref().map_or(line, |position| position.line() as usize);
                    let reason = BadRecord::UnequalCells { found: *len, expected: *expected_len };
                    Ok(Some((line, Err(reason))))
                }
                _ => Err(broken_csv(path, line, error)),
            },
        }
    }
}

fn broken_csv(path: &Path, line: usize, error: csv::Error) -> ReadError {
    let error = match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(csv_message(&other)),
    };
    ReadError::Read { path: path.into(), line, error }
}

fn csv_message(kind: &csv::ErrorKind) -> String {
    format!("found broken CSV ({kind:?})")
}

/// The cells of a record under the names of the header.
fn named(
    names: &[String],
    record: &csv::ByteRecord,
    limit: usize,
) -> Result<Map<String, Value>, BadRecord> {
    if limit < record.as_slice().len() {
        return Err(BadRecord::LineTooLong { limit });
    }
    let mut columns = Map::new();
    let mut before = 0;
    for (name, cell) in names.iter().zip(record) {
        let text = std::str::from_utf8(cell)
            .map_err(|error| BadRecord::NotUtf8 { byte: before + error.valid_up_to() + 1 })?;
        // The byte that is told counts the commas, but no quotation marks.
        before += cell.len() + 1;
        columns.insert(name.clone(), Value::from(text));
    }
    Ok(columns)
}
