//! What a policy's network says of actions: sampling, log-probabilities and their derivatives.

use hearken_env::{ActionSpace, Spaces};
use hearken_objective::distribution::{
    ActionLogprob, Slopes, Squashed, categorical, categorical_backward, gaussian,
    gaussian_backward, log_softmax, squashed_gaussian,
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::actions::Actions;
use crate::network::{Network, NetworkShape, Trunk, WeightDraw, normal};

/// Gain of the last layer: at first all actions are about equally likely.
const LAST_GAIN: f64 = 0.01;

/// log σ of a squashed Gaussian is kept within these.
pub(crate) const LOG_STD_RANGE: (f64, f64) = (-20.0, 2.0);

/// A dimension of an action from a row of the output of a squashed policy.
pub(crate) fn squashed(
    output: &[f32],
    dimension: usize,
    dimensions: usize,
    noise: f64,
) -> Squashed {
    let log_std = f64::from(output[dimensions + dimension]);
    let log_std = log_std.clamp(LOG_STD_RANGE.0, LOG_STD_RANGE.1);
    squashed_gaussian(f64::from(output[dimension]), log_std, noise)
}

/// What a network's output says of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// Logits.
    Categorical,
    /// Means, while log σ are parameters of their own.
    Gaussian,
    /// Means and log σ, of what the hyperbolic tangent makes an action.
    Squashed,
}

/// A policy with one network.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The network.
    pub network: Network,
    spaces: Spaces,
    head: Head,
}

/// What a policy says of the actions of some rows, kept for the way back.
#[derive(Clone, Debug, Default)]
pub struct Judgements {
    /// Log-probability and entropy, row by row.
    pub judged: Vec<ActionLogprob>,
    /// Outputs of the network, or log-probabilities of discrete actions.
    rows: Vec<f64>,
    log_stds: Vec<f64>,
    gradient: Vec<f64>,
    log_std_gradient: Vec<f64>,
}

impl Policy {
    /// A fresh policy of `hidden` layers.
    pub fn new(spaces: Spaces, trunk: Trunk<'_>, rng: &mut ChaCha8Rng) -> Self {
        let head = match spaces.actions {
            ActionSpace::Discrete { .. } => Head::Categorical,
            ActionSpace::Continuous { .. } => Head::Gaussian,
        };
        let shape = Self::shape(spaces, trunk, head);
        let draw = WeightDraw::Orthogonal { last_gain: LAST_GAIN };
        Self { network: Network::new(&shape, draw, rng), spaces, head }
    }

    /// The shape of a policy's network.
    pub fn shape(spaces: Spaces, trunk: Trunk<'_>, head: Head) -> NetworkShape {
        let space = spaces.actions;
        let outputs = if head == Head::Squashed { 2 * space.outputs() } else { space.outputs() };
        let free = if head == Head::Gaussian { space.outputs() } else { 0 };
        NetworkShape { free, ..NetworkShape::of(trunk, spaces.observation, 0, outputs) }
    }

    /// A policy of a network that is there.
    pub fn of(network: Network, spaces: Spaces, head: Head) -> Self {
        Self { network, spaces, head }
    }

    /// What it sees, and what it chooses from.
    pub fn spaces(&self) -> Spaces {
        self.spaces
    }

    /// What its network's output says.
    pub fn head(&self) -> Head {
        self.head
    }

    /// What it chooses from.
    pub fn space(&self) -> ActionSpace {
        self.spaces.actions
    }

    /// Reads rows of the network's output: log-probabilities of discrete actions, or means; and log σ.
    fn read(&self, outputs: &[f32], judgements: &mut Judgements) {
        judgements.rows.clear();
        judgements.rows.extend(outputs.iter().map(|&x| f64::from(x)));
        judgements.log_stds.clear();
        judgements.log_stds.extend(self.network.free().iter().map(|&x| f64::from(x)));
        if self.head == Head::Categorical {
            let count = self.spaces.actions.outputs();
            judgements.gradient.resize(count, 0.0);
            for row in judgements.rows.chunks_mut(count) {
                log_softmax(row, &mut judgements.gradient);
                row.copy_from_slice(&judgements.gradient);
            }
        }
    }

