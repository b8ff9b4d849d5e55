//! Small networks of dense layers: models of features, policies of control tasks, heads.
//!
//! ```text
//! y = W_n·a(… a(W_1·x + b_1) …) + b_n
//! ```

use hearken_tensor::Device;
use hearken_tensor::device::{
    Activation, Precision, Rows, View, ViewMut, Weight, WeightLayout, WeightShape, Write,
};
use rand_chacha::ChaCha8Rng;

use crate::params::{Gradients, Init, Param, ParamId, ParamSpec, ParamStore};

/// The sizes of a small network.
#[derive(Clone, Debug, PartialEq)]
pub struct MlpShape {
    /// Width of the input, of each hidden layer, and of the output: at least two.
    pub widths: Vec<usize>,
    /// What stands between layers.
    pub activation: Activation,
    /// Whether the last layer has a bias.
    pub output_bias: bool,
}

/// One dense layer.
#[derive(Clone, Copy, Debug)]
struct Layer {
    inputs: usize,
    outputs: usize,
    weight: ParamId,
    bias: Option<ParamId>,
}

/// A network of dense layers with its weights: `layers.0.weight` `[outputs, inputs]`, `layers.0.bias`
/// `[outputs, 1]`, and so on.
#[derive(Clone, Debug)]
pub struct Mlp<D: Device> {
    params: ParamStore<D>,
    layers: Vec<Layer>,
    activation: Activation,
}

/// What a forward pass leaves behind.
#[derive(Debug)]
pub struct MlpPass<D: Device> {
    /// What each layer but the last gave, before the activation; `[T, outputs]`.
    before: Vec<D::Buffer>,
    /// What each layer but the first read; `[T, inputs]`.
    inputs: Vec<D::Buffer>,
    output: D::Buffer,
}

impl<D: Device> MlpPass<D> {
    /// The network's output, `[T, outputs]`.
    pub fn output(&self) -> &D::Buffer {
        &self.output
    }
}

impl<D: Device> Mlp<D> {
    /// A network with weights drawn by Glorot's uniform distribution, and biases 0.
    ///
    /// # Panics
    /// If there are fewer than two widths.
    pub fn new(device: D, shape: &MlpShape, rng: &mut ChaCha8Rng) -> Self {
        assert!(2 <= shape.widths.len(), "a network has an input and an output");
        let (mut params, mut layers) = (ParamStore::new(device), Vec::new());
        let last = shape.widths.len() - 2;
        for (index, widths) in shape.widths.windows(2).enumerate() {
            let (inputs, outputs) = (widths[0], widths[1]);
            let mut push = |name: &str, shape: Vec<usize>, init: Init| {
                let spec = ParamSpec { name: format!("layers.{index}.{name}"), shape, init };
                params.push(&spec, &spec.draw(rng), true)
            };
            let bound = (6.0 / (inputs + outputs) as f64).sqrt();
            let weight = push("weight", vec![outputs, inputs], Init::Uniform { bound });
            let bias = (index < last || shape.output_bias)
                .then(|| push("bias", vec![outputs, 1], Init::Zeros));
            layers.push(Layer { inputs, outputs, weight, bias });
        }
        Self { params, layers, activation: shape.activation }
    }

    /// The parameters.
    pub fn params(&self) -> &ParamStore<D> {
        &self.params
    }

    /// The parameters, to change them.
    pub fn params_mut(&mut self) -> &mut ParamStore<D> {
        &mut self.params
    }

    fn param(&self, id: ParamId) -> &Param<D> {
        &self.params[id.0]
    }

    fn weight(&self, layer: Layer) -> Weight<'_, D::Buffer, D::Prepared> {
        let Param { values, prepared, .. } = self.param(layer.weight);
        let shape = WeightShape {
            inputs: layer.inputs,
            outputs: layer.outputs,
            layout: WeightLayout::OutputsByInputs,
            precision: Precision::F32,
        };
        Weight { values, prepared, shape }
    }

    /// Runs the rows of `x`, `[rows, inputs]`.
    pub fn forward(&self, x: &D::Buffer, rows: usize) -> MlpPass<D> {
        let device = self.params.device();
        let (mut before, mut inputs) = (Vec::new(), Vec::new());
        let mut given = None;
        for &layer in &self.layers {
            if let Some(given) = given.take() {
                let mut input = device.scratch(device.len(&given));
                device.activation(self.activation, &given, &mut input);
                before.push(given);
                inputs.push(input);
            }
            let input = inputs.last().unwrap_or(x);
            let mut output = device.scratch(rows * layer.outputs);
            device.linear(
                View::new(input, Rows::dense(rows, layer.inputs)),
                self.weight(layer),
                layer.bias.map(|bias| &self.param(bias).values),
                ViewMut::new(&mut output, Rows::dense(rows, layer.outputs)),
                Write::Overwrite,
            );
            given = Some(output);
        }
        let output = given.unwrap_or_else(|| device.scratch(0));
        MlpPass { before, inputs, output }
    }

    /// Adds the gradients of a loss, given by its derivative with respect to the output of a pass over
    /// `x`; returns its derivative with respect to `x`, `[rows, inputs]`.
    pub fn backward(
        &self,
        x: &D::Buffer,
        pass: &MlpPass<D>,
        doutput: D::Buffer,
        gradients: &mut Gradients<D>,
    ) -> D::Buffer {
        let device = self.params.device();
        let mut doutput = doutput;
        for (index, &layer) in self.layers.iter().enumerate().rev() {
            let rows = device.len(&doutput) / layer.outputs;
            let input = index.checked_sub(1).map_or(x, |below| &pass.inputs[below]);
            let (in_rows, out_rows) =
                (Rows::dense(rows, layer.inputs), Rows::dense(rows, layer.outputs));
            let dy = View::new(&doutput, out_rows);
            let weight = self.weight(layer);
            if let Some(dweight) = gradients.get_mut(layer.weight) {
                device.linear_backward_weight(dy, View::new(input, in_rows), weight.shape, dweight);
            }
            if let Some(dbias) = layer.bias.and_then(|bias| gradients.get_mut(bias)) {
                device.sum_rows(dy, dbias);
            }
            let mut dinput = device.scratch(rows * layer.inputs);
            let dx = ViewMut::new(&mut dinput, in_rows);
            device.linear_backward_input(dy, weight, dx, Write::Overwrite);
            doutput = match index.checked_sub(1) {
                None => dinput,
                Some(below) => {
                    let mut before = device.scratch(rows * layer.inputs);
                    let given = &pass.before[below];
                    device.activation_backward(self.activation, given, &dinput, &mut before);
                    before
                }
            };
        }
        doutput
    }
}

