//! A folder that a command makes: of weights in a format of the reader's choice, whole or not at all.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use hearken_model::checkpoint::NumberFormat;

/// How the weights are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Stored {
    F32,
    Bf16,
    F16,
}

impl Stored {
    pub(super) fn format(self) -> NumberFormat {
        match self {
            Self::F32 => NumberFormat::F32,
            Self::Bf16 => NumberFormat::Bf16,
            Self::F16 => NumberFormat::F16,
        }
    }
}

/// Refuses a folder that has something in it.
pub(super) fn check_new_folder(folder: &Path) -> Result<()> {
    if folder.exists() && !is_empty(folder) {
        bail!("{}: is there already; expected a new folder, or an empty one", folder.display());
    }
    Ok(())
}

fn is_empty(folder: &Path) -> bool {
    folder.read_dir().is_ok_and(|mut entries| entries.next().is_none())
}

/// Writes a folder through `fill`, whole or not at all: it gets its name when everything is in it.
pub(super) fn write_folder(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let name = folder
        .file_name()
        .with_context(|| format!("{}: expected the name of a new folder", folder.display()))?;
    let mut unfinished = name.to_owned();
    unfinished.push(".unfinished");
    let unfinished = folder.with_file_name(unfinished);
    let shown = |folder: &Path| folder.display().to_string();
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).with_context(|| shown(&unfinished))?;
    }
    std::fs::create_dir_all(&unfinished).with_context(|| shown(&unfinished))?;
    let put = fill(&unfinished).and_then(|()| {
        if folder.exists() {
            std::fs::remove_dir(folder).with_context(|| shown(folder))?;
        }
        std::fs::rename(&unfinished, folder).with_context(|| shown(folder))?;
        hearken_data::sync_parent(folder).with_context(|| shown(folder))
    });
    if put.is_err() {
        // The error is what matters; what is left behind is named by its ending.
        let _ = std::fs::remove_dir_all(&unfinished);
    }
    put
}
