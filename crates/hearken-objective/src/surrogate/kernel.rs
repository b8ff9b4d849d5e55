//! The loss of one token as a function of its ratio, its log-probability and its advantage.

use super::{Clip, Surrogate, Vespo};
use crate::numerics::sigmoid;

/// Where a token's loss is evaluated.
#[derive(Clone, Copy)]
pub(super) struct Point {
    pub(super) log_ratio: f64,
    pub(super) logprob: f64,
    pub(super) advantage: f64,
}

/// Where a ratio lies when its loss is flat.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FlatSide {
    Low,
    Inside,
    High,
}

/// A token's loss; it depends on the log-ratio, on the log-probability itself, or on neither.
#[derive(Clone, Copy)]
pub(super) struct Value {
    pub(super) loss: f64,
    pub(super) grad_log_ratio: f64,
    pub(super) grad_logprob: f64,
    pub(super) side: FlatSide,
}

impl Surrogate {
    /// The loss at one token.
    pub(super) fn at(self, point: Point) -> Value {
        let Point { log_ratio, advantage, .. } = point;
        match self {
            // GMPO couples the tokens of a completion and has its own function.
            Self::Reinforce | Self::Gmpo { .. } => weighted(1.0, FlatSide::Inside, point),
            Self::Clipped { clip } => clipped(log_ratio.exp(), advantage, clip),
            Self::DualClipped { clip, bound } => dual(log_ratio.exp(), advantage, clip, bound),
            Self::Cispo { min, max } => {
                let ratio = log_ratio.exp();
                let side = if max < ratio {
                    FlatSide::High
                } else if ratio < min {
                    FlatSide::Low
                } else {
                    FlatSide::Inside
                };
                weighted(ratio.clamp(min, max), side, point)
            }
            Self::Sapo { positive_temperature, negative_temperature } => {
                let temperature =
                    if 0.0 < advantage { positive_temperature } else { negative_temperature };
                gated(log_ratio.exp(), advantage, temperature)
            }
            Self::Vespo { positive, negative } => {
                let exponents = if 0.0 <= advantage { positive } else { negative };
                weighted(exponents.weight(log_ratio), FlatSide::Inside, point)
            }
        }
    }
}

impl Vespo {
    /// φ(w; k, λ) = w^k·e^{λ(1 − w)}, from ln w: 1 at w = 1, largest at w = k/λ, 0 in both limits.
    pub(super) fn weight(self, log_weight: f64) -> f64 {
        (self.power * log_weight + self.decay * (1.0 - log_weight.exp())).exp()
    }
}

/// −weight·Â·log π, the weight taken as a constant.
fn weighted(weight: f64, side: FlatSide, point: Point) -> Value {
    let grad_logprob = -weight * point.advantage;
    Value { loss: grad_logprob * point.logprob, grad_log_ratio: 0.0, grad_logprob, side }
}

fn clipped(ratio: f64, advantage: f64, clip: Clip) -> Value {
    let bounded = ratio.clamp(1.0 - clip.low, 1.0 + clip.high);
    if bounded * advantage < ratio * advantage {
        let side = if bounded < ratio { FlatSide::High } else { FlatSide::Low };
        flat(-bounded * advantage, side)
    } else {
        let loss = -ratio * advantage;
        Value { loss, grad_log_ratio: loss, grad_logprob: 0.0, side: FlatSide::Inside }
    }
}

fn dual(ratio: f64, advantage: f64, clip: Clip, bound: f64) -> Value {
    let value = clipped(ratio, advantage, clip);
    if advantage < 0.0 && -advantage * bound < value.loss {
        flat(-advantage * bound, FlatSide::High)
    } else {
        value
    }
}

fn gated(ratio: f64, advantage: f64, temperature: f64) -> Value {
    let s = sigmoid(temperature * (ratio - 1.0));
    // d/d log ρ of (4/τ)·σ(τ(ρ−1)) is 4·σ(1−σ)·ρ.
    Value {
        loss: -4.0 / temperature * s * advantage,
        grad_log_ratio: -4.0 * s * (1.0 - s) * ratio * advantage,
        grad_logprob: 0.0,
        side: FlatSide::Inside,
    }
}

fn flat(loss: f64, side: FlatSide) -> Value {
    Value { loss, grad_log_ratio: 0.0, grad_logprob: 0.0, side }
}
