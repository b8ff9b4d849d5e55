//! Small networks of dense layers, behind convolutions where images are read: their values, a forward and a backward pass,
//! and their update.
//!
//! All parameters of a network are one vector, and so are its gradients and the optimizer's moments; a pass writes into
//! buffers that it finds. `hearken_model::Mlp` computes the same on any device; here a minibatch takes
//! microseconds, and it is the allocations and queues of a device that would take the time.

use hearken_env::ObservationSpace;
use hearken_tensor::dense::{
    Nonlinearity, ProductShape, Start, activate, activate_backward, adamw, add_rows, product,
    sum_of_squares, transpose, transposed_product,
};
use hearken_tensor::device::AdamW;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::convolution::{Convolution, Convolved, ImageShape, Patches};

/// Where the parameters of a layer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layer {
    inputs: usize,
    outputs: usize,
    /// The weight, `[inputs, outputs]`; the bias, `[outputs]`, stands behind it.
    weight: usize,
}

impl Layer {
    fn bias(self) -> usize {
        self.weight + self.inputs * self.outputs
    }
}

/// How a network's weights are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WeightDraw {
    /// Orthogonal matrices times √2, in the last layer times `last_gain`; biases 0. Saxe et al. 2014,
    /// arXiv:1312.6120, with the gains that PPO is run with.
    Orthogonal {
        /// Gain of the last layer.
        last_gain: f64,
    },
    /// Weights and biases uniform within ±1/√inputs: PyTorch's way.
    Uniform,
}

/// The inside of a network: what is between what it reads and its last layer.
#[derive(Clone, Copy, Debug)]
pub struct Trunk<'a> {
    /// Convolutions of what is seen, first to last; none of vectors.
    pub convolutions: &'a [Convolution],
    /// Widths of the dense layers.
    pub hidden: &'a [usize],
    /// What stands between layers.
    pub nonlinearity: Nonlinearity,
}

/// What a network looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkShape {
    /// The image that a row begins with, where there are convolutions.
    pub image: Option<ImageShape>,
    /// Convolutions of that, first to last.
    pub convolutions: Vec<Convolution>,
    /// Width of the input, of each hidden layer, and of the output.
    pub widths: Vec<usize>,
    /// What stands between layers.
    pub nonlinearity: Nonlinearity,
    /// Parameters that belong to no layer, behind those of the layers: a policy's log σ.
    pub free: usize,
}

impl NetworkShape {
    /// For rows of what is seen and `more` numbers behind it. Convolutions of vectors are left out.
    pub fn of(
        trunk: Trunk<'_>,
        observation: ObservationSpace,
        more: usize,
        outputs: usize,
    ) -> Self {
        let image = match observation {
            ObservationSpace::Image { height, width, channels } => {
                Some(ImageShape { height, width, channels })
            }
            ObservationSpace::Vector { .. } => None,
        };
        let image = image.filter(|_| !trunk.convolutions.is_empty());
        let convolutions = if image.is_some() { trunk.convolutions.to_vec() } else { Vec::new() };
        let widths = [&[observation.len() + more], trunk.hidden, &[outputs]].concat();
        Self { image, convolutions, widths, nonlinearity: trunk.nonlinearity, free: 0 }
    }

    /// The widths of the hidden layers.
    pub fn hidden(&self) -> &[usize] {
        &self.widths[1..self.widths.len() - 1]
    }

    /// What each convolution makes of the image.
    ///
    /// # Panics
    /// If an image is smaller than a kernel, which configurations are checked for.
    fn convolved(&self) -> Vec<Convolved> {
        let Some(mut from) = self.image else { return Vec::new() };
        let layers = self.convolutions.iter().map(|&layer| {
            let to = layer.of(from).expect("a kernel is no larger than what it covers");
            let convolved = Convolved { layer, from, to };
            from = to;
            convolved
        });
        layers.collect()
    }
}

