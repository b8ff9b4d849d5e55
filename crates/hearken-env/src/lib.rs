//! Environments: the dynamics of control tasks, many copies at a time, here or in another process.
//!
//! A [`ControlTask`] is a rule for states, actions and rewards, exact to Gymnasium's of the same id; an
//! [`EnvironmentId`] names one and says how its episodes end, or names an environment that another process serves;
//! [`Environments`] holds copies of one and steps them. The end of an episode is a [`StepEnd`], so that a time limit is never taken for the end of the task.
//!
//! States are `f64`, observations `f32`, as Gymnasium has them. Randomness is an argument: a reset draws from the
//! generator that it is given.
//!
//! Not here: policies, learning, files.
#![deny(missing_docs)]
#![allow(clippy::float_cmp)] // Dynamics compare with the bounds that they clip to.

mod dynamics;

pub use dynamics::gridworld;

mod step;

mod action;

mod spaces;

mod task;

mod id;

mod served;

mod drawing;

mod environments;

mod replay;

pub use action::{Action, ActionSpace};
pub use drawing::draw;
pub use environments::{EnvironmentSetup, Environments, RestoreError, Restored, Snapshot};
pub use id::{EnvironmentId, ServedBy, UnknownEnvironment, expected_names};
pub use replay::{Refused, ReplayError, Replayed, replay, replay_served};
pub use served::{Course, Making, ServerError, ServerOptions};
pub use spaces::{ObservationSpace, Spaces};
pub use step::{EnvironmentStep, Frame, StepEnd};
pub use task::ControlTask;
