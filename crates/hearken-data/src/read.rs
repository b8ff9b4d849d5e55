//! Reading records from a file: JSON lines or one JSON array, plain or gzip.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::bad_record::BadRecord;
use crate::lines::{Layout, Located, Text};
use crate::row::{Record, Row, describe, known_columns};
use crate::source::Source;
use crate::transcript::TranscriptForm;

/// What happens at a record that is not usable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRecord {
    /// Reading stops with an error.
    #[default]
    Stop,
    /// The record is left out and counted.
    Skip,
}

/// How a file is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// What happens at a record that is not usable.
    pub on_bad_record: OnBadRecord,
    /// The file's names for columns that it calls otherwise, by this crate's names:
    /// `prompt → question`.
    pub columns: BTreeMap<String, String>,
    /// How many records are read at most; `None` reads all.
    pub limit: Option<usize>,
    /// What pairs of HH-RLHF transcripts become.
    pub transcripts: TranscriptForm,
    /// The longest accepted line, in bytes: a guard against files that are no JSON lines.
    pub line_bytes_max: usize,
}

impl Default for ReadOptions {
    /// Every record, under its own column names; a bad record stops; lines up to 64 MiB.
    fn default() -> Self {
        Self {
            on_bad_record: OnBadRecord::default(),
            columns: BTreeMap::new(),
            limit: None,
            transcripts: TranscriptForm::default(),
            line_bytes_max: 64 << 20,
        }
    }
}

/// What reading a file came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReadReport {
    /// Records read.
    pub read: usize,
    /// Bad records left out.
    pub skipped: usize,
    /// Why, for the first [`ReadReport::REASONS_MAX`] of them: `file:line: reason`.
    pub reasons: Vec<String>,
}

impl ReadReport {
    /// How many reasons are kept.
    pub const REASONS_MAX: usize = 5;
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file is not there, or may not be read.
    #[error("{}: cannot be opened: {error}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// Reading failed on the way, as at the end of a truncated gzip file.
    #[error("{}:{line}: cannot be read from here on: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The line that could not be read whole.
        line: usize,
        /// What the operating system or the decompressor says.
        error: io::Error,
    },
    /// A record is bad, under [`OnBadRecord::Stop`].
    #[error("{at}: {reason}")]
    Bad {
        /// The record.
        at: Source,
        /// What is wrong with it.
        reason: BadRecord,
    },
    /// The syntax of a JSON array is broken, after which no record can be found.
    #[error("{}:{line}: found invalid JSON ({message}), expected an array of objects", path.display())]
    BrokenArray {
        /// The file.
        path: PathBuf,
        /// The line at which parsing stopped.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// The file holds no usable record.
    #[error("{}: found no usable record{}, expected at least one", path.display(), skipped(report))]
    NoRecords {
        /// The file.
        path: PathBuf,
        /// What was skipped, and why.
        report: ReadReport,
    },
    /// The mapping names a column that this kind of record does not have.
    #[error(
        "{}: the column mapping gives a name to `{field}`; expected one of {}",
        path.display(), known.join(", ")
    )]
    UnknownField {
        /// The file.
        path: PathBuf,
        /// What the mapping names.
        field: String,
        /// What it may name.
        known: Vec<&'static str>,
    },
}

fn skipped(report: &ReadReport) -> String {
    match report.reasons.first() {
        Some(reason) => format!(" ({} bad ones, the first: {reason})", report.skipped),
        None => String::new(),
    }
}

/// Reads the records of a file: one JSON object per line or one JSON array of objects, plain or
/// gzip. Blank lines and a byte order mark are passed over; columns that `T` does not know are
/// ignored.
///
/// # Errors
/// If the file cannot be read or holds no usable record, if the mapping names an unknown column,
/// and, under [`OnBadRecord::Stop`], at the first bad record.
pub fn read<T: Record>(
    path: &Path,
    options: &ReadOptions,
) -> Result<(Vec<T>, ReadReport), ReadError> {
    read_text(path, Text::open(path), options)
}

/// [`read()`] from anything, such as standard input; errors call it `name`.
///
/// # Errors
/// As [`read()`].
pub fn read_from<T: Record>(
    reader: impl io::Read + 'static,
    name: &Path,
    options: &ReadOptions,
) -> Result<(Vec<T>, ReadReport), ReadError> {
    read_text(name, Text::of(reader), options)
}

