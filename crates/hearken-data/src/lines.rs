//! The bytes of a file: decompressed, without a byte order mark, cut into lines or elements.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use crate::bad_record::BadRecord;

/// How a file lays out its records.
pub(crate) enum FileLayout {
    /// One JSON object per line.
    Lines,
    /// One JSON array.
    Array,
}

/// One line or element: the line on which it starts, from 1, and its bytes.
pub(crate) type Piece = (usize, Result<Vec<u8>, BadRecord>);

/// What follows in an array.
pub(crate) enum Element {
    /// An element.
    Next(Piece),
    /// The end of the array and of the file.
    End,
    /// What is no array.
    Broken(&'static str),
}

/// The text of a file, from its first character that is not blank.
pub(crate) struct Text {
    bytes: BufReader<Box<dyn Read>>,
    /// The line that the next byte belongs to, from 1.
    line: usize,
}

/// How many bytes tell what a file is.
const START_BYTES: usize = 512;

impl Text {
    /// The text of a file or of what a reader gives, plain, gzip or zstd: what its first bytes say counts, not its name. Gives the first
    /// bytes of the text as well.
    pub(crate) fn open(reader: impl Read + 'static) -> io::Result<(Self, Vec<u8>)> {
        const GZIP: &[u8] = &[0x1f, 0x8b];
        const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
        const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];
        let (start, rest) = peel(reader, ZSTD.len())?;
        let (is_gzip, is_zstd) = (start.starts_with(GZIP), start == ZSTD);
        let raw = BufReader::new(Cursor::new(start).chain(rest));
        let plain: Box<dyn Read> = match (is_gzip, is_zstd) {
            (true, _) => Box::new(MultiGzDecoder::new(raw)),
            (_, true) => Box::new(zstd::Decoder::with_buffer(raw)?),
            _ => Box::new(raw),
        };
        let (mut start, rest) = peel(plain, START_BYTES)?;
        if start.starts_with(BYTE_ORDER_MARK) {
            start.drain(..BYTE_ORDER_MARK.len());
        }
        Ok((Self::after(start.clone(), rest), start))
    }

    fn after(start: Vec<u8>, rest: impl Read + 'static) -> Self {
        Self { bytes: BufReader::new(Box::new(Cursor::new(start).chain(rest))), line: 1 }
    }

    /// The text of bytes in memory.
    pub(crate) fn of_bytes(bytes: Vec<u8>) -> Self {
        Self::after(bytes, io::empty())
    }

    /// Passes over blanks and tells what follows; `None` at the end of the file.
    pub(crate) fn layout(&mut self) -> io::Result<Option<FileLayout>> {
        Ok(self.peek_over_blanks()?.map(|byte| match byte {
            b'[' => FileLayout::Array,
            _ => FileLayout::Lines,
        }))
    }

