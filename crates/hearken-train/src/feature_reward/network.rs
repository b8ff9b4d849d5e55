//! The network: as it is kept, and as it computes.

use hearken_model::{Mlp, MlpShape};
use hearken_tensor::reference::Values;
use hearken_tensor::{Reference, device};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// What a hidden unit computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The hyperbolic tangent.
    Tanh,
    /// max(0, x).
    Relu,
}

/// A score from features.
///
/// ```text
/// r(x) = v·a(W·z + b)      z_j = (x_j − mean_j)/deviation_j
/// ```
///
/// There is no bias of the output: it cancels in every comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureNetwork {
    /// The features, in the order of the inputs.
    pub features: Vec<String>,
    /// What a hidden unit computes.
    pub activation: Activation,
    /// Mean of each feature over the training answers.
    pub mean: Vec<f64>,
    /// Standard deviation of each feature; 1 where it never varies.
    pub deviation: Vec<f64>,
    /// W, `hidden × features`.
    pub hidden_weights: Vec<Vec<f64>>,
    /// b, `hidden`.
    pub hidden_bias: Vec<f64>,
    /// v, `hidden`.
    pub output_weights: Vec<f64>,
}

/// Mean and deviation per feature.
pub(super) struct Scale {
    pub(super) mean: Vec<f64>,
    pub(super) deviation: Vec<f64>,
}

impl Scale {
    /// Of rows of features; there is at least one.
    pub(super) fn of<'a>(rows: impl Iterator<Item = &'a [f64]> + Clone) -> Self {
        let n = rows.clone().count() as f64;
        let features = rows.clone().next().map_or(0, <[f64]>::len);
        let mut mean = vec![0.0; features];
        rows.clone().for_each(|row| mean.iter_mut().zip(row).for_each(|(m, x)| *m += x / n));
        let mut squares = vec![0.0; features];
        for row in rows {
            for ((square, x), m) in squares.iter_mut().zip(row).zip(&mean) {
                *square += (x - m).powi(2) / n;
            }
        }
        // What varies by rounding alone does not vary.
        let spread = |(square, m): (f64, &f64)| {
            let deviation = square.sqrt();
            if deviation > 1e-9 * (1.0 + m.abs()) { deviation } else { 1.0 }
        };
        let deviation = squares.into_iter().zip(&mean).map(spread).collect();
        Self { mean, deviation }
    }

    pub(super) fn standardize(&self, features: &[f64]) -> Vec<f64> {
        let scaled = self.mean.iter().zip(&self.deviation);
        features.iter().zip(scaled).map(|(x, (m, d))| (x - m) / d).collect()
    }
}

/// The network without names and scale, of one hidden layer; in f64, so that it is the same on every
/// machine.
pub(super) type Network = Mlp<Reference>;

/// A network with fresh weights.
pub(super) fn draw(
    inputs: usize,
    hidden: usize,
    activation: Activation,
    rng: &mut ChaCha8Rng,
) -> Network {
    let activation = match activation {
        Activation::Tanh => device::Activation::Tanh,
        Activation::Relu => device::Activation::Relu,
    };
    // A bias of the output would cancel in every comparison.
    let shape = MlpShape { widths: vec![inputs, hidden, 1], activation, output_bias: false };
    Mlp::new(Reference, &shape, rng)
}

/// Rows of standardized features, one after the other.
pub(super) fn rows<'a>(rows: impl Iterator<Item = &'a [f64]>) -> Values {
    Values(rows.flatten().copied().collect())
}

/// r of each of `n` rows of standardized features.
pub(super) fn scores(network: &Network, rows: &Values, n: usize) -> Vec<f64> {
    network.forward(rows, n).output().0.clone()
}

impl FeatureNetwork {
    /// The score of an answer; higher is better, and only differences mean something.
    ///
    /// # Panics
    /// If the number of features is not that of the network.
    pub fn score(&self, features: &[f64]) -> f64 {
        assert_eq!(features.len(), self.features.len(), "one number per feature");
        let scale = Scale { mean: self.mean.clone(), deviation: self.deviation.clone() };
        scores(&self.network(), &Values(scale.standardize(features)), 1)[0]
    }

    /// Gives names and scale to what was learned.
    pub(super) fn new(
        network: &Network,
        activation: Activation,
        features: &[String],
        scale: &Scale,
    ) -> Self {
        let [weights, bias, outputs] = [0, 1, 2].map(|index| &network.params()[index].values.0);
        Self {
            features: features.to_vec(),
            activation,
            mean: scale.mean.clone(),
            deviation: scale.deviation.clone(),
            hidden_weights: weights.chunks_exact(features.len()).map(<[f64]>::to_vec).collect(),
            hidden_bias: bias.clone(),
            output_weights: outputs.clone(),
        }
    }

    fn network(&self) -> Network {
        let rng = &mut ChaCha8Rng::seed_from_u64(0);
        let mut network = draw(self.features.len(), self.hidden_bias.len(), self.activation, rng);
        let weights = self.hidden_weights.concat();
        let values = [&weights, &self.hidden_bias, &self.output_weights];
        network.params_mut().update(|index, param| param.0.clone_from(values[index]));
        network
    }

    /// Whether its numbers fit together.
    pub(super) fn check(&self) -> Result<(), String> {
        let (inputs, hidden) = (self.features.len(), self.hidden_bias.len());
        let sizes = [
            ("mean", self.mean.len(), inputs),
            ("deviation", self.deviation.len(), inputs),
            ("hidden_weights", self.hidden_weights.len(), hidden),
            ("output_weights", self.output_weights.len(), hidden),
        ];
        for (name, found, expected) in sizes {
            if found != expected {
                return Err(format!("{name:?} has {found} entries, expected {expected}"));
            }
        }
        match self.hidden_weights.iter().position(|row| row.len() != inputs) {
            Some(unit) => Err(format!(
                "row {unit} of \"hidden_weights\" has {} numbers, expected {inputs}",
                self.hidden_weights[unit].len()
            )),
            None => Ok(()),
        }
    }
}
