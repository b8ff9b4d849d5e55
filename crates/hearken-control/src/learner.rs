//! What learns: whoever acts in copies of an environment and updates networks.

use hearken_run::seeds::Seeds;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::kept::Kept;
use crate::network::Network;
use crate::saved::Acting;

/// A learner between two iterations.
pub trait Learner {
    /// Acts and updates, once; returns what is to be written down.
    ///
    /// # Errors
    /// The name of what holds a NaN or an infinity.
    fn advance(&mut self, seeds: Seeds, iteration: u64)
    -> Result<Map<String, Value>, &'static str>;

    /// Steps of an iteration, in all copies together.
    fn steps_per_iteration(&self) -> u64;

    /// Optimizer steps made.
    fn step(&self) -> u64;

    /// The policy as it is.
    fn acting(&self) -> Acting;

    /// The networks by name, the policy first.
    fn networks(&self) -> Vec<(&'static str, &Network)>;

    /// The same, to change them.
    fn networks_mut(&mut self) -> Vec<(&'static str, &mut Network)>;

    /// What a checkpoint keeps besides networks.
    fn kept(&self) -> Kept;

    /// Goes on from what a checkpoint kept.
    ///
    /// # Errors
    /// What was found and expected, if it is of another learner.
    fn restore(&mut self, kept: Kept) -> Result<(), String>;

    /// Long vectors that a checkpoint keeps besides: rows of experience, by name and shape.
    fn vectors(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        Vec::new()
    }

    /// Takes what [`Learner::vectors`] gave; `read` has a tensor by name and shape.
    ///
    /// # Errors
    /// Those of `read`.
    fn restore_vectors<E>(
        &mut self,
        _read: impl Fn(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<(), E>
    where
        Self: Sized,
    {
        Ok(())
    }
}

/// A record's fields, of a plain struct.
pub(crate) fn fields(record: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(record) {
        Ok(Value::Object(fields)) => fields,
        _ => unreachable!("records are plain structs"),
    }
}
