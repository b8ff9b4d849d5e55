//! One task per file: how its state changes, what is observed of it, where episodes start.

pub(crate) mod acrobot;
pub(crate) mod cart_pole;
pub mod gridworld;
pub(crate) mod mountain_car;
pub(crate) mod mountain_car_continuous;
pub(crate) mod pendulum;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Transition {
    /// The reward of the action.
    pub(crate) reward: f64,
    /// Whether the task has ended.
    pub(crate) terminated: bool,
}
