//! The rows of a file of separated values.

use std::cell::RefCell;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::bad_record::BadRecord;
use crate::lines::Text;
use crate::report::ReadError;

/// The line of a row and its cells, or what is wrong with them.
pub(crate) type NamedCells = (usize, Result<Map<String, Value>, BadRecord>);

/// A file whose first row names the columns.
pub(crate) struct Cells {
    reader: csv::Reader<Watched>,
    watch: Rc<RefCell<Watch>>,
    names: Vec<String>,
    record: csv::ByteRecord,
}

impl Cells {
    /// Reads the header; rows of more than `limit` bytes are bad ones.
    pub(crate) fn open(
        path: &Path,
        text: Text,
        separator: u8,
        limit: usize,
    ) -> Result<Self, ReadError> {
        let watch = Rc::new(RefCell::new(Watch::new(separator, limit)));
        let watched = Watched { text, watch: Rc::clone(&watch) };
        let mut reader = csv::ReaderBuilder::new().delimiter(separator).from_reader(watched);
        let header = reader.byte_headers().map_err(|error| broken(path, 1, error))?;
        let names = header.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        Ok(Self { reader, watch, names, record: csv::ByteRecord::new() })
    }

    /// The next row.
    pub(crate) fn next(
        &mut self,
        path: &Path,
        limit: usize,
    ) -> Result<Option<NamedCells>, ReadError> {
        let line = self.reader.position().line() as usize;
        self.watch.borrow_mut().row_bytes = 0;
        let read = self.reader.read_byte_record(&mut self.record);
        // What such a mark swallows makes a row of too few cells, or one with the rest of the file in a cell.
        if let (false, Some(line)) = (matches!(read, Ok(false)), self.watch.borrow().never_closed())
        {
            let error = io::Error::other("found a quotation mark that is never closed");
            return Err(ReadError::Read { path: path.into(), line, error });
        }
        match read {
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
                _ => Err(broken(path, line, error)),
            },
        }
    }
}

fn broken(path: &Path, line: usize, error: csv::Error) -> ReadError {
    let error = match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("found broken CSV ({other:?})")),
    };
    ReadError::Read { path: path.into(), line, error }
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

/// The text of a file on its way to the parser, which takes what follows an open quotation mark for
/// one cell, up to the end of the file, and says nothing.
struct Watched {
    text: Text,
    watch: Rc<RefCell<Watch>>,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.text.read(buffer)?;
        self.watch.borrow_mut().see(&buffer[..count])?;
        Ok(count)
    }
}

/// Where the last byte stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CsvState {
    CellStart,
    Plain,
    Quoted,
    /// After a quotation mark inside a quoted cell: a second one is text, all else ends the cell.
    Closing,
}

struct Watch {
    separator: u8,
    limit: usize,
    /// Bytes read since the parser was asked for the row.
    row_bytes: usize,
    place: CsvState,
    line: usize,
    /// The line of the last quotation mark that opened a cell.
    opened: usize,
    ended: bool,
}

impl Watch {
    fn new(separator: u8, limit: usize) -> Self {
        let place = CsvState::CellStart;
        Self { separator, limit, row_bytes: 0, place, line: 1, opened: 0, ended: false }
    }

    fn see(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.ended = bytes.is_empty();
        self.row_bytes = self.row_bytes.saturating_add(bytes.len());
        for &byte in bytes {
            let between = byte == self.separator || byte == b'\n' || byte == b'\r';
            self.place = match (self.place, byte) {
                (CsvState::CellStart, b'"') => {
                    self.opened = self.line;
                    CsvState::Quoted
                }
                (CsvState::Quoted, b'"') => CsvState::Closing,
                (CsvState::Closing, b'"') | (CsvState::Quoted, _) => CsvState::Quoted,
                _ if between => CsvState::CellStart,
                _ => CsvState::Plain,
            };
            self.line += usize::from(byte == b'\n');
        }
        // The parser reads ahead by a buffer.
        if self.limit.saturating_mul(2) < self.row_bytes {
            let (limit, opened) = (self.limit, self.opened);
            let quoted = match self.place {
                CsvState::Quoted => format!(": the quotation mark of line {opened} is not closed"),
                _ => String::new(),
            };
            let message = format!("found a row of more than {limit} bytes{quoted}");
            return Err(io::Error::other(message));
        }
        Ok(())
    }

    /// The line of a quotation mark that the end of the file leaves open.
    fn never_closed(&self) -> Option<usize> {
        (self.ended && self.place == CsvState::Quoted).then_some(self.opened)
    }
}
