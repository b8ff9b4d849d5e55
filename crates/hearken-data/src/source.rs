//! Where a record comes from.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The file and line that a record was read from, for errors that show up later.
///
/// The default is a record that no file holds; it displays as `(in memory)`. Line 0 of a file is the
/// file as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file, as the caller named it.
    pub path: Arc<Path>,
    /// The line on which the record starts, from 1.
    pub line: usize,
}

impl Default for Source {
    fn default() -> Self {
        Self { path: Arc::from(Path::new("")), line: 0 }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.path.as_os_str().is_empty(), self.line) {
            (true, 0) => f.write_str("(in memory)"),
            (false, 0) => write!(f, "{}", self.path.display()),
            (_, line) => write!(f, "{}:{line}", self.path.display()),
        }
    }
}
