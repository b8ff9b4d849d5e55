//! AdamW over one or several stores of parameters, with one gradient norm.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use hearken_config::OptimizerConfig;
use hearken_model::checkpoint::save_tensors_with;
use hearken_model::{Gradients, ParamStore};
use hearken_tensor::Device;
use hearken_tensor::device::AdamW;
use safetensors::{Dtype, SafeTensors};

use crate::error::{NonFinite, StateError, Suspect};
use crate::ranks::Ranks;

/// Running means of a parameter's gradient and of its square.
#[derive(Debug)]
struct Moments<D: Device> {
    /// The elements that they are of: those of this process.
    part: Range<usize>,
    first: D::Buffer,
    second: D::Buffer,
    /// The elements themselves, where processes share them and the store has rounded copies alone.
    master: Option<D::Buffer>,
}

/// Parameters that are trained, with the gradients of the step and a learning rate of their own.
#[derive(Debug)]
pub struct Trained<'a, D: Device> {
    /// The parameters to update.
    pub params: &'a mut ParamStore<D>,
    /// Gradients of this process's share of the optimizer step.
    pub gradients: &'a mut Gradients<D>,
    /// Learning rate of this step.
    pub lr: f64,
}

/// What one update did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Norm of the gradients of all stores together, before clipping; without those that are clipped apart.
    pub grad_norm: f64,
    /// Whether the gradients were scaled down.
    pub clipped: bool,
}

/// AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) with bias correction as in PyTorch, after
/// clipping by the norm of all gradients together, or of those that a store has clipped apart:
///
/// ```text
/// g ← g · min(1, max_norm / (‖g‖ + 1e-6))
/// ```
///
/// Weight decay acts on parameters with two or more dimensions: not on biases, nor on the weights of
/// norms. The stores are always given in the same order.
///
/// Several processes share the work and the moments (Rajbhandari et al. 2020, arXiv:1910.02054, stage 1): with all
/// trained parameters laid end to end each has a range of them, sums the gradients of that range, updates it, and
/// gives it to the others. They may share the master values too, where stores hold rounded copies.
#[derive(Debug)]
pub struct Optimizer<D: Device> {
    config: OptimizerConfig,
    layout: ParameterLayout,
    /// For each store, for each parameter; `None` for a frozen one.
    moments: Vec<Vec<Option<Moments<D>>>>,
    steps: u64,
}

/// All trained parameters laid end to end, in ranges of equal size, one for each process.
#[derive(Debug)]
struct ParameterLayout {
    /// For each store, for each parameter: where it begins, and its length; `None` for a frozen one.
    places: Vec<Vec<Option<(usize, usize)>>>,
    /// Where the ranges begin, and where the last one ends.
    bounds: Vec<usize>,
}

impl ParameterLayout {
    fn new<D: Device>(stores: &[&ParamStore<D>], ranks: &Ranks) -> Self {
        let mut end = 0;
        let mut place = |len: usize| {
            end += len;
            (end - len, len)
        };
        let mut of_store = |params: &ParamStore<D>| -> Vec<_> {
            let each = params.iter().enumerate();
            each.map(|(index, param)| params.is_trained(index).then(|| place(param.len())))
                .collect()
        };
        let places = stores.iter().map(|params| of_store(params)).collect();
        let size = ranks.size();
        Self { places, bounds: (0..=size).map(|rank| end * rank / size).collect() }
    }

    /// Where the ranges of the processes begin in a trained parameter, and where the last one ends.
    fn within(&self, store: usize, index: usize) -> Vec<usize> {
        let (start, len) = self.places[store][index].expect("a trained parameter");
        self.bounds.iter().map(|bound| bound.saturating_sub(start).min(len)).collect()
    }

    /// The trained parameters, in their order: their stores and indices.
    fn trained(&self) -> impl Iterator<Item = (usize, usize)> {
        self.parts(0..usize::MAX).map(|part| (part.store, part.index))
    }

    /// The parts of parameters whose moments a process has, in their order.
    fn of_rank(&self, rank: usize) -> impl Iterator<Item = ParameterPart> {
        self.parts(self.bounds[rank]..self.bounds[rank + 1])
    }

