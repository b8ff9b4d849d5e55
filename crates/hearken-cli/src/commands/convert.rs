//! `hearken convert`.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use hearken_gguf::{BlockFormat, GgufFile, read_into, write_from};
use hearken_hub::ModelPart;
use hearken_model::ModelConfig;
use hearken_model::checkpoint::{NumberFormat, TensorFiles, save_weights, write_json_atomically};
use hearken_run::run_dir::write_card_of;

use super::new_folder::{ShardArguments, check_new_folder, command_line, write_folder};
use super::output_file::check_output;
use crate::hub;
use crate::output::say;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A folder as Transformers has it
    Safetensors,
    /// One file for llama.cpp
    Gguf,
}

/// How weights are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Dtype {
    F32,
    Bf16,
    F16,
    /// 8 bits and a scale for 32 values; GGUF alone
    #[value(name = "q8_0")]
    Q80,
}

/// Write a model in another format: a folder of safetensors, or GGUF
///
/// GGUF is read in F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K, with its tokenizer and
/// chat template, for models like Llama, Mistral, Qwen2 and Qwen3; and written in F32, F16, BF16 and Q8_0.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Convert {
    /// The model: a folder, a GGUF file, or the name of a folder on the hub
    #[arg(long, value_name = "DIR_OR_GGUF")]
    model: PathBuf,

    /// Where it goes: a new folder, or a file that ends in .gguf
    #[arg(long, value_name = "PATH")]
    output: PathBuf,

    /// What is written; as the output's name says, if not given
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// How weights are written; bf16 from GGUF, f16 into GGUF, else as they are stored
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,

    #[command(flatten)]
    shards: ShardArguments,
}

const EXAMPLES: &str = "\
Examples:
  hearken convert --model runs/quickstart/ppo/final --output model.gguf \\
      --dtype q8_0
  hearken convert --model model.gguf --output models/back";

impl Convert {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Self { output, format, dtype, shards, .. } = &self;
        let model = &hub::model(&self.model, ModelPart::Whole)?;
        let named = output.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
        let format = format.unwrap_or(if named { Format::Gguf } else { Format::Safetensors });
        match (model.is_file(), format) {
            (true, Format::Gguf) => {
                bail!("{}: is GGUF already; expected the folder of a model", model.display())
            }
            (true, Format::Safetensors) => from_gguf(model, output, stored(*dtype)?, shards),
            (false, Format::Gguf) => into_gguf(model, output, *dtype),
            (false, Format::Safetensors) => again(model, output, stored(*dtype)?, shards),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

fn stored(dtype: Option<Dtype>) -> Result<Option<NumberFormat>> {
    Ok(match dtype {
        None => None,
        Some(Dtype::F32) => Some(NumberFormat::F32),
        Some(Dtype::Bf16) => Some(NumberFormat::Bf16),
        Some(Dtype::F16) => Some(NumberFormat::F16),
        Some(Dtype::Q80) => bail!("--dtype q8_0 is for GGUF alone; expected f32, bf16 or f16"),
    })
}

fn from_gguf(
    path: &Path,
    output: &Path,
    stored: Option<NumberFormat>,
    shards: &ShardArguments,
) -> Result<()> {
    check_new_folder(output)?;
    let file = GgufFile::open(path)?;
    let stored = stored.unwrap_or(NumberFormat::Bf16);
    let mut found = None;
    write_folder(output, |folder| {
        found = Some(read_into(&file, folder, shards.format(stored))?);
        Ok(write_card_of(folder, &command_line(), &[("--model", path)])?)
    })?;
    let found = found.context("nothing was read")?;
    let tokenizer = if found.tokenizer { "with its tokenizer" } else { "without a tokenizer" };
    say(&format!(
        "wrote {}: {} ({} tensors, {}), {tokenizer}",
        output.display(),
        found.architecture,
        found.tensors,
        stored.name()
    ));
    Ok(())
}

fn into_gguf(model: &Path, output: &Path, dtype: Option<Dtype>) -> Result<()> {
    check_output(output, &[model])?;
    let format = match dtype.unwrap_or(Dtype::F16) {
        Dtype::F32 => BlockFormat::F32,
        Dtype::Bf16 => BlockFormat::Bf16,
        Dtype::F16 => BlockFormat::F16,
        Dtype::Q80 => BlockFormat::Q8_0,
    };
    let written = write_from(model, output, format)?;
    let tokenizer = if written.tokenizer { "with its tokenizer" } else { "without a tokenizer" };
    say(&format!(
        "wrote {}: {} ({} tensors, {}), {tokenizer}",
        output.display(),
        written.architecture,
        written.tensors,
        format.name()
    ));
    Ok(())
}

/// The same model with weights in another number format; all other files as they are.
fn again(
    model: &Path,
    output: &Path,
    stored: Option<NumberFormat>,
    shards: &ShardArguments,
) -> Result<()> {
    check_new_folder(output)?;
    let config = ModelConfig::read(model)?;
    let weights = TensorFiles::open(model)?;
    let stored = stored.unwrap_or_else(|| weights.stored());
    let names: Vec<&str> = weights.names().collect();
    let shape = |name: &str| weights.shape(name).unwrap_or_default().to_vec();
    let tensors: Vec<_> =
        names.iter().map(|name| ((*name).to_owned(), shape(name), stored)).collect();
    write_folder(output, |folder| {
        let mut failed = None;
        let shard_bytes = shards.format(stored).shard_bytes;
        let saved = save_weights(folder, &tensors, shard_bytes, |index| {
            let (name, shape, _) = &tensors[index];
            Cow::Owned(weights.read(name, shape).unwrap_or_else(|error| {
                failed = Some(error);
                vec![0.0; shape.iter().product()]
            }))
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        saved?;
        let mut raw = config.raw.clone();
        for key in ["dtype", "torch_dtype"] {
            if raw.contains_key(key) || key == "dtype" {
                raw.insert(key.into(), stored.name().into());
            }
        }
        write_json_atomically(&folder.join("config.json"), &raw.into())?;
        copy_others(model, folder)?;
        Ok(write_card_of(folder, &command_line(), &[("--model", model)])?)
    })?;
    say(&format!("wrote {}, in {}", output.display(), stored.name()));
    Ok(())
}

/// The folder of a model's further templates.
const TEMPLATES: &str = "additional_chat_templates";

/// Files beside the weights: tokenizer, template, what generation starts from, and papers.
fn copy_others(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_weights =
            name.contains(".safetensors") || path.extension().is_some_and(|end| end == "bin");
        let shown = || format!("{}: cannot be copied", path.display());
        if path.is_dir() && name == TEMPLATES {
            fs::create_dir(to.join(&name)).with_context(shown)?;
            copy_others(&path, &to.join(&name))?;
        }
        if path.is_file() && !is_weights && name != "config.json" {
            fs::copy(&path, to.join(&name)).with_context(shown)?;
        }
    }
    Ok(())
}
