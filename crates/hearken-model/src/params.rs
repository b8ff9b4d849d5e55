//! Named parameters on a device, and the gradients of a loss with respect to them.
//!
//! What a parameter belongs to (a transformer, a small network) makes no difference here, nor to
//! optimizers and checkpoints. Stores share parameters by reference: a frozen reference is the policy's
//! store once more, and only what one of them changes becomes its own.
//!
//! Not here: which parameters a model has, and how it computes with them.

use std::ops::{Index, Range};
use std::sync::Arc;

use hearken_tensor::Device;
use hearken_tensor::device::{Int8Scales, Weight, WeightShape};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// The index of a parameter in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(pub usize);

/// How a fresh parameter is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Uniform between −bound and bound.
    Uniform {
        /// The largest magnitude.
        bound: f64,
    },
}

/// Name, shape and initial distribution of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// The name in files.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// How it is drawn when a model is made from nothing.
    pub init: Init,
}

impl ParamSpec {
    /// Draws the values of a fresh parameter.
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let len = self.shape.iter().product();
        match self.init {
            Init::Zeros => vec![0.0; len],
            Init::Ones => vec![1.0; len],
            Init::Normal { std } => normals(rng, len, std),
            Init::Uniform { bound } => {
                (0..len).map(|_| rng.random_range(-bound..bound) as f32).collect()
            }
        }
    }
}

/// Normal variates by Box and Muller's transform.
fn normals(rng: &mut ChaCha8Rng, len: usize, std: f64) -> Vec<f32> {
    let mut values = Vec::with_capacity(len + 1);
    while values.len() < len {
        // 1 − u lies in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        let angle = std::f64::consts::TAU * rng.random::<f64>();
        values.push((std * radius * angle.cos()) as f32);
        values.push((std * radius * angle.sin()) as f32);
    }
    values.truncate(len);
    values
}

/// A named tensor.
#[derive(Debug)]
pub struct Param<D: Device> {
    /// The name in files.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The f32 master values.
    pub values: D::Buffer,
    /// What products read instead, made at first use.
    pub(crate) prepared: D::Prepared,
    /// How products read a weight of which the copy in `prepared` is all there is, and what is trained.
    rounded: Option<WeightShape>,
    /// Whether that copy is one in eight bits.
    in_int8: bool,
}