    /// The parts of parameters that a range of all is made of, in their order.
    fn parts(&self, range: Range<usize>) -> impl Iterator<Item = ParameterPart> {
        let of_store = move |(store, places): (usize, &Vec<Option<(usize, usize)>>)| {
            let part = |(index, place): (usize, &Option<(usize, usize)>)| {
                let (start, len) = (*place)?;
                let (from, to) = (range.start.max(start), range.end.min(start + len));
                let within = from.saturating_sub(start)..to.saturating_sub(start);
                (from < to).then_some(ParameterPart { store, index, within })
            };
            places.iter().enumerate().filter_map(part).collect::<Vec<_>>()
        };
        self.places.iter().enumerate().flat_map(of_store)
    }
}

/// Some elements of a trained parameter.
#[derive(Clone, Debug)]
struct ParameterPart {
    store: usize,
    index: usize,
    within: Range<usize>,
}

/// Elements of a buffer: all of them where they lie, or a copy of some.
enum Part<'a, D: Device> {
    Whole(&'a D::Buffer),
    Copied(D::Buffer),
}

impl<'a, D: Device> Part<'a, D> {
    /// Elements of the gradient of a trained parameter.
    fn of(device: &D, gradient: Option<&'a D::Buffer>, within: Range<usize>) -> Self {
        let all = gradient.expect("a trained parameter has a gradient");
        match device.len(all) == within.len() {
            true => Self::Whole(all),
            false => Self::Copied(device.upload(&device.read(all)[within])),
        }
    }

    fn get(&self) -> &D::Buffer {
        match self {
            Self::Whole(all) => all,
            Self::Copied(some) => some,
        }
    }
}

/// Parameters whose values come in parts.
#[derive(Debug, Default)]
struct Arriving(BTreeMap<(usize, usize), (Vec<f32>, usize)>);

impl Arriving {
    /// Takes a part of a parameter of so many elements; gives them once all are there.
    fn take(&mut self, part: &ParameterPart, len: usize, values: &[f32]) -> Option<Vec<f32>> {
        let place = (part.store, part.index);
        let (all, count) = self.0.entry(place).or_insert_with(|| (vec![0.0; len], 0));
        all[part.within.clone()].copy_from_slice(values);
        *count += values.len();
        if *count < len {
            return None;
        }
        self.0.remove(&place).map(|(all, _)| all)
    }
}

impl<D: Device> Optimizer<D> {
    /// An optimizer that has made no step, for the trained parameters of `stores`: the part of it that is this
    /// process's.
    pub fn new(config: &OptimizerConfig, stores: &[&ParamStore<D>], ranks: &Ranks) -> Self {
        let (layout, rank) = (ParameterLayout::new(stores, ranks), ranks.rank());
        let moments = stores.iter().enumerate().map(|(store, params)| {
            let device = params.device();
            let of = |index: usize| {
                let bounds = layout.within(store, index);
                let part = bounds[rank]..bounds[rank + 1];
                let len = part.len();
                Moments { part, first: device.zeros(len), second: device.zeros(len), master: None }
            };
            (0..params.len()).map(|index| params.is_trained(index).then(|| of(index))).collect()
        });
        let moments = moments.collect();
        Self { config: config.clone(), layout, moments, steps: 0 }
    }

    /// Holds this process's part of a parameter's master values, of which the store will have a rounded copy.
    ///
    /// # Panics
    /// If the parameter is not trained.
    pub fn hold_master(&mut self, device: &D, store: usize, index: usize, values: &[f32]) {
        let moments = self.moments[store][index].as_mut().expect("a trained parameter");
        moments.master = Some(device.upload(&values[moments.part.clone()]));
    }

    /// Gives the first process all master values that processes share, by store and index; all of them call it at
    /// once.
    pub fn whole_masters(
        &self,
        device: &D,
        ranks: &Ranks,
        mut put: impl FnMut(usize, usize, &[f32]),
    ) {
        for (store, index) in self.layout.trained() {
            let own = self.moments[store][index].as_ref().expect("a trained parameter");
            let Some(master) = &own.master else { continue };
            let all = self.gathered(device, store, index, master, ranks);
            if ranks.is_first() {
                put(store, index, &all);
            }
        }
    }

    /// Updates made.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Bytes of the moments of all processes.
    pub fn bytes(&self, stores: &[&ParamStore<D>]) -> u64 {
        stores.iter().map(|params| 8 * params.counts().0 as u64).sum()
    }

