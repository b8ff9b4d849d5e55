//! Models from directories, from nothing, and back to directories.

use std::convert::Infallible;
use std::path::Path;

use hearken_tensor::Device;
use hearken_tensor::device::Precision;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::masters::Masters;
use super::model::Model;
use super::particles::PARTICLES_FILE;
use crate::architecture::{Head, Plan, VALUE_BIAS, VALUE_WEIGHT, class_name, names};
use crate::checkpoint::{
    self, CheckpointError, Described, NameRules, NoRoom, NumberFormat, TensorFiles, WeightFormat,
};
use crate::config::{ConfigError, ModelConfig, base_dir, is_adapter, model_dir};
use crate::lora::{Adapter, AdapterError, PREFIX};
use crate::params::ParamSpec;

/// The file with a policy's value head, beside the model that Transformers loads.
const VALUE_HEAD_FILE: &str = "value_head.safetensors";

/// Why a model cannot be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// config.json cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Weights cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// An adapter cannot be used.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
}

/// How to load a model.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// What matrix products read.
    pub precision: Precision,
    /// Which head is wanted.
    pub head: Head,
    /// The seed of a new score or class head where the checkpoint has none; without one, a missing head
    /// is an error.
    pub new_score_head: Option<u64>,
    /// Whether the values that training needs are held.
    pub masters: Masters,
}

impl LoadOptions {
    /// A language model in f32.
    pub fn language_model() -> Self {
        Self {
            precision: Precision::F32,
            head: Head::LanguageModel,
            new_score_head: None,
            masters: Masters::Keep,
        }
    }

    /// A scorer in f32 whose head must exist.
    pub fn scorer() -> Self {
        Self { head: Head::Score, ..Self::language_model() }
    }
}

/// The head that the weights in a directory have, a model's or an adapter's.
///
/// # Errors
/// If its files cannot be read.
pub fn stored_head(dir: &Path) -> Result<Head, ModelError> {
    let files;
    let adapter;
    let (tensors, prefix) = if is_adapter(dir) {
        adapter = Adapter::read(dir)?;
        (adapter.tensors(), PREFIX)
    } else {
        files = TensorFiles::open(dir)?;
        (&files, "")
    };
    for module in ["score", "classifier"] {
        let name = |what: &str| format!("{prefix}{module}.{what}");
        match (tensors.shape(&name("weight")), tensors.shape(&name("bias"))) {
            (Some([classes, _]), Some(_)) => return Ok(Head::StepClasses(*classes)),
            (Some(_), None) => return Ok(Head::Score),
            _ => {}
        }
    }
    if is_adapter(dir) {
        // Adapters that name each other end here.
        model_dir(dir)?;
        return stored_head(&base_dir(dir)?);
    }
    Ok(Head::LanguageModel)
}

/// What loading found worth saying.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Parameters that were not in the checkpoint and have been drawn.
    pub created: Vec<String>,
}

impl<D: Device> Model<D> {
    /// Loads a Hugging Face directory: config.json and safetensors. A PEFT directory is loaded with its base, into
    /// whose weights it is merged.
    ///
    /// # Errors
    /// If a file is missing or damaged, the architecture is not supported, or a tensor is missing,
    /// unknown or misshapen.
    pub fn load(
        device: D,
        dir: &Path,
        options: &LoadOptions,
    ) -> Result<(Self, LoadReport), ModelError> {
        if !is_adapter(dir) {
            return Self::load_whole(device, dir, options);
        }
        // Adapters that name each other end here.
        model_dir(dir)?;
        let adapter = Adapter::read(dir)?;
        Self::load_merged(device, &base_dir(dir)?, options, Some(&adapter))
    }

    /// Loads a directory that holds a whole model.
    pub(super) fn load_whole(
        device: D,
        dir: &Path,
        options: &LoadOptions,
    ) -> Result<(Self, LoadReport), ModelError> {
        let config = ModelConfig::read(dir)?;
        let plan = Plan::new(&config, options.head);
        let files = TensorFiles::open(dir)?;
        let names = names(config.family);
        let head = format!("{}.weight", names.head);
        let embedding = plan.params[plan.embedding.0].name.clone();
        let may_create = options.head != Head::LanguageModel && options.new_score_head.is_some();
        let own_head = plan.scalar_names();
        let ignored = [head.as_str()];
        let rules = NameRules {
            prefix: names.prefix,
            tied_head: (options.head == Head::LanguageModel && config.tied_head)
                .then_some((head.as_str(), embedding.as_str())),
            optional: if may_create { &own_head } else { &[] },
            ignored: if may_create { &ignored } else { &[] },
        };
        let mut report = LoadReport::default();
        let mut rng = ChaCha8Rng::seed_from_u64(options.new_score_head.unwrap_or(0));
        let mut stored = checkpoint::read_params(&files, &plan.params, &rules)?;
        let next = |spec: &ParamSpec| -> Result<_, ModelError> {
            let values = stored.next().transpose()?.flatten();
            Ok(values.unwrap_or_else(|| {
                report.created.push(spec.name.clone());
                spec.draw(&mut rng)
            }))
        };
        let (head, precision) = (options.head, options.precision);
        let model = Self::assemble(device, config, head, precision, options.masters, next)?;
        Ok((model, report))
    }

