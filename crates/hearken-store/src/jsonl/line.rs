//! A line of the file.

use hearken_data::feedback::{Item, Judgement};
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::record::{Assignment, Document, Event};

/// The kinds of [`Record`](crate::record::Record), and the removal of a document.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(clippy::large_enum_variant)] // lines pass one at a time
pub(super) enum Line {
    Document(Document),
    Item(Item),
    Assignment(Assignment),
    Judgement(Judgement),
    Event(Event),
    Removed(Name),
}

/// The name of a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Name {
    pub(super) kind: String,
    pub(super) key: String,
}

/// A line to be written, without copying the record.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Written<'a> {
    Document(&'a Document),
    Item(&'a Item),
    Assignment(&'a Assignment),
    Judgement(&'a Judgement),
    Event(&'a Event),
    Removed { kind: &'a str, key: &'a str },
}

/// Reads line number `number` of `file`.
pub(super) fn parse(file: &str, number: usize, bytes: &[u8]) -> Result<Line, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let full = error.to_string();
        // The position that serde_json adds counts from the start of the line.
        let what = full.rsplit_once(" at line ").map_or(full.as_str(), |(what, _)| what);
        let start: String = String::from_utf8_lossy(bytes).chars().take(60).collect();
        StoreError::corrupt(
            &format!("{file}:{number}"),
            &format!("column {}: {what}; the line starts with {start:?}", error.column()),
        )
    })
}
