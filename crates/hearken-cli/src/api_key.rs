//! Keys of APIs, which the environment holds.

use anyhow::{Context as _, Result};
use hearken_judge::chat::Key;

/// The key in an environment variable.
pub(crate) fn key(variable: &str) -> Result<Key> {
    let key = std::env::var(variable);
    let key = key.with_context(|| format!("the environment variable {variable} with the key"))?;
    Ok(Key::from(key))
}