/// A network with its weights, the gradients of the update that is being made, and Adam's moments.
#[derive(Clone, Debug)]
pub struct Network {
    shape: NetworkShape,
    convolved: Vec<(Convolved, Layer)>,
    layers: Vec<Layer>,
    values: Vec<f32>,
    gradients: Vec<f32>,
    moments: [Vec<f32>; 2],
}

/// Buffers of a forward and a backward pass, kept from one to the next.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// What each layer gave, `[rows, outputs]`, behind the activation where there is one.
    outputs: Vec<Vec<f32>>,
    /// Derivatives with respect to what a layer gave and to what it read.
    derivatives: [Vec<f32>; 2],
    /// A weight with its axes exchanged.
    turned: Vec<f32>,
    /// What the convolutions read and gave; empty without them.
    images: Images,
}

/// Buffers of the convolutions.
#[derive(Clone, Debug, Default)]
struct Images {
    /// The images of all rows, one behind another.
    read: Vec<f32>,
    /// What each convolution gave, behind the activation.
    outputs: Vec<Vec<f32>>,
    /// What the dense layers read: what the last one gave, and what stands behind the image in a row.
    joined: Vec<f32>,
    derivatives: [Vec<f32>; 2],
    patches: Patches,
}

impl Pass {
    /// The network's output, `[rows, outputs]`.
    pub fn output(&self) -> &[f32] {
        self.outputs.last().map_or(&[], Vec::as_slice)
    }

    /// Where the derivative of a loss with respect to the output goes, before a backward pass; `[rows, outputs]`.
    pub fn doutput(&mut self) -> &mut Vec<f32> {
        &mut self.derivatives[0]
    }

    /// What a backward pass that went down to the input left: the derivative with respect to it, `[rows, inputs]`.
    pub fn dinput(&self) -> &[f32] {
        &self.derivatives[0]
    }
}

/// Whether a backward pass goes on to what the network read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// It ends with the parameters.
    ToParameters,
    /// It gives the derivative with respect to the input too.
    ToInput,
}

impl Network {
    /// A network whose weights are drawn, its free parameters 0.
    ///
    /// # Panics
    /// If there are fewer than two widths.
    pub fn new(shape: &NetworkShape, draw: WeightDraw, rng: &mut ChaCha8Rng) -> Self {
        assert!(2 <= shape.widths.len(), "a network has an input and an output");
        let mut count = 0;
        let mut place = |inputs: usize, outputs: usize| {
            let weight = count;
            count += inputs * outputs + outputs;
            Layer { inputs, outputs, weight }
        };
        let convolved: Vec<(Convolved, Layer)> = shape
            .convolved()
            .into_iter()
            .map(|of| (of, place(of.inputs(), of.layer.outputs)))
            .collect();
        let mut layers = Vec::new();
        for (index, pair) in shape.widths.windows(2).enumerate() {
            let inputs = match (convolved.last(), shape.image) {
                (Some((last, _)), Some(image)) if index == 0 => {
                    pair[0] - image.len() + last.to.len()
                }
                _ => pair[0],
            };
            layers.push(place(inputs, pair[1]));
        }
        count += shape.free;
        let zeros = || vec![0.0; count];
        let mut network = Self {
            shape: shape.clone(),
            values: zeros(),
            gradients: zeros(),
            moments: [zeros(), zeros()],
            layers: layers.clone(),
            convolved,
        };
        let all: Vec<Layer> =
            network.convolved.iter().map(|(_, layer)| *layer).chain(layers).collect();
        for (index, layer) in all.iter().enumerate() {
            let (weight, bias) =
                (layer.weight..layer.bias(), layer.bias()..layer.bias() + layer.outputs);
            match draw {
                WeightDraw::Orthogonal { last_gain } => {
                    let is_last = index + 1 == all.len();
                    let gain = if is_last { last_gain } else { std::f64::consts::SQRT_2 };
                    let drawn = orthogonal(layer.inputs, layer.outputs, gain, rng);
                    network.values[weight].copy_from_slice(&drawn);
                }
                WeightDraw::Uniform => {
                    let bound = (layer.inputs as f32).sqrt().recip();
                    let values = &mut network.values[weight.start..bias.end];
                    values.fill_with(|| rng.random_range(-bound..bound));
                }
            }
        }
        network
    }

