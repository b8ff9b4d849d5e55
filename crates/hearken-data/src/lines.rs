//! The bytes of a file: decompressed, without a byte order mark, cut into lines.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer};
use serde_json::Value;

use crate::bad_record::BadRecord;

/// How a file lays out its records.
pub(crate) enum Layout {
    /// One JSON object per line.
    Lines,
    /// One JSON array.
    Array,
}

/// One line: its number, from 1, and its bytes without the line end.
pub(crate) type Line = (usize, Result<Vec<u8>, BadRecord>);

/// The text of a file, from its first character that is not blank.
pub(crate) struct Text {
    bytes: BufReader<Box<dyn Read>>,
    /// The line that the next byte belongs to, from 1.
    line: usize,
}

impl Text {
    /// Opens a file, plain or gzip: what its first bytes say counts, not its name.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::of(File::open(path)?)
    }

    /// The text of what a reader gives, plain or gzip.
    pub(crate) fn of(reader: impl Read + 'static) -> io::Result<Self> {
        const GZIP: &[u8] = &[0x1f, 0x8b];
        const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];
        let (start, rest) = peel(reader, GZIP.len())?;
        let gzipped = start == GZIP;
        let raw = BufReader::new(Cursor::new(start).chain(rest));
        let plain: Box<dyn Read> =
            if gzipped { Box::new(MultiGzDecoder::new(raw)) } else { Box::new(raw) };
        let (start, rest) = peel(plain, BYTE_ORDER_MARK.len())?;
        let start = if start == BYTE_ORDER_MARK { Vec::new() } else { start };
        Ok(Self { bytes: BufReader::new(Box::new(Cursor::new(start).chain(rest))), line: 1 })
    }

    /// Passes over blanks and tells what follows; `None` at the end of the file.
    pub(crate) fn layout(&mut self) -> io::Result<Option<Layout>> {
        loop {
            let buffer = self.bytes.fill_buf()?;
            let Some(&byte) = buffer.first() else { return Ok(None) };
            match byte {
                b'[' => return Ok(Some(Layout::Array)),
                b' ' | b'\t' | b'\r' => {}
                b'\n' => self.line += 1,
                _ => return Ok(Some(Layout::Lines)),
            }
            self.bytes.consume(1);
        }
    }

    /// The line that the next byte belongs to.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// The next line that is not blank, with its number; `None` at the end. A line above `limit`
    /// bytes is passed over.
    pub(crate) fn next_line(&mut self, limit: usize) -> io::Result<Option<Line>> {
        loop {
            let line = self.line;
            let mut bytes = Vec::new();
            let mut too_long = false;
            let ended = loop {
                let buffer = self.bytes.fill_buf()?;
                if buffer.is_empty() {
                    break true;
                }
                let end = buffer.iter().position(|byte| *byte == b'\n');
                let part = &buffer[..end.unwrap_or(buffer.len())];
                too_long |= limit < bytes.len() + part.len();
                if !too_long {
                    bytes.extend_from_slice(part);
                }
                let used = part.len() + usize::from(end.is_some());
                self.bytes.consume(used);
                if end.is_some() {
                    self.line += 1;
                    break false;
                }
            };
            if too_long {
                return Ok(Some((line, Err(BadRecord::LineTooLong { limit }))));
            }
            if !bytes.trim_ascii().is_empty() {
                return Ok(Some((line, Ok(bytes))));
            }
            if ended {
                return Ok(None);
            }
        }
    }

    /// The bytes from here on, and the line of the last one read.
    pub(crate) fn count_lines(self) -> (CountedLines, Rc<Cell<usize>>) {
        let line = Rc::new(Cell::new(self.line));
        (CountedLines { bytes: self.bytes, line: Rc::clone(&line) }, line)
    }
}

/// A reader that counts the line ends it hands out, for a parser that asks for one byte at a time.
pub(crate) struct CountedLines {
    bytes: BufReader<Box<dyn Read>>,
    line: Rc<Cell<usize>>,
}

impl Read for CountedLines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        let parts = buffer[..count].split(|byte| *byte == b'\n').count();
        self.line.set(self.line.get() + parts - 1);
        Ok(count)
    }
}

/// One element with the line on which it starts: the parser has read its first byte by then.
pub(crate) struct Located<'l> {
    pub(crate) line: &'l Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Located<'_> {
    type Value = (usize, Value);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let line = self.line.get();
        Ok((line, Value::deserialize(deserializer)?))
    }
}

/// The first `count` bytes, fewer where there are fewer, and the rest.
fn peel<R: Read>(mut reader: R, count: usize) -> io::Result<(Vec<u8>, R)> {
    let mut start = Vec::new();
    reader.by_ref().take(count as u64).read_to_end(&mut start)?;
    Ok((start, reader))
}
