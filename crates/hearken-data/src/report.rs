//! What reading a file came to, and why it was not read.

use std::io;
use std::path::PathBuf;

use serde::Serialize;

use crate::bad_record::BadRecord;
use crate::source::Source;

/// What reading a file came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReadReport {
    /// Records read.
    pub read: usize,
    /// Bad records left out.
    pub skipped: usize,
    /// Why, for the first [`ReadReport::REASONS_MAX`] of them: `file:line: reason`.
    pub reasons: Vec<String>,
    /// Of a store of judgements, what no record came of, and how often.
    pub left_out: Vec<(String, usize)>,
}

impl ReadReport {
    /// How many reasons are kept.
    pub const REASONS_MAX: usize = 5;

    /// Counts a bad record.
    pub(crate) fn skip(&mut self, at: &Source, reason: &BadRecord) {
        self.skipped += 1;
        if self.reasons.len() < Self::REASONS_MAX {
            self.reasons.push(format!("{at}: {reason}"));
        }
    }
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file is not there, or may not be read.
    #[error("{}: cannot be opened: {error}{advice}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
        /// What the name looks like and what to do, behind a semicolon; empty where nothing is known.
        advice: String,
    },
    /// A folder or pattern does not say which files are to be read.
    #[error("{}: {what}", path.display())]
    Files {
        /// What was given.
        path: PathBuf,
        /// What was found, and what was expected.
        what: String,
    },
    /// The file holds something else than records.
    #[error("{}: found {found}; expected JSON lines, a JSON array, CSV or Parquet{advice}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What to do, behind a colon; empty where nothing is known.
        advice: String,
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
    /// A record is bad, under [`OnBadRecord::Stop`](crate::OnBadRecord::Stop).
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
    let mut parts: Vec<String> =
        report.left_out.iter().map(|(what, count)| format!("{count} × {what}")).collect();
    if let Some(reason) = report.reasons.first() {
        parts.push(format!("{} bad ones, the first: {reason}", report.skipped));
    }
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join("; ")) }
}
