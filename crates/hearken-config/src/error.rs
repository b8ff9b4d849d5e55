//! What can be wrong with a configuration.

use std::fmt;
use std::path::PathBuf;

use serde::de::{self, Expected, Unexpected};

use super::secret;

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
    #[error("{place}: not valid TOML: {message}")]
    NotToml {
        /// The file and the line.
        place: KeyPlace,
        /// What the parser says.
        message: String,
    },
    /// A key or a value is not usable.
    #[error("{place}: {complaint}")]
    Unusable {
        /// Where the key stands.
        place: KeyPlace,
        /// What is wrong with it.
        complaint: Complaint,
    },
    /// An override that is not `key=value`.
    #[error("--set {text}: expected section.key=value, for example --set train.steps=100")]
    BadOverride {
        /// The override as given.
        text: String,
    },
}

/// Where a key stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPlace {
    /// The configuration file.
    pub file: PathBuf,
    /// Where in it, or beside it.
    pub origin: KeyOrigin,
}

/// Which part of a command says a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// The file, in this line, counted from 1.
    Line(usize),
    /// `--set` on the command line.
    Override,
    /// None: it follows from others, or is not there.
    Nowhere,
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match self.origin {
            KeyOrigin::Line(line) => write!(f, "{file}:{line}"),
            KeyOrigin::Override => write!(f, "{file} (--set)"),
            KeyOrigin::Nowhere => write!(f, "{file}"),
        }
    }
}

/// What is wrong with a key, wherever it stands. It is the error type of reading a section, so that
/// nothing has to be found out of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// Nothing reads it.
    Unknown {
        /// The key with its section.
        key: String,
        /// What may have been meant; empty if nobody knows.
        hint: String,
    },
    /// It is not there.
    Missing {
        /// The key with its section.
        key: String,
        /// What it should hold.
        expected: String,
    },
    /// A value of another type, or outside its range.
    Unexpected {
        /// The key with its section.
        key: String,
        /// The value.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// Two settings that contradict each other.
    Exclusive {
        /// One key.
        first: String,
        /// The other key.
        second: String,
        /// Why, and what to do.
        reason: String,
    },
}

impl Complaint {
    /// A key that should be there. `key` carries its section.
    pub fn missing(key: &str, expected: &str) -> Self {
        Self::Missing { key: key.to_owned(), expected: expected.to_owned() }
    }

    /// A value that is not usable. `key` carries its section.
    pub fn unexpected(key: &str, found: impl fmt::Display, expected: &str) -> Self {
        let (key, expected) = (key.to_owned(), expected.to_owned());
        Self::Unexpected { key, found: found.to_string(), expected }
    }

    /// Two settings that contradict each other.
    pub fn exclusive(first: &str, second: &str, reason: &str) -> Self {
        let (first, second) = (first.to_owned(), second.to_owned());
        Self::Exclusive { first, second, reason: reason.to_owned() }
    }

    /// Refuses a value unless it `holds`.
    ///
    /// # Errors
    /// Names the key, the value and what was expected if `holds` is false.
    pub fn unless(
        holds: bool,
        key: &str,
        found: impl fmt::Display,
        expected: &str,
    ) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self::unexpected(key, found, expected)) }
    }

    /// The key that is complained of.
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Unknown { key, .. }
            | Self::Missing { key, .. }
            | Self::Unexpected { key, .. } => key,
            Self::Exclusive { first, .. } => first,
        }
    }

    /// A missing key with what it should hold, as `expected` knows it.
    pub(super) fn described(self, expected: impl FnOnce(&str) -> Option<String>) -> Self {
        match self {
            Self::Missing { key, expected: unknown } if unknown.is_empty() => {
                let expected = expected(&key).unwrap_or_else(|| "a value".to_owned());
                Self::Missing { key, expected }
            }
            other => other,
        }
    }

    /// The complaint of a key inside of `outer`.
    pub(super) fn within(mut self, outer: &str) -> Self {
        let join = |key: &mut String| {
            *key = match key.as_str() {
                "" => outer.to_owned(),
                inner if inner.starts_with('[') => format!("{outer}{inner}"),
                inner => format!("{outer}.{inner}"),
            };
        };
        match &mut self {
            Self::Unknown { key, .. }
            | Self::Missing { key, .. }
            | Self::Unexpected { key, .. } => {
                join(key);
            }
            Self::Exclusive { first, second, .. } => {
                join(first);
                join(second);
            }
        }
        self
    }
}

impl std::error::Error for Complaint {}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { key, .. } if secret::looks_secret(key) => f.write_str(
                "found the key of an API in the place of a key (not shown), expected section.key",
            ),
            Self::Unknown { key, hint } if hint.is_empty() => write!(f, "unknown key `{key}`"),
            Self::Unknown { key, hint } => write!(f, "unknown key `{key}`; {hint}"),
            Self::Missing { key, expected } => write!(f, "found no `{key}`, expected {expected}"),
            Self::Unexpected { key, found, expected } => {
                write!(f, "`{key}`: found {found}, expected {expected}")
            }
            Self::Exclusive { first, second, reason } => {
                write!(f, "`{first}` and `{second}` exclude each other: {reason}")
            }
        }
    }
}

impl de::Error for Complaint {
    fn custom<T: fmt::Display>(expected: T) -> Self {
        Self::unexpected("", "", &expected.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::unexpected("", shown(found), &plain(&expected.to_string()))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::unexpected("", "", &plain(&expected.to_string()))
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        Self::unexpected("", secret::text(found), &one_of(expected))
    }

    fn unknown_field(key: &str, _: &'static [&'static str]) -> Self {
        Self::Unknown { key: key.to_owned(), hint: String::new() }
    }

    fn missing_field(key: &'static str) -> Self {
        Self::missing(key, "")
    }
}

/// The texts of which one is expected.
pub fn one_of(texts: &[&str]) -> String {
    match texts {
        [one] => format!("{one:?}"),
        [one, other] => format!("{one:?} or {other:?}"),
        many => format!(
            "one of {}",
            many.iter().map(|t| format!("{t:?}")).collect::<Vec<_>>().join(", ")
        ),
    }
}

/// A value as errors show it; empty where the reader has the value and says more.
fn shown(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(flag) => flag.to_string(),
        Unexpected::Unsigned(number) => format!("the integer {number}"),
        Unexpected::Signed(number) => format!("the integer {number}"),
        Unexpected::Float(number) => format!("the number {number}"),
        Unexpected::Str(text) => secret::text(text),
        Unexpected::Other(text) => text.to_owned(),
        _ => String::new(),
    }
}

/// Rust's names of types as a reader of a configuration calls them.
fn plain(expected: &str) -> String {
    match expected {
        "f64" => "a number",
        "u64" | "usize" | "u32" => "an integer from 0",
        "a string" | "path string" => "text in quotation marks",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a section of keys",
        "an array of length 2" => "a list of 2 numbers",
        other => other,
    }
    .to_owned()
}
