//! The network and its gradient.

use rand::{Rng, RngExt};
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

/// Weights without names and scale: what the optimizer sees as one list of numbers, W by rows, then b, then v.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Weights {
    pub(super) inputs: usize,
    pub(super) hidden: usize,
    pub(super) activation: Activation,
    pub(super) values: Vec<f64>,
}

impl Weights {
    /// Glorot's uniform initialization; biases 0.
    pub(super) fn draw(
        inputs: usize,
        hidden: usize,
        activation: Activation,
        rng: &mut impl Rng,
    ) -> Self {
        let mut uniform = |fan_in: usize, fan_out: usize| {
            let bound = (6.0 / (fan_in + fan_out) as f64).sqrt();
            rng.random_range(-bound..bound)
        };
        let mut values: Vec<f64> = (0..inputs * hidden).map(|_| uniform(inputs, hidden)).collect();
        values.extend(vec![0.0; hidden]);
        values.extend((0..hidden).map(|_| uniform(hidden, 1)));
        Self { inputs, hidden, activation, values }
    }

    fn bias(&self, unit: usize) -> f64 {
        self.values[self.inputs * self.hidden + unit]
    }

    fn output(&self, unit: usize) -> f64 {
        self.values[(self.inputs + 1) * self.hidden + unit]
    }

    fn row(&self, unit: usize) -> &[f64] {
        &self.values[unit * self.inputs..(unit + 1) * self.inputs]
    }

    /// What a unit computes, and its slope.
    fn unit(&self, unit: usize, z: &[f64]) -> (f64, f64) {
        let sum: f64 = self.row(unit).iter().zip(z).map(|(w, x)| w * x).sum();
        let sum = sum + self.bias(unit);
        match self.activation {
            Activation::Tanh => {
                let a = sum.tanh();
                (a, 1.0 - a * a)
            }
            Activation::Relu => (sum.max(0.0), f64::from(u8::from(sum > 0.0))),
        }
    }

    /// r of standardized features.
    pub(super) fn score(&self, z: &[f64]) -> f64 {
        (0..self.hidden).map(|unit| self.output(unit) * self.unit(unit, z).0).sum()
    }

    /// Adds `by_score`·∂r/∂weights at `z` to `gradient`.
    pub(super) fn add_gradient(&self, z: &[f64], by_score: f64, gradient: &mut [f64]) {
        let (biases, outputs) = (self.inputs * self.hidden, (self.inputs + 1) * self.hidden);
        for unit in 0..self.hidden {
            let (a, slope) = self.unit(unit, z);
            gradient[outputs + unit] += by_score * a;
            let by_sum = by_score * self.output(unit) * slope;
            gradient[biases + unit] += by_sum;
            let row = &mut gradient[unit * self.inputs..(unit + 1) * self.inputs];
            row.iter_mut().zip(z).for_each(|(g, x)| *g += by_sum * x);
        }
    }

    pub(super) fn network(&self, features: &[String], scale: &Scale) -> FeatureNetwork {
        FeatureNetwork {
            features: features.to_vec(),
            activation: self.activation,
            mean: scale.mean.clone(),
            deviation: scale.deviation.clone(),
            hidden_weights: (0..self.hidden).map(|unit| self.row(unit).to_vec()).collect(),
            hidden_bias: (0..self.hidden).map(|unit| self.bias(unit)).collect(),
            output_weights: (0..self.hidden).map(|unit| self.output(unit)).collect(),
        }
    }
}

impl FeatureNetwork {
    /// The score of an answer; higher is better, and only differences mean something.
    ///
    /// # Panics
    /// If the number of features is not that of the network.
    pub fn score(&self, features: &[f64]) -> f64 {
        assert_eq!(features.len(), self.features.len(), "one number per feature");
        let scale = Scale { mean: self.mean.clone(), deviation: self.deviation.clone() };
        self.weights().score(&scale.standardize(features))
    }

    fn weights(&self) -> Weights {
        let values = self.hidden_weights.iter().flatten();
        let values = values.chain(&self.hidden_bias).chain(&self.output_weights).copied().collect();
        Weights {
            inputs: self.features.len(),
            hidden: self.hidden_bias.len(),
            activation: self.activation,
            values,
        }
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
