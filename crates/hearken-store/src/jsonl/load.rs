//! Reading the whole file when it is opened.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};

use hearken_data::feedback::{Item, Judgement};

use super::file::{LockedFile, Spot};
use super::index::Index;
use super::line::{self, Line, Name};
use crate::error::StoreError;
use crate::record::Assignment;

/// Bytes of a line: the length of a [`Spot`] has to hold it.
const LINE_BYTES_MAX: u64 = 2 << 30;

/// What a file holds.
pub(super) struct LoadedFile {
    pub(super) index: Index,
    /// Bytes up to the last complete record.
    pub(super) bytes: u64,
    /// Lines of documents that a later line replaces or removes.
    pub(super) replaced: Vec<Spot>,
    pub(super) end: End,
}

/// How the last line ends.
pub(super) enum End {
    /// With a line break.
    Complete,
    /// It is a record, but the line break is missing.
    NoLineBreak,
    /// In the middle of a record: the process died while it wrote.
    Torn { line: usize, bytes: Vec<u8> },
}

struct Loader<'a> {
    home: &'a str,
    loaded: LoadedFile,
    /// The items without their texts, to check judgements against.
    shapes: Vec<Item>,
    line: usize,
}

/// Reads the first `bytes` of a file. Nothing is changed.
pub(super) fn load(file: &LockedFile, bytes: u64) -> Result<LoadedFile, StoreError> {
    let home = file.name();
    let failed = |error: std::io::Error| StoreError::unavailable(&home, &error);
    let mut reader = BufReader::with_capacity(1 << 20, file.file());
    reader.seek(SeekFrom::Start(0)).map_err(failed)?;
    let loaded =
        LoadedFile { index: Index::default(), bytes: 0, replaced: Vec::new(), end: End::Complete };
    let mut loader = Loader { home: &home, loaded, shapes: Vec::new(), line: 0 };
    let mut reader = reader.take(bytes);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
        if read.map_err(failed)? == 0 {
            return Ok(loader.loaded);
        }
        loader.line += 1;
        if !loader.take(&bytes)? {
            return Ok(loader.loaded);
        }
    }
}

impl Loader<'_> {
    /// Takes a line with its line break; `false` where it is the torn last one.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, StoreError> {
        let text = bytes.strip_suffix(b"\n");
        if text.is_none() && bytes.len() as u64 >= LINE_BYTES_MAX {
            return Err(self.wrong(format!("the line has more than {LINE_BYTES_MAX} bytes")));
        }
        let complete = text.is_some();
        let text = text.unwrap_or(bytes);
        let offset = self.loaded.bytes;
        if !text.trim_ascii().is_empty() {
            match line::parse(self.home, self.line, text) {
                Ok(record) => {
                    let bytes = u32::try_from(text.len()).expect("checked against the limit");
                    self.add(record, Spot { offset, bytes })?;
                }
                Err(_) if !complete => {
                    self.loaded.end = End::Torn { line: self.line, bytes: bytes.to_vec() };
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        if !complete {
            self.loaded.end = End::NoLineBreak;
        }
        self.loaded.bytes += bytes.len() as u64;
        Ok(true)
    }

    fn add(&mut self, line: Line, spot: Spot) -> Result<(), StoreError> {
        match line {
            Line::Item(item) => self.add_item(item, spot)?,
            Line::Judgement(judgement) => self.add_judgement(&judgement, spot)?,
            Line::Assignment(assignment) => self.add_assignment(assignment)?,
            Line::Event(_) => self.loaded.index.events.push(spot),
            Line::Document(document) => {
                let name = Name { kind: document.kind.clone(), key: document.key.clone() };
                let old = self.loaded.index.set_document(name, Some((document, spot)));
                self.loaded.replaced.extend(old);
            }
            Line::Removed(name) => {
                let old = self.loaded.index.set_document(name, None);
                self.loaded.replaced.extend(old);
            }
        }
        Ok(())
    }

    fn add_item(&mut self, item: Item, spot: Spot) -> Result<(), StoreError> {
        item.check().map_err(|what| self.wrong(what))?;
        if self.loaded.index.item(&item.id).is_some() {
            return Err(self.wrong(format!("a line before has the item {:?} already", item.id)));
        }
        self.loaded.index.add_item(&item.id, spot);
        self.shapes.push(shape(item));
        Ok(())
    }

    fn add_judgement(&mut self, judgement: &Judgement, spot: Spot) -> Result<(), StoreError> {
        let index = &self.loaded.index;
        let Judgement { id, item, .. } = judgement;
        if index.judgement(id).is_some() {
            return Err(self.wrong(format!("a line before has the judgement {id:?} already")));
        }
        let Some(number) = index.item_number(item) else {
            return Err(self
                .wrong(format!("judgement {id:?} is of item {item:?}, which no line before has")));
        };
        judgement
            .check(&self.shapes[number])
            .map_err(|what| self.wrong(format!("judgement {id:?}: {what}")))?;
        if let Some(revised) = &judgement.revises {
            let entry = index.judgement(revised).map(|number| &index.judgements[number]);
            match entry {
                None => {
                    return Err(self.wrong(format!(
                        "judgement {id:?} revises {revised:?}, which no line before has"
                    )));
                }
                Some(entry) if entry.reviser.is_some() => {
                    return Err(self.wrong(format!(
                        "judgement {id:?} revises {revised:?}, which a line before revises already"
                    )));
                }
                Some(_) => {}
            }
        }
        self.loaded.index.add_judgement(judgement, spot);
        Ok(())
    }

    fn add_assignment(&mut self, assignment: Assignment) -> Result<(), StoreError> {
        let Assignment { id, item, annotator, .. } = &assignment;
        if self.loaded.index.item(item).is_none() {
            return Err(self.wrong(format!(
                "assignment {id:?} is of item {item:?}, which no line before has"
            )));
        }
        let other = self.loaded.index.assignment_of(item, annotator);
        let same = self.loaded.index.assignment(id);
        let fits = match (same, other) {
            (None, None) => true,
            (Some(same), Some(other)) => same.id == other.id,
            _ => false,
        };
        if !fits {
            return Err(self.wrong(format!(
                "assignment {id:?} of item {item:?} to {annotator:?} contradicts a line before"
            )));
        }
        self.loaded.index.put_assignment(assignment);
        Ok(())
    }

    fn wrong(&self, what: impl Into<String>) -> StoreError {
        StoreError::corrupt(&format!("{}:{}", self.home, self.line), &what.into())
    }
}

/// An item with as many candidates and steps, but without what they say.
fn shape(mut item: Item) -> Item {
    for candidate in &mut item.candidates {
        candidate.text = String::new();
        candidate.media = Vec::new();
        candidate.meta = serde_json::Map::new();
        candidate.steps.iter_mut().for_each(|step| *step = String::new());
    }
    item.prompt = Vec::new();
    item.media = Vec::new();
    item.meta = serde_json::Map::new();
    item
}