impl<D: Device> Param<D> {
    fn new(name: &str, shape: &[usize], values: D::Buffer) -> Self {
        let prepared = D::Prepared::default();
        let (name, shape) = (name.to_owned(), shape.to_vec());
        Self { name, shape, values, prepared, rounded: None, in_int8: false }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Parameters in order, each of which is trained or frozen. A clone shares all of them, until either
/// changes one.
#[derive(Clone, Debug)]
pub struct ParamStore<D: Device> {
    device: D,
    params: Vec<Arc<Param<D>>>,
    trained: Vec<bool>,
    /// The first of the parameters whose gradients are clipped by a norm of their own, as those behind it are.
    apart_from: Option<usize>,
}

impl<D: Device> Index<usize> for ParamStore<D> {
    type Output = Param<D>;
    fn index(&self, index: usize) -> &Param<D> {
        &self.params[index]
    }
}

impl<D: Device> ParamStore<D> {
    /// A store without parameters.
    pub fn new(device: D) -> Self {
        Self { device, params: Vec::new(), trained: Vec::new(), apart_from: None }
    }

    /// Where the parameters are.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Appends a parameter with these values, trained or frozen.
    ///
    /// # Panics
    /// If their number is not that of the shape.
    pub fn push(&mut self, spec: &ParamSpec, values: &[f32], trained: bool) -> ParamId {
        let param = Param::new(&spec.name, &spec.shape, self.device.upload(values));
        assert_eq!(values.len(), param.len(), "values of {}", spec.name);
        self.params.push(Arc::new(param));
        self.trained.push(trained);
        ParamId(self.params.len() - 1)
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.params.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.params.is_empty()
    }

    /// All parameters, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Param<D>> + Clone {
        self.params.iter().map(|param| &**param)
    }

    /// Whether training changes a parameter.
    pub fn is_trained(&self, index: usize) -> bool {
        self.trained[index]
    }

    /// Chooses by name which parameters training changes.
    pub fn set_trained(&mut self, trained: impl Fn(&str) -> bool) {
        self.trained = self.params.iter().map(|param| trained(&param.name)).collect();
    }

    /// Has the gradients of a parameter and of those behind it clipped by a norm of their own, so that how they learn has no part in how
    /// the others do.
    pub(crate) fn clip_apart_from(&mut self, index: usize) {
        self.apart_from = Some(index);
    }

    /// The parameters whose gradients are clipped together: all of them, or the first ones and the last ones apart.
    pub fn clipped_together(&self) -> [Range<usize>; 2] {
        let apart = self.apart_from.unwrap_or(self.len());
        [0..apart, apart..self.len()]
    }

    /// Number of trained and of all elements.
    pub fn counts(&self) -> (usize, usize) {
        let trained = self.iter().zip(&self.trained).filter(|(_, trained)| **trained);
        (trained.map(|(param, _)| param.len()).sum(), self.iter().map(Param::len).sum())
    }

    /// Calls `change` with index and values of every trained parameter, and drops what the device had
    /// derived from the old values.
    pub fn update(&mut self, mut change: impl FnMut(usize, &mut D::Buffer)) {
        for index in 0..self.params.len() {
            if self.trained[index] {
                self.change(index, |values| change(index, values));
            }
        }
    }

    /// Whether the copy that products read of a parameter is all there is of it.
    pub fn is_rounded(&self, index: usize) -> bool {
        self.params[index].rounded.is_some()
    }

    /// Lets `change` have the values of a parameter, in a buffer of their own while its copy is all there is, and drops
    /// what the device had derived from the old values.
    pub fn change(&mut self, index: usize, change: impl FnOnce(&mut D::Buffer)) {
        let Some(shape) = self.params[index].rounded else {
            change(&mut self.own(index).values);
            return;
        };
        let mut values = self.read(index);
        change(&mut values);
        self.params[index] = Arc::new(self.only_copy(&self.params[index], &values, shape));
    }

    /// A parameter of which only the copy that products read is held.
    fn only_copy(&self, of: &Param<D>, values: &D::Buffer, shape: WeightShape) -> Param<D> {
        let mut own = Param::<D>::new(&of.name, &of.shape, self.device.zeros(0));
        let is_made = self.device.prepare(Weight { values, prepared: &own.prepared, shape });
        assert!(is_made, "products read a rounded copy of {}", of.name);
        own.rounded = Some(shape);
        own
    }

    /// A copy of a parameter's values.
    pub(crate) fn read(&self, index: usize) -> D::Buffer {
        let param = &self.params[index];
        let mut values = self.device.scratch(param.len());
        match param.rounded {
            None => self.device.copy(&param.values, &mut values),
            Some(shape) => {
                let weight = Weight { values: &param.values, prepared: &param.prepared, shape };
                self.device.read_weight(weight, &mut values);
            }
        }
        values
    }

    /// A parameter that no other store has, whose values are about to change.
    fn own(&mut self, index: usize) -> &mut Param<D> {
        let param = &mut self.params[index];
        if Arc::get_mut(param).is_none() {
            let mut values = self.device.scratch(self.device.len(&param.values));
            self.device.copy(&param.values, &mut values);
            *param = Arc::new(Param::new(&param.name, &param.shape, values));
        }
        let own = Arc::get_mut(param).expect("no other store has it");
        own.prepared = D::Prepared::default();
        own
    }

    /// Replaces the values of a parameter, trained or not.
    ///
    /// # Panics
    /// If their number differs from the parameter's.
    pub fn set_values(&mut self, index: usize, values: &[f32]) {
        if self.is_rounded(index) {
            let device = self.device.clone();
            self.change(index, |old| device.write(old, 0, values));
            return;
        }
        let param = &mut self.params[index];
        assert_eq!(values.len(), param.len(), "values of {}", param.name);
        if let Some(own) = Arc::get_mut(param) {
            self.device.write(&mut own.values, 0, values);
            own.prepared = D::Prepared::default();
        } else {
            let values = self.device.upload(values);
            *param = Arc::new(Param::new(&param.name, &param.shape, values));
        }
    }

    /// Puts other values in the place of a parameter's; other stores keep theirs.
    ///
    /// # Panics
    /// If their number differs from the parameter's.
    pub(crate) fn replace(&mut self, index: usize, values: D::Buffer) {
        let param = &self.params[index];
        assert_eq!(self.device.len(&values), param.len(), "values of {}", param.name);
        self.params[index] = Arc::new(Param::new(&param.name, &param.shape, values));
    }

    /// Puts a parameter of another shape in the place of one, under its name; other stores keep theirs.
    pub(crate) fn reshape(&mut self, index: usize, shape: &[usize], values: &[f32]) {
        let own = Param::new(&self.params[index].name, shape, self.device.upload(values));
        assert_eq!(values.len(), own.len(), "values of {}", own.name);
        self.params[index] = Arc::new(own);
    }

    /// Leaves the first `len` parameters.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.params.truncate(len);
        self.trained.truncate(len);
    }

