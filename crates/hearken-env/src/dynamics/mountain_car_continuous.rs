//! The car in the valley with a throttle: Gymnasium's `MountainCarContinuous-v0`.
//!
//! Gymnasium keeps this task's state in `float32` from the first step on, and what a sum of a `float32`, a
//! `float64` and a plain Python number is depends on which of them meet (NEP 50: a plain number takes the type of
//! the other). Both are kept, since a state that is one bit off does not stay one bit off.

use super::Transition;
use super::mountain_car::{GRAVITY, POSITION_MAX, POSITION_MIN, SPEED_MAX};

const GOAL: f64 = 0.45;
const POWER: f64 = 0.0015;
pub(crate) const FORCE_MAX: f64 = 1.0;

/// A number with the type that NumPy's rules give it.
#[derive(Clone, Copy)]
enum Number {
    /// `float32`.
    Single(f32),
    /// `float64`.
    Double(f64),
    /// A plain Python number.
    Plain(f64),
}

impl Number {
    fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Single(a), Self::Single(b)) => Self::Single(a + b),
            (Self::Single(a), Self::Plain(b)) | (Self::Plain(b), Self::Single(a)) => {
                Self::Single(a + b as f32)
            }
            (Self::Plain(a), Self::Plain(b)) => Self::Plain(a + b),
            _ => Self::Double(self.double() + other.double()),
        }
    }

    fn double(self) -> f64 {
        match self {
            Self::Single(value) => f64::from(value),
            Self::Double(value) | Self::Plain(value) => value,
        }
    }

    /// A plain number as comparisons with this one see it.
    fn rounds(self, bound: f64) -> f64 {
        if matches!(self, Self::Single(_)) { f64::from(bound as f32) } else { bound }
    }

    fn at_most(self, bound: f64) -> Self {
        if self.rounds(bound) < self.double() { Self::Plain(bound) } else { self }
    }

    fn at_least(self, bound: f64) -> Self {
        if self.double() < self.rounds(bound) { Self::Plain(bound) } else { self }
    }
}

/// Whether a number is one of `float32`.
fn is_single(value: f64) -> bool {
    f64::from(value as f32) == value
}

/// Position and velocity, which are in `float32` if both are numbers of it, as Gymnasium leaves them after a step.
pub(crate) fn step(state: &mut [f64], action: f64) -> Transition {
    let single = is_single(state[0]) && is_single(state[1]);
    let of = |value: f64| if single { Number::Single(value as f32) } else { Number::Double(value) };
    let (position, velocity) = (of(state[0]), of(state[1]));
    let force = Number::Double(action).at_least(-FORCE_MAX).at_most(FORCE_MAX);
    let tripled = match position {
        Number::Single(value) => f64::from(3.0 * value),
        other => 3.0 * other.double(),
    };
    let gain = force.double() * POWER - GRAVITY * tripled.cos();
    let gain =
        if matches!(force, Number::Plain(_)) { Number::Plain(gain) } else { Number::Double(gain) };
    let velocity = velocity.plus(gain).at_most(SPEED_MAX).at_least(-SPEED_MAX);
    let position = position.plus(velocity).at_most(POSITION_MAX).at_least(POSITION_MIN);
    let at_wall = position.double() == position.rounds(POSITION_MIN) && velocity.double() < 0.0;
    let velocity = if at_wall { Number::Plain(0.0) } else { velocity };
    let terminated = position.rounds(GOAL) <= position.double() && 0.0 <= velocity.double();
    state[0] = f64::from(position.double() as f32);
    state[1] = f64::from(velocity.double() as f32);
    let goal = if terminated { 100.0 } else { 0.0 };
    // The action counts as it was given, the force as it was clipped.
    Transition { reward: goal - action * action * 0.1, terminated }
}
