//! One task per file: how its state changes, what is observed of it, where episodes start.

pub(crate) mod acrobot;
pub(crate) mod cart_pole;
pub(crate) mod catch;
pub mod gridworld;
pub(crate) mod mountain_car;
pub(crate) mod mountain_car_continuous;
pub(crate) mod moving_dot;
pub(crate) mod pendulum;

/// Pixels of a side of what is seen of tasks that are pictures.
pub(crate) const PIXELS_SIDE: usize = 42;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Transition {
    /// The reward of the action.
    pub(crate) reward: f64,
    /// Whether the task has ended.
    pub(crate) terminated: bool,
}
