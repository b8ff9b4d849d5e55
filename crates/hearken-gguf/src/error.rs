//! What can be wrong with a file.

use std::path::{Path, PathBuf};

use hearken_model::checkpoint::CheckpointError;

/// Why a model could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// A file cannot be read or written.
    #[error("{}: cannot be {action}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// "read" or "written".
        action: &'static str,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// A file is no GGUF, is cut short, or contradicts itself.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found, and what was expected.
        problem: String,
    },
    /// A file is fine and holds something that is not supported.
    #[error("{}: {what}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it holds, and what is supported.
        what: String,
    },
    /// The weights of a directory cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl GgufError {
    pub(crate) fn malformed(path: &Path, problem: impl Into<String>) -> Self {
        Self::Malformed { path: path.into(), problem: problem.into() }
    }

    pub(crate) fn unsupported(path: &Path, what: impl Into<String>) -> Self {
        Self::Unsupported { path: path.into(), what: what.into() }
    }
}