#[cfg(test)]
mod tests {
    use hearken_tensor::reference::Values;
    use hearken_tensor::{Cpu, Reference};
    use rand::SeedableRng;

    use super::*;

    fn network<D: Device>(device: D, activation: Activation) -> Mlp<D> {
        let shape = MlpShape { widths: vec![3, 5, 4, 2], activation, output_bias: true };
        Mlp::new(device, &shape, &mut ChaCha8Rng::seed_from_u64(1))
    }

    const ROWS: usize = 6;

    fn inputs() -> Vec<f32> {
        (0..ROWS * 3).map(|i| (i as f32 * 0.7).sin() * 2.0 + 0.1).collect()
    }

    fn slopes() -> Vec<f32> {
        (0..ROWS * 2).map(|i| (i as f32 * 1.3).cos()).collect()
    }

    /// Σ output·slope, in f64.
    fn loss(network: &Mlp<Reference>, x: &Values) -> f64 {
        let pass = network.forward(x, ROWS);
        pass.output().0.iter().zip(slopes()).map(|(y, slope)| y * f64::from(slope)).sum()
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for activation in [Activation::Tanh, Activation::Relu] {
            let mut network = network(Reference, activation);
            let x = Reference.upload(&inputs());
            let mut gradients = network.params().gradients();
            let pass = network.forward(&x, ROWS);
            let dx = network.backward(&x, &pass, Reference.upload(&slopes()), &mut gradients);
            let step = 1e-6;
            for at in 0..x.0.len() {
                let moved = |by: f64| {
                    let mut x = x.clone();
                    x.0[at] += by;
                    loss(&network, &x)
                };
                let numeric = (moved(step) - moved(-step)) / (2.0 * step);
                assert!((dx.0[at] - numeric).abs() < 1e-7, "{activation:?} input {at}");
            }
            for index in 0..network.params().len() {
                for at in 0..network.params()[index].len() {
                    let mut moved = |by: f64| {
                        let shift = |i: usize, values: &mut Values| {
                            values.0[at] += if i == index { by } else { 0.0 };
                        };
                        network.params_mut().set_trained(|_| true);
                        let names: Vec<String> =
                            network.params().iter().map(|param| param.name.clone()).collect();
                        network.params_mut().set_trained(|name| name == names[index]);
                        network.params_mut().update(shift);
                        loss(&network, &x)
                    };
                    let above = moved(step);
                    let below = moved(-2.0 * step);
                    moved(step);
                    let numeric = (above - below) / (2.0 * step);
                    let found = gradients.get(index).unwrap().0[at];
                    assert!((found - numeric).abs() < 1e-7, "{activation:?} {index} {at}");
                }
            }
        }
    }

    #[test]
    fn the_processor_computes_what_the_slow_device_does() {
        for activation in [Activation::Tanh, Activation::Relu] {
            let (cpu, slow) = (network(Cpu::new(), activation), network(Reference, activation));
            let x = cpu.params().device().upload(&inputs());
            let slow_x = Reference.upload(&inputs());
            let (pass, slow_pass) = (cpu.forward(&x, ROWS), slow.forward(&slow_x, ROWS));
            let close = |found: &[f32], expected: &[f64]| {
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(expected) {
                    assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
                }
            };
            close(pass.output(), &slow_pass.output().0);
            let (mut of_cpu, mut of_slow) = (cpu.params().gradients(), slow.params().gradients());
            let dy = cpu.params().device().upload(&slopes());
            close(
                &cpu.backward(&x, &pass, dy, &mut of_cpu),
                &slow.backward(&slow_x, &slow_pass, Reference.upload(&slopes()), &mut of_slow).0,
            );
            for index in 0..cpu.params().len() {
                close(of_cpu.get(index).unwrap(), &of_slow.get(index).unwrap().0);
            }
        }
    }
}