    /// The values of a parameter on the host.
    ///
    /// # Panics
    /// If they have been dropped.
    pub fn values(&self, index: usize) -> Vec<f32> {
        let param = &self.params[index];
        assert!(!self.is_dropped(index), "the master values of {} are dropped", param.name);
        let mut values = vec![0.0; param.len()];
        let copy = param.rounded.map(|_| self.read(index));
        self.device.download(copy.as_ref().unwrap_or(&param.values), 0, &mut values);
        values
    }

    /// Moves all parameters towards those of another store of the same shapes:
    /// θ ← (1 − mix)·θ + mix·θ_other.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn move_towards(&mut self, other: &Self, mix: f64) {
        assert_eq!(self.params.len(), other.params.len(), "stores of one shape");
        let device = self.device.clone();
        for index in 0..self.params.len() {
            if Arc::ptr_eq(&self.params[index], &other.params[index]) {
                continue;
            }
            let copy = other.is_rounded(index).then(|| other.read(index));
            let towards = copy.as_ref().unwrap_or(&other.params[index].values);
            self.change(index, |values| device.interpolate(towards, mix, values));
        }
    }

    /// The name of the first parameter that holds a NaN or an infinity.
    pub fn first_non_finite(&self) -> Option<&str> {
        let values = self.iter().map(|param| &param.values).collect();
        let (index, _) = self.device.wait(self.device.first_non_finite(values))?;
        Some(&self.params[index].name)
    }

    /// Zero gradients for the trained parameters.
    pub fn gradients(&self) -> Gradients<D> {
        let len = |(param, trained): (&Param<D>, &bool)| trained.then(|| param.len());
        Gradients::zeros(self.device.clone(), self.iter().zip(&self.trained).map(len))
    }

    /// Drops the master values of a weight, if products with it read a copy, which is made here. Other
    /// stores keep theirs.
    pub(crate) fn drop_masters(&mut self, index: usize, shape: WeightShape) {
        let param = &self.params[index];
        let own = Param::<D>::new(&param.name, &param.shape, self.device.zeros(0));
        let weight = Weight { values: &param.values, prepared: &own.prepared, shape };
        if !self.is_dropped(index) && param.rounded.is_none() && self.device.prepare(weight) {
            self.params[index] = Arc::new(own);
        }
    }

    /// Replaces the master values of a weight, or where they have been dropped the copy that products read, by one
    /// in eight bits. Other stores keep theirs, and so does this one where it has eight bits.
    pub(crate) fn round_to_int8(&mut self, index: usize, shape: WeightShape, scales: Int8Scales) {
        let param = &self.params[index];
        if param.in_int8 {
            return;
        }
        let copy = if self.is_dropped(index) {
            let mut values = self.device.scratch(param.len());
            let weight = Weight { values: &param.values, prepared: &param.prepared, shape };
            self.device.read_weight(weight, &mut values);
            Some(values)
        } else {
            self.is_rounded(index).then(|| self.read(index))
        };
        let mut own = Param::<D>::new(&param.name, &param.shape, self.device.zeros(0));
        own.in_int8 = true;
        let values = copy.as_ref().unwrap_or(&param.values);
        let weight = Weight { values, prepared: &own.prepared, shape };
        self.device.round_to_int8(weight, scales);
        self.params[index] = Arc::new(own);
    }

    /// Makes the copy that products in bfloat16 read all there is of a weight, trained or not.
    pub(crate) fn round_masters(&mut self, index: usize, shape: WeightShape) {
        let param = &self.params[index];
        if param.rounded.is_none() && !self.is_dropped(index) {
            self.params[index] = Arc::new(self.only_copy(param, &param.values, shape));
        }
    }

    /// Whether the master values of a parameter have been dropped, and nothing holds them.
    pub(crate) fn is_dropped(&self, index: usize) -> bool {
        let param = &self.params[index];
        param.rounded.is_none() && self.device.len(&param.values) < param.len()
    }

    /// Drops what the device derived from values that no other store has.
    pub(crate) fn forget_prepared(&mut self) {
        let changed = self.params.iter_mut().filter(|param| param.rounded.is_none());
        for param in changed.filter_map(Arc::get_mut) {
            param.prepared = D::Prepared::default();
        }
    }
}

/// One buffer for each trained parameter, in the order of the store.
#[derive(Debug)]
pub struct Gradients<D: Device> {
    device: D,
    buffers: Vec<Option<D::Buffer>>,
}

impl<D: Device> Gradients<D> {
    /// Zeros; `lens[i]` is the length of parameter i, `None` if it is frozen.
    fn zeros(device: D, lens: impl Iterator<Item = Option<usize>>) -> Self {
        let buffers = lens.map(|len| len.map(|len| device.zeros(len))).collect();
        Self { device, buffers }
    }

    /// Sets every gradient to 0.
    pub fn zero(&mut self) {
        for buffer in self.buffers.iter_mut().flatten() {
            self.device.fill(buffer, 0.0);
        }
    }