    /// What it looks like.
    pub fn shape(&self) -> &NetworkShape {
        &self.shape
    }

    /// Width of the input.
    pub fn inputs(&self) -> usize {
        self.shape.widths[0]
    }

    /// Width of the output.
    pub fn outputs(&self) -> usize {
        self.shape.widths[self.shape.widths.len() - 1]
    }

    /// All parameters.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All parameters, to change them.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The parameters that belong to no layer.
    pub fn free(&self) -> &[f32] {
        &self.values[self.values.len() - self.shape.free..]
    }

    /// Their gradients.
    pub fn free_gradients(&mut self) -> &mut [f32] {
        let start = self.gradients.len() - self.shape.free;
        &mut self.gradients[start..]
    }

    /// The gradients of the update that is being made.
    pub fn gradients(&self) -> &[f32] {
        &self.gradients
    }

    /// Adds the gradient of ½·penalty·‖θ‖².
    pub fn add_penalty(&mut self, penalty: f32) {
        for (gradient, value) in self.gradients.iter_mut().zip(&self.values) {
            *gradient += penalty * value;
        }
    }

    /// Sets all gradients to 0.
    pub fn zero_gradients(&mut self) {
        self.gradients.fill(0.0);
    }

    /// Adam's first and second moments.
    pub fn moments(&self) -> [&[f32]; 2] {
        [&self.moments[0], &self.moments[1]]
    }

    /// These, to change them.
    pub fn moments_mut(&mut self) -> &mut [Vec<f32>; 2] {
        &mut self.moments
    }

