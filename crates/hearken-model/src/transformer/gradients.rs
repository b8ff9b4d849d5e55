//! The gradient of a loss with respect to a model's trainable parameters.

use hearken_tensor::Device;

use crate::architecture::ParamId;

/// One buffer for each trainable parameter, in the order of the model's parameters.
#[derive(Debug)]
pub struct Gradients<D: Device> {
    device: D,
    buffers: Vec<Option<D::Buffer>>,
}

impl<D: Device> Gradients<D> {
    /// Zeros; `lens[i]` is the length of parameter i, `None` if it is frozen.
    pub(crate) fn zeros(device: D, lens: impl Iterator<Item = Option<usize>>) -> Self {
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
            .expect("two different parameters of this model");
        (first.as_mut(), second.as_mut())
    }

    pub(crate) fn wants(&self, id: ParamId) -> bool {
        self.buffers[id.0].is_some()
    }

    /// Σg² over all trainable parameters, in f64; summed in the order of the parameters.
    pub fn sum_of_squares(&self) -> f64 {
        let buffers: Vec<&D::Buffer> = self.buffers.iter().flatten().collect();
        self.device.wait(self.device.sums_of_squares(&buffers)).iter().sum()
    }

    /// The index of the first parameter whose gradient has a NaN or an infinity.
    pub fn first_non_finite(&self) -> Option<usize> {
        let named = self.buffers.iter().enumerate();
        let (indices, buffers): (Vec<usize>, Vec<&D::Buffer>) =
            named.filter_map(|(index, buffer)| Some((index, buffer.as_ref()?))).unzip();
        let (bad, _) = self.device.wait(self.device.first_non_finite(&buffers))?;
        Some(indices[bad])
    }
}