    /// Samples an action for every row of the network's output, and appends actions and their log-probabilities.
    pub fn sample(
        &self,
        outputs: &[f32],
        actions: &mut Actions,
        logprobs: &mut Vec<f64>,
        judgements: &mut Judgements,
        rng: &mut ChaCha8Rng,
    ) {
        self.read(outputs, judgements);
        for row in judgements.rows.chunks(self.spaces.actions.outputs()) {
            match actions {
                Actions::Discrete(indices) => {
                    let mut rest: f64 = rng.random();
                    let is_reached = |logprob: &f64| {
                        rest -= logprob.exp();
                        rest < 0.0
                    };
                    // Rounding may leave something behind the last one.
                    let index = row.iter().position(is_reached).unwrap_or(row.len() - 1);
                    indices.push(index);
                    logprobs.push(row[index]);
                }
                Actions::Continuous { values, .. } => {
                    let start = values.len();
                    for (mean, log_std) in row.iter().zip(&judgements.log_stds) {
                        values.push(mean + log_std.exp() * normal(rng));
                    }
                    logprobs.push(gaussian(row, &judgements.log_stds, &values[start..]).logprob);
                }
            }
        }
    }

    /// Appends the likeliest action.
    pub fn choose(&self, output: &[f32], actions: &mut Actions) {
        match actions {
            Actions::Discrete(indices) => {
                let best = (0..output.len()).max_by(|&a, &b| output[a].total_cmp(&output[b]));
                indices.push(best.unwrap_or(0));
            }
            Actions::Continuous { dimensions, values, .. } => {
                let means = output[..*dimensions].iter().map(|&mean| f64::from(mean));
                let is_squashed = self.head == Head::Squashed;
                values.extend(means.map(|mean| if is_squashed { mean.tanh() } else { mean }));
            }
        }
    }

    /// Log-probability and entropy of the entries of `actions`, each at its row of the network's output.
    pub fn judge(
        &self,
        outputs: &[f32],
        actions: &Actions,
        entries: &[usize],
        judgements: &mut Judgements,
    ) {
        self.read(outputs, judgements);
        let rows = judgements.rows.chunks(self.spaces.actions.outputs());
        judgements.judged.clear();
        judgements.judged.extend(rows.zip(entries).map(|(row, &entry)| match actions {
            Actions::Discrete(indices) => categorical(row, indices[entry]),
            Actions::Continuous { dimensions, values, .. } => {
                gaussian(row, &judgements.log_stds, &values[entry * dimensions..][..*dimensions])
            }
        }));
    }

    /// Writes the derivative of a loss with respect to the outputs that were judged last, of which `slopes` has that with
    /// respect to log-probability and entropy of each row, and adds that with respect to log σ.
    pub fn backward(
        &mut self,
        actions: &Actions,
        entries: &[usize],
        slopes: impl Fn(usize) -> Slopes,
        judgements: &mut Judgements,
        doutputs: &mut Vec<f32>,
    ) {
        let count = self.spaces.actions.outputs();
        let Judgements { judged, rows, log_stds, gradient, log_std_gradient } = judgements;
        doutputs.clear();
        gradient.resize(count, 0.0);
        log_std_gradient.clear();
        log_std_gradient.resize(log_stds.len(), 0.0);
        for (at, (row, &entry)) in rows.chunks(count).zip(entries).enumerate() {
            match actions {
                Actions::Discrete(indices) => {
                    let (entropy, action) = (judged[at].entropy, indices[entry]);
                    categorical_backward(row, entropy, action, slopes(at), gradient);
                }
                Actions::Continuous { dimensions, values, .. } => {
                    let action = &values[entry * dimensions..][..*dimensions];
                    let gradients = (gradient.as_mut_slice(), log_std_gradient.as_mut_slice());
                    gaussian_backward((row, log_stds), action, slopes(at), gradients);
                }
            }
            doutputs.extend(gradient.iter().map(|&gradient| gradient as f32));
        }
        for (sum, gradient) in self.network.free_gradients().iter_mut().zip(log_std_gradient) {
            *sum += *gradient as f32;
        }
    }
}
