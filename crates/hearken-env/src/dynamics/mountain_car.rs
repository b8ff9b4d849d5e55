//! A car in a valley whose engine is too weak for the hill: it has to swing.
//!
//! Moore 1990, as Gymnasium's `MountainCar-v0` has it.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Transition;

pub(crate) const POSITION_MIN: f64 = -1.2;
pub(crate) const POSITION_MAX: f64 = 0.6;
pub(crate) const SPEED_MAX: f64 = 0.07;
pub(crate) const GRAVITY: f64 = 0.0025;
const GOAL: f64 = 0.5;
const FORCE: f64 = 0.001;

/// Position and velocity.
pub(crate) fn step(state: &mut [f64], action: usize) -> Transition {
    let [mut position, mut velocity] = [state[0], state[1]];
    velocity += (action as f64 - 1.0) * FORCE + (3.0 * position).cos() * -GRAVITY;
    velocity = velocity.clamp(-SPEED_MAX, SPEED_MAX);
    position = (position + velocity).clamp(POSITION_MIN, POSITION_MAX);
    if position == POSITION_MIN && velocity < 0.0 {
        velocity = 0.0;
    }
    (state[0], state[1]) = (position, velocity);
    Transition { reward: -1.0, terminated: GOAL <= position && 0.0 <= velocity }
}

/// In the valley, at rest.
pub(crate) fn reset(state: &mut [f64], rng: &mut ChaCha8Rng) {
    state[0] = rng.random_range(-0.6..-0.4);
    state[1] = 0.0;
}

/// The state itself.
pub(crate) fn observe(state: &[f64], observation: &mut [f32]) {
    observation[0] = state[0] as f32;
    observation[1] = state[1] as f32;
}