    /// Passes over blanks; the byte that follows.
    fn peek_over_blanks(&mut self) -> io::Result<Option<u8>> {
        loop {
            let Some(&byte) = self.bytes.fill_buf()?.first() else { return Ok(None) };
            match byte {
                b' ' | b'\t' | b'\r' => {}
                b'\n' => self.line += 1,
                _ => return Ok(Some(byte)),
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
    pub(crate) fn next_line(&mut self, limit: usize) -> io::Result<Option<Piece>> {
        loop {
            let line = self.line;
            let mut kept = BoundedBytes::new(limit);
            let ended = loop {
                let buffer = self.bytes.fill_buf()?;
                if buffer.is_empty() {
                    break true;
                }
                let end = buffer.iter().position(|byte| *byte == b'\n');
                let part = &buffer[..end.unwrap_or(buffer.len())];
                kept.take(part)?;
                let used = part.len() + usize::from(end.is_some());
                self.bytes.consume(used);
                if end.is_some() {
                    self.line += 1;
                    break false;
                }
            };
            if kept.is_blank() {
                if ended {
                    return Ok(None);
                }
                continue;
            }
            return Ok(Some((line, kept.piece())));
        }
    }

    /// The next element of an array; `is_first` for the one behind its opening bracket. An element
    /// above `limit` bytes is passed over.
    pub(crate) fn next_element(&mut self, is_first: bool, limit: usize) -> io::Result<Element> {
        let opening = self.peek_over_blanks()?;
        match (is_first, opening) {
            (true, Some(b'[')) | (false, Some(b',')) => self.bytes.consume(1),
            (false, Some(b']')) => return self.end_of_array(),
            (false, None) => return Ok(Element::Broken("EOF while parsing a list")),
            _ => return Ok(Element::Broken("expected `,` or `]`")),
        }
        match self.peek_over_blanks()? {
            None => Ok(Element::Broken("EOF while parsing a value")),
            Some(b']') if is_first => self.end_of_array(),
            Some(b']') => Ok(Element::Broken("trailing comma")),
            Some(b',' | b'}') => Ok(Element::Broken("expected value")),
            Some(_) => self.element(limit),
        }
    }

    fn end_of_array(&mut self) -> io::Result<Element> {
        self.bytes.consume(1);
        Ok(match self.peek_over_blanks()? {
            None => Element::End,
            Some(_) => Element::Broken("trailing characters"),
        })
    }

    /// Finds where the element that starts here ends; what it says is left to the parser.
    fn element(&mut self, limit: usize) -> io::Result<Element> {
        let line = self.line;
        let mut kept = BoundedBytes::new(limit);
        let mut state = Nesting::default();
        loop {
            let buffer = self.bytes.fill_buf()?;
            if buffer.is_empty() {
                return Ok(match state.depth {
                    0 => Element::Next((line, kept.piece())),
                    _ => Element::Broken("EOF while parsing an element"),
                });
            }
            let end = buffer.iter().position(|&byte| state.ends_before(byte));
            let part = &buffer[..end.unwrap_or(buffer.len())];
            kept.take(part)?;
            self.line += line_ends(part);
            let used = part.len();
            self.bytes.consume(used);
            if end.is_some() {
                return Ok(Element::Next((line, kept.piece())));
            }
        }
    }
}

/// Where in a value a byte stands.
#[derive(Default)]
struct Nesting {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Whether the brackets of the value are closed.
    closed: bool,
}

impl Nesting {
    /// Takes a byte, unless the value ends before it.
    fn ends_before(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        if self.depth == 0 && (self.closed || matches!(byte, b',' | b']' | b'}')) {
            return true;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth -= 1;
                self.closed = self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

/// How many times the limit a line may have, or a gigabyte, and still be passed over: beyond, the file is
/// no file of records, and to look for the end of the line in what a few bytes decompress to would have
/// no end.
const PASSED_OVER: usize = 64;
const PASSED_OVER_BYTES: usize = 1 << 30;

/// Bytes up to a limit.
struct BoundedBytes {
    bytes: Vec<u8>,
    limit: usize,
    seen: usize,
    too_long: bool,
}

impl BoundedBytes {
    fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, seen: 0, too_long: false }
    }

    fn take(&mut self, part: &[u8]) -> io::Result<()> {
        self.seen += part.len();
        self.too_long |= self.limit < self.seen;
        if self.limit.saturating_mul(PASSED_OVER).max(PASSED_OVER_BYTES) < self.seen {
            let message = format!("found a line of more than {} bytes", self.seen);
            return Err(io::Error::other(message));
        }
        if self.too_long {
            self.bytes = Vec::new();
        } else {
            self.bytes.extend_from_slice(part);
        }
        Ok(())
    }

    fn is_blank(&self) -> bool {
        !self.too_long && self.bytes.trim_ascii().is_empty()
    }

    fn piece(self) -> Result<Vec<u8>, BadRecord> {
        if self.too_long {
            Err(BadRecord::LineTooLong { limit: self.limit })
        } else {
            Ok(self.bytes)
        }
    }
}

/// A reader that counts the line ends it hands out, for a parser that asks for more than a line.
impl Read for Text {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        self.line += line_ends(&buffer[..count]);
        Ok(count)
    }
}

fn line_ends(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'\n').count() - 1
}

/// The first `count` bytes, fewer where there are fewer, and the rest.
fn peel<R: Read>(mut reader: R, count: usize) -> io::Result<(Vec<u8>, R)> {
    let mut start = Vec::new();
    reader.by_ref().take(count as u64).read_to_end(&mut start)?;
    Ok((start, reader))
}
