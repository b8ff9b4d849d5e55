//! Adapters of a model: added, read, saved, merged into the weights and taken off.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;

use hearken_data::HubSnapshot;
use hearken_tensor::Device;
use hearken_tensor::device::{Int8Scales, Precision, Rows, View, WeightLayout, WeightShape};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::batch::Batch;
use super::footprint::linears;
use super::load::{LoadOptions, LoadReport, ModelError};
use super::masters::Masters;
use super::model::Model;
use crate::architecture::{Head, LinearParams, Plan, names, scalar_module};
use crate::checkpoint::{self, NoRoom, WeightFormat};
use crate::config::{ADAPTER_CONFIG, ModelConfig};
use crate::lora::{
    A_SUFFIX, ADAPTER_WEIGHTS, Adapter, AdapterError, AdapterFile, B_SUFFIX, Chosen, Linears,
    LoraConfig, PREFIX, Targets,
};
use crate::params::{Gradients, Init, ParamId, ParamSpec};

/// The adapter of a model.
#[derive(Clone, Debug)]
pub(crate) struct Lora {
    pub(crate) config: LoraConfig,
    /// By the weight that each adapts.
    pub(crate) sites: BTreeMap<ParamId, Site>,
    /// Where the adapter's parameters begin; only a value head may come after them.
    pub(crate) first: usize,
    /// Where the model was read.
    pub(crate) base: PathBuf,
}

/// The adapter of one linear map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    /// `[r, inputs]`.
    pub(crate) a: LinearParams,
    /// `[outputs, r]`.
    pub(crate) b: LinearParams,
    /// What the product is multiplied by.
    pub(crate) scale: f64,
    pub(crate) layer: usize,
    /// Which of all sites it is.
    pub(crate) number: u32,
}

impl Site {
    pub(crate) fn rank(&self) -> usize {
        self.a.outputs
    }

    pub(crate) fn is_trained<D: Device>(&self, gradients: &Gradients<D>) -> bool {
        gradients.wants(self.a.weight) || gradients.wants(self.b.weight)
    }

    /// How products read A or B.
    pub(crate) fn shape(params: LinearParams) -> WeightShape {
        WeightShape {
            inputs: params.inputs,
            outputs: params.outputs,
            layout: params.layout,
            precision: Precision::F32,
        }
    }
}

impl Lora {
    /// The lowest layer of which a factor is trained.
    pub(crate) fn lowest_trained<D: Device>(&self, gradients: &Gradients<D>) -> Option<usize> {
        let trained = self.sites.values().filter(|site| site.is_trained(gradients));
        trained.map(|site| site.layer).min()
    }
}

/// One linear map of a block: its name, without `.weight`, and where it is.
pub(super) struct Linear {
    pub(super) name: String,
    pub(super) params: LinearParams,
    pub(super) layer: usize,
}

impl<D: Device> Model<D> {
    /// Adds a new adapter and freezes everything else but a score or value head: A uniform between ±1/√inputs,
    /// as PEFT draws it, B zero. The model computes what it did, until the adapter is trained. `base` is
    /// where the model was read, which the adapter's file will name.
    ///
    /// # Errors
    /// If a target matches nothing, or what has no adapters.
    ///
    /// # Panics
    /// If the model has an adapter already.
    pub fn add_adapter(
        &mut self,
        config: &LoraConfig,
        base: &Path,
        seed: u64,
    ) -> Result<(), AdapterError> {
        let linears = self.linears();
        let chosen = config.choose(&self.modules(&linears), true)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let draw = |spec: &ParamSpec| Ok::<_, AdapterError>(spec.draw(&mut rng));
        self.push_adapter(config, base, &linears, &chosen, draw)
    }

    /// Loads a model as [`Model::load`] does, with an adapter merged into its weights.
    ///
    /// # Errors
    /// As there, and if the adapter does not fit the model.
    pub fn load_merged(
        device: D,
        dir: &Path,
        options: &LoadOptions,
        adapter: Option<&Adapter>,
    ) -> Result<(Self, LoadReport), ModelError> {
        let Some(adapter) = adapter else { return Self::load(device, dir, options) };
        // What is rounded is rounded once, after it has taken up the adapter.
        let masters = match options.masters {
            Masters::Int8(_) | Masters::Bf16 => Masters::Keep,
            masters => masters,
        };
        let (model, report) =
            Self::load_adapted(device, dir, &LoadOptions { masters, ..*options }, adapter)?;
        Ok((model.into_merged(options.masters), report))
    }