    /// The tensors by name: `convolutions.0.weight` `[kernel, kernel, channels, outputs]`, `convolutions.0.bias`, …,
    /// `layers.0.weight` `[inputs, outputs]`, `layers.0.bias`, …, `free`; and where each is.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>, std::ops::Range<usize>)> {
        let mut tensors = Vec::new();
        let mut push = |name: String, shape: Vec<usize>, layer: &Layer| {
            let (weight, bias) = (layer.weight, layer.bias());
            tensors.push((format!("{name}.weight"), shape, weight..bias));
            let end = bias + layer.outputs;
            tensors.push((format!("{name}.bias"), vec![layer.outputs], bias..end));
        };
        for (index, (of, layer)) in self.convolved.iter().enumerate() {
            let kernel = of.layer.kernel;
            let shape = vec![kernel, kernel, of.from.channels, layer.outputs];
            push(format!("convolutions.{index}"), shape, layer);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            push(format!("layers.{index}"), vec![layer.inputs, layer.outputs], layer);
        }
        if 0 < self.shape.free {
            let end = self.values.len();
            tensors.push(("free".to_owned(), vec![self.shape.free], end - self.shape.free..end));
        }
        tensors
    }

    /// Runs the rows of `x`, `[rows, inputs]`.
    ///
    /// # Panics
    /// If `x` is not whole rows.
    pub fn forward(&self, x: &[f32], pass: &mut Pass) {
        assert_eq!(x.len() % self.inputs(), 0, "x: whole rows");
        let rows = x.len() / self.inputs();
        self.convolve(x, &mut pass.images);
        let x = if self.convolved.is_empty() { x } else { &pass.images.joined };
        pass.outputs.resize_with(self.layers.len(), Vec::new);
        for (index, layer) in self.layers.iter().enumerate() {
            let (below, rest) = pass.outputs.split_at_mut(index);
            let input = below.last().map_or(x, Vec::as_slice);
            let output = &mut rest[0];
            output.resize(rows * layer.outputs, 0.0);
            let shape = ProductShape { rows, inner: layer.inputs, columns: layer.outputs };
            let (weight, bias) = (layer.weight..layer.bias(), layer.bias());
            let bias = &self.values[bias..bias + layer.outputs];
            product(shape, input, &self.values[weight], Start::Bias(bias), output);
            if index + 1 < self.layers.len() {
                activate(self.shape.nonlinearity, output);
            }
        }
    }

    /// The weight and the bias of a layer.
    fn parameters(&self, layer: Layer) -> (&[f32], &[f32]) {
        let bias = layer.bias();
        (&self.values[layer.weight..bias], &self.values[bias..bias + layer.outputs])
    }

    /// Runs the convolutions, and joins what they give with what stands behind the image in each row.
    fn convolve(&self, x: &[f32], images: &mut Images) {
        let Some(image) = self.shape.image else { return };
        let Images { read, outputs, joined, patches, .. } = images;
        let inputs = self.inputs();
        read.clear();
        x.chunks(inputs).for_each(|row| read.extend_from_slice(&row[..image.len()]));
        outputs.resize_with(self.convolved.len(), Vec::new);
        for (index, &(of, layer)) in self.convolved.iter().enumerate() {
            let (below, rest) = outputs.split_at_mut(index);
            let input = below.last().unwrap_or(read);
            let (weight, bias) = self.parameters(layer);
            of.forward(weight, bias, input, &mut rest[0], patches);
            activate(self.shape.nonlinearity, &mut rest[0]);
        }
        let (last, _) = self.convolved[self.convolved.len() - 1];
        let given = outputs[outputs.len() - 1].chunks(last.to.len());
        joined.clear();
        for (features, row) in given.zip(x.chunks(inputs)) {
            joined.extend_from_slice(features);
            joined.extend_from_slice(&row[image.len()..]);
        }
    }

    /// Adds the gradients of the convolutions, given the derivative with respect to what the dense layers read, and puts
    /// that with respect to whole rows in its place where it is wanted.
    fn convolve_backward(&mut self, pass: &mut Pass, down: Down) {
        let Some(image) = self.shape.image else { return };
        let Pass { images, derivatives: [djoined, _], turned, .. } = pass;
        let Images { read, outputs, derivatives, patches, .. } = images;
        let Self { shape, convolved, layers, values, gradients, .. } = self;
        let width = layers[0].inputs;
        let [dy, dx] = derivatives;
        let (last, _) = convolved[convolved.len() - 1];
        dy.clear();
        djoined.chunks(width).for_each(|row| dy.extend_from_slice(&row[..last.to.len()]));
        for (index, &(of, layer)) in convolved.iter().enumerate().rev() {
            activate_backward(shape.nonlinearity, &outputs[index], dy);
            let input = index.checked_sub(1).map_or(&*read, |below| &outputs[below]);
            let (start, bias) = (layer.weight, layer.bias());
            let own = &mut gradients[start..bias + layer.outputs];
            let (dweight, dbias) = own.split_at_mut(bias - start);
            of.backward_parameters(input, dy, dweight, dbias, patches);
            if index == 0 && down == Down::ToParameters {
                return;
            }
            of.backward_images(&values[start..bias], dy, dx, turned, patches);
            std::mem::swap(dy, dx);
        }
        let rows = dy.chunks(image.len()).zip(djoined.chunks(width));
        let rows = rows.flat_map(|(pixels, row)| pixels.iter().chain(&row[last.to.len()..]));
        let whole: Vec<f32> = rows.copied().collect();
        *djoined = whole;
    }

    /// Adds the gradients of a loss whose derivative with respect to the output of the last forward pass, over `x`, is
    /// in [`Pass::doutput`].
    ///
    /// # Panics
    /// If that is not of the pass's shape.
    pub fn backward(&mut self, x: &[f32], pass: &mut Pass, down: Down) {
        let rows = x.len() / self.inputs();
        let reads_images = !self.convolved.is_empty();
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let (inputs, outputs) = (layer.inputs, layer.outputs);
            let [dy, dx] = &mut pass.derivatives;
            assert_eq!(dy.len(), rows * outputs, "derivative: rows × outputs");
            let x = if reads_images { &pass.images.joined } else { x };
            let input = index.checked_sub(1).map_or(x, |below| &pass.outputs[below]);
            let (weight, bias) = (layer.weight..layer.bias(), layer.bias());
            let shape = ProductShape { rows: inputs, inner: rows, columns: outputs };
            transposed_product(shape, input, dy, Start::Kept, &mut self.gradients[weight.clone()]);
            add_rows(dy, &mut self.gradients[bias..bias + outputs]);
            if index == 0 && down == Down::ToParameters && !reads_images {
                return;
            }
            pass.turned.resize(inputs * outputs, 0.0);
            transpose(&self.values[weight], inputs, outputs, &mut pass.turned);
            dx.resize(rows * inputs, 0.0);
            let shape = ProductShape { rows, inner: outputs, columns: inputs };
            product(shape, dy, &pass.turned, Start::Zero, dx);
            if 0 < index {
                activate_backward(self.shape.nonlinearity, input, dx);
            }
            pass.derivatives.swap(0, 1);
        }
        self.convolve_backward(pass, down);
    }

    /// Σ g² over all gradients.
    pub fn gradient_squares(&self) -> f64 {
        sum_of_squares(&self.gradients)
    }

    /// One step of Adam with the gradients, which are set to 0.
    pub fn update(&mut self, step: AdamW) {
        let [first, second] = &mut self.moments;
        adamw(step, &mut self.values, &self.gradients, [first, second]);
        self.zero_gradients();
    }

    /// Moves the parameters towards another network's of the same shape: θ ← (1 − mix)·θ + mix·θ_other.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn move_towards(&mut self, other: &Self, mix: f32) {
        assert_eq!(self.values.len(), other.values.len(), "networks of one shape");
        for (own, other) in self.values.iter_mut().zip(&other.values) {
            *own += mix * (other - *own);
        }
    }
}

