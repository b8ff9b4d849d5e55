//! Particles: small networks on the last hidden state of a reward model, whose differences say how sure its score is.
//!
//! ```text
//! r_z(h) = score(h) + prior_z(h) + differential_z(h)        z = 1, …, K
//! network(h) = w·relu(W₂·relu(W₁·h + b))
//! ```
//!
//! Every particle has a prior network, which stays as it was drawn, and a differential of the same sizes, which is
//! trained and says 0 at first: where there was something to learn the differentials make up for the priors, and
//! elsewhere the particles disagree (Osband et al. 2018, arXiv:1806.03335; Osband et al. 2021, arXiv:2107.08924;
//! for reward models Dwaracherla et al. 2024, arXiv:2402.00396). They read the hidden state and the score as numbers:
//! no derivative goes from them to the rest of the model.

use std::path::Path;

use hearken_tensor::Device;
use hearken_tensor::device::{
    Activation, Precision, Rows, View, ViewMut, Weight, WeightLayout, WeightShape, Write,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::load::ModelError;
use super::model::Model;
use super::pass::Pass;
use crate::checkpoint::{CheckpointError, TensorFiles};
use crate::params::{Gradients, Init, ParamId, ParamSpec};

/// The file with a reward model's particles, beside the model that Transformers loads.
pub(super) const PARTICLES_FILE: &str = "particles.safetensors";
/// What stands before the names of their parameters.
const PREFIX: &str = "particles.";
const PRIOR: &str = "particles.prior.";
const DIFFERENTIAL: &str = "particles.differential.";

/// How many particles there are, and how large they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParticleShape {
    /// K.
    pub count: usize,
    /// Width of the two hidden layers of each network.
    pub width: usize,
    /// The standard deviation of what a prior says of a hidden state whose coordinates have a mean square of 1.
    pub prior_scale: f64,
}

impl ParticleShape {
    /// Elements of all particles, priors included, beside a model of this width.
    pub fn parameters(self, model_width: usize) -> usize {
        let of_one = model_width * self.width + self.width + self.width * self.width + self.width;
        2 * self.count * of_one
    }
}

/// Where the networks of all particles are among the parameters: the first layers in one matrix, one below the other;
/// then K second layers; then K rows of outputs.
#[derive(Clone, Copy, Debug)]
struct Networks {
    first: ParamId,
}

/// The particles of a model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Particles {
    count: usize,
    width: usize,
    prior: Networks,
    differential: Networks,
}

impl Networks {
    fn bias(self) -> ParamId {
        ParamId(self.first.0 + 1)
    }

    fn second(self, particle: usize) -> ParamId {
        ParamId(self.first.0 + 2 + particle)
    }

    fn output(self, particle: usize, count: usize) -> ParamId {
        ParamId(self.first.0 + 2 + count + particle)
    }
}

/// What the pass of one kind of network leaves behind: hidden layers before and after their activation,
/// `[rows, K·width]`, and what comes out, `[rows, K]`.
struct NetworkPass<D: Device> {
    hidden: [[D::Buffer; 2]; 2],
    output: D::Buffer,
}

/// The parameters of K networks, which are drawn after He et al. 2015, arXiv:1502.01852, but for their outputs.
fn specs(prefix: &str, shape: ParticleShape, inputs: usize, outputs: Init) -> Vec<ParamSpec> {
    let ParticleShape { count, width, .. } = shape;
    let he = |inputs: usize| Init::Normal { std: (2.0 / inputs as f64).sqrt() };
    let spec = |name: String, shape: Vec<usize>, init| ParamSpec {
        name: format!("{prefix}{name}"),
        shape,
        init,
    };
    let first = [
        spec("first.weight".into(), vec![count * width, inputs], he(inputs)),
        spec("first.bias".into(), vec![count * width], Init::Zeros),
    ];
    let second =
        (0..count).map(|z| spec(format!("{z}.second.weight"), vec![width, width], he(width)));
    let output = (0..count).map(|z| spec(format!("{z}.output.weight"), vec![1, width], outputs));
    first.into_iter().chain(second).chain(output).collect()
}

/// The specs of both kinds of network, priors first. Outputs of priors have the deviation that the shape says, those of
/// differentials are 0.
fn all_specs(shape: ParticleShape, inputs: usize) -> Vec<ParamSpec> {
    // He's weights keep the mean square of what the outputs read at that of the hidden state.
    let std = shape.prior_scale / (shape.width as f64).sqrt();
    let mut all = specs(PRIOR, shape, inputs, Init::Normal { std });
    all.extend(specs(DIFFERENTIAL, shape, inputs, Init::Zeros));
    all
}

impl<D: Device> Model<D> {
    /// Adds new particles.
    ///
    /// # Panics
    /// If the model has some already.
    pub fn add_particles(&mut self, shape: ParticleShape, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        self.push_particles(shape, |spec| Ok::<_, ModelError>(spec.draw(&mut rng)))
            .expect("what is drawn is there");
    }

