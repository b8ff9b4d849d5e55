//! Learning: Bradley and Terry's loss, Adam, and when to stop.

use hearken_objective::bradley_terry::{BradleyTerry, Comparison};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::FeatureOptions;
use super::network::Weights;

/// A pair in standardized features.
pub(super) struct Standardized {
    pub(super) first: Vec<f64>,
    pub(super) second: Vec<f64>,
    pub(super) target: f64,
}

/// −t·log σ(d) − (1 − t)·log σ(−d) for a margin d, and its derivative with respect to d.
pub(super) fn loss(margin: f64, target: f64) -> (f64, f64) {
    let comparison = Comparison { probability: target, ..Comparison::new(margin, 0.0) };
    let loss = BradleyTerry::PLAIN.loss(comparison);
    (loss.loss, loss.grad_chosen)
}

impl Standardized {
    pub(super) fn margin(&self, weights: &Weights) -> f64 {
        weights.score(&self.first) - weights.score(&self.second)
    }
}

/// The sum of losses, and its gradient added to `gradient`.
pub(super) fn add_loss(weights: &Weights, pair: &Standardized, gradient: &mut [f64]) -> f64 {
    let (value, by_margin) = loss(pair.margin(weights), pair.target);
    weights.add_gradient(&pair.first, by_margin, gradient);
    weights.add_gradient(&pair.second, -by_margin, gradient);
    value
}

fn mean_loss(weights: &Weights, pairs: &[Standardized]) -> f64 {
    let sum: f64 = pairs.iter().map(|pair| loss(pair.margin(weights), pair.target).0).sum();
    sum / pairs.len() as f64
}

/// The weights after learning, and the epochs that they took.
pub(super) struct Learned {
    pub(super) weights: Weights,
    pub(super) epochs: usize,
}

/// When to stop.
pub(super) enum Until<'a> {
    /// The loss on these pairs has not fallen for a while; the weights with the least are kept.
    Validated(&'a [Standardized]),
    /// So many epochs.
    Epochs(usize),
}

/// Learns from `pairs`, of which there is at least one.
pub(super) fn learn(
    start: Weights,
    pairs: &[Standardized],
    until: &Until<'_>,
    options: &FeatureOptions,
    rng: &mut ChaCha8Rng,
) -> Learned {
    let mut adam = Adam::new(start.values.len(), options);
    let mut weights = start;
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    let (epochs, validation) = match until {
        Until::Validated(pairs) => (options.epochs_max, Some(*pairs)),
        Until::Epochs(epochs) => (*epochs, None),
    };
    let mut best = Learned { weights: weights.clone(), epochs: 0 };
    let mut least = validation.map_or(0.0, |pairs| mean_loss(&weights, pairs));
    for epoch in 1..=epochs {
        order.shuffle(rng);
        for minibatch in order.chunks(options.minibatch) {
            let mut gradient = vec![0.0; weights.values.len()];
            for &i in minibatch {
                add_loss(&weights, &pairs[i], &mut gradient);
            }
            for g in &mut gradient {
                *g /= minibatch.len() as f64;
            }
            adam.step(&mut weights.values, &gradient);
        }
        let Some(validation) = validation else { continue };
        let loss = mean_loss(&weights, validation);
        if loss < least {
            least = loss;
            best = Learned { weights: weights.clone(), epochs: epoch };
        } else if epoch >= best.epochs + options.patience {
            break;
        }
    }
    if validation.is_some() { best } else { Learned { weights, epochs } }
}

/// Adam with decoupled weight decay (Loshchilov and Hutter 2019), its usual constants.
struct Adam {
    first: Vec<f64>,
    second: Vec<f64>,
    steps: i32,
    learning_rate: f64,
    decay: f64,
}

impl Adam {
    fn new(parameters: usize, options: &FeatureOptions) -> Self {
        Self {
            first: vec![0.0; parameters],
            second: vec![0.0; parameters],
            steps: 0,
            learning_rate: options.learning_rate,
            decay: options.weight_decay,
        }
    }

    fn step(&mut self, values: &mut [f64], gradient: &[f64]) {
        const BETA: [f64; 2] = [0.9, 0.999];
        const EPSILON: f64 = 1e-8;
        self.steps += 1;
        let [unbias_first, unbias_second] = BETA.map(|beta| 1.0 - beta.powi(self.steps));
        for (i, g) in gradient.iter().enumerate() {
            self.first[i] = BETA[0] * self.first[i] + (1.0 - BETA[0]) * g;
            self.second[i] = BETA[1] * self.second[i] + (1.0 - BETA[1]) * g * g;
            let rate = (self.second[i] / unbias_second).sqrt() + EPSILON;
            let change = self.first[i] / unbias_first / rate + self.decay * values[i];
            values[i] -= self.learning_rate * change;
        }
    }
}
