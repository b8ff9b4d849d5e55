//! `hearken merge`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use hearken_model::checkpoint::{NumberFormat, TensorFiles};
use hearken_model::config::base_dir;
use hearken_model::{Adapter, Head, LoadOptions, Masters, Model};
use hearken_run::trained_model::load_tokenizer;

use crate::device;
use crate::output::say;

/// How the weights are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Stored {
    F32,
    Bf16,
    F16,
}

impl Stored {
    fn format(self) -> NumberFormat {
        match self {
            Self::F32 => NumberFormat::F32,
            Self::Bf16 => NumberFormat::Bf16,
            Self::F16 => NumberFormat::F16,
        }
    }
}

/// Merge an adapter into the weights of its model
///
/// Writes a whole model, W + s·B·A in place of every weight W that the adapter changes, which any program
/// loads that knows no adapters; with the tokenizer of the adapter's folder, or else of the model's. Sums are
/// f32, whatever is written.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Merge {
    /// The model; without it, the one that adapter_config.json names
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// A PEFT directory with an adapter of the model
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,

    /// Where the merged model goes: a folder that is not there yet, or is empty
    #[arg(long, value_name = "DIR")]
    output: PathBuf,

    /// How weights are written; as most of the model's are stored, if not given
    #[arg(long, value_enum)]
    dtype: Option<Stored>,
}

const EXAMPLES: &str = "\
Examples:
  hearken merge --model DIR --adapter runs/dpo/final --output merged
  hearken merge --model DIR --adapter runs/dpo/final --output merged --dtype bf16";

impl Merge {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let output = &self.output;
        if output.exists() && !is_empty(output) {
            bail!("{}: is there already; expected a new folder, or an empty one", output.display());
        }
        let adapter = Adapter::read(&self.adapter)?;
        let base = match self.model {
            Some(model) => model,
            None => base_dir(&self.adapter)?,
        };
        let options = match adapter.has_score_head() {
            true => LoadOptions { head: Head::Score, ..LoadOptions::language_model() },
            false => LoadOptions { masters: Masters::Keep, ..LoadOptions::language_model() },
        };
        let (mut model, _) = Model::load_merged(device::open(), &base, &options, Some(&adapter))?;
        model.load_value_head(&self.adapter)?;
        let tokenizer = match load_tokenizer(&self.adapter)? {
            None => load_tokenizer(&base)?,
            found => found,
        };
        let stored = match self.dtype {
            Some(dtype) => dtype.format(),
            None => TensorFiles::open(&base)?.stored(),
        };
        write(output, |folder| {
            model.save_as(folder, stored)?;
            if let Some(tokenizer) = &tokenizer {
                tokenizer.save(folder)?;
            }
            Ok(())
        })?;
        say(&format!("wrote {}, in {}", output.display(), stored.name()));
        Ok(ExitCode::SUCCESS)
    }
}

fn is_empty(folder: &Path) -> bool {
    folder.read_dir().is_ok_and(|mut entries| entries.next().is_none())
}

/// Writes a folder through `fill`, whole or not at all: it gets its name when everything is in it.
fn write(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
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
