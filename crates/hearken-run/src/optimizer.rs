//! AdamW over one or several stores of parameters, with one gradient norm.

use std::path::Path;

use hearken_config::OptimizerConfig;
use hearken_model::checkpoint::save_tensors_with;
use hearken_model::{Gradients, ParamStore};
use hearken_tensor::Device;
use hearken_tensor::device::AdamW;
use safetensors::{Dtype, SafeTensors};

use crate::error::{NonFinite, StateError, Suspect};

/// Running means of a parameter's gradient and of its square.
#[derive(Debug)]
struct Moments<D: Device> {
    first: D::Buffer,
    second: D::Buffer,
}

/// Parameters that are trained, with the gradients of the step and a learning rate of their own.
#[derive(Debug)]
pub struct Trained<'a, D: Device> {
    /// The parameters to update.
    pub params: &'a mut ParamStore<D>,
    /// Gradients of the whole optimizer step.
    pub gradients: &'a Gradients<D>,
    /// Learning rate of this step.
    pub lr: f64,
}

/// What one update did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Norm of the gradients of all stores together, before clipping.
    pub grad_norm: f64,
    /// Whether the gradients were scaled down.
    pub clipped: bool,
}

/// AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) with bias correction as in PyTorch, after
/// clipping by the norm of all gradients together:
///
/// ```text
/// g ← g · min(1, max_norm / (‖g‖ + 1e-6))
/// ```
///
/// Weight decay acts on parameters with two or more dimensions: not on biases, nor on the weights of
/// norms. The stores are always given in the same order.
#[derive(Debug)]
pub struct Optimizer<D: Device> {
    config: OptimizerConfig,
    /// For each store, for each parameter; `None` for a frozen one.
    moments: Vec<Vec<Option<Moments<D>>>>,
    steps: u64,
}

impl<D: Device> Optimizer<D> {
    /// An optimizer that has made no step, for the trained parameters of `stores`.
    pub fn new(config: &OptimizerConfig, stores: &[&ParamStore<D>]) -> Self {
        let moments = stores.iter().map(|params| {
            let device = params.device();
            let of = |len: usize| Moments { first: device.zeros(len), second: device.zeros(len) };
            let each = params.iter().enumerate();
            each.map(|(index, param)| params.is_trained(index).then(|| of(param.len()))).collect()
        });
        Self { config: config.clone(), moments: moments.collect(), steps: 0 }
    }

    /// Updates made.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Bytes of the moments.
    pub fn bytes(&self, stores: &[&ParamStore<D>]) -> u64 {
        stores.iter().map(|params| 8 * params.counts().0 as u64).sum()
    }

    /// One update of all stores.
    ///
    /// # Errors
    /// Names the first gradient that is NaN or infinite; nothing is updated then.
    ///
    /// # Panics
    /// If the stores are not those that the optimizer was made for.
    pub fn step(&mut self, trained: &mut [Trained<'_, D>]) -> Result<Update, NonFinite> {
        assert_eq!(trained.len(), self.moments.len(), "the stores the optimizer was made for");
        let squares = trained.iter().map(|one| one.gradients.sum_of_squares());
        let grad_norm = squares.sum::<f64>().sqrt();
        if !grad_norm.is_finite() {
            let bad = trained.iter().find_map(first_bad_gradient);
            return Err(bad.unwrap_or(NonFinite { suspect: Suspect::GradientNorm }));
        }
        let norm_max = self.config.grad_norm_max;
        let grad_scale = norm_max.map_or(1.0, |max| (*max / (grad_norm + 1e-6)).min(1.0));
        self.steps += 1;
        for (store, (one, moments)) in trained.iter_mut().zip(&mut self.moments).enumerate() {
            let step = AdamW {
                lr: one.lr,
                beta1: *self.config.betas[0],
                beta2: *self.config.betas[1],
                eps: *self.config.eps,
                weight_decay: *self.config.weight_decay,
                step: self.steps,
                grad_scale,
            };
            update(one, moments, (store, step));
        }
        Ok(Update { grad_norm, clipped: grad_scale < 1.0 })
    }

    /// Writes the moments and nothing else; the count of steps travels in [`Optimizer::steps`].
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path, stores: &[&ParamStore<D>]) -> Result<(), StateError> {
        let (mut described, mut buffers) = (Vec::new(), Vec::new());
        for (index, (params, moments)) in stores.iter().zip(&self.moments).enumerate() {
            for (param, moments) in params.iter().zip(moments) {
                let Some(Moments { first, second }) = moments else { continue };
                for (buffer, moment) in [(first, FIRST), (second, SECOND)] {
                    described.push((tensor_name(index, &param.name, moment), param.shape.clone()));
                    buffers.push((params.device(), buffer));
                }
            }
        }
        let values = |index: usize| {
            let (device, buffer): (&D, _) = buffers[index];
            let mut values = vec![0.0; device.len(buffer)];
            device.download(buffer, 0, &mut values);
            values.into()
        };
        Ok(save_tensors_with(path, &described, values)?)
    }

    /// An optimizer as [`Optimizer::save`] left it after `steps` updates.
    ///
    /// # Errors
    /// If the file cannot be read, or has not exactly the moments of the trained parameters.
    pub fn load(
        config: &OptimizerConfig,
        stores: &[&ParamStore<D>],
        path: &Path,
        steps: u64,
    ) -> Result<Self, StateError> {
        let bytes = std::fs::read(path)
            .map_err(|source| StateError::Unreadable { path: path.into(), source })?;
        let bad = |message: String| StateError::Broken { path: path.into(), message };
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| bad(error.to_string()))?;
        let mut optimizer = Self { steps, ..Self::new(config, stores) };
        let mut read = 0;
        for (index, (params, moments)) in stores.iter().zip(&mut optimizer.moments).enumerate() {
            for (param, moments) in params.iter().zip(moments) {
                let Some(Moments { first, second }) = moments else { continue };
                for (buffer, moment) in [(first, FIRST), (second, SECOND)] {
                    let name = tensor_name(index, &param.name, moment);
                    let values = tensor_values(&tensors, &name, &param.shape).map_err(bad)?;
                    params.device().write(buffer, 0, &values);
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

fn update<D: Device>(
    one: &mut Trained<'_, D>,
    moments: &mut [Option<Moments<D>>],
    (store, step): (usize, AdamW),
) {
    let (device, gradients) = (one.params.device().clone(), one.gradients);
    let dimensions: Vec<usize> = one.params.iter().map(|param| param.shape.len()).collect();
    let is_rounded: Vec<bool> =
        (0..one.params.len()).map(|index| one.params.is_rounded(index)).collect();
    one.params.update(|index, values| {
        let Some(Moments { first, second }) = &mut moments[index] else { return };
        let gradient = gradients.get(index).expect("a trained parameter has a gradient");
        let weight_decay = if dimensions[index] < 2 { 0.0 } else { step.weight_decay };
        let step = AdamW { weight_decay, ..step };
        device.adamw(step, values, gradient, first, second);
        if is_rounded[index] {
            device.round_randomly(values, rounding_key(step.step, store, index));
        }
    });
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
