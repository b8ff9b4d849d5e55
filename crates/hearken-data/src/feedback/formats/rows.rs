//! The rows of a file one by one: JSON lines, a JSON array or CSV, plain or gzip.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::bad_record::BadRecord;
use crate::feedback::hash::hexadecimal;
use crate::lines::{Layout, Located, Text};
use crate::read::{ReadError, object, parse_line, without_position};
use crate::source::Source;

/// One row of a file.
pub(super) struct Row {
    /// Where it stands.
    pub(super) at: Source,
    /// What it says; of a CSV file, every cell is text.
    pub(super) columns: Map<String, Value>,
}

impl Row {
    /// A name that equal rows share: 32 hexadecimal digits of SHA-256 over `salt` and the columns.
    pub(super) fn fingerprint(&self, salt: &str) -> String {
        let mut hasher = Sha256::new();
        hasher.update(salt.as_bytes());
        hasher.update(b"\n");
        hasher.update(serde_json::to_vec(&self.columns).expect("JSON values serialize"));
        hexadecimal(&hasher.finalize()[..16])
    }
}

/// What is done with the rows of a file.
pub(super) trait Sink {
    /// Takes a row, or what is wrong with one; breaks where nothing more is wanted.
    ///
    /// # Errors
    /// Whatever ends the reading of the file.
    fn take(&mut self, row: Result<Row, (Source, BadRecord)>)
    -> Result<ControlFlow<()>, ReadError>;

    /// Takes a line of a file of JSON lines before it is parsed. Only an override has use for it.
    ///
    /// # Errors
    /// Whatever ends the reading of the file.
    fn line(&mut self, at: Source, bytes: &[u8]) -> Result<ControlFlow<()>, ReadError> {
        let row = parse_line(bytes).map(|columns| Row { at: at.clone(), columns });
        self.take(row.map_err(|reason| (at, reason)))
    }
}

/// Whether the name of the file says that it holds comma-separated values.
pub(super) fn is_csv(path: &Path) -> bool {
    let has = |path: &Path, wanted: &str| {
        path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
    };
    has(path, "csv")
        || (has(path, "gz") && path.file_stem().is_some_and(|stem| has(stem.as_ref(), "csv")))
}

/// Hands the rows of `path` to `sink`, lines of more than `line_bytes_max` as bad ones. The text of
/// the file is never held as a whole.
pub(super) fn each_row(
    path: &Path,
    line_bytes_max: usize,
    sink: &mut dyn Sink,
) -> Result<(), ReadError> {
    let mut text =
        Text::open(path).map_err(|error| ReadError::Open { path: path.into(), error })?;
    if is_csv(path) {
        return each_record(path, text, line_bytes_max, sink);
    }
    let shared: Arc<Path> = path.into();
    let broken = |line, error| ReadError::Read { path: path.into(), line, error };
    match text.layout().map_err(|error| broken(text.line(), error))? {
        None => Ok(()),
        Some(Layout::Array) => each_element(&shared, text, sink),
        Some(Layout::Lines) => loop {
            let next = text.next_line(line_bytes_max);
            let Some((line, bytes)) = next.map_err(|error| broken(text.line(), error))? else {
                return Ok(());
            };
            let at = Source { path: Arc::clone(&shared), line };
            let flow = match bytes {
                Ok(bytes) => sink.line(at, &bytes)?,
                Err(reason) => sink.take(Err((at, reason)))?,
            };
            if flow.is_break() {
                return Ok(());
            }
        },
    }
}

fn each_record(
    path: &Path,
    text: Text,
    line_bytes_max: usize,
    sink: &mut dyn Sink,
) -> Result<(), ReadError> {
    let shared: Arc<Path> = path.into();
    let (bytes, _) = text.count_lines();
    let mut reader = csv::ReaderBuilder::new().from_reader(bytes);
    let header = match reader.byte_headers() {
        Ok(header) => header.clone(),
        Err(error) => return Err(broken_csv(path, 1, error)),
    };
    let names: Vec<String> =
        header.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let mut record = csv::ByteRecord::new();
    loop {
        let line = reader.position().line() as usize;
        let at = |line: usize| Source { path: Arc::clone(&shared), line };
        let row = match reader.read_byte_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {
                let line = record.position().map_or(line, |position| position.line() as usize);
                cells(&names, &record, line_bytes_max)
                    .map(|columns| Row { at: at(line), columns })
                    .map_err(|reason| (at(line), reason))
            }
            Err(error) => match error.kind() {
                csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
                    let line = pos.as_ref().map_or(line, |position| position.line() as usize);
                    let reason = BadRecord::UnequalCells { found: *len, expected: *expected_len };
                    Err((at(line), reason))
                }
                _ => return Err(broken_csv(path, line, error)),
            },
        };
        if sink.take(row)?.is_break() {
            return Ok(());
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
fn cells(
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

fn each_element(path: &Arc<Path>, text: Text, sink: &mut dyn Sink) -> Result<(), ReadError> {
    let (bytes, line) = text.count_lines();
    let mut parser = serde_json::Deserializer::from_reader(bytes);
    let mut ended = None;
    let elements = Elements { path, line: Rc::clone(&line), sink, ended: &mut ended };
    let parsed = parser.deserialize_seq(elements).and_then(|()| parser.end());
    match (ended, parsed) {
        (Some(result), _) => result,
        (None, Ok(())) => Ok(()),
        (None, Err(error)) if error.is_io() => {
            Err(ReadError::Read { path: path.to_path_buf(), line: line.get(), error: error.into() })
        }
        (None, Err(error)) => Err(ReadError::BrokenArray {
            path: path.to_path_buf(),
            line: line.get(),
            message: without_position(&error),
        }),
    }
}

/// Takes the elements of an array one by one. The parser insists on the end of the array; where
/// the sink has enough before, `ended` says so.
struct Elements<'s> {
    path: &'s Arc<Path>,
    line: Rc<Cell<usize>>,
    sink: &'s mut dyn Sink,
    ended: &'s mut Option<Result<(), ReadError>>,
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while let Some((line, value)) = sequence.next_element_seed(Located { line: &self.line })? {
            let at = Source { path: Arc::clone(self.path), line };
            let row = object(value)
                .map(|columns| Row { at: at.clone(), columns })
                .map_err(|reason| (at, reason));
            match self.sink.take(row) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => {
                    *self.ended = Some(Ok(()));
                    break;
                }
                Err(error) => {
                    *self.ended = Some(Err(error));
                    break;
                }
            }
        }
        Ok(())
    }
}
