//! What can be wrong with one record.

/// What is wrong with the columns of one record, naming the field, what was found, and what was
/// expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// No accepted combination of columns is complete.
    #[error("found the columns {found}; expected {accepted}")]
    MissingColumns {
        /// The columns that hold something.
        found: String,
        /// The accepted combinations.
        accepted: String,
    },
    /// A column that the caller's mapping names is not there.
    #[error("found the columns {found}; expected a column `{column}`, mapped to `{field}`")]
    MissingMapped {
        /// The file's name for it.
        column: String,
        /// This crate's name for it.
        field: String,
        /// The columns that hold something.
        found: String,
    },
    /// A value of another type, or outside its range.
    #[error("{field}: found {found}, expected {expected}")]
    Unexpected {
        /// The column, with the index inside it.
        field: String,
        /// The value, shortened.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// A text, list of messages or list of tokens with nothing in it.
    #[error("{field}: found nothing in it, expected {expected}")]
    Empty {
        /// The column, with the index inside it.
        field: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A column of per-token values that differs in length from the tokens.
    #[error("{field}: found {found} values, expected {expected}, one for each token of {ids}")]
    LengthMismatch {
        /// The column of values.
        field: String,
        /// How many values it holds.
        found: usize,
        /// The column of tokens.
        ids: String,
        /// How many tokens that holds.
        expected: usize,
    },
    /// A demonstration of which no token would be trained on.
    #[error("{field}: found nothing to train on, expected {expected}")]
    NothingTrained {
        /// The column that selects what is trained on.
        field: String,
        /// What would select something.
        expected: &'static str,
    },
    /// A preference between two equal completions.
    #[error("{chosen} and {rejected} are identical; expected two different completions")]
    IdenticalPair {
        /// The column of the chosen completion.
        chosen: String,
        /// The column of the rejected completion.
        rejected: String,
    },
    /// A preference between completions of two different prompts.
    #[error(
        "{chosen} and {rejected} have different prompts: {difference}; expected two completions \
         of one prompt"
    )]
    DifferentPrompts {
        /// The column of the chosen completion.
        chosen: String,
        /// The column of the rejected completion.
        rejected: String,
        /// Where they part.
        difference: String,
    },
}

/// Why a record of a file is not usable. Under [`OnBadRecord::Skip`](crate::OnBadRecord) such
/// records are counted and left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// A line above the limit on its length.
    #[error("found a line of more than {limit} bytes, expected one JSON object per line")]
    LineTooLong {
        /// [`ReadOptions::line_bytes_max`](crate::ReadOptions).
        limit: usize,
    },
    /// A line that is not UTF-8.
    #[error("found a byte that is not UTF-8 at byte {byte} of the line, expected UTF-8 text")]
    NotUtf8 {
        /// The offset of the first bad byte, from 1.
        byte: usize,
    },
    /// A line that is not JSON.
    #[error("found invalid JSON at column {column} ({message}), expected one JSON object per line")]
    NotJson {
        /// The column at which parsing stopped, from 1.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// JSON that is not an object.
    #[error("found {found}, expected a JSON object")]
    NotAnObject {
        /// The value, shortened.
        found: String,
    },
    /// A row of a CSV file with more or fewer cells than the header.
    #[error("found {found} cells, expected {expected}, as in the header")]
    UnequalCells {
        /// Cells of the row.
        found: u64,
        /// Cells of the header.
        expected: u64,
    },
    /// A record whose parts do not fit together.
    #[error("{what}")]
    Unfit {
        /// What was found, and what was expected.
        what: String,
    },
    /// An object whose columns do not make a record.
    #[error(transparent)]
    Field(#[from] FieldError),
}