    /// Adds the particles stored in a directory that [`Model::save`] wrote; says whether there were any.
    ///
    /// # Errors
    /// If their file is damaged, or is not that of a model as wide as this one.
    ///
    /// # Panics
    /// If the model has some already.
    pub fn load_particles(&mut self, dir: &Path) -> Result<bool, ModelError> {
        let path = dir.join(PARTICLES_FILE);
        if !path.exists() {
            return Ok(false);
        }
        let files = TensorFiles::open_file(&path)?;
        let mut count = 0;
        while files.shape(&format!("{PRIOR}{count}.output.weight")).is_some() {
            count += 1;
        }
        // Where there is none, what is read first is what is missing.
        let first = files.shape(&format!("{PRIOR}0.output.weight"));
        let width = first.and_then(|shape| shape.get(1).copied()).unwrap_or(1);
        let shape = ParticleShape { count: count.max(1), width, prior_scale: 1.0 };
        self.push_particles(shape, |spec| -> Result<_, CheckpointError> {
            files.read(&spec.name, &spec.shape)
        })?;
        Ok(true)
    }

    fn push_particles<E>(
        &mut self,
        shape: ParticleShape,
        mut values: impl FnMut(&ParamSpec) -> Result<Vec<f32>, E>,
    ) -> Result<(), ModelError>
    where
        ModelError: From<E>,
    {
        assert!(self.particles.is_none(), "the model has particles already");
        let specs = all_specs(shape, self.config.width);
        let first = self.params.len();
        let read: Vec<Vec<f32>> = specs.iter().map(&mut values).collect::<Result<_, E>>()?;
        for (spec, values) in specs.iter().zip(read) {
            self.params.push(spec, &values, spec.name.starts_with(DIFFERENTIAL));
        }
        self.params.clip_apart_from(first);
        self.particles = Some(Particles {
            count: shape.count,
            width: shape.width,
            prior: Networks { first: ParamId(first) },
            differential: Networks { first: ParamId(first + specs.len() / 2) },
        });
        Ok(())
    }

    /// How many particles the model has.
    pub fn particle_count(&self) -> usize {
        self.particles.map_or(0, |own| own.count)
    }

    pub(super) fn is_particle(&self, index: usize) -> bool {
        self.params[index].name.starts_with(PREFIX)
    }

    /// Whether a parameter of this name stays as it was drawn, whatever is trained.
    pub(super) fn is_prior(name: &str) -> bool {
        name.starts_with(PRIOR)
    }

    /// The score that each particle gives at each of `rows`: `[rows.len(), K]`.
    ///
    /// # Panics
    /// If the model has no particles, or no score head.
    pub fn particle_scores(&self, pass: &Pass<D>, rows: &[usize]) -> Vec<f32> {
        if rows.is_empty() {
            return Vec::new();
        }
        let own = self.particles.expect("a model with particles");
        let (features, prior) = self.features_and_prior(own, pass, rows);
        let differential = self.particle_forward(own, own.differential, &features, rows.len());
        self.summed(own, pass, rows, [&prior, &differential.output])
    }

    /// Adds the gradients of the particles for a loss that `grads` derives from their scores at `rows`, both
    /// `[rows.len(), K]`. Nothing else of the model gets any.
    ///
    /// # Panics
    /// As [`Model::particle_scores`]; also if there is not one derivative for each score.
    pub fn train_particles(
        &self,
        pass: &Pass<D>,
        rows: &[usize],
        gradients: &mut Gradients<D>,
        grads: impl FnOnce(&[f32]) -> Vec<f32>,
    ) {
        if rows.is_empty() {
            return;
        }
        let own = self.particles.expect("a model with particles");
        let n = rows.len();
        let (features, prior) = self.features_and_prior(own, pass, rows);
        let passed = self.particle_forward(own, own.differential, &features, n);
        let doutput = grads(&self.summed(own, pass, rows, [&prior, &passed.output]));
        assert_eq!(doutput.len(), n * own.count, "grads: one per row and particle");
        self.particle_backward(own, &features, &passed, &doutput, gradients);
    }

    /// What the particles read, `[n, d]`, and what the priors say of it.
    fn features_and_prior(
        &self,
        own: Particles,
        pass: &Pass<D>,
        rows: &[usize],
    ) -> (D::Buffer, D::Buffer) {
        let features = self.device.upload(&self.hidden(pass, rows));
        let prior = self.particle_forward(own, own.prior, &features, rows.len()).output;
        (features, prior)
    }

