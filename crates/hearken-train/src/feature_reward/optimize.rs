//! Learning: Bradley and Terry's loss, and when to stop.

use hearken_config::{BelowOne, NonNegative, OptimizerConfig, ScheduleKind, Warmup};
use hearken_model::Gradients;
use hearken_objective::bradley_terry::{BradleyTerry, ScoredComparison};
use hearken_run::optimizer::{Optimizer, Trained};
use hearken_run::ranks::Ranks;
use hearken_tensor::Reference;
use hearken_tensor::reference::Values;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::FeatureOptions;
use super::network::{Network, rows, scores};

/// A pair in standardized features.
#[derive(Clone)]
pub(super) struct Standardized {
    pub(super) first: Vec<f64>,
    pub(super) second: Vec<f64>,
    pub(super) target: f64,
}

/// −t·log σ(d) − (1 − t)·log σ(−d) for a margin d, and its derivative with respect to d.
pub(super) fn loss(margin: f64, target: f64) -> (f64, f64) {
    let comparison = ScoredComparison { probability: target, ..ScoredComparison::new(margin, 0.0) };
    let loss = BradleyTerry::PLAIN.loss(comparison);
    (loss.loss, loss.grad_chosen)
}

/// r(first) − r(second) of each pair.
pub(super) fn margins(network: &Network, pairs: &[Standardized]) -> Vec<f64> {
    let scores = scores(network, &sides(pairs.iter()), 2 * pairs.len());
    scores.chunks_exact(2).map(|sides| sides[0] - sides[1]).collect()
}

/// The features of both sides of each pair.
fn sides<'a>(pairs: impl Iterator<Item = &'a Standardized>) -> Values {
    rows(pairs.flat_map(|pair| [pair.first.as_slice(), pair.second.as_slice()]))
}

/// Adds the gradient of the mean loss of some pairs to `gradients`.
pub(super) fn add_gradient(
    network: &Network,
    pairs: &[&Standardized],
    gradients: &mut Gradients<Reference>,
) {
    let x = sides(pairs.iter().copied());
    let pass = network.forward(&x, 2 * pairs.len());
    let mut slopes = Vec::with_capacity(2 * pairs.len());
    for (pair, sides) in pairs.iter().zip(pass.output().0.chunks_exact(2)) {
        let slope = loss(sides[0] - sides[1], pair.target).1 / pairs.len() as f64;
        slopes.extend([slope, -slope]);
    }
    network.backward(&x, &pass, Values(slopes), gradients);
}

fn mean_loss(network: &Network, pairs: &[Standardized]) -> f64 {
    let losses = margins(network, pairs).into_iter().zip(pairs);
    losses.map(|(margin, pair)| loss(margin, pair.target).0).sum::<f64>() / pairs.len() as f64
}

/// The network after learning, and the epochs that it took.
pub(super) struct Learned {
    pub(super) network: Network,
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
    start: Network,
    pairs: &[Standardized],
    until: &Until<'_>,
    options: &FeatureOptions,
    rng: &mut ChaCha8Rng,
) -> Learned {
    let mut network = start;
    let mut optimizer = Optimizer::new(&config(options), &[network.params()], &Ranks::default());
    let mut gradients = network.params().gradients();
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    let (epochs, validation) = match until {
        Until::Validated(pairs) => (options.epochs_max, Some(*pairs)),
        Until::Epochs(epochs) => (*epochs, None),
    };
    let mut best = Learned { network: network.clone(), epochs: 0 };
    let mut least = validation.map_or(0.0, |pairs| mean_loss(&network, pairs));
    for epoch in 1..=epochs {
        order.shuffle(rng);
        for minibatch in order.chunks(options.minibatch) {
            let minibatch: Vec<&Standardized> = minibatch.iter().map(|&i| &pairs[i]).collect();
            gradients.zero();
            add_gradient(&network, &minibatch, &mut gradients);
            let (params, lr) = (network.params_mut(), options.learning_rate.get());
            let trained = Trained { params, gradients: &mut gradients, lr };
            if optimizer.step(&mut [trained], &Ranks::default()).is_err() {
                // The weights have diverged; those before are as good as it gets.
                return if validation.is_some() { best } else { Learned { network, epochs } };
            }
        }
        let Some(validation) = validation else { continue };
        let loss = mean_loss(&network, validation);
        if loss < least {
            least = loss;
            best = Learned { network: network.clone(), epochs: epoch };
        } else if epoch >= best.epochs + options.patience {
            break;
        }
    }
    if validation.is_some() { best } else { Learned { network, epochs } }
}

/// AdamW with its usual constants, without clipping.
fn config(options: &FeatureOptions) -> OptimizerConfig {
    OptimizerConfig {
        lr: options.learning_rate,
        betas: const { [BelowOne::new(0.9).expect("below 1"), BelowOne::new(0.999).expect("below 1")] },
        eps: const { NonNegative::new(1e-8).expect("from 0") },
        weight_decay: options.weight_decay,
        grad_norm_max: None,
        schedule: ScheduleKind::Constant,
        warmup_steps: Warmup::NONE,
    }
}