    /// Loads a model as [`Model::load`] does, with an adapter beside its weights; see
    /// [`Model::attach_adapter`]. The head of a scorer may come from the adapter.
    ///
    /// # Errors
    /// As there, and if the adapter does not fit the model.
    pub fn load_adapted(
        device: D,
        dir: &Path,
        options: &LoadOptions,
        adapter: &Adapter,
    ) -> Result<(Self, LoadReport), ModelError> {
        let brings_head = options.head != Head::LanguageModel && adapter.has_scalar_head();
        let mut wanted = *options;
        if brings_head {
            wanted.new_score_head = Some(0);
        }
        let (mut model, mut report) = Self::load(device, dir, &wanted)?;
        if brings_head {
            let own = model.plan.scalar_names();
            report.created.retain(|name| !own.contains(&name.as_str()));
        }
        model.attach_adapter(adapter, dir)?;
        Ok((model, report))
    }

    /// Adds an adapter from its files, with the parameters that are stored whole beside it, and freezes
    /// everything else but a score or value head. `base` is where the model was read.
    ///
    /// # Errors
    /// If it does not fit the model.
    ///
    /// # Panics
    /// If the model has an adapter already.
    pub fn attach_adapter(&mut self, adapter: &Adapter, base: &Path) -> Result<(), AdapterError> {
        let linears = self.linears();
        let config = adapter.config();
        let chosen = config.choose(&self.modules(&linears), false).map_err(|source| {
            let path = adapter.dir().join(ADAPTER_CONFIG);
            AdapterError::Targets { path, source: Box::new(source) }
        })?;
        self.check_names(adapter, base, &linears, &chosen)?;
        let read = |spec: &ParamSpec| Ok(adapter.tensors().read(&spec.name, &spec.shape)?);
        self.push_adapter(config, base, &linears, &chosen, read)?;
        self.read_whole(adapter, base)
    }

    /// The model with an adapter beside the same weights, which are not copied, and all frozen. `base` is where the model
    /// was read.
    ///
    /// # Errors
    /// If it does not fit the model, or holds more than factors.
    ///
    /// # Panics
    /// If the model has an adapter already.
    pub fn with_adapter(&self, adapter: &Adapter, base: &Path) -> Result<Self, AdapterError> {
        if let Some(name) = adapter.first_whole() {
            let (path, name) = (adapter.tensors().path().to_owned(), name.to_owned());
            return Err(AdapterError::Whole { path, name });
        }
        let mut adapted = self.duplicate();
        adapted.attach_adapter(adapter, base)?;
        adapted.set_trainable(|_| false);
        Ok(adapted)
    }

    fn push_adapter(
        &mut self,
        config: &LoraConfig,
        base: &Path,
        linears: &[Linear],
        chosen: &[Chosen],
        mut values: impl FnMut(&ParamSpec) -> Result<Vec<f32>, AdapterError>,
    ) -> Result<(), AdapterError> {
        assert!(self.lora.is_none(), "the model has an adapter already");
        let first = self.params.len();
        let mut sites = BTreeMap::new();
        for (number, chosen) in chosen.iter().enumerate() {
            let Linear { name, params, layer } = &linears[chosen.index];
            let [a, b] = factors(name, *params, chosen.rank);
            let mut push = |spec: ParamSpec, inputs, outputs| -> Result<_, AdapterError> {
                let weight = self.params.push(&spec, &values(&spec)?, true);
                self.plan.params.push(spec);
                let layout = WeightLayout::OutputsByInputs;
                Ok(LinearParams { weight, bias: None, inputs, outputs, layout })
            };
            let a = push(a, params.inputs, chosen.rank)?;
            let b = push(b, chosen.rank, params.outputs)?;
            let (scale, layer, number) = (chosen.scale, *layer, number as u32);
            sites.insert(params.weight, Site { a, b, scale, layer, number });
        }
        let (config, base) = (config.clone(), base.to_owned());
        self.lora = Some(Arc::new(Lora { config, sites, first, base }));
        self.train_adapter();
        Ok(())
    }

