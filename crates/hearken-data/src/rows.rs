//! The rows of files one by one: JSON lines, a JSON array, separated values or Parquet, the first three also compressed.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::bad_record::BadRecord;
use crate::cells::Cells;
use crate::data_files;
use crate::foreign;
use crate::json::{self, Columns};
use crate::lines::{Element, FileLayout, Text};
use crate::parquet_file::{MAGIC, ParquetRows};
use crate::report::ReadError;
use crate::source::Source;

/// One row of a file, or what is wrong with it.
pub(crate) struct RawRow {
    /// Where it stands.
    pub(crate) at: Source,
    /// What it says.
    pub(crate) columns: Result<RawColumns, BadRecord>,
}

impl RawRow {
    /// How many bytes of the file it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        match &self.columns {
            Ok(RawColumns::Json(bytes)) => bytes.len(),
            Ok(RawColumns::Parsed(columns)) => columns.values.values().map(bytes_of).sum(),
            Err(_) => 0,
        }
    }
}

fn bytes_of(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(bytes_of).sum::<usize>() + values.len(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() + bytes_of(value)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

/// The columns of a row as the file has them.
pub(crate) enum RawColumns {
    /// A JSON object, not parsed yet.
    Json(Vec<u8>),
    /// Those of a file that has no JSON; the cells of CSV are texts.
    Parsed(Columns),
}

impl RawColumns {
    /// The columns.
    pub(crate) fn parsed(self) -> Result<Columns, BadRecord> {
        match self {
            Self::Json(bytes) => json::columns(&bytes),
            Self::Parsed(columns) => Ok(columns),
        }
    }
}

/// The rows of what a path means: of a file, or of the files of a folder or a pattern, one after the
/// other. No text is ever held as a whole.
pub(crate) struct Rows {
    /// What the caller gave.
    path: Arc<Path>,
    file: FileRows,
    /// Those that follow.
    rest: std::vec::IntoIter<PathBuf>,
    line_bytes_max: usize,
}

impl Rows {
    /// Opens the first file; rows of more than `line_bytes_max` are bad ones.
    pub(crate) fn open(path: &Path, line_bytes_max: usize) -> Result<Self, ReadError> {
        let mut rest = data_files::record_files(path)?.into_iter();
        let first = rest.next().unwrap_or_else(|| path.into());
        let file = FileRows::open(&first, line_bytes_max)?;
        Ok(Self { path: path.into(), file, rest, line_bytes_max })
    }

    /// The rows of what a reader gives, named after `path`.
    pub(crate) fn of(
        reader: impl io::Read + 'static,
        path: &Path,
        line_bytes_max: usize,
    ) -> Result<Self, ReadError> {
        let file = FileRows::of(reader, path, line_bytes_max)?;
        Ok(Self { path: path.into(), file, rest: Vec::new().into_iter(), line_bytes_max })
    }

    /// The rows of JSON lines in memory, named after `path`.
    pub(crate) fn of_lines(path: &Path, lines: Vec<u8>) -> Self {
        let layout = Laid::Lines(Text::of_bytes(lines));
        let file = FileRows { path: path.into(), layout, line_bytes_max: usize::MAX };
        let rest = Vec::new().into_iter();
        Self { path: path.into(), file, rest, line_bytes_max: usize::MAX }
    }

    /// What was given to be read.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// If a file cannot be read on, after which there is no next row.
    pub(crate) fn advance(&mut self) -> Result<Option<RawRow>, ReadError> {
        loop {
            if let Some(row) = self.file.advance()? {
                return Ok(Some(row));
            }
            let Some(next) = self.rest.next() else { return Ok(None) };
            self.file = FileRows::open(&next, self.line_bytes_max)?;
        }
    }
}

/// The rows of one file.
struct FileRows {
    path: Arc<Path>,
    layout: Laid,
    line_bytes_max: usize,
}

enum Laid {
    Nothing,
    Lines(Text),
    Array { text: Text, is_first: bool },
    Cells(Box<Cells>),
    Parquet(Box<ParquetRows>),
}

impl FileRows {
    fn open(path: &Path, line_bytes_max: usize) -> Result<Self, ReadError> {
        let open_error = |error: io::Error| {
            let advice = foreign::advice_on_opening(path, &error);
            ReadError::Open { path: path.into(), error, advice }
        };
        let mut file = File::open(path).map_err(open_error)?;
        if path.is_dir() {
            let refusal = file.read(&mut [0]).err();
            return Err(open_error(refusal.unwrap_or(io::ErrorKind::IsADirectory.into())));
        }
        // A pipe is no file that could be read from its end.
        if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            let mut start = [0; MAGIC.len()];
            let count = file.read(&mut start).map_err(open_error)?;
            file.rewind().map_err(open_error)?;
            if &start[..count] == MAGIC {
                let layout = Laid::Parquet(Box::new(ParquetRows::open(path, file)?));
                return Ok(Self { path: path.into(), layout, line_bytes_max });
            }
        }
        Self::of(file, path, line_bytes_max)
    }

    fn of(
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
        let layout = if let Some(separator) = data_files::separator(path) {
            Laid::Cells(Box::new(Cells::open(path, text, separator, line_bytes_max)?))
        } else {
            let layout = text.layout().map_err(|error| ReadError::Read {
                path: path.into(),
                line: text.line(),
                error,
            })?;
            match layout {
                None => Laid::Nothing,
                Some(FileLayout::Lines) => Laid::Lines(text),
                Some(FileLayout::Array) => Laid::Array { text, is_first: true },
            }
        };
        Ok(Self { path: path.into(), layout, line_bytes_max })
    }

    /// As [`Rows::advance`].
    fn advance(&mut self) -> Result<Option<RawRow>, ReadError> {
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
            Laid::Cells(cells) => {
                let next = cells.next(&self.path, self.line_bytes_max)?;
                return Ok(next.map(|(line, cells)| RawRow {
                    at: Source { path: Arc::clone(&self.path), line },
                    columns: cells.map(|cells| RawColumns::Parsed(cells.into())),
                }));
            }
            Laid::Parquet(rows) => {
                let next = rows.next(&self.path)?;
                return Ok(next.map(|(line, columns)| RawRow {
                    at: Source { path: Arc::clone(&self.path), line },
                    columns: Ok(RawColumns::Parsed(columns)),
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
