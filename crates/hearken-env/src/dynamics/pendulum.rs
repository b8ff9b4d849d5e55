//! A pendulum that is swung up and held there by a torque at its joint.
//!
//! Gymnasium's `Pendulum-v1`; the angle is 0 when it stands.

use std::f64::consts::PI;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Transition;

const SPEED_MAX: f64 = 8.0;
pub(crate) const TORQUE_MAX: f64 = 2.0;
const SECONDS: f64 = 0.05;
const GRAVITY: f64 = 10.0;
const MASS: f64 = 1.0;
const LENGTH: f64 = 1.0;

/// θ, θ̇. The cost is that of the state before the step; the torque is clipped first.
pub(crate) fn step(state: &mut [f64], action: f64) -> Transition {
    let [theta, theta_dot] = [state[0], state[1]];
    let torque = action.clamp(-TORQUE_MAX, TORQUE_MAX);
    let angle = normalized(theta);
    let cost = angle * angle + 0.1 * (theta_dot * theta_dot) + 0.001 * (torque * torque);
    let acceleration =
        3.0 * GRAVITY / (2.0 * LENGTH) * theta.sin() + 3.0 / (MASS * LENGTH * LENGTH) * torque;
    let new_theta_dot = (theta_dot + acceleration * SECONDS).clamp(-SPEED_MAX, SPEED_MAX);
    state[0] = theta + new_theta_dot * SECONDS;
    state[1] = new_theta_dot;
    Transition { reward: -cost, terminated: false }
}

/// The angle in [−π, π).
pub(crate) fn normalized(theta: f64) -> f64 {
    (theta + PI).rem_euclid(2.0 * PI) - PI
}

/// θ uniform within ±π, θ̇ within ±1.
pub(crate) fn reset(state: &mut [f64], rng: &mut ChaCha8Rng) {
    state[0] = rng.random_range(-PI..PI);
    state[1] = rng.random_range(-1.0..1.0);
}

/// cos θ, sin θ, θ̇.
pub(crate) fn observe(state: &[f64], observation: &mut [f32]) {
    observation[0] = state[0].cos() as f32;
    observation[1] = state[0].sin() as f32;
    observation[2] = state[1] as f32;
}
