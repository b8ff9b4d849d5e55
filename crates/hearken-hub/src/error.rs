//! Why something of the hub is not here.

use std::io;
use std::path::PathBuf;

/// Why a model or data set cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A variable of the environment that says nothing usable.
    #[error("{name}: found {found:?}, expected {expected}")]
    Setting {
        /// The variable, or the file.
        name: String,
        /// What it holds.
        found: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// Nothing of it is in the cache, and the hub is not asked.
    #[error(
        "{what}: not in the cache {}, and HF_HUB_OFFLINE says that the hub is not asked; without that variable it \
         is fetched", cache.display()
    )]
    NotCached {
        /// The name.
        what: String,
        /// The folder of the cache.
        cache: PathBuf,
    },
    /// The cache has a part of it alone.
    #[error(
        "{what}: {} lacks {missing}, and HF_HUB_OFFLINE says that the hub is not asked; without that variable it is \
         fetched", folder.display()
    )]
    PartlyCached {
        /// The name.
        what: String,
        /// The folder of the commit.
        folder: PathBuf,
        /// What is not there.
        missing: String,
    },
    /// There is none of this name, or it is private.
    #[error("{what}: {endpoint} has no {noun} of this name that may be read{hint}")]
    NotFound {
        /// The name.
        what: String,
        /// The hub.
        endpoint: String,
        /// `model` or `data set`.
        noun: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// There is one, without this revision.
    #[error("{what}: {endpoint} has no revision {revision:?} of it")]
    NoRevision {
        /// The name.
        what: String,
        /// The hub.
        endpoint: String,
        /// The revision.
        revision: String,
    },
    /// It is there for those who have asked for it.
    #[error("{what}: {endpoint} gives it to those alone who have been granted access{hint}")]
    Gated {
        /// The name.
        what: String,
        /// The hub.
        endpoint: String,
        /// What to do.
        hint: &'static str,
    },
    /// An answer that is no success.
    #[error("{url}: found status {status} after {attempts} attempts: {body}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
        /// Requests made.
        attempts: usize,
        /// The start of the answer.
        body: String,
    },
    /// No answer.
    #[error("{url}: {reason}, after {attempts} attempts")]
    Transport {
        /// What was asked for.
        url: String,
        /// Requests made.
        attempts: usize,
        /// What went wrong.
        reason: String,
        /// Whether there was no connection at all.
        unconnected: bool,
    },
    /// An answer that cannot be understood.
    #[error("{url}: found {found}, expected {expected}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What came.
        found: String,
        /// What should have come.
        expected: &'static str,
    },
    /// What came is not what was announced.
    #[error("{url}: what came has {what} {found}, expected {expected}; nothing of it is kept")]
    Damaged {
        /// What was asked for.
        url: String,
        /// Size or hash.
        what: &'static str,
        /// Its own.
        found: String,
        /// What was announced.
        expected: String,
    },
    /// Nothing that can be read here.
    #[error("{what}: {reason}")]
    Unusable {
        /// The name.
        what: String,
        /// What it holds, and what was expected.
        reason: String,
    },
    /// Somebody asked to stop.
    #[error("{what}: stopped while it was fetched; the same command goes on with what is here")]
    Stopped {
        /// The name.
        what: String,
    },
    /// The cache cannot be read or written.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What failed.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl HubError {
    pub(crate) fn io(
        path: impl Into<PathBuf>,
        action: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, action, source }
    }

    /// Whether the hub gave no answer, as without a network.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Transport { .. } | Self::Status { status: 500.., .. })
    }
}
