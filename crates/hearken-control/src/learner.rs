//! What learns: whoever acts in copies of an environment and updates networks.

use std::path::{Path, PathBuf};

use hearken_config::OptimizerConfig;
use hearken_env::ServerError;
use hearken_run::error::RunDirError;
use hearken_run::schedule::Schedule;
use hearken_run::seeds::Seeds;
use hearken_store::StoreError;
use hearken_tensor::device::AdamW;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::kept::LearnerState;
use crate::network::Network;
use crate::saved::{Acting, SavedError};

/// Why an iteration does not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum AdvanceError {
    /// A number is not finite.
    #[error("found NaN or infinity in {0}")]
    NotFinite(&'static str),
    /// The process that serves the environment fails.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// What is asked of people cannot be kept or read.
    #[error(transparent)]
    Asked(#[from] AskedError),
}

/// Why people cannot be asked, or what they said cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AskedError {
    /// The store of the labelling service.
    #[error("`preference.people.store`: {0}")]
    Store(#[from] StoreError),
    /// It is not the one in which people were asked.
    #[error(
        "`preference.people.store`: {message}; {placed} queries of this run wait there, so put the store back, or begin anew with --fresh"
    )]
    Lost {
        /// What was found.
        message: String,
        /// How many were put there.
        placed: usize,
    },
    /// A file of the run directory cannot be written.
    #[error(transparent)]
    Unwritten(#[from] RunDirError),
    /// A file of the run directory cannot be read.
    #[error("{}: {message}", path.display())]
    Unread {
        /// The file.
        path: PathBuf,
        /// What was found, and what was expected.
        message: String,
    },
}

/// What a learner waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct Awaited {
    /// A sentence that says so.
    pub text: String,
    /// Seconds until it is looked at again.
    pub poll_s: f64,
}

impl From<&'static str> for AdvanceError {
    fn from(what: &'static str) -> Self {
        Self::NotFinite(what)
    }
}

/// A learner between two iterations.
pub trait Learner {
    /// Acts and updates, once; returns what is to be written down.
    ///
    /// # Errors
    /// If a number is not finite, or the environment's server fails.
    fn advance(&mut self, seeds: Seeds, iteration: u64)
    -> Result<Map<String, Value>, AdvanceError>;

    /// What has to come before the next iteration; `None` where that may begin. It is asked again until then.
    ///
    /// # Errors
    /// If it cannot be found out.
    fn awaited(&mut self) -> Result<Option<Awaited>, AdvanceError> {
        Ok(None)
    }

    /// Steps of an iteration, in all copies together.
    fn steps_per_iteration(&self) -> u64;

    /// Iterations of a run of so many environment steps; a learner that takes none has a length of its own.
    fn iterations(&self, environment_steps: u64) -> u64 {
        environment_steps.div_ceil(self.steps_per_iteration())
    }

    /// Whether there is nothing more to be learned, so that the run ends early.
    fn is_done(&self) -> bool {
        false
    }

    /// Writes what a finished run leaves beside its policy into the policy's folder.
    ///
    /// # Errors
    /// If a file cannot be written.
    fn save_beside(&self, _dir: &Path) -> Result<(), SavedError> {
        Ok(())
    }

    /// Optimizer steps made.
    fn step(&self) -> u64;

    /// The policy as it is.
    fn acting(&self) -> Acting;

    /// The networks by name, the policy first.
    fn networks(&self) -> Vec<(&'static str, &Network)>;

    /// The same, to change them.
    fn networks_mut(&mut self) -> Vec<(&'static str, &mut Network)>;

    /// What a checkpoint keeps besides networks.
    fn kept(&self) -> LearnerState;

    /// Goes on from what a checkpoint kept.
    ///
    /// # Errors
    /// What was found and expected, if it is of another learner.
    fn restore(&mut self, kept: LearnerState) -> Result<(), String>;

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

/// Optimizer step `step` as the configuration has it, without clipping.
pub(crate) fn adam(optimizer: &OptimizerConfig, schedule: &Schedule, step: u64) -> AdamW {
    AdamW {
        lr: schedule.learning_rate(step),
        beta1: *optimizer.betas[0],
        beta2: *optimizer.betas[1],
        eps: *optimizer.eps,
        weight_decay: *optimizer.weight_decay,
        step,
        grad_scale: 1.0,
    }
}

/// Clips the gradients of one network, and steps.
///
/// # Errors
/// `what`, if they are not finite.
pub(crate) fn clipped_update(
    network: &mut Network,
    step: AdamW,
    optimizer: &OptimizerConfig,
    what: &'static str,
) -> Result<(), &'static str> {
    let norm = network.gradient_squares().sqrt();
    if !norm.is_finite() {
        return Err(what);
    }
    let max = optimizer.grad_norm_max;
    let grad_scale = max.map_or(1.0, |max| (*max / (norm + 1e-6)).min(1.0));
    network.update(AdamW { grad_scale, ..step });
    Ok(())
}