    /// Trains the adapter and a score or value head, and nothing else.
    fn train_adapter(&mut self) {
        let trained: Vec<String> = (0..self.params.len())
            .filter(|&index| self.is_adapter(index) || self.is_scalar_head(index))
            .map(|index| self.params[index].name.clone())
            .collect();
        self.params.set_trained(|name| trained.iter().any(|trained| trained == name));
    }

    pub(super) fn is_scalar_head(&self, index: usize) -> bool {
        self.plan
            .scalar_head
            .is_some_and(|head| head.weight == ParamId(index) || head.bias == Some(ParamId(index)))
    }

    /// How the adapter is made, if there is one.
    pub fn adapter(&self) -> Option<&LoraConfig> {
        self.lora.as_ref().map(|lora| &lora.config)
    }

    /// Whether the targets of two adapters are the same linear maps of this model.
    ///
    /// # Errors
    /// If a target matches nothing, or what has no adapters.
    pub fn same_targets(&self, a: &LoraConfig, b: &LoraConfig) -> Result<bool, AdapterError> {
        let linears = self.linears();
        let modules = self.modules(&linears);
        let chosen = |config: &LoraConfig| -> Result<Vec<usize>, AdapterError> {
            let chosen = config.choose(&modules, false)?;
            Ok(chosen.into_iter().map(|chosen| chosen.index).collect())
        };
        Ok(chosen(a)? == chosen(b)?)
    }

    /// Whether a parameter is a part of the adapter.
    pub fn is_adapter(&self, index: usize) -> bool {
        let range = |lora: &Arc<Lora>| lora.first..lora.first + 2 * lora.sites.len();
        self.lora.as_ref().is_some_and(|lora| range(lora).contains(&index))
    }

    /// The model with its adapter off, over the same weights, all frozen, and without a value head.
    pub fn without_adapter(&self) -> Self {
        let mut base = self.duplicate();
        base.take_adapter_off();
        base
    }

    fn take_adapter_off(&mut self) -> Option<Arc<Lora>> {
        let lora = self.lora.take()?;
        self.params.truncate(lora.first);
        self.plan.params.truncate(lora.first);
        self.plan.scalar_head = self.plan.scalar_head.filter(|head| head.weight.0 < lora.first);
        self.set_trainable(|_| false);
        Some(lora)
    }

    /// A model without an adapter and value head whose weights are W + s·B·A, all frozen; what has no adapter is
    /// shared. Without an adapter, the same model. With [`Masters::Drop`], only what products read is held: a weight
    /// in bfloat16 is rounded once more.
    pub fn merged(&self, masters: Masters) -> Self {
        self.duplicate().into_merged(masters)
    }

    /// The merged model, to sample from, its weights in eight bits where `int8` says so; `None` of a model that is
    /// sampled from as it is: with a base in eight bits, which merged weights would outgrow, or with nothing to merge
    /// or to round.
    pub fn for_sampling(&self, int8: Option<Int8Scales>) -> Option<Self> {
        match (int8, self.int8) {
            (_, Some(_)) => None,
            (None, None) => self.lora.is_some().then(|| self.merged(Masters::Drop)),
            (Some(scales), None) if self.lora.is_some() => Some(self.merged(Masters::Int8(scales))),
            (Some(scales), None) => {
                let mut rounded = self.duplicate();
                rounded.hold(Masters::Int8(scales));
                Some(rounded)
            }
        }
    }

    /// [`Self::merged`], in place: at no time are there both of a weight.
    pub fn into_merged(mut self, masters: Masters) -> Self {
        let Some(lora) = self.lora.clone() else { return self };
        for linear in self.linears() {
            let index = linear.params.weight.0;
            if let Some(site) = lora.sites.get(&linear.params.weight) {
                let values = self.merged_values(linear.params, site);
                self.params.replace(index, values);
            }
            self.hold_weight(index, masters);
        }
        self.int8 = masters.int8().or(self.int8);
        self.take_adapter_off();
        self
    }