    /// A model with random weights.
    pub fn init(
        device: D,
        config: ModelConfig,
        head: Head,
        precision: Precision,
        seed: u64,
    ) -> Self {
        Self::drawn(device, config, head, precision, Masters::Keep, seed)
    }

    /// The model that [`Model::init`] draws, after [`Model::drop_masters`]; what is dropped is never
    /// held at one time.
    pub fn init_without_masters(
        device: D,
        config: ModelConfig,
        head: Head,
        precision: Precision,
        seed: u64,
    ) -> Self {
        Self::drawn(device, config, head, precision, Masters::Drop, seed)
    }

    fn drawn(
        device: D,
        config: ModelConfig,
        head: Head,
        precision: Precision,
        masters: Masters,
        seed: u64,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let next = |spec: &ParamSpec| Ok::<_, Infallible>(spec.draw(&mut rng));
        let Ok(model) = Self::assemble(device, config, head, precision, masters, next);
        model
    }

    /// The model with its score alone, over the same weights.
    ///
    /// # Panics
    /// If it has no head for the length.
    pub fn without_length_head(&self) -> Self {
        assert_eq!(self.head, Head::ScoreAndLength, "a model with a head for the length");
        let mut model = self.duplicate();
        model.head = Head::Score;
        model.plan = Plan::new(&self.config, Head::Score);
        let head = model.scalar_weight_index();
        let score = self.params.values(head)[..self.config.width].to_vec();
        model.params.reshape(head, &model.plan.params[head].shape, &score);
        model
    }

    /// The place of the weights of a score or class head among the parameters.
    ///
    /// # Panics
    /// If the model has no such head.
    pub fn scalar_weight_index(&self) -> usize {
        self.plan.scalar_head.expect("a score or class head").weight.0
    }

    /// Adds a new value head, normal with deviation 1/√(d+1) and bias 0.
    ///
    /// # Panics
    /// If the model already has a scalar head.
    pub fn add_value_head(&mut self, seed: u64) {
        assert!(self.plan.scalar_head.is_none(), "the model has a scalar head already");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let scalar = self.plan.add_value_head(self.config.width);
        let specs = &self.plan.params[scalar.weight.0..];
        for spec in specs {
            self.params.push(spec, &spec.draw(&mut rng), true);
        }
    }

    /// Adds the value head stored in a directory that [`Model::save`] wrote; says whether there
    /// was one.
    ///
    /// # Errors
    /// If its file is damaged.
    ///
    /// # Panics
    /// If the model already has a scalar head.
    pub fn load_value_head(&mut self, dir: &Path) -> Result<bool, ModelError> {
        let path = dir.join(VALUE_HEAD_FILE);
        if !path.exists() {
            return Ok(false);
        }
        let files = TensorFiles::open_file(&path)?;
        self.add_value_head(0);
        for index in self.params.len() - 2..self.params.len() {
            let param = &self.params[index];
            let values = files.read(&param.name, &param.shape)?;
            self.params.set_values(index, &values);
        }
        Ok(true)
    }

    /// Writes config.json and model.safetensors in f32, which loses nothing; see [`Model::save_as`].
    ///
    /// # Errors
    /// If a file cannot be written.
    ///
    /// # Panics
    /// As [`Model::save_as`].
    pub fn save(&self, dir: &Path) -> Result<(), ModelError> {
        self.save_as(dir, NumberFormat::F32).map(|_| ())
    }