fn read_text<T: Record>(
    path: &Path,
    text: io::Result<Text>,
    options: &ReadOptions,
) -> Result<(Vec<T>, ReadReport), ReadError> {
    let known = known_columns::<T>();
    if let Some(field) = options.columns.keys().find(|field| !known.contains(&field.as_str())) {
        return Err(ReadError::UnknownField { path: path.into(), field: field.clone(), known });
    }
    let open_error = |error| ReadError::Open { path: path.into(), error };
    let mut text = text.map_err(open_error)?;
    let mut reading = Reading {
        path: path.into(),
        options,
        records: Vec::new(),
        report: ReadReport::default(),
        failure: None,
    };
    match text.layout().map_err(|error| reading.read_error(text.line(), error))? {
        Some(Layout::Lines) => reading.lines(&mut text)?,
        Some(Layout::Array) => reading.array(text)?,
        None => {}
    }
    if reading.records.is_empty() && options.limit != Some(0) {
        return Err(ReadError::NoRecords { path: path.into(), report: reading.report });
    }
    Ok((reading.records, reading.report))
}

/// A file on its way to being records.
struct Reading<'a, T> {
    path: Arc<Path>,
    options: &'a ReadOptions,
    records: Vec<T>,
    report: ReadReport,
    /// What stopped the parser of an array from within.
    failure: Option<ReadError>,
}

impl<T: Record> Reading<'_, T> {
    fn read_error(&self, line: usize, error: io::Error) -> ReadError {
        ReadError::Read { path: self.path.to_path_buf(), line, error }
    }

    fn is_full(&self) -> bool {
        self.options.limit.is_some_and(|limit| limit <= self.records.len())
    }

    fn lines(&mut self, text: &mut Text) -> Result<(), ReadError> {
        while !self.is_full() {
            let next = text.next_line(self.options.line_bytes_max);
            let Some((line, bytes)) = next.map_err(|error| self.read_error(text.line(), error))?
            else {
                break;
            };
            self.take(line, bytes.and_then(|bytes| parse_line(&bytes)))?;
        }
        Ok(())
    }

    fn array(&mut self, text: Text) -> Result<(), ReadError> {
        let (bytes, line) = text.count_lines();
        let mut parser = serde_json::Deserializer::from_reader(bytes);
        let elements = Elements { reading: self, line: Rc::clone(&line) };
        let parsed = parser.deserialize_seq(elements).and_then(|()| parser.end());
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        match parsed {
            Ok(()) => Ok(()),
            // The parser insists on the end of the array; behind the limit nothing is read.
            Err(_) if self.is_full() => Ok(()),
            Err(error) if error.is_io() => Err(self.read_error(line.get(), error.into())),
            Err(error) => Err(ReadError::BrokenArray {
                path: self.path.to_path_buf(),
                line: line.get(),
                message: without_position(&error),
            }),
        }
    }

    /// Keeps the record of one line or element, or deals with its being bad.
    fn take(
        &mut self,
        line: usize,
        columns: Result<Map<String, Value>, BadRecord>,
    ) -> Result<(), ReadError> {
        let at = Source { path: Arc::clone(&self.path), line };
        let record = columns
            .and_then(|columns| Ok(T::from_row(&Row::new(columns, self.options, at.clone()))?));
        match (record, self.options.on_bad_record) {
            (Ok(record), _) => {
                self.records.push(record);
                self.report.read += 1;
            }
            (Err(reason), OnBadRecord::Stop) => return Err(ReadError::Bad { at, reason }),
            (Err(reason), OnBadRecord::Skip) => {
                self.report.skipped += 1;
                if self.report.reasons.len() < ReadReport::REASONS_MAX {
                    self.report.reasons.push(format!("{at}: {reason}"));
                }
            }
        }
        Ok(())
    }
}

pub(crate) fn parse_line(bytes: &[u8]) -> Result<Map<String, Value>, BadRecord> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| BadRecord::NotUtf8 { byte: error.valid_up_to() + 1 })?;
    let value = serde_json::from_str(text).map_err(|error| BadRecord::NotJson {
        column: error.column(),
        message: without_position(&error),
    })?;
    object(value)
}

pub(crate) fn object(value: Value) -> Result<Map<String, Value>, BadRecord> {
    match value {
        Value::Object(columns) => Ok(columns),
        value => Err(BadRecord::NotAnObject { found: describe(&value) }),
    }
}

/// What the parser says, without its own count of lines, which starts at this line or array.
pub(crate) fn without_position(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&position).map_or(message.clone(), str::to_owned)
}

/// Takes the elements of an array one by one; breaks off where the reading has enough.
struct Elements<'r, 'a, T> {
    reading: &'r mut Reading<'a, T>,
    line: Rc<Cell<usize>>,
}

impl<'de, T: Record> Visitor<'de> for Elements<'_, '_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let Self { reading, line } = self;
        while !reading.is_full() {
            let element = sequence.next_element_seed(Located { line: &line })?;
            let Some((at, value)) = element else { break };
            if let Err(failure) = reading.take(at, object(value)) {
                reading.failure = Some(failure);
                break;
            }
        }
        Ok(())
    }
}