    /// The score of each row beside what networks say of it, `[n, K]`.
    fn summed(
        &self,
        own: Particles,
        pass: &Pass<D>,
        rows: &[usize],
        parts: [&D::Buffer; 2],
    ) -> Vec<f32> {
        let scores = self.scalars(pass, rows);
        let outputs = scores.len() / rows.len();
        let [prior, differential] = parts.map(|part| self.device.read(part).into_owned());
        let sums = prior.iter().zip(&differential).enumerate();
        sums.map(|(at, (a, b))| scores[at / own.count * outputs] + a + b).collect()
    }

    fn particle_weight(
        &self,
        id: ParamId,
        [outputs, inputs]: [usize; 2],
    ) -> Weight<'_, D::Buffer, D::Prepared> {
        let param = &self.params[id.0];
        let (layout, precision) = (WeightLayout::OutputsByInputs, Precision::F32);
        let shape = WeightShape { inputs, outputs, layout, precision };
        Weight { values: &param.values, prepared: &param.prepared, shape }
    }

    fn particle_forward(
        &self,
        own: Particles,
        networks: Networks,
        features: &D::Buffer,
        n: usize,
    ) -> NetworkPass<D> {
        let (Particles { count, width, .. }, d, device) = (own, self.config.width, &self.device);
        let all = Rows::dense(n, count * width);
        let activated = |before: D::Buffer| {
            let mut after = device.scratch(n * count * width);
            device.activation(Activation::Relu, &before, &mut after);
            [before, after]
        };
        let mut first = device.scratch(n * count * width);
        device.linear(
            View::new(features, Rows::dense(n, d)),
            self.particle_weight(networks.first, [count * width, d]),
            Some(&self.params[networks.bias().0].values),
            ViewMut::new(&mut first, all),
            Write::Overwrite,
        );
        let first = activated(first);
        let mut second = device.scratch(n * count * width);
        for z in 0..count {
            let columns = all.columns(z * width, width);
            let weight = self.particle_weight(networks.second(z), [width, width]);
            let y = ViewMut::new(&mut second, columns);
            device.linear(View::new(&first[1], columns), weight, None, y, Write::Overwrite);
        }
        let second = activated(second);
        let mut output = device.scratch(n * count);
        for z in 0..count {
            let weight = self.particle_weight(networks.output(z, count), [1, width]);
            let x = View::new(&second[1], all.columns(z * width, width));
            let y = ViewMut::new(&mut output, Rows::dense(n, count).columns(z, 1));
            device.linear(x, weight, None, y, Write::Overwrite);
        }
        NetworkPass { hidden: [first, second], output }
    }

    fn particle_backward(
        &self,
        own: Particles,
        features: &D::Buffer,
        passed: &NetworkPass<D>,
        doutput: &[f32],
        gradients: &mut Gradients<D>,
    ) {
        let (Particles { count, width, differential, .. }, d) = (own, self.config.width);
        let (device, n) = (&self.device, doutput.len() / own.count);
        let all = Rows::dense(n, count * width);
        let [first, second] = &passed.hidden;
        let doutput = device.upload(doutput);
        let through = |before: &D::Buffer, dafter: &D::Buffer| {
            let mut dbefore = device.scratch(n * count * width);
            device.activation_backward(Activation::Relu, before, dafter, &mut dbefore);
            dbefore
        };
        let mut layer = |id: ParamId,
                         shape: [usize; 2],
                         dy: View<'_, D::Buffer>,
                         x: View<'_, D::Buffer>,
                         dx: Option<ViewMut<'_, D::Buffer>>| {
            let weight = self.particle_weight(id, shape);
            if let Some(dweight) = gradients.get_mut(id) {
                device.linear_backward_weight(dy, x, weight.shape, dweight);
            }
            if let Some(dx) = dx {
                device.linear_backward_input(dy, weight, dx, Write::Overwrite);
            }
        };
        let mut dsecond = device.scratch(n * count * width);
        for z in 0..count {
            let columns = all.columns(z * width, width);
            let dy = View::new(&doutput, Rows::dense(n, count).columns(z, 1));
            let dx = Some(ViewMut::new(&mut dsecond, columns));
            let x = View::new(&second[1], columns);
            layer(differential.output(z, count), [1, width], dy, x, dx);
        }
        let dsecond = through(&second[0], &dsecond);
        let mut dfirst = device.scratch(n * count * width);
        for z in 0..count {
            let columns = all.columns(z * width, width);
            let (dy, x) = (View::new(&dsecond, columns), View::new(&first[1], columns));
            let dx = Some(ViewMut::new(&mut dfirst, columns));
            layer(differential.second(z), [width, width], dy, x, dx);
        }
        let dfirst = through(&first[0], &dfirst);
        let (dy, x) = (View::new(&dfirst, all), View::new(features, Rows::dense(n, d)));
        // What is below the features learns from the score alone.
        layer(differential.first, [count * width, d], dy, x, None);
        if let Some(dbias) = gradients.get_mut(differential.bias()) {
            device.sum_rows(dy, dbias);
        }
    }
}