    /// W + s·B·A, of the master values if they are held.
    fn merged_values(&self, params: LinearParams, site: &Site) -> D::Buffer {
        let (device, index) = (&self.device, params.weight.0);
        let mut values = if self.params.is_dropped(index) {
            let mut values = device.scratch(params.inputs * params.outputs);
            device.read_weight(self.weight(params), &mut values);
            values
        } else {
            self.params.read(index)
        };
        let (rank, outputs) = (site.rank(), params.outputs);
        let b = self.params.values(site.b.weight.0);
        // The products of rows: s·Bᵀ is `[r, outputs]`.
        let at = |i: usize| (site.scale * f64::from(b[i % outputs * rank + i / outputs])) as f32;
        let b = device.upload(&(0..rank * outputs).map(at).collect::<Vec<f32>>());
        let b = View::new(&b, Rows::dense(rank, outputs));
        let a = View::new(&self.params[site.a.weight.0].values, Rows::dense(rank, params.inputs));
        let shape = WeightShape { precision: Precision::F32, ..self.weight_shape(params) };
        device.linear_backward_weight(b, a, shape, &mut values);
        values
    }

    /// Drops the master values of frozen weights of which products read a rounded copy; see
    /// [`Model::drop_masters`].
    pub fn drop_frozen_masters(&mut self) {
        for index in 0..self.params.len() {
            if !self.params.is_trained(index) {
                self.hold_weight(index, Masters::Drop);
            }
        }
    }

    /// Writes what is trained of the model: its adapter, or without one the whole model as `format` says. Returns the
    /// value for which that has no room, as [`Model::save_as`].
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save_trained(
        &self,
        dir: &Path,
        format: impl Into<WeightFormat>,
    ) -> Result<Option<NoRoom>, ModelError> {
        match self.adapter() {
            None => self.save_as(dir, format),
            Some(_) => self.save_adapter(dir).map(|()| None),
        }
    }

    /// Elements of what [`Self::save_trained`] writes.
    pub fn saved_elements(&self) -> usize {
        let is_saved = |index: &usize| {
            self.lora.is_none() || self.is_adapter(*index) || self.is_scalar_head(*index)
        };
        (0..self.params.len()).filter(is_saved).map(|index| self.params[index].len()).sum()
    }

    /// Writes the adapter as a PEFT directory, in f32: adapter_config.json, which names where the base was read,
    /// and adapter_model.safetensors with a score head; a value head lies beside them. Each file is
    /// replaced whole or not at all.
    ///
    /// # Errors
    /// If a file cannot be written.
    ///
    /// # Panics
    /// If the model has no adapter.
    pub fn save_adapter(&self, dir: &Path) -> Result<(), ModelError> {
        let lora = self.lora.as_ref().expect("an adapter");
        std::fs::create_dir_all(dir).map_err(|source| checkpoint::CheckpointError::Io {
            path: dir.to_owned(),
            action: "create it",
            source,
        })?;
        let (base, revision) = if let Some(found) = HubSnapshot::of_path(&lora.base) {
            (found.repository, Some(found.commit))
        } else {
            // Whatever the working directory of whoever reads it.
            let base = absolute(&lora.base).unwrap_or(lora.base.clone());
            (base.display().to_string(), None)
        };
        let file = AdapterFile {
            lora: LoraConfig { targets: self.targets_for_peft(lora)?, ..lora.config.clone() },
            base: Some(base),
            revision,
            ties_weights: false,
        };
        let task = match self.head {
            Head::LanguageModel => "CAUSAL_LM",
            Head::Score | Head::ScoreAndLength => "SEQ_CLS",
            Head::StepClasses(_) => "TOKEN_CLS",
        };
        let saved: Vec<&str> = scalar_module(self.config.family, self.head).into_iter().collect();
        let conv1d = lora
            .sites
            .keys()
            .any(|weight| self.linear_of(*weight).layout == WeightLayout::InputsByOutputs);
        checkpoint::write_json_atomically(
            &dir.join(ADAPTER_CONFIG),
            &file.to_json(task, &saved, conv1d),
        )?;
        let score = (0..lora.first).filter(|&index| self.is_scalar_head(index));
        let adapter = (lora.first..self.params.len()).filter(|&index| self.is_adapter(index));
        let indices: Vec<usize> = adapter.chain(score).collect();
        let described: Vec<_> = indices
            .iter()
            .map(|&index| {
                let param = &self.params[index];
                let prefix = if index < lora.first { PREFIX } else { "" };
                (format!("{prefix}{}", param.name), param.shape.clone())
            })
            .collect();
        checkpoint::save_tensors_with(&dir.join(ADAPTER_WEIGHTS), &described, |at| {
            self.params.values(indices[at]).into()
        })?;
        self.save_value_head(dir)?;
        Ok(())
    }

