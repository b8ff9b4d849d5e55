//! A pole on a cart that is pushed left or right.
//!
//! Barto, Sutton and Anderson 1983, with the constants of Gymnasium's `CartPole-v1`: explicit Euler steps of
//! 0.02 s, so that positions move with the velocities of before.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Transition;

const GRAVITY: f64 = 9.8;
const CART_MASS: f64 = 1.0;
const POLE_MASS: f64 = 0.1;
const TOTAL_MASS: f64 = POLE_MASS + CART_MASS;
const HALF_LENGTH: f64 = 0.5;
const POLE_MOMENT: f64 = POLE_MASS * HALF_LENGTH;
const FORCE: f64 = 10.0;
const SECONDS: f64 = 0.02;
/// Twelve degrees.
const ANGLE_MAX: f64 = 12.0 * 2.0 * std::f64::consts::PI / 360.0;
const POSITION_MAX: f64 = 2.4;

/// x, ẋ, θ, θ̇.
pub(crate) fn step(state: &mut [f64], action: usize) -> Transition {
    let [x, x_dot, theta, theta_dot] = [state[0], state[1], state[2], state[3]];
    let force = if action == 1 { FORCE } else { -FORCE };
    let (sin, cos) = (theta.sin(), theta.cos());
    let push = (force + POLE_MOMENT * (theta_dot * theta_dot) * sin) / TOTAL_MASS;
    let theta_acc = (GRAVITY * sin - cos * push)
        / (HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * (cos * cos) / TOTAL_MASS));
    let x_acc = push - POLE_MOMENT * theta_acc * cos / TOTAL_MASS;
    state[0] = x + SECONDS * x_dot;
    state[1] = x_dot + SECONDS * x_acc;
    state[2] = theta + SECONDS * theta_dot;
    state[3] = theta_dot + SECONDS * theta_acc;
    // The step that fails is rewarded like the others.
    Transition { reward: 1.0, terminated: is_over(state) }
}

fn is_over(state: &[f64]) -> bool {
    POSITION_MAX < state[0].abs() || ANGLE_MAX < state[2].abs()
}

/// −|θ| − |x|. Where it is over, as little as this can be: a pole that has fallen in the middle is worse than one that stands
/// elsewhere.
pub(crate) fn utility(state: &[f64]) -> f64 {
    if is_over(state) { -ANGLE_MAX - POSITION_MAX } else { -state[2].abs() - state[0].abs() }
}

/// Uniform within ±0.05.
pub(crate) fn reset(state: &mut [f64], rng: &mut ChaCha8Rng) {
    state.fill_with(|| rng.random_range(-0.05..0.05));
}

/// The state itself.
pub(crate) fn observe(state: &[f64], observation: &mut [f32]) {
    for (seen, &value) in observation.iter_mut().zip(state) {
        *seen = value as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pole_that_has_fallen_is_worse_than_any_that_stands() {
        assert_eq!(utility(&[-1.0, 3.0, 0.125, 4.0]), -1.125);
        let least = utility(&[POSITION_MAX, 0.0, -ANGLE_MAX, 0.0]);
        for over in [[0.0, 0.0, 0.22, 0.0], [0.0, 0.0, -1.5, 0.0], [-2.5, 0.0, 0.0, 0.0]] {
            assert_eq!(utility(&over), least);
        }
    }
}
