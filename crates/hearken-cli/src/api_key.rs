//! Keys of APIs, which the environment holds.

use anyhow::{Context as _, Result};
use hearken_judge::chat::ApiKey;

/// The key in an environment variable.
pub(crate) fn key(variable: &str) -> Result<ApiKey> {
    Ok(ApiKey::from(secret(variable)?))
}

/// What an environment variable keeps.
pub(crate) fn secret(variable: &str) -> Result<String> {
    let secret = std::env::var(variable);
    secret.with_context(|| format!("the environment variable {variable} with the key"))
}
