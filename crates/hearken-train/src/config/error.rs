//! What can be wrong with a configuration.

use std::path::PathBuf;

/// Why a configuration is not usable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Unreadable {
        /// The configuration file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}: not valid TOML: {message}", file.display())]
    NotToml {
        /// The configuration file.
        file: PathBuf,
        /// What the parser says, with line and column.
        message: String,
    },
    /// A key or section that this command does not know.
    #[error("{}: unknown key `{key}`{}", file.display(), nearest_known(nearest.as_deref()))]
    UnknownKey {
        /// The configuration file.
        file: PathBuf,
        /// The key with its section.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A key without a default that is not there.
    #[error("{}: found no `{key}`, expected {expected}", file.display())]
    Missing {
        /// The configuration file.
        file: PathBuf,
        /// The key with its section.
        key: String,
        /// What it should hold.
        expected: String,
    },
    /// A value of another type, or outside its range.
    #[error("{}: `{key}`: found {found}, expected {expected}", file.display())]
    Unexpected {
        /// The configuration file.
        file: PathBuf,
        /// The key with its section.
        key: String,
        /// The value.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// Two settings that contradict each other.
    #[error("{}: `{first}` and `{second}` exclude each other: {reason}", file.display())]
    Exclusive {
        /// The configuration file.
        file: PathBuf,
        /// One key.
        first: String,
        /// The other key.
        second: String,
        /// Why, and what to do.
        reason: String,
    },
    /// An override that is not `key=value`.
    #[error("--set {text}: expected section.key=value, for example --set train.steps=100")]
    BadOverride {
        /// The override as given.
        text: String,
    },
}

fn nearest_known(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |key| format!("; the nearest known key is `{key}`"))
}
