//! `hearken merge`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hearken_hub::ModelPart;
use hearken_model::checkpoint::{NumberFormat, TensorFiles};
use hearken_model::config::{base_dir, model_dir};
use hearken_model::{Adapter, LoadOptions, Masters, Model, stored_head};
use hearken_reward_source::process_file::PROCESS_FILE;
use hearken_reward_source::score_normalization::NORMALIZATION_FILE;
use hearken_run::run_dir::write_card_of;
use hearken_run::trained_model::load_tokenizer;

use super::new_folder::{ShardArguments, Stored, check_new_folder, command_line, write_folder};
use crate::output::say;
use crate::{device, hub};

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

    #[command(flatten)]
    shards: ShardArguments,
}

const EXAMPLES: &str = "\
Examples:
  hearken sft configs/sft.toml --set run.dir=runs/lora --set lora.r=8 \\
      --set model.path=runs/quickstart/base --set train.steps=20 \\
      --set data.train=runs/quickstart/data/demonstrations.jsonl
  hearken merge --adapter runs/lora/final --output merged
  hearken merge --model runs/quickstart/base --adapter runs/lora/final \\
      --output merged-bf16 --dtype bf16";

impl Merge {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let output = &self.output;
        check_new_folder(output)?;
        let place = match self.model {
            Some(_) => hub::adapter(&self.adapter)?,
            None => hub::model(&self.adapter, ModelPart::Whole)?,
        };
        let adapter = Adapter::read(&place)?;
        let base = match self.model {
            Some(model) => hub::model(&model, ModelPart::Whole)?,
            None => base_dir(&place)?,
        };
        let holder = if adapter.has_scalar_head() { &place } else { &base };
        let head = stored_head(holder)?;
        let options = LoadOptions { head, masters: Masters::Keep, ..LoadOptions::language_model() };
        let (mut model, _) = Model::load_merged(device::open(), &base, &options, Some(&adapter))?;
        model.load_value_head(&place)?;
        let tokenizer = match load_tokenizer(&place)? {
            None => load_tokenizer(&base)?,
            found => found,
        };
        let stored = match self.dtype {
            Some(dtype) => dtype.format(),
            None => TensorFiles::open(&model_dir(&base)?)?.stored(),
        };
        let mut no_room = None;
        write_folder(output, |folder| {
            no_room = model.save_as(folder, self.shards.format(stored))?;
            if let (Some(no_room), Some(_)) = (&no_room, self.dtype) {
                bail!("--dtype f16: {no_room}; expected bf16 or f32");
            }
            if let Some(tokenizer) = &tokenizer {
                tokenizer.save(folder)?;
            }
            // A reward model's scores are read as before.
            for name in [NORMALIZATION_FILE, PROCESS_FILE] {
                let from = place.join(name);
                if from.exists() {
                    std::fs::copy(&from, folder.join(name))
                        .with_context(|| from.display().to_string())?;
                }
            }
            let sources = [("--model", base.as_path()), ("--adapter", place.as_path())];
            Ok(write_card_of(folder, &command_line(), &sources)?)
        })?;
        let stored = if no_room.is_some() { NumberFormat::F32 } else { stored };
        let why = no_room.map_or_else(String::new, |no_room| format!(", since {no_room}"));
        say(&format!("wrote {}, in {}{why}", output.display(), stored.name()));
        Ok(ExitCode::SUCCESS)
    }
}
