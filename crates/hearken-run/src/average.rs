//! The exponential moving average of what is trained.

use std::path::Path;

use hearken_model::ParamStore;
use hearken_model::checkpoint::save_tensors_with;
use hearken_tensor::Device;
use safetensors::SafeTensors;

use crate::error::StateError;
use crate::optimizer::tensor_values;

/// The mean of the weights over all updates so far, of which later ones count more:
///
/// ```text
/// m_0 = θ_0          m_t = d·m_{t−1} + (1 − d)·θ_t
/// ```
///
/// Polyak and Juditsky 1992 average evenly; with a constant decay d it is as in Tarvainen and Valpola 2017,
/// arXiv:1703.01780, eq. 3. Parameters that are not trained are those of the model, shared with it.
#[derive(Debug)]
pub struct Average<D: Device> {
    params: ParamStore<D>,
    decay: f64,
}

impl<D: Device> Average<D> {
    /// The mean before the first update: the weights themselves.
    pub fn new(params: &ParamStore<D>, decay: f64) -> Self {
        Self { params: params.clone(), decay }
    }

    /// Takes note of an update of the weights.
    pub fn follow(&mut self, params: &ParamStore<D>) {
        self.params.move_towards(params, 1.0 - self.decay);
    }

    /// Puts the mean in the place of the weights, or the weights back.
    pub fn exchange(&mut self, params: &mut ParamStore<D>) {
        std::mem::swap(&mut self.params, params);
    }

    /// Bytes of the trained parameters.
    pub fn bytes(&self) -> u64 {
        4 * self.params.counts().0 as u64
    }

    /// Writes the trained parameters.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), StateError> {
        let trained: Vec<usize> = self.trained().collect();
        let described: Vec<(String, Vec<usize>)> = trained
            .iter()
            .map(|&index| (self.params[index].name.clone(), self.params[index].shape.clone()))
            .collect();
        let values = |at: usize| self.params.values(trained[at]).into();
        Ok(save_tensors_with(path, &described, values)?)
    }

    /// The mean as [`Average::save`] left it, of the parameters `params`, which are trained on.
    ///
    /// # Errors
    /// If the file cannot be read, or has not exactly the trained parameters.
    pub fn load(params: &ParamStore<D>, decay: f64, path: &Path) -> Result<Self, StateError> {
        let bytes = std::fs::read(path)
            .map_err(|source| StateError::Unreadable { path: path.into(), source })?;
        let bad = |message: String| StateError::Broken { path: path.into(), message };
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| bad(error.to_string()))?;
        let mut average = Self::new(params, decay);
        let trained: Vec<usize> = average.trained().collect();
        if tensors.len() != trained.len() {
            let (held, expected) = (tensors.len(), trained.len());
            return Err(bad(format!(
                "found {held} tensors, expected {expected}, one per parameter"
            )));
        }
        for index in trained {
            let param = &average.params[index];
            let values = tensor_values(&tensors, &param.name, &param.shape).map_err(bad)?;
            average.params.set_values(index, &values);
        }
        Ok(average)
    }

    fn trained(&self) -> impl Iterator<Item = usize> {
        (0..self.params.len()).filter(|&index| self.params.is_trained(index))
    }
}
