//! What a trainer needs to run: a model directory, records, a configuration.

use std::path::{Path, PathBuf};

use hearken_config::{Configuration, Dtype, Layers, LoadedConfig, SamplingDtype};
use hearken_data::write_jsonl;
use hearken_model::{Head, Model, ModelConfig};
use hearken_run::error::TrainError;
use hearken_run::seeds::Seeds;
use hearken_tensor::Device;
use hearken_tensor::device::Precision;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use toml::Table;

use super::Bench;

/// A learning rate at which random weights stay what they are, in effect.
const LEARNING_RATE: f64 = 1e-6;

/// Makes inputs of random numbers in the scratch folder.
#[derive(Debug)]
pub(crate) struct Materials<'a> {
    pub(crate) bench: &'a Bench,
    seeds: Seeds,
    rng: ChaCha8Rng,
}

impl<'a> Materials<'a> {
    pub(crate) fn new(bench: &'a Bench) -> Self {
        let seeds = Seeds::new(0);
        Self { bench, seeds, rng: seeds.stream("records", 0) }
    }

    /// Examples that all steps together take, each once.
    pub(crate) fn examples(&self) -> usize {
        self.bench.sizes.batch * self.bench.steps_made() as usize
    }

    /// The dimensions of the models.
    pub(crate) fn config(&self) -> Result<ModelConfig, TrainError> {
        let raw = self.bench.shape.config(self.bench.sizes.length());
        Ok(ModelConfig::from_json(Path::new(self.bench.shape.name()), &raw)?)
    }

    /// A model with random weights.
    pub(crate) fn model<D: Device>(&self, device: D, head: Head) -> Result<Model<D>, TrainError> {
        let precision = Precision::from(self.bench.dtype);
        Ok(Model::init(device, self.config()?, head, precision, self.weights_seed(head)))
    }

    /// The language model among them, as one loads it that is only read.
    pub(crate) fn model_to_read<D: Device>(&self, device: D) -> Result<Model<D>, TrainError> {
        let head = Head::LanguageModel;
        Ok(Model::init_without_masters(
            device,
            self.config()?,
            head,
            self.bench.dtype.into(),
            self.weights_seed(head),
        ))
    }

    fn weights_seed(&self, head: Head) -> u64 {
        self.seeds.derive("weights", u64::from(head == Head::Score), 0)
    }

    /// The directory of a model with random weights.
    pub(crate) fn model_dir<D: Device>(
        &self,
        device: &D,
        head: Head,
    ) -> Result<PathBuf, TrainError> {
        let name = if head == Head::Score { "scorer" } else { "language-model" };
        let dir = self.bench.scratch.join(name);
        self.model(device.clone(), head)?.save(&dir)?;
        Ok(dir)
    }

    /// Random tokens, none of them one of the first two, which padding and ends usually are.
    pub(crate) fn ids(&mut self, len: usize) -> Result<Vec<u32>, TrainError> {
        let vocab = self.config()?.vocab as u32;
        Ok((0..len).map(|_| self.rng.random_range(2..vocab)).collect())
    }

    /// A file with one record for each example.
    pub(crate) fn records(
        &mut self,
        record: impl Fn(&mut Self) -> Result<Value, TrainError>,
    ) -> Result<PathBuf, TrainError> {
        let records: Vec<Value> =
            (0..self.examples()).map(|_| record(self)).collect::<Result<_, _>>()?;
        let path = self.bench.scratch.join("records.jsonl");
        write_jsonl(&path, records).map_err(|error| TrainError::Other(error.to_string()))?;
        Ok(path)
    }

    /// A file with pairs of random completions of random prompts.
    pub(crate) fn pairs(&mut self) -> Result<PathBuf, TrainError> {
        let sizes = self.bench.sizes;
        self.records(|materials| {
            Ok(json!({
                "prompt_ids": materials.ids(sizes.prompt)?,
                "chosen_ids": materials.ids(sizes.completion)?,
                "rejected_ids": materials.ids(sizes.completion)?,
            }))
        })
    }

    /// The configuration of a trainer of records: its defaults, what every work sets, and `more`.
    pub(crate) fn loaded<C: Configuration>(
        &self,
        model: &Path,
        records: &Path,
        more: Table,
    ) -> Result<LoadedConfig<C>, TrainError> {
        let mut layers = C::defaults(Path::new("bench"));
        self.configure(&mut layers, model, records, self.bench.steps_made());
        layers.merge(more);
        Ok(C::from_layers(layers)?)
    }

    /// Lays over a trainer's defaults what every work sets: model, data, batch and steps.
    pub(crate) fn configure(&self, layers: &mut Layers, model: &Path, records: &Path, steps: u64) {
        let section = |pairs: &[(&str, toml::Value)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect::<Table>()
        };
        let sections = [
            ("run", section(&[("dir", path_value(&self.bench.scratch.join("run")))])),
            (
                "model",
                section(&[("path", path_value(model)), ("dtype", dtype_value(self.bench.dtype))]),
            ),
            ("data", section(&[("train", path_value(records)), ("shuffle", false.into())])),
            ("optimizer", section(&[("lr", LEARNING_RATE.into())])),
            (
                "train",
                section(&[
                    ("batch_size", integer(self.bench.sizes.batch)),
                    ("steps", toml::Value::Integer(steps.cast_signed())),
                ]),
            ),
        ];
        let sampled = section(&[("dtype", sampling_value(self.bench.sampling))]);
        let rollout = self.bench.work.samples().then_some(("rollout", sampled));
        let sections = sections.into_iter().chain(rollout);
        let sections = sections.map(|(name, table)| (name.to_owned(), toml::Value::Table(table)));
        layers.merge(sections.collect());
    }
}

/// The word for a dtype in configurations.
pub(crate) fn dtype_value(dtype: Dtype) -> toml::Value {
    match dtype {
        Dtype::F32 => "f32".into(),
        Dtype::Bf16 => "bf16".into(),
    }
}

/// The word for what weights are sampled from.
fn sampling_value(dtype: SamplingDtype) -> toml::Value {
    match dtype {
        SamplingDtype::Model => "model".into(),
        SamplingDtype::Int8 => "int8".into(),
    }
}

/// A path in a configuration.
pub(crate) fn path_value(path: &Path) -> toml::Value {
    path.to_string_lossy().into_owned().into()
}

/// A count in a configuration.
pub(crate) fn integer(count: usize) -> toml::Value {
    toml::Value::Integer(i64::try_from(count).expect("a count fits"))
}
