//! Configuration: parse, check, freeze.
//!
//! A configuration is a struct with a field for each section, and a section is a struct with a field
//! for each key: its type is the range of its values, its documentation what errors and the JSON
//! schema say of it. The defaults of a trainer are its commented file under `configs/`, embedded in
//! the program; a test compares its keys with the types. The user's file is laid over it, then each
//! `--set`; [`Layers`] holds the result, with the line of every key, and [`Configuration`] reads it.
//! What was read is frozen: [`Frozen`] goes to the run directory and is compared when a run resumes.
//!
//! Not here: what a section's keys do; see the page of the trainer under `docs/`. Nor what they name:
//! models, programs and variables are opened by those who use them.
#![deny(missing_docs)]
// `expect` states invariants; what a caller can violate has its `# Panics`.
#![allow(clippy::missing_panics_doc)]

mod configuration;
mod error;
mod foreign;
mod frozen;
mod guard;
mod judge;
mod keys;
mod kl;
mod layers;
mod model;
mod named;
mod number;
mod pasted;
mod reader;
mod rollout;
mod score;
mod secret;
mod sections;
mod teacher;

pub use configuration::Configuration;
pub use error::one_of;
pub use error::{Complaint, ConfigError, KeyOrigin, KeyPlace};
pub use frozen::{Difference, Frozen, LoadedConfig, as_before};
pub use guard::{GuardAction, GuardConfig};
pub use judge::{ApiJudge, JudgeConfig, Judges, UnreadableAnswer};
pub use keys::SchemaKeys;
pub use kl::aimless;
pub use kl::{EstimatorName, KlConfig, KlPlacement, KlSteering};
pub use layers::{Layers, shell_word};
pub use model::{Base, Dtype, LoraSection, MasterWeights, ModelSource, TemplateConfig};
pub use named::{Named, NamedKind};
pub use number::{
    AboveOne, Allowance, AtLeastOne, AtLeastTwo, BelowHalf, BelowOne, Finite, Fraction, Limit,
    NonNegative, Parallel, Positive, Seconds, Share, Steps, Tokens, Warmup,
};
pub use number::{count_unless_zero, unless_zero};
pub use rollout::missing_end;
pub use rollout::{RolloutConfig, SamplingDtype};
pub use score::check_scores;
pub use score::{
    Aggregate, BoundName, Combine, Heuristics, Pattern, ScoreConfig, SourceConfig, StepRewards,
    Verifier,
};
pub use sections::MICROBATCH_TOKENS;
pub use sections::{
    BadRecords, DataConfig, JudgementsConfig, Length, LogConfig, MixSource, OptimizerConfig,
    RunConfig, SamplesConfig, SaveDtype, ScheduleKind, SharedSections, TrainConfig, Truncation,
    Votes,
};
pub use teacher::{TeacherPlace, TeacherSection};
