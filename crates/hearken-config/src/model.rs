//! `[model]`, `[lora]` and `[template]`: what a run starts from, what of it is trained, and how it reads messages.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hearken_model::tokenizer::TemplateChoice;
use hearken_model::{Keep, LoraConfig, Masters, Targets};
use hearken_tensor::device::{Int8Scales, Precision};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::error::Complaint;
use super::number::{AtLeastOne, BelowOne, Positive};

/// What matrix products read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit floats.
    #[default]
    F32,
    /// Factors rounded to bfloat16; sums and master weights stay 32-bit.
    Bf16,
}

impl From<Dtype> for Precision {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::Bf16,
        }
    }
}

/// What is trained of the weights of blocks' linear maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MasterWeights {
    /// 32-bit numbers, of which products may read rounded copies.
    #[default]
    F32,
    /// What products in bfloat16 read; updates are rounded up or down at random.
    Bf16,
    /// 32-bit numbers, of which each of several ranks holds its share, and all of them what products in bfloat16 read.
    Shared,
}

/// How the weights of blocks' linear maps are held where nothing trains them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// As matrix products read them.
    #[default]
    Float,
    /// In eight bits, with a scale for each output.
    Int8,
    /// In eight bits, with a scale for every 64 inputs of an output.
    Int8Groups,
}

impl From<Base> for Masters {
    fn from(base: Base) -> Self {
        match base {
            Base::Float => Self::Drop,
            Base::Int8 => Self::Int8(Int8Scales::PerOutput),
            Base::Int8Groups => Self::Int8(Int8Scales::PerGroup),
        }
    }
}

/// `[model]`: the model to start from.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSource {
    /// A folder with config.json and model.safetensors.
    pub path: PathBuf,
    /// What matrix products read.
    pub dtype: Dtype,
    /// What is trained of the weights of blocks.
    pub masters: MasterWeights,
    /// How weights that nothing trains are held: the base of an adapter, and the reference.
    pub base: Base,
    /// Patterns of the names of parameters that stay as they are; `*` stands for any characters.
    pub freeze: Vec<String>,
    /// Whether only the inputs of blocks are kept in the forward pass, and the rest is computed again
    /// in the backward pass.
    pub recompute: bool,
    /// What `[template]` says of its chat template.
    #[serde(skip)]
    pub template: TemplateConfig,
    /// A PEFT directory with an adapter, which is merged into the model before anything else.
    pub adapter: Option<PathBuf>,
    /// `[lora]`: what is trained in place of the weights.
    #[serde(skip)]
    pub lora: Option<LoraSection>,
}

impl ModelSource {
    /// Takes in what `[lora]` and `[template]` say, of a run in which some model that is not trained `is_held`
    /// beside the one that is.
    ///
    /// # Errors
    /// If the keys of the three sections contradict each other.
    pub fn settle(
        &mut self,
        lora: &LoraSection,
        template: &TemplateConfig,
        is_held: bool,
    ) -> Result<(), Complaint> {
        self.lora = lora.settle(self)?;
        template.check()?;
        self.template = template.clone();
        self.check_weights(is_held)
    }

    /// Refuses weights in eight bits where all weights are trained and no model `is_held` beside them that is
    /// not; and masters in bfloat16 where nothing reads them.
    ///
    /// # Errors
    /// If `model.base` or `model.masters` would say nothing.
    pub fn check_weights(&self, is_held: bool) -> Result<(), Complaint> {
        let expected = "\"float\": nothing is frozen here. With [lora] the base is";
        let holds = self.base == Base::Float || self.lora.is_some() || is_held;
        let found = match self.base {
            Base::Float => "\"float\"",
            Base::Int8 => "\"int8\"",
            Base::Int8Groups => "\"int8_groups\"",
        };
        Complaint::unless(holds, "model.base", found, expected)?;
        if self.masters == MasterWeights::F32 {
            return Ok(());
        }
        if self.lora.is_some() {
            let reason = "an adapter is f32, and its base is not trained; remove one of the two";
            return Err(Complaint::exclusive("model.masters", "lora", reason));
        }
        let (found, expected) = match self.masters {
            MasterWeights::Shared => ("\"shared\"", "all hold what products read"),
            _ => ("\"bf16\"", "what products read is trained"),
        };
        let expected = format!("\"f32\", or `model.dtype` \"bf16\" beside it: {expected}");
        Complaint::unless(self.dtype == Dtype::Bf16, "model.masters", found, &expected)
    }

    /// What a forward pass keeps for its backward pass.
    pub fn keep(&self) -> Keep {
        if self.recompute { Keep::BlockInputs } else { Keep::Activations }
    }

