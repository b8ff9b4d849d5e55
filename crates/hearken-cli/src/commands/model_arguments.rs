//! Which model a command reads.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use hearken_config::Base;
use hearken_hub::ModelPart;
use hearken_model::chat::BUILT_IN_FORMAT;
use hearken_model::{Adapter, Head, LoadOptions, Model, Tokenizer};
use hearken_run::trained_model::load_tokenizer;
use hearken_tensor::AnyDevice;

use super::template_arguments::TemplateArguments;
use crate::{device, hub, output};
use hearken_tensor::device::Precision;

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

/// How the weights of blocks can be held, by the names of the command line.
const BASES: [(&str, Base, &str); 3] = [
    ("float", Base::Float, "As matrix products read them"),
    ("int8", Base::Int8, "In eight bits, with a scale for each output"),
    (
        "int8-groups",
        Base::Int8Groups,
        "In eight bits, with a scale for every 64 inputs of an output",
    ),
];

fn bases() -> impl TypedValueParser<Value = Base> {
    let values = BASES.map(|(name, _, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(values).map(|found| {
        let known = BASES.iter().find(|(name, ..)| *name == found);
        known.expect("one of the possible values").1
    })
}

#[derive(Args, Debug)]
pub(crate) struct ModelArguments {
    /// A Hugging Face model directory: config.json, safetensors, tokenizer.json; or a PEFT directory, whose
    /// adapter_config.json names its model; or the name of either on the hub, as org/name or org/name@revision
    #[arg(long, value_name = "DIR_OR_NAME")]
    pub(crate) model: PathBuf,

    #[command(flatten)]
    beside: BesideModel,
}

/// A model for a command that does without one now and then.
#[derive(Args, Debug)]
pub(crate) struct OptionalModelArguments {
    /// A Hugging Face model directory: config.json, safetensors, tokenizer.json; or a PEFT directory, whose
    /// adapter_config.json names its model; or the name of either on the hub, as org/name or org/name@revision
    #[arg(long, value_name = "DIR_OR_NAME")]
    model: Option<PathBuf>,

    #[command(flatten)]
    beside: BesideModel,
}

impl OptionalModelArguments {
    /// The model, if one is named.
    pub(crate) fn named(self) -> Option<ModelArguments> {
        let Self { model, beside } = self;
        model.map(|model| ModelArguments { model, beside })
    }
}

/// What is said of a model beside its place.
#[derive(Args, Debug)]
struct BesideModel {
    /// A PEFT directory with an adapter of the model, which is merged into its weights
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,

    #[command(flatten)]
    reading: ReadingArguments,
}

/// How a model is read.
#[derive(Args, Debug)]
pub(crate) struct ReadingArguments {
    /// What matrix products read
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,

    /// How the weights of blocks are held: eight bits take a quarter of the memory of f32
    #[arg(long, value_parser = bases(), default_value = "float")]
    base: Base,

    #[command(flatten)]
    template: TemplateArguments,
}

impl ReadingArguments {
    /// How a model with such a head is read, to be read only.
    pub(crate) fn options(&self, head: Head) -> LoadOptions {
        LoadOptions {
            precision: self.dtype.precision(),
            masters: self.base.into(),
            head,
            ..LoadOptions::language_model()
        }
    }

    /// The model in a folder, with an adapter merged into its weights; and the tokenizer, unless neither folder
    /// has one.
    pub(crate) fn load(
        &self,
        place: &Path,
        adapter_place: Option<&Path>,
        head: Head,
    ) -> Result<(Model<AnyDevice>, Option<Tokenizer>)> {
        let adapter = adapter_place.map(Adapter::read).transpose()?;
        let options = self.options(head);
        let (model, _) = Model::load_merged(device::open(), place, &options, adapter.as_ref())?;
        Ok((model, self.tokenizer(place, adapter_place)?))
    }

    /// An adapter by itself; and the tokenizer, unless neither its folder nor that of its model has one.
    pub(crate) fn load_adapter(
        &self,
        place: &Path,
        adapter_place: &Path,
    ) -> Result<(Adapter, Option<Tokenizer>)> {
        Ok((Adapter::read(adapter_place)?, self.tokenizer(place, Some(adapter_place))?))
    }

    fn tokenizer(&self, place: &Path, adapter_place: Option<&Path>) -> Result<Option<Tokenizer>> {
        // An adapter may bring the tokenizer that it was trained with.
        let own = adapter_place.map(load_tokenizer).transpose()?.flatten();
        let mut tokenizer = own.map_or_else(|| load_tokenizer(place), |own| Ok(Some(own)))?;
        if let Some(tokenizer) = &mut tokenizer {
            self.template.choose(tokenizer)?;
        }
        Ok(tokenizer)
    }
}

impl ModelArguments {
    /// The language model, to be read only; and the tokenizer, unless the folder has none.
    pub(crate) fn load(&self) -> Result<(Model<AnyDevice>, Option<Tokenizer>)> {
        self.load_as(Head::LanguageModel)
    }

    /// The folder whose files say how the model is read: that of the adapter, where there is one.
    pub(crate) fn reading_place(&self) -> Result<PathBuf> {
        match &self.beside.adapter {
            Some(adapter) => hub::adapter(adapter),
            None => hub::model(&self.model, ModelPart::Whole),
        }
    }

    /// The model with such a head, to be read only; and the tokenizer, unless the folder has none.
    pub(crate) fn load_as(&self, head: Head) -> Result<(Model<AnyDevice>, Option<Tokenizer>)> {
        let place = hub::model(&self.model, ModelPart::Whole)?;
        let adapter_place = self.beside.adapter.as_deref().map(hub::adapter).transpose()?;
        self.beside.reading.load(&place, adapter_place.as_deref(), head)
    }

    /// Another language model, read in the same way.
    pub(crate) fn load_beside(&self, place: &Path) -> Result<Model<AnyDevice>> {
        let options = self.beside.reading.options(Head::LanguageModel);
        Ok(Model::load(device::open(), place, &options)?.0)
    }

    /// Says so where messages were written in the built-in format.
    pub(super) fn say_built_in_format(&self, tokenizer: Option<&Tokenizer>) {
        if tokenizer.is_some_and(Tokenizer::uses_built_in_format) {
            output::say(&format!("{}: {BUILT_IN_FORMAT}", self.model.display()));
        }
    }
}
