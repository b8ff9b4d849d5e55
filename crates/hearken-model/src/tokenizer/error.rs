//! What can be wrong with a tokenizer, as facts.

use std::io;
use std::path::PathBuf;

use crate::checkpoint::CheckpointError;
use crate::template::TemplateError;

/// Why a tokenizer could not be read, used, trained or written.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// There is no tokenizer.json.
    #[error("{}: no tokenizer.json; {advice}", dir.display())]
    Missing {
        /// The model directory.
        dir: PathBuf,
        /// What to do about it.
        advice: String,
    },
    /// A file is there but cannot be read.
    #[error("{}: cannot read it: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file is not the JSON that it should be.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        problem: String,
    },
    /// A key holds the wrong kind of value.
    #[error("{}: {key} is {found}; expected {expected}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value, as JSON.
        found: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// Two files disagree about a token's id.
    #[error(
        "{}: added_tokens_decoder gives {token} the id {listed}; the id after those in tokenizer.json is {actual}",
        path.display()
    )]
    TokenId {
        /// `tokenizer_config.json`.
        path: PathBuf,
        /// The token.
        token: String,
        /// Its id there.
        listed: u32,
        /// Its id when it is added to tokenizer.json's tokens.
        actual: u32,
    },
    /// A text could not be encoded.
    #[error("cannot encode a text of {bytes} bytes: {problem}")]
    Encode {
        /// How long the text is.
        bytes: usize,
        /// What the tokenizer said.
        problem: String,
    },
    /// A tokenizer could not be trained.
    #[error("cannot train a tokenizer: {problem}")]
    Train {
        /// What was found and what was expected.
        problem: String,
    },
    /// An assistant's turn cannot be ended.
    #[error(
        "the tokenizer has no end token, and an assistant's turn must end in one; set eos_token in tokenizer_config.json"
    )]
    NoEndToken,
    /// The model's chat template makes nothing of a conversation.
    #[error(transparent)]
    Template(Box<TemplateError>),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] CheckpointError),
}