    /// What is held of the weights of a model that is trained.
    pub fn of_trained(&self) -> Masters {
        match (&self.lora, self.masters) {
            (Some(_), _) => self.base.into(),
            // They are shared out when there is an optimizer.
            (None, MasterWeights::F32 | MasterWeights::Shared) => Masters::Keep,
            (None, MasterWeights::Bf16) => Masters::Bf16,
        }
    }
}

/// `[lora]`: an adapter is trained, in place of the weights, which stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoraSection {
    /// The rank of the adapter: without it and without `init`, the whole model is trained.
    pub r: Option<AtLeastOne>,
    /// The adapter's product is multiplied by alpha/r; without it alpha is twice the rank.
    pub alpha: Option<Positive>,
    /// The probability with which an element of what the adapter reads is dropped in training; without it 0.
    pub dropout: Option<BelowOne>,
    /// Which linear maps have an adapter: "all-linear", a name, a regular expression for whole names, or a list of names;
    /// without it "all-linear".
    #[serde(default, deserialize_with = "targets")]
    #[schemars(with = "Option<Names>")]
    pub targets: Option<Targets>,
    /// Whether the product is multiplied by alpha/√r.
    pub rslora: Option<bool>,
    /// A PEFT directory with the adapter to start from.
    pub init: Option<PathBuf>,
}

/// A text, or a list of them.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "text or a list of texts")]
enum Names {
    One(String),
    Many(Vec<String>),
}

fn targets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Targets>, D::Error> {
    use serde::de::{Error, Unexpected};
    match Names::deserialize(deserializer)? {
        Names::One(name) if name.to_lowercase() == "all-linear" => Ok(Some(Targets::AllLinear)),
        Names::One(name) if name.chars().all(|c| c.is_alphanumeric() || c == '_') => {
            Ok(Some(Targets::Names(vec![name])))
        }
        Names::One(pattern) => Ok(Some(Targets::Pattern(pattern))),
        Names::Many(names) if names.is_empty() => {
            Err(D::Error::invalid_value(Unexpected::Other("an empty list"), &"at least one name"))
        }
        Names::Many(names) => Ok(Some(Targets::Names(names))),
    }
}

impl LoraSection {
    /// The section that `model` is trained with; `None` where it says nothing.
    ///
    /// # Errors
    /// If there is neither a rank nor an adapter to start from, or `model` contradicts it.
    fn settle(&self, model: &ModelSource) -> Result<Option<Self>, Complaint> {
        if *self == Self::default() {
            return Ok(None);
        }
        if self.r.is_none() && self.init.is_none() {
            let expected = "the rank of the adapter, or `lora.init`, an adapter to start from";
            return Err(Complaint::missing("lora.r", expected));
        }
        let key = if self.r.is_some() { "lora.r" } else { "lora.init" };
        if !model.freeze.is_empty() {
            let reason = "an adapter leaves all weights as they are; remove one of the two";
            return Err(Complaint::exclusive(key, "model.freeze", reason));
        }
        if model.adapter.is_some() {
            let reason = "the adapter that is trained would be of a model that is stored nowhere: train the \
                          first one on with `lora.init`, or merge it with hearken merge";
            return Err(Complaint::exclusive(key, "model.adapter", reason));
        }
        Ok(Some(self.clone()))
    }

    /// A new adapter; of one that is started from, the file says what it is.
    pub fn fresh(&self) -> LoraConfig {
        let rank = self.r.map_or(1, |r| *r);
        LoraConfig {
            dropout: self.dropout.map_or(0.0, |rate| *rate),
            rslora: self.rslora.unwrap_or(false),
            ..LoraConfig::new(
                rank,
                self.alpha.map_or(2.0 * rank as f64, |alpha| *alpha),
                self.targets.clone().unwrap_or(Targets::AllLinear),
            )
        }
    }
}

/// `[template]`: the chat template of messages, in place of the model's own.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateConfig {
    /// A file with a template in Jinja.
    pub file: Option<PathBuf>,
    /// The name of another of the model's templates.
    pub name: Option<String>,
    /// Variables of the template, unless a record has its own.
    pub variables: Option<BTreeMap<String, serde_json::Value>>,
}

impl TemplateConfig {
    /// Checks what its keys say together.
    ///
    /// # Errors
    /// If two templates are chosen.
    pub fn check(&self) -> Result<(), Complaint> {
        if self.file.is_some() && self.name.is_some() {
            let reason = "both choose the template; remove one of the two";
            return Err(Complaint::exclusive("template.file", "template.name", reason));
        }
        Ok(())
    }

    /// The choice that a tokenizer is told.
    pub fn choice(&self) -> TemplateChoice {
        let (file, name) = (self.file.clone(), self.name.clone());
        let variables = self.variables.clone().into_iter().flatten().collect();
        TemplateChoice { file, name, variables }
    }
}