/// A matrix `[inputs, outputs]` with orthonormal rows or columns, whichever are fewer, times `gain`.
fn orthogonal(inputs: usize, outputs: usize, gain: f64, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let (count, length) = (inputs.min(outputs), inputs.max(outputs));
    let mut vectors: Vec<Vec<f64>> = Vec::with_capacity(count);
    while vectors.len() < count {
        let mut vector: Vec<f64> = (0..length).map(|_| normal(rng)).collect();
        // Twice, so that rounding leaves no part of the vectors before.
        for _ in 0..2 {
            for other in &vectors {
                let along: f64 = vector.iter().zip(other).map(|(a, b)| a * b).sum();
                vector.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
            }
        }
        let norm = vector.iter().map(|a| a * a).sum::<f64>().sqrt();
        for a in &mut vector {
            *a /= norm;
        }
        vectors.push(vector);
    }
    let at = |input: usize, output: usize| {
        if inputs <= outputs { vectors[input][output] } else { vectors[output][input] }
    };
    (0..inputs * outputs).map(|i| (gain * at(i / outputs, i % outputs)) as f32).collect()
}

/// A standard normal variate, by Box and Muller's transform.
pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
    // 1 − u lies in (0, 1], where the logarithm is finite.
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn network(widths: &[usize], nonlinearity: Nonlinearity) -> (Network, ChaCha8Rng) {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let trunk = Trunk { convolutions: &[], hidden: &widths[1..widths.len() - 1], nonlinearity };
        let seen = ObservationSpace::Vector { length: widths[0] };
        let shape = NetworkShape::of(trunk, seen, 0, widths[widths.len() - 1]);
        let shape = NetworkShape { free: 1, ..shape };
        (Network::new(&shape, WeightDraw::Uniform, &mut rng), rng)
    }

    /// ½ Σ output²·slope, as the definition of a network reads, in f64.
    fn loss(network: &Network, values: &[f64], x: &[f64], slopes: &[f32]) -> f64 {
        let rows = x.len() / network.inputs();
        let mut given = x.to_vec();
        for (index, layer) in network.layers.iter().enumerate() {
            let mut output = Vec::new();
            for row in 0..rows {
                for o in 0..layer.outputs {
                    let weight = |i: usize| values[layer.weight + i * layer.outputs + o];
                    let term = |i: usize| given[row * layer.inputs + i] * weight(i);
                    let sum = values[layer.bias() + o] + (0..layer.inputs).map(term).sum::<f64>();
                    let is_last = index + 1 == network.layers.len();
                    output.push(match network.shape.nonlinearity {
                        _ if is_last => sum,
                        Nonlinearity::Tanh => sum.tanh(),
                        Nonlinearity::Relu => sum.max(0.0),
                        Nonlinearity::LeakyRelu => sum.max(0.01 * sum),
                    });
                }
            }
            given = output;
        }
        given.iter().zip(slopes).map(|(y, s)| 0.5 * y * y * f64::from(*s)).sum()
    }

    #[test]
    fn gradients_are_those_of_central_differences() {
        const STEP: f64 = 1e-6;
        for nonlinearity in [Nonlinearity::Tanh, Nonlinearity::Relu, Nonlinearity::LeakyRelu] {
            let (mut network, mut rng) = network(&[3, 20, 17, 2], nonlinearity);
            let mut draw = |len: usize| -> Vec<f32> {
                (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
            };
            let (x, slopes) = (draw(5 * 3), draw(5 * 2));
            let mut pass = Pass::default();
            network.forward(&x, &mut pass);
            let doutput = pass.output().iter().zip(&slopes).map(|(y, s)| y * s).collect();
            *pass.doutput() = doutput;
            network.backward(&x, &mut pass, Down::ToInput);
            let values: Vec<f64> = network.values.iter().map(|&value| f64::from(value)).collect();
            let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            let check = |found: f32, of: &dyn Fn(f64) -> f64| {
                let difference = (of(STEP) - of(-STEP)) / (2.0 * STEP);
                assert!((f64::from(found) - difference).abs() < 1e-5, "{found}, {difference}");
            };
            for index in 0..values.len() {
                check(network.gradients[index], &|by| {
                    let mut values = values.clone();
                    values[index] += by;
                    loss(&network, &values, &x, &slopes)
                });
            }
            for index in 0..x.len() {
                check(pass.dinput()[index], &|by| {
                    let mut x = x.clone();
                    x[index] += by;
                    loss(&network, &values, &x, &slopes)
                });
            }
        }
    }

    #[test]
    fn orthogonal_weights_keep_lengths() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (inputs, outputs) in [(4, 64), (64, 64), (64, 3)] {
            let weight = orthogonal(inputs, outputs, 2.0, &mut rng);
            let count = inputs.min(outputs);
            let line = |index: usize| -> Vec<f64> {
                let of = |i: usize| {
                    if inputs <= outputs { index * outputs + i } else { i * outputs + index }
                };
                (0..inputs.max(outputs)).map(|i| f64::from(weight[of(i)])).collect()
            };
            for a in 0..count {
                for b in 0..count {
                    let dot: f64 = line(a).iter().zip(line(b)).map(|(x, y)| x * y).sum();
                    let expected = if a == b { 4.0 } else { 0.0 };
                    assert!((dot - expected).abs() < 1e-5, "{a}, {b}: {dot}");
                }
            }
        }
    }

    #[test]
    fn adam_descends() {
        let (mut network, _) = network(&[2, 16, 1], Nonlinearity::Tanh);
        let x = [0.5, -1.0, 0.3, 0.8];
        let mut pass = Pass::default();
        for step in 1..=200 {
            network.forward(&x, &mut pass);
            let doutput = pass.output().to_vec();
            *pass.doutput() = doutput;
            network.backward(&x, &mut pass, Down::ToParameters);
            let (lr, eps) = (1e-2, 1e-8);
            network.update(AdamW {
                lr,
                beta1: 0.9,
                beta2: 0.999,
                eps,
                weight_decay: 0.0,
                step,
                grad_scale: 1.0,
            });
        }
        assert!(pass.output().iter().all(|y| y.abs() < 1e-2), "{:?}", pass.output());
    }
}
