//! Why a file is not imported or exported.

use std::io;
use std::path::PathBuf;

use super::Format;
use crate::report::ReadError;

/// Why a file is not imported or exported.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The file cannot be read, or a row of it is bad.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no row in the file.
    #[error("{}: found no row, expected at least one", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The rows are more than are read.
    #[error(
        "{}: found more than {bytes_max} bytes of rows at line {line}, expected at most as many; `hearken \
         import` on the machine of the store reads files of any size", path.display()
    )]
    TooMuch {
        /// The file.
        path: PathBuf,
        /// The row at which it was too much.
        line: usize,
        /// What is read.
        bytes_max: u64,
    },
    /// The first row is of no known format.
    #[error(
        "{}: found the columns {found} in the first row; expected those of one of the formats {}",
        path.display(), looked_for()
    )]
    Unrecognized {
        /// The file.
        path: PathBuf,
        /// The columns of the first row.
        found: String,
    },
    /// Another file is needed.
    #[error("{}: found comparisons by number; expected {needed}", path.display())]
    Companion {
        /// The file.
        path: PathBuf,
        /// The file that is needed.
        needed: String,
    },
    /// Two different records have one name.
    #[error("found two different {what}s with the id {id:?}, expected one")]
    Conflict {
        /// "item" or "judgement".
        what: &'static str,
        /// The name.
        id: String,
    },
    /// Nothing was usable.
    #[error("{}: found nothing to judge and no judgement{}", path.display(), because(why))]
    Nothing {
        /// The first file.
        path: PathBuf,
        /// What became of the rows.
        why: String,
    },
    /// The format is only read.
    #[error("files of the format {format} are read, but not written; expected another format")]
    NotWritten {
        /// The format.
        format: Format,
    },
    /// The output cannot be written.
    #[error("the export cannot be written: {0}")]
    Write(#[from] io::Error),
}

fn looked_for() -> String {
    Format::all().map(Format::signature).collect::<Vec<_>>().join("; ")
}

fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(" ({why})") }
}

impl From<serde_json::Error> for FormatError {
    fn from(error: serde_json::Error) -> Self {
        Self::Write(error.into())
    }
}

impl From<csv::Error> for FormatError {
    fn from(error: csv::Error) -> Self {
        Self::Write(error.into())
    }
}
