//! Two links that hang from a joint, with a torque between them: the tip has to rise above the joint by a link's
//! length.
//!
//! Sutton 1996, as Gymnasium's `Acrobot-v1` has it: the dynamics of Sutton and Barto's book, one step of
//! Runge and Kutta's fourth-order method of 0.2 s. Both links have length, mass and moment of inertia 1, and their
//! center of mass in the middle.

use std::f64::consts::PI;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Transition;

const GRAVITY: f64 = 9.8;
const CENTER: f64 = 0.5;
const SECONDS: f64 = 0.2;
const SPEED_MAX_1: f64 = 4.0 * PI;
const SPEED_MAX_2: f64 = 9.0 * PI;
/// Above it an angle is wrapped at once: subtracting turns one by one would not end.
const WRAPPED_ONE_BY_ONE: f64 = 1e6;

/// θ₁, θ₂, ω₁, ω₂.
pub(crate) fn step(state: &mut [f64], action: usize) -> Transition {
    let torque = action as f64 - 1.0;
    let y = [state[0], state[1], state[2], state[3]];
    let along = |slope: [f64; 4], by: f64| std::array::from_fn(|i| y[i] + by * slope[i]);
    let k1 = derivative(y, torque);
    let k2 = derivative(along(k1, SECONDS / 2.0), torque);
    let k3 = derivative(along(k2, SECONDS / 2.0), torque);
    let k4 = derivative(along(k3, SECONDS), torque);
    for i in 0..4 {
        state[i] = y[i] + SECONDS / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]);
    }
    state[0] = wrapped(state[0]);
    state[1] = wrapped(state[1]);
    state[2] = state[2].clamp(-SPEED_MAX_1, SPEED_MAX_1);
    state[3] = state[3].clamp(-SPEED_MAX_2, SPEED_MAX_2);
    let terminated = 1.0 < tip_height(state);
    Transition { reward: if terminated { 0.0 } else { -1.0 }, terminated }
}

/// How far the tip is above the joint.
pub(crate) fn tip_height(state: &[f64]) -> f64 {
    -state[0].cos() - (state[1] + state[0]).cos()
}

fn derivative([theta1, theta2, omega1, omega2]: [f64; 4], torque: f64) -> [f64; 4] {
    let (sin2, cos2) = (theta2.sin(), theta2.cos());
    let d1 = CENTER * CENTER + (1.0 + CENTER * CENTER + 2.0 * CENTER * cos2) + 1.0 + 1.0;
    let d2 = (CENTER * CENTER + CENTER * cos2) + 1.0;
    let phi2 = CENTER * GRAVITY * (theta1 + theta2 - PI / 2.0).cos();
    let phi1 = -CENTER * (omega2 * omega2) * sin2 - 2.0 * CENTER * omega2 * omega1 * sin2
        + (CENTER + 1.0) * GRAVITY * (theta1 - PI / 2.0).cos()
        + phi2;
    let alpha2 = (torque + d2 / d1 * phi1 - CENTER * (omega1 * omega1) * sin2 - phi2)
        / (CENTER * CENTER + 1.0 - d2 * d2 / d1);
    [omega1, omega2, -(d2 * alpha2 + phi1) / d1, alpha2]
}

/// The angle in [−π, π].
fn wrapped(mut angle: f64) -> f64 {
    const TURN: f64 = PI - -PI;
    if WRAPPED_ONE_BY_ONE < angle.abs() {
        return (angle + PI).rem_euclid(TURN) - PI;
    }
    while PI < angle {
        angle -= TURN;
    }
    while angle < -PI {
        angle += TURN;
    }
    angle
}

/// Uniform within ±0.1, rounded to `f32` as in Gymnasium.
pub(crate) fn reset(state: &mut [f64], rng: &mut ChaCha8Rng) {
    state.fill_with(|| f64::from(rng.random_range(-0.1..0.1) as f32));
}

/// cos θ₁, sin θ₁, cos θ₂, sin θ₂, ω₁, ω₂.
pub(crate) fn observe(state: &[f64], observation: &mut [f32]) {
    observation[0] = state[0].cos() as f32;
    observation[1] = state[0].sin() as f32;
    observation[2] = state[1].cos() as f32;
    observation[3] = state[1].sin() as f32;
    observation[4] = state[2] as f32;
    observation[5] = state[3] as f32;
}