    /// The gradient of parameter `index`; `None` if it is frozen.
    pub fn get(&self, index: usize) -> Option<&D::Buffer> {
        self.buffers[index].as_ref()
    }

    /// Fills `values` with elements of the gradient of a trained parameter, from `start` on.
    ///
    /// # Panics
    /// If it is frozen, or has fewer.
    pub fn read(&self, index: usize, start: usize, values: &mut [f32]) {
        let buffer = self.buffers[index].as_ref().expect("a trained parameter");
        self.device.download(buffer, start, values);
    }

    /// Replaces elements of the gradient of a trained parameter, from `start` on.
    ///
    /// # Panics
    /// If it is frozen, or has fewer.
    pub fn write(&mut self, index: usize, start: usize, values: &[f32]) {
        let buffer = self.buffers[index].as_mut().expect("a trained parameter");
        self.device.write(buffer, start, values);
    }

    pub(crate) fn get_mut(&mut self, id: ParamId) -> Option<&mut D::Buffer> {
        self.buffers[id.0].as_mut()
    }

    /// The gradients of two different parameters.
    pub(crate) fn pair_mut(
        &mut self,
        first: ParamId,
        second: ParamId,
    ) -> (Option<&mut D::Buffer>, Option<&mut D::Buffer>) {
        let [first, second] = self
            .buffers
            .get_disjoint_mut([first.0, second.0])
            .expect("two different parameters of this store");
        (first.as_mut(), second.as_mut())
    }

    pub(crate) fn wants(&self, id: ParamId) -> bool {
        self.buffers[id.0].is_some()
    }

    /// Σg² over all trained parameters, in f64; summed in the order of the parameters.
    pub fn sum_of_squares(&self) -> f64 {
        self.sum_of_squares_in(0..self.buffers.len())
    }

    /// Sum of the squares of the gradients of some parameters.
    pub fn sum_of_squares_in(&self, range: Range<usize>) -> f64 {
        let buffers = self.buffers[range].iter().flatten().collect();
        self.device.wait(self.device.sums_of_squares(buffers)).iter().sum()
    }

    /// The index of the first parameter whose gradient has a NaN or an infinity.
    pub fn first_non_finite(&self) -> Option<usize> {
        let named = self.buffers.iter().enumerate();
        let (indices, buffers): (Vec<usize>, Vec<&D::Buffer>) =
            named.filter_map(|(index, buffer)| Some((index, buffer.as_ref()?))).unzip();
        let (bad, _) = self.device.wait(self.device.first_non_finite(buffers))?;
        Some(indices[bad])
    }
}

#[cfg(test)]
mod tests {
    use hearken_tensor::Cpu;

    use super::*;

    fn store() -> ParamStore<Cpu> {
        let mut store = ParamStore::new(Cpu::new());
        for (name, value) in [("body.weight", 1.0), ("head.weight", 2.0)] {
            let spec = ParamSpec { name: name.to_owned(), shape: vec![2, 3], init: Init::Zeros };
            store.push(&spec, &[value; 6], true);
        }
        store
    }

    fn at(store: &ParamStore<Cpu>, index: usize) -> *const f32 {
        store[index].values.as_ptr()
    }

    #[test]
    fn a_clone_shares_what_neither_has_changed() {
        let mut policy = store();
        policy.set_trained(|name| name.starts_with("head"));
        let reference = policy.clone();
        policy.update(|_, values| values.fill(5.0));
        assert_eq!(at(&policy, 0), at(&reference, 0));
        assert_eq!((policy.values(0), reference.values(0)), (vec![1.0; 6], vec![1.0; 6]));
        assert_eq!((policy.values(1), reference.values(1)), (vec![5.0; 6], vec![2.0; 6]));
        assert_eq!(policy.counts(), (6, 12));
    }

    #[test]
    fn a_parameter_of_one_store_is_changed_in_place() {
        let mut store = store();
        let before = at(&store, 1);
        store.update(|_, values| values.fill(5.0));
        assert_eq!((at(&store, 1), store.values(1)), (before, vec![5.0; 6]));
    }

    #[test]
    fn moving_towards_another_store_leaves_the_other() {
        let policy = store();
        let mut reference = policy.clone();
        reference.set_values(0, &[3.0; 6]);
        reference.move_towards(&policy, 0.25);
        assert_eq!((reference.values(0), policy.values(0)), (vec![2.5; 6], vec![1.0; 6]));
    }

    #[test]
    fn what_is_not_finite_is_named() {
        let mut store = store();
        assert_eq!(store.first_non_finite(), None);
        store.set_values(1, &[0.0, f32::NAN, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(store.first_non_finite(), Some("head.weight"));
    }
}
