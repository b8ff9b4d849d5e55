//! How files are read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::selection::Selection;
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
#[derive(Clone, Debug, PartialEq)]
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
    /// Of a store of judgements, which become records.
    pub judgements: Selection,
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
            judgements: Selection::default(),
        }
    }
}
