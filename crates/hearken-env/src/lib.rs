//! Environments: the dynamics of control tasks, many copies at a time.
//!
//! A [`Task`] is a rule for states, actions and rewards, exact to Gymnasium's of the same id; an
//! [`EnvironmentId`] says how its episodes end; [`Environments`] holds copies of one in an array and steps
//! them. The end of an episode is a [`StepEnd`], so that a time limit is never taken for the end of the task.
//!
//! States are `f64`, observations `f32`, as Gymnasium has them. Randomness is an argument: a reset draws from the
//! generator that it is given.
//!
//! Not here: policies, learning, files.
#![deny(missing_docs)]
#![allow(clippy::float_cmp)] // Dynamics compare with the bounds that they clip to.

mod dynamics;

pub use dynamics::gridworld;

mod action;

mod task;

mod environments;

mod replay;

pub use action::{Action, ActionSpace};
pub use environments::{EnvironmentId, Environments, Snapshot, Step, StepEnd, UnknownEnvironment};
pub use replay::{Refused, Replayed, replay};
pub use task::Task;
