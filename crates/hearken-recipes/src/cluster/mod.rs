//! How fast a run would be on machines that are not here: a discrete-event model of what ranks and servers do.
//!
//! Clocks of ranks and servers go from event to event: a rank has passed over its records, a portion of the gradients has been exchanged, a
//! completion has ended. What each takes comes from measured speeds and from the bandwidth and latency of what
//! connects them; who has which records, and in which portions gradients travel, is as [`hearken_run::ranks`] does it.
//!
//! | [`steps`] | steps that ranks make together |
//! |---|---|
//! | [`iterations`] | iterations of sampling and training, at once or ahead |
//!
//! Not here: memory, which [`crate::memory`] plans, and the tokens of a second per rank, which [`mod@crate::bench`] measures.

mod events;
mod lengths;
mod network;
mod rollouts;
mod training;

pub use lengths::Lengths;
pub use network::{Network, Summation};
pub use rollouts::{Iterated, IterationPlan, Sampler, iterations};
pub use training::{Bound, Draws, Step, StepPlan, Trainer, steps};

#[cfg(test)]
mod tests;
