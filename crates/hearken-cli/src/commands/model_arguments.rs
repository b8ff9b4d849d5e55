//! Which model a command reads.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use hearken_model::{LoadOptions, Masters, Model, Tokenizer};
use hearken_tensor::Cpu;

use crate::device;
use hearken_tensor::device::Precision;
use hearken_train::trained_model::load_tokenizer;

/// What matrix products read.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Dtype {
    /// 32-bit numbers
    F32,
    /// Factors rounded to bfloat16, sums in f32
    Bf16,
}

impl Dtype {
    pub(crate) fn precision(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ModelArguments {
    /// A Hugging Face model directory: config.json, safetensors, tokenizer.json
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,

    /// What matrix products read
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
}

impl ModelArguments {
    /// The language model, to be read only; and the tokenizer, unless the folder has none.
    pub(crate) fn load(&self) -> Result<(Model<Cpu>, Option<Tokenizer>)> {
        let options = LoadOptions {
            precision: self.dtype.precision(),
            masters: Masters::Drop,
            ..LoadOptions::language_model()
        };
        let (model, _) = Model::load(device::open(), &self.model, &options)?;
        Ok((model, load_tokenizer(&self.model)?))
    }
}