    /// Writes config.json and the weights, in one file or in shards, and a value head beside them; each file is
    /// replaced whole or not at all. Heads that are no language model's stay f32, and so does everything where f16
    /// has no room for a value: that value is returned.
    ///
    /// # Errors
    /// If a file cannot be written.
    ///
    /// # Panics
    /// If the model has an adapter, which [`Model::save_adapter`] saves or [`Model::merged`] takes up.
    pub fn save_as(
        &self,
        dir: &Path,
        format: impl Into<WeightFormat>,
    ) -> Result<Option<NoRoom>, ModelError> {
        assert!(self.adapter().is_none(), "an adapter is saved apart, or merged first");
        let WeightFormat { stored, shard_bytes } = format.into();
        let no_room = self.without_room(stored);
        let stored = if no_room.is_none() { stored } else { NumberFormat::F32 };
        std::fs::create_dir_all(dir).map_err(|source| CheckpointError::Io {
            path: dir.to_owned(),
            action: "create it",
            source,
        })?;
        checkpoint::write_json_atomically(&dir.join("config.json"), &self.config_json(stored))?;
        let body: Vec<usize> =
            (0..self.params.len()).filter(|&index| !self.is_beside(index)).collect();
        let described = self.described(&body, stored);
        let values = |at: usize| self.params.values(body[at]).into();
        checkpoint::save_weights(dir, &described, shard_bytes, values)?;
        self.save_value_head(dir)?;
        self.save_particles(dir)?;
        Ok(no_room)
    }

    /// The first value that a format has no room for.
    fn without_room(&self, stored: NumberFormat) -> Option<NoRoom> {
        if stored != NumberFormat::F16 {
            return None;
        }
        (0..self.params.len()).find_map(|index| {
            let value = stored.without_room(&self.values(index))?;
            Some(NoRoom { name: self.params[index].name.clone(), value })
        })
    }

    fn is_value_head(&self, index: usize) -> bool {
        [VALUE_WEIGHT, VALUE_BIAS].contains(&self.params[index].name.as_str())
    }

    /// Whether a parameter lies in a file of its own, beside what Transformers loads.
    fn is_beside(&self, index: usize) -> bool {
        self.is_value_head(index) || self.is_particle(index)
    }

    /// Writes a value head, if there is one.
    pub(super) fn save_value_head(&self, dir: &Path) -> Result<(), CheckpointError> {
        self.save_beside(&dir.join(VALUE_HEAD_FILE), |index| self.is_value_head(index))
    }

    /// Writes particles, if there are any.
    fn save_particles(&self, dir: &Path) -> Result<(), CheckpointError> {
        self.save_beside(&dir.join(PARTICLES_FILE), |index| self.is_particle(index))
    }

    /// Writes some parameters in f32, if there are any.
    fn save_beside(
        &self,
        path: &Path,
        is_one: impl Fn(usize) -> bool,
    ) -> Result<(), CheckpointError> {
        let own: Vec<usize> = (0..self.params.len()).filter(|&index| is_one(index)).collect();
        if own.is_empty() {
            return Ok(());
        }
        let described = self.described(&own, NumberFormat::F32);
        checkpoint::save_tensors_as(path, &described, |at| self.params.values(own[at]).into())
    }

    fn described(&self, indices: &[usize], stored: NumberFormat) -> Vec<Described> {
        let describe = |&index: &usize| {
            let param = &self.params[index];
            let is_scalar = self.is_scalar_head(index);
            let stored = if is_scalar { NumberFormat::F32 } else { stored };
            (param.name.clone(), param.shape.clone(), stored)
        };
        indices.iter().map(describe).collect()
    }

    /// config.json as read, with what the head and the stored type change.
    fn config_json(&self, stored: NumberFormat) -> Value {
        let mut raw = self.config.raw.clone();
        let class = class_name(self.config.family, self.head);
        raw.insert("architectures".into(), json!([class]));
        raw.remove("torch_dtype");
        raw.insert("dtype".into(), json!(stored.name()));
        let labels: &[&str] = match self.head {
            Head::LanguageModel => &[],
            Head::Score => &["LABEL_0"],
            Head::ScoreAndLength => &["LABEL_0", "LABEL_1"],
            Head::StepClasses(2) => &["bad", "good"],
            Head::StepClasses(_) => &["bad", "neutral", "good"],
        };
        if !labels.is_empty() {
            let by_id = |(id, label): (usize, &&str)| (id.to_string(), json!(label));
            let by_label = |(id, label): (usize, &&str)| ((*label).to_owned(), json!(id));
            let numbered = || labels.iter().enumerate();
            raw.insert("id2label".into(), numbered().map(by_id).collect());
            raw.insert("label2id".into(), numbered().map(by_label).collect());
            raw.remove("num_labels");
            raw.insert("problem_type".into(), Value::Null);
        }
        if self.config.pad.is_some() || matches!(self.head, Head::Score | Head::ScoreAndLength) {
            raw.insert("pad_token_id".into(), json!(self.config.pad));
        }
        Value::Object(raw)
    }

    /// Sets the padding token that the saved config.json names: Transformers' classifiers find the
    /// last token of a padded row by it. With `None` they take one row at a time.
    pub fn set_pad(&mut self, pad: Option<u32>) {
        self.config.pad = pad;
    }

    /// Sets what matrix products read; derived copies are dropped.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
        self.params.forget_prepared();
    }
}