    fn targets_for_peft(&self, lora: &Lora) -> Result<Targets, AdapterError> {
        let linears = self.linears();
        let modules = self.modules(&linears);
        let chosen = lora.config.choose(&modules, false)?;
        Ok(lora.config.targets.as_peft_reads(&modules, &chosen))
    }

    fn linear_of(&self, weight: ParamId) -> LinearParams {
        let all = linears(&self.plan).into_iter();
        all.into_iter().find(|linear| linear.weight == weight).expect("a linear map of a block")
    }

    /// The linear maps of all blocks.
    fn linears(&self) -> Vec<Linear> {
        named_linears(&self.plan)
    }

    fn modules(&self, linears: &[Linear]) -> Linears {
        modules(&self.config, &self.plan, linears)
    }

    /// The keys of a batch's rows, in a training pass of a model that drops elements.
    pub(super) fn dropout_keys(&self, batch: &Batch) -> Option<D::Ids> {
        let seed = batch.dropout?;
        let lora = self.lora.as_ref().filter(|lora| 0.0 < lora.config.dropout);
        lora.map(|_| self.device.ids(&batch.row_keys(seed)))
    }
}

/// The linear maps of all blocks.
fn named_linears(plan: &Plan) -> Vec<Linear> {
    let all = linears(plan);
    let per_layer = (all.len() / plan.layers.len().max(1)).max(1);
    let named = |(at, params): (usize, LinearParams)| {
        let name = &plan.params[params.weight.0].name;
        let name = name.strip_suffix(".weight").unwrap_or(name).to_owned();
        Linear { name, params, layer: at / per_layer }
    };
    all.into_iter().enumerate().map(named).collect()
}

/// The modules of a model, its linear maps apart.
fn modules(config: &ModelConfig, plan: &Plan, linears: &[Linear]) -> Linears {
    let linear: Vec<String> = linears.iter().map(|linear| linear.name.clone()).collect();
    let mut other: Vec<String> = plan.params.iter().map(|spec| module(&spec.name)).collect();
    other.push(names(config.family).head.to_owned());
    other.dedup();
    other.retain(|name| !linear.contains(name));
    Linears { linear, other }
}

/// Elements of the factors that an adapter has in a model.
pub(super) fn adapter_elements(
    config: &ModelConfig,
    plan: &Plan,
    adapter: &LoraConfig,
) -> Result<usize, AdapterError> {
    let linears = named_linears(plan);
    let chosen = adapter.choose(&modules(config, plan, &linears), false)?;
    let of = |chosen: &Chosen| {
        let LinearParams { inputs, outputs, .. } = linears[chosen.index].params;
        chosen.rank * (inputs + outputs)
    };
    Ok(chosen.iter().map(of).sum())
}

/// The module that a parameter belongs to.
fn module(parameter: &str) -> String {
    parameter.rsplit_once('.').map_or(parameter, |(module, _)| module).to_owned()
}

/// A and B of a linear map.
pub(super) fn factors(name: &str, params: LinearParams, rank: usize) -> [ParamSpec; 2] {
    // Kaiming's uniform distribution with a = √5.
    let bound = 1.0 / (params.inputs as f64).sqrt();
    let spec = |suffix: &str, shape, init| ParamSpec {
        name: format!("{PREFIX}{name}{suffix}"),
        shape,
        init,
    };
    [
        spec(A_SUFFIX, vec![rank, params.inputs], Init::Uniform { bound }),
        spec(B_SUFFIX, vec![params.outputs, rank], Init::Zeros),
    ]
}