    /// One update of all stores, which `ranks` make together.
    ///
    /// # Errors
    /// Names the first gradient that is NaN or infinite; nothing is updated then.
    ///
    /// # Panics
    /// If the stores are not those that the optimizer was made for.
    pub fn step(
        &mut self,
        trained: &mut [Trained<'_, D>],
        ranks: &Ranks,
    ) -> Result<Update, NonFinite> {
        assert_eq!(trained.len(), self.moments.len(), "the stores the optimizer was made for");
        let norms = match ranks.size() {
            1 => norms(trained)?,
            _ => self.sum_gradients(trained, ranks)?,
        };
        let norm_max = self.config.grad_norm_max;
        let scale = |norm: f64| norm_max.map_or(1.0, |max| (*max / (norm + 1e-6)).min(1.0));
        let grad_scales = norms.map(scale);
        self.steps += 1;
        let steps: Vec<ClippedStep> =
            trained.iter().map(|one| self.clipped_step(one, grad_scales)).collect();
        if 1 < ranks.size() {
            self.update_together(trained, &steps, ranks);
        } else {
            for (store, (one, step)) in trained.iter_mut().zip(steps).enumerate() {
                self.update(one, store, step);
            }
        }
        Ok(Update { grad_norm: norms[0], clipped: grad_scales[0] < 1.0 })
    }

    /// Puts the sums of all processes' gradients in the place of this one's, in the range that is its own, and gives
    /// the norms of all.
    fn sum_gradients(
        &self,
        trained: &mut [Trained<'_, D>],
        ranks: &Ranks,
    ) -> Result<[f64; 2], NonFinite> {
        let places = RefCell::new(trained);
        ranks.sum(
            &self.layout.bounds,
            |range, mut values| {
                let trained = places.borrow();
                for ParameterPart { store, index, within } in self.layout.parts(range) {
                    let (own, rest) = values.split_at_mut(within.len());
                    trained[store].gradients.read(index, within.start, own);
                    values = rest;
                }
            },
            |start, mut sums| {
                let mut trained = places.borrow_mut();
                for ParameterPart { store, index, within } in
                    self.layout.parts(start..start + sums.len())
                {
                    let (own, rest) = sums.split_at(within.len());
                    trained[store].gradients.write(index, within.start, own);
                    sums = rest;
                }
            },
        );
        let trained = places.into_inner();
        let (mut squares, mut bad) = ([0.0; 2], None);
        for ParameterPart { store, index, within } in self.layout.of_rank(ranks.rank()) {
            let gradients = &trained[store].gradients;
            let device = trained[store].params.device();
            let part = Part::of(device, gradients.get(index), within);
            let of_part = device.wait(device.sums_of_squares(vec![part.get()]))[0];
            if !of_part.is_finite() {
                bad = bad.or(Some((store, index)));
            }
            let is_apart = trained[store].params.clipped_together()[1].contains(&index);
            squares[usize::from(is_apart)] += of_part;
        }
        let (all, bad): (Vec<[f64; 2]>, Vec<_>) = ranks.gather((squares, bad)).into_iter().unzip();
        let norm = |part: usize| all.iter().map(|squares| squares[part]).sum::<f64>().sqrt();
        let norms = [norm(0), norm(1)];
        match bad.into_iter().flatten().min() {
            Some((store, index)) => {
                let name = trained[store].params[index].name.clone();
                Err(NonFinite { suspect: Suspect::Gradient { name } })
            }
            None if norms.iter().all(|norm| norm.is_finite()) => Ok(norms),
            None => Err(NonFinite { suspect: Suspect::GradientNorm }),
        }
    }

    /// The settings of a store's update.
    fn clipped_step(&self, one: &Trained<'_, D>, grad_scales: [f64; 2]) -> ClippedStep {
        let adamw = |grad_scale: f64| AdamW {
            lr: one.lr,
            beta1: *self.config.betas[0],
            beta2: *self.config.betas[1],
            eps: *self.config.eps,
            weight_decay: *self.config.weight_decay,
            step: self.steps,
            grad_scale,
        };
        let [_, apart] = one.params.clipped_together();
        ClippedStep { steps: grad_scales.map(adamw), apart_from: apart.start }
    }

    fn update(&mut self, one: &mut Trained<'_, D>, store: usize, step: ClippedStep) {
        let (device, gradients) = (one.params.device().clone(), &*one.gradients);
        let dimensions: Vec<usize> = one.params.iter().map(|param| param.shape.len()).collect();
        let is_rounded: Vec<bool> =
            (0..one.params.len()).map(|index| one.params.is_rounded(index)).collect();
        let moments = &mut self.moments[store];
        one.params.update(|index, values| {
            let Some(Moments { first, second, .. }) = &mut moments[index] else { return };
            let gradient = gradients.get(index).expect("a trained parameter has a gradient");
            let step = decayed(step.of(index), dimensions[index]);
            device.adamw(step, values, gradient, first, second);
            if is_rounded[index] {
                device.round_randomly(values, rounding_key(step.step, store, index));
            }
        });
    }

    /// The update of this process's elements, in place; gives new values of weights of which the store has rounded
    /// copies alone.
    fn update_own(
        &mut self,
        trained: &mut [Trained<'_, D>],
        steps: &[ClippedStep],
        own: &[ParameterPart],
    ) -> BTreeMap<(usize, usize), D::Buffer> {
        let mut unrounded = BTreeMap::new();
        for ParameterPart { store, index, within } in own.iter().cloned() {
            let Trained { params, gradients, .. } = &mut trained[store];
            let device = params.device().clone();
            let gradient = Part::of(&device, gradients.get(index), within.clone());
            let moments = self.moments[store][index].as_mut().expect("a trained parameter");
            let Moments { first, second, master, .. } = moments;
            let step = decayed(steps[store].of(index), params[index].shape.len());
            let mut update =
                |values: &mut D::Buffer| device.adamw(step, values, gradient.get(), first, second);
            match master {
                Some(master) => update(master),
                None if params.is_rounded(index) => {
                    let mut values = device.upload(&params.values(index)[within]);
                    update(&mut values);
                    unrounded.insert((store, index), values);
                }
                None if within.len() == params[index].len() => params.change(index, update),
                None => params.change(index, |all| {
                    let mut values = device.upload(&device.read(all)[within.clone()]);
                    update(&mut values);
                    device.write(all, within.start, &device.read(&values));
                }),
            }
        }
        unrounded
    }

    /// The update where each rank makes that of its range, and gives it to the others.
    fn update_together(
        &mut self,
        trained: &mut [Trained<'_, D>],
        steps: &[ClippedStep],
        ranks: &Ranks,
    ) {
        let own: Vec<ParameterPart> = self.layout.of_rank(ranks.rank()).collect();
        let unrounded = self.update_own(trained, steps, &own);
        // Where this process's new values are, if not in their store.
        let held = |part: &ParameterPart| -> Option<&D::Buffer> {
            let master = self.moments[part.store][part.index].as_ref()?.master.as_ref();
            master.or_else(|| unrounded.get(&(part.store, part.index)))
        };
        let mut arriving = Arriving::default();
        let mut put = |one: &mut Trained<'_, D>, part: &ParameterPart, values: &[f32]| {
            let (params, index) = (&mut *one.params, part.index);
            let moments = self.moments[part.store][index].as_ref();
            let is_shared = moments.is_some_and(|own| own.master.is_some());
            if !is_shared && !params.is_rounded(index) {
                let device = params.device().clone();
                params.change(index, |all| device.write(all, part.within.start, values));
            } else if let Some(all) = arriving.take(part, params[index].len(), values) {
                // Rounded to the nearest, as copies of masters are.
                if is_shared {
                    params.set_values(index, &all);
                } else {
                    set_rounded(params, part.store, index, all, steps[part.store].of(index).step);
                }
            }
        };
        for part in &own {
            if let Some(buffer) = held(part) {
                let one = &mut trained[part.store];
                let values = part_of(one.params.device(), buffer, 0..part.within.len());
                put(one, part, &values);
            }
        }
        let places = RefCell::new(trained);
        ranks.spread(
            &self.layout.bounds,
            |range, mut values| {
                let trained = places.borrow();
                for part in self.layout.parts(range) {
                    let (given, rest) = values.split_at_mut(part.within.len());
                    let params = &trained[part.store].params;
                    let (buffer, start) = match held(&part) {
                        Some(buffer) => (buffer, self.start_of_own(&part)),
                        None => (&params[part.index].values, 0),
                    };
                    params.device().download(buffer, part.within.start - start, given);
                    values = rest;
                }
            },
            |start, mut values| {
                let mut trained = places.borrow_mut();
                for part in self.layout.parts(start..start + values.len()) {
                    let (taken, rest) = values.split_at(part.within.len());
                    put(&mut trained[part.store], &part, taken);
                    values = rest;
                }
            },
        );
    }

    /// Where this process's elements of a parameter begin.
    fn start_of_own(&self, part: &ParameterPart) -> usize {
        self.moments[part.store][part.index].as_ref().map_or(0, |moments| moments.part.start)
    }

    /// The moments of the trained parameters: their names, shapes, and which they are.
    fn described(&self, stores: &[&ParamStore<D>]) -> (Vec<(String, Vec<usize>)>, Vec<Moment>) {
        let moments = self
            .layout
            .trained()
            .flat_map(|(store, index)| [FIRST, SECOND].map(|name| Moment { store, index, name }));
        let moments: Vec<Moment> = moments.collect();
        let describe = |one: &Moment| {
            let param = &stores[one.store][one.index];
            (tensor_name(one.store, &param.name, one.name), param.shape.clone())
        };
        (moments.iter().map(describe).collect(), moments)
    }

    /// All values of a moment, of which every process gives its part.
    fn moment(&self, stores: &[&ParamStore<D>], which: Moment, ranks: &Ranks) -> Vec<f32> {
        let Moment { store, index, name } = which;
        let own = self.moments[store][index].as_ref().expect("a trained parameter");
        let buffer = if name == FIRST { &own.first } else { &own.second };
        self.gathered(stores[store].device(), store, index, buffer, ranks)
    }

    /// All values of what a process has its part of in `buffer`: of a trained parameter.
    fn gathered(
        &self,
        device: &D,
        store: usize,
        index: usize,
        buffer: &D::Buffer,
        ranks: &Ranks,
    ) -> Vec<f32> {
        let bounds = self.layout.within(store, index);
        let own = self.moments[store][index].as_ref().expect("a trained parameter");
        let (_, len) = self.layout.places[store][index].expect("a trained parameter");
        let mut all = vec![0.0; len];
        let part = part_of(device, buffer, 0..own.part.len());
        all[own.part.clone()].copy_from_slice(&part);
        let from = own.part.start;
        ranks.spread(
            &bounds,
            |range, given| given.copy_from_slice(&part[range.start - from..range.end - from]),
            |start, others| all[start..start + others.len()].copy_from_slice(others),
        );
        all
    }

    /// Writes the moments of all processes and nothing else; the count of steps travels in [`Optimizer::steps`]. The
    /// others give theirs meanwhile: [`Optimizer::give`].
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(
        &self,
        path: &Path,
        stores: &[&ParamStore<D>],
        ranks: &Ranks,
    ) -> Result<(), StateError> {
        let (described, moments) = self.described(stores);
        let values = |at: usize| self.moment(stores, moments[at], ranks).into();
        Ok(save_tensors_with(path, &described, values)?)
    }

    /// Gives this process's moments to the one that saves them.
    pub fn give(&self, stores: &[&ParamStore<D>], ranks: &Ranks) {
        let (described, moments) = self.described(stores);
        let mut named: Vec<_> = described.into_iter().zip(moments).collect();
        // A file has its tensors by their names.
        named.sort_by(|((one, _), _), ((other, _), _)| one.cmp(other));
        for (_, moment) in named {
            self.moment(stores, moment, ranks);
        }
    }

    /// An optimizer as [`Optimizer::save`] left it after `steps` updates: this process's part of it, whoever saved it.
    ///
    /// # Errors
    /// If the file cannot be read, or has not exactly the moments of the trained parameters.
    pub fn load(
        config: &OptimizerConfig,
        ranks: &Ranks,
        stores: &[&ParamStore<D>],
        path: &Path,
        steps: u64,
    ) -> Result<Self, StateError> {
        let bytes = std::fs::read(path)
            .map_err(|source| StateError::Unreadable { path: path.into(), source })?;
        let bad = |message: String| StateError::Broken { path: path.into(), message };
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| bad(error.to_string()))?;
        let mut optimizer = Self { steps, ..Self::new(config, stores, ranks) };
        let mut read = 0;
        for (index, (params, moments)) in stores.iter().zip(&mut optimizer.moments).enumerate() {
            for (param, moments) in params.iter().zip(moments) {
                let Some(Moments { part, first, second, .. }) = moments else { continue };
                for (buffer, moment) in [(first, FIRST), (second, SECOND)] {
                    let name = tensor_name(index, &param.name, moment);
                    let values = tensor_values(&tensors, &name, &param.shape).map_err(bad)?;
                    params.device().write(buffer, 0, &values[part.clone()]);
                    read += 1;
                }
            }
        }
        if tensors.len() != read {
            let held = tensors.len();
            return Err(bad(format!("found {held} tensors, expected {read}, two per parameter")));
        }
        Ok(optimizer)
    }
}

/// The settings of a store's update, which differ where gradients are clipped apart.
#[derive(Clone, Copy, Debug)]
struct ClippedStep {
    steps: [AdamW; 2],
    apart_from: usize,
}

impl ClippedStep {
    fn of(&self, index: usize) -> AdamW {
        self.steps[usize::from(self.apart_from <= index)]
    }
}

/// The settings for a parameter of so many dimensions.
fn decayed(step: AdamW, dimensions: usize) -> AdamW {
    AdamW { weight_decay: if dimensions < 2 { 0.0 } else { step.weight_decay }, ..step }
}

/// Puts new values in the place of a parameter's, rounded at random where its copy is all there is.
fn set_rounded<D: Device>(
    params: &mut ParamStore<D>,
    store: usize,
    index: usize,
    mut values: Vec<f32>,
    step: u64,
) {
    if params.is_rounded(index) {
        let device = params.device().clone();
        let mut buffer = device.upload(&values);
        device.round_randomly(&mut buffer, rounding_key(step, store, index));
        values = part_of(&device, &buffer, 0..values.len());
    }
    params.set_values(index, &values);
}

/// Some elements of a buffer.
fn part_of<D: Device>(device: &D, buffer: &D::Buffer, range: Range<usize>) -> Vec<f32> {
    let mut values = vec![0.0; range.len()];
    device.download(buffer, range.start, &mut values);
    values
}

/// The norm of the gradients of all stores, and of those that they have clipped apart.
fn norms<D: Device>(trained: &[Trained<'_, D>]) -> Result<[f64; 2], NonFinite> {
    let norms = [0, 1].map(|part| {
        let squares = trained.iter().map(|one| {
            let range = one.params.clipped_together()[part].clone();
            one.gradients.sum_of_squares_in(range)
        });
        squares.sum::<f64>().sqrt()
    });
    if norms.iter().all(|norm| norm.is_finite()) {
        return Ok(norms);
    }
    let bad = trained.iter().find_map(first_bad_gradient);
    Err(bad.unwrap_or(NonFinite { suspect: Suspect::GradientNorm }))
}

/// A moment of a trained parameter.
#[derive(Clone, Copy, Debug)]
struct Moment {
    store: usize,
    index: usize,
    name: &'static str,
}

const FIRST: &str = "first_moment";
const SECOND: &str = "second_moment";

fn tensor_name(store: usize, param: &str, moment: &str) -> String {
    format!("{store}/{param}/{moment}")
}

/// The values of a tensor of f32 in a file.
pub(crate) fn tensor_values(
    tensors: &SafeTensors<'_>,
    name: &str,
    shape: &[usize],
) -> Result<Vec<f32>, String> {
    let tensor = tensors.tensor(name).map_err(|_| format!("found no tensor `{name}`"))?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
        let (dtype, found) = (tensor.dtype(), tensor.shape());
        return Err(format!("`{name}`: found {dtype:?} {found:?}, expected F32 {shape:?}"));
    }
    let value = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("chunks have 4 bytes"));
    Ok(tensor.data().chunks_exact(4).map(value).collect())
}

fn first_bad_gradient<D: Device>(one: &Trained<'_, D>) -> Option<NonFinite> {
    let index = one.gradients.first_non_finite()?;
    let name = one.params[index].name.clone();
    Some(NonFinite { suspect: Suspect::Gradient { name } })
}

/// What is drawn for a parameter in a step; the multipliers are odd, so that no two of a run's keys agree soon.
fn rounding_key(step: u64, store: usize, index: usize) -> u32 {
    let of = |number: u64, odd: u32| (number as u32).wrapping_mul(odd);
    of(step, 0x9e37_79b1) ^ of(store as u64, 0x85eb_ca6b) ^ of(index as u64, 0xc2b2_ae35)
}

/// The name of the first parameter that holds a NaN or an infinity.
pub fn first_bad_value<D: Device>(params: &ParamStore<D>) -> Option<NonFinite> {
    let name = params.first_non_finite()?.to_owned();
    Some(NonFinite { suspect: Suspect::Value { name } })
}

/// Refuses a loss that is NaN or infinite, naming the first parameter that is, or else the loss.
///
/// # Errors
/// If `loss` is not finite.
pub fn check_loss<D: Device>(loss: f64, stores: &[&ParamStore<D>]) -> Result<(), NonFinite> {
    if loss.is_finite() {
        return Ok(());
    }
    let bad = stores.iter().find_map(|params| first_bad_value(params));
    Err(bad.unwrap_or(NonFinite { suspect: Suspect::Loss }))
}
