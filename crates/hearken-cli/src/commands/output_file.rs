//! The file that results go to.

use std::path::Path;

use anyhow::{Result, bail};

/// Refuses, before minutes of work, a file that could not be written afterwards.
pub(super) fn check_folder(path: &Path) -> Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            bail!("{}: there is no folder {}", path.display(), folder.display())
        }
        _ => Ok(()),
    }
}
