//! A folder that a command makes: of weights in a format of the reader's choice, whole or not at all.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use hearken_config::shell_word;
use hearken_data::Unfinished;
use hearken_model::checkpoint::{NumberFormat, SHARD_BYTES, WeightFormat};

use super::sampling_arguments::from_zero;

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

/// How large the files of weights are.
#[derive(Args, Debug)]
pub(super) struct ShardArguments {
    /// The most that a file of weights takes, in 10⁹ bytes: more come as shards with an index; 0 is no limit
    #[arg(long, value_name = "GB", default_value_t = SHARD_BYTES as f64 / 1e9, value_parser = from_zero)]
    shard_size_gb: f64,
}

impl ShardArguments {
    /// The format of weights with these values.
    pub(super) fn format(&self, stored: NumberFormat) -> WeightFormat {
        let shard_bytes =
            if self.shard_size_gb == 0.0 { u64::MAX } else { (self.shard_size_gb * 1e9) as u64 };
        WeightFormat { stored, shard_bytes }
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

/// The command that is running, as a shell takes it.
pub(super) fn command_line() -> String {
    let words = std::env::args().skip(1).map(|word| shell_word(&word));
    std::iter::once("hearken".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// Writes a folder through `fill`, whole or not at all: it gets its name when everything is in it.
pub(super) fn write_folder(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let cannot = || format!("{}: cannot be created", folder.display());
    let unfinished = Unfinished::beside(folder).with_context(cannot)?;
    std::fs::create_dir_all(unfinished.path()).with_context(cannot)?;
    fill(unfinished.path())?;
    unfinished.put().with_context(cannot)
}
