//! What checkpoints keep as plain numbers.

use hearken_env::Snapshot;
use serde::{Deserialize, Serialize};

use crate::normalization::{RewardScale, RunningMoments};

/// The sum of an episode's rewards, and how long it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// The undiscounted sum of the environment's rewards.
    pub total: f64,
    /// Steps.
    pub steps: u32,
}

/// What a checkpoint keeps of a learner besides networks and vectors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LearnerState {
    /// Optimizer steps made.
    pub step: u64,
    /// The copies of the environment.
    pub environments: Snapshot,
    /// Their episodes so far.
    pub episodes: Vec<Episode>,
    /// Episodes begun.
    pub resets: u64,
    /// How observations are brought to scale, where they are.
    pub observation_moments: Option<RunningMoments>,
    /// How rewards are brought to scale, where they are.
    pub reward_scale: Option<RewardScale>,
    /// Further moments of the learner's own.
    #[serde(default)]
    pub moments: Vec<RunningMoments>,
    /// Numbers of the learner's own.
    pub own: Vec<f64>,
}
