//! `hearken merge`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hearken_hub::ModelPart;
use hearken_model::checkpoint::{NumberFormat, TensorFiles};
use hearken_model::config::{base_dir, is_adapter, model_dir};
use hearken_model::{Adapter, LoadOptions, Masters, Model, Tokenizer, stored_head};
use hearken_reward_source::process_file::PROCESS_FILE;
use hearken_reward_source::score_normalization::NORMALIZATION_FILE;
use hearken_run::run_dir::write_card_of;
use hearken_run::trained_model::load_tokenizer;
use hearken_tensor::AnyDevice;
use hearken_train::reward::{measure_scores, save_normalization};

use super::new_folder::{ShardArguments, Stored, check_new_folder, command_line, write_folder};
use crate::output::say;
use crate::{device, hub};

/// Merge an adapter into its model, or average several models
///
/// With --adapter, writes a whole model, W + s·B·A in place of every weight W that the adapter changes, which any
/// program loads that knows no adapters; with the tokenizer of the adapter's folder, or else of the model's. With
/// --average, writes the mean of the weights of models that were trained from one start, such as reward models from
/// several seeds (WARM, arXiv:2401.12187). Sums are f32, whatever is written.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Merge {
    /// The model; without it, the one that adapter_config.json names
    #[arg(long, value_name = "DIR", conflicts_with = "average")]
    model: Option<PathBuf>,

    /// A PEFT directory with an adapter of the model
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "average",
        conflicts_with = "average"
    )]
    adapter: Option<PathBuf>,

    /// Models whose weights are averaged: of one shape, with one tokenizer
    #[arg(long, value_name = "DIR", num_args = 2..)]
    average: Vec<PathBuf>,

    /// With --average: completions on which mean and deviation of the scores are measured anew
    #[arg(long, value_name = "FILE", requires = "average")]
    normalize_on: Option<PathBuf>,

    /// With --normalize-on: the most completions measured
    #[arg(long, value_name = "N", default_value_t = 256, requires = "normalize_on")]
    normalize_count: usize,

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
      --output merged-bf16 --dtype bf16
  # one reward model of several, from seeds of their own:
  # hearken merge --average runs/reward-1/final runs/reward-2/final \\
  #     --output warm --normalize-on demonstrations.jsonl";

impl Merge {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let output = &self.output;
        check_new_folder(output)?;
        let Some(adapter) = &self.adapter else { return self.average() };
        let place = match self.model {
            Some(_) => hub::adapter(adapter)?,
            None => hub::model(adapter, ModelPart::Whole)?,
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

    /// The mean of the weights of several models.
    fn average(self) -> Result<ExitCode> {
        let place = |path: &PathBuf| hub::model(path, ModelPart::Whole);
        let places = self.average.iter().map(place).collect::<Result<Vec<_>>>()?;
        let Averaged { model, tokenizer } = average(&places)?;
        let normalization = match &self.normalize_on {
            None => None,
            Some(path) => {
                Some(measure_scores(&model, tokenizer.as_ref(), path, self.normalize_count)?)
            }
        };
        let stored = match self.dtype {
            Some(dtype) => dtype.format(),
            None => TensorFiles::open(&places[0])?.stored(),
        };
        let mut no_room = None;
        write_folder(&self.output, |folder| {
            no_room = model.save_as(folder, self.shards.format(stored))?;
            if let (Some(no_room), Some(_)) = (&no_room, self.dtype) {
                bail!("--dtype f16: {no_room}; expected bf16 or f32");
            }
            if let Some(tokenizer) = &tokenizer {
                tokenizer.save(folder)?;
            }
            if let Some(normalization) = &normalization {
                save_normalization(normalization, folder)?;
            }
            let sources: Vec<_> =
                places.iter().map(|place| ("--average", place.as_path())).collect();
            Ok(write_card_of(folder, &command_line(), &sources)?)
        })?;
        let is_normalized = |place: &PathBuf| place.join(NORMALIZATION_FILE).exists();
        if normalization.is_none() && places.iter().any(is_normalized) {
            say(
                "mean and deviation of the scores are those of no one of the models: without --normalize-on they \
                 are not stored, and scores stay as they come",
            );
        }
        say(&format!("wrote {}, the mean of {} models", self.output.display(), places.len()));
        Ok(ExitCode::SUCCESS)
    }
}

/// A model that is the mean of several, with the tokenizer that they have in common.
struct Averaged {
    model: Model<AnyDevice>,
    tokenizer: Option<Tokenizer>,
}

/// The mean of the weights of the models in these folders.
fn average(places: &[PathBuf]) -> Result<Averaged> {
    let load = |place: &PathBuf| -> Result<(Model<AnyDevice>, Option<Tokenizer>)> {
        if is_adapter(place) {
            bail!(
                "{}: found an adapter, expected a whole model: the product of means is not the mean of products; \
                 `hearken merge --adapter` makes a model of it",
                place.display()
            );
        }
        let options = LoadOptions { head: stored_head(place)?, ..LoadOptions::language_model() };
        let (model, _) = Model::load(device::open(), place, &options)?;
        Ok((model, load_tokenizer(place)?))
    };
    let (mut model, tokenizer) = load(&places[0])?;
    for (index, place) in places.iter().enumerate().skip(1) {
        let (other, own) = load(place)?;
        let shape = |model: &Model<AnyDevice>| -> Vec<(String, Vec<usize>)> {
            model.params().iter().map(|param| (param.name.clone(), param.shape.clone())).collect()
        };
        let (found, expected) = (shape(&other), shape(&model));
        if let Some((found, expected)) = found.iter().zip(&expected).find(|(a, b)| a != b) {
            bail!(
                "{}: found `{}` {:?}, expected `{}` {:?} as in {}",
                place.display(),
                found.0,
                found.1,
                expected.0,
                expected.1,
                places[0].display()
            );
        }
        if found.len() != expected.len() {
            bail!(
                "{}: found {} tensors, expected {} as in {}",
                place.display(),
                found.len(),
                expected.len(),
                places[0].display()
            );
        }
        let fingerprint =
            |tokenizer: &Option<Tokenizer>| tokenizer.as_ref().map(Tokenizer::fingerprint);
        if fingerprint(&own) != fingerprint(&tokenizer) {
            bail!(
                "{}: found another tokenizer than in {}, expected the same: the means of embeddings would be of \
                 different tokens",
                place.display(),
                places[0].display()
            );
        }
        model.params_mut().move_towards(other.params(), 1.0 / (index + 1) as f64);
    }
    Ok(Averaged { model, tokenizer })
}
