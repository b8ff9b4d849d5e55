//! Configuration: parse, resolve, freeze.
//!
//! The defaults of a trainer are its commented file under `configs/`, embedded in the program. The
//! user's file is laid over it, then each `--set`; [`Layers`] holds the result and reads sections
//! from it, naming file, key, what was found and what was expected where something is wrong. What
//! was read is frozen: [`Frozen`] goes to the run directory and is compared when a run resumes.
//!
//! Not here: what a section's keys do; see the page of the trainer under `docs/`.

mod error;
mod frozen;
mod judge;
mod kl;
mod known_keys;
mod layers;
mod rollout;
mod score;
mod sections;

pub use error::ConfigError;
pub use frozen::{Difference, Frozen, Loaded};
pub use judge::JudgeConfig;
pub(crate) use kl::EstimatorName;
pub use kl::{KlConfig, KlPlacement, KlSteering};
pub use layers::Layers;
pub use rollout::RolloutConfig;
pub use score::{ScoreConfig, SourceConfig, read_scores};
pub(crate) use sections::MICROBATCH_TOKENS;
pub use sections::{
    BadRecords, DataConfig, Dtype, Length, ModelSource, OneOrMany, OptimizerConfig, RunConfig,
    SamplesConfig, ScheduleKind, TrainConfig, Truncation,
};
