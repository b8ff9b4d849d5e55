//! Training loops: one algorithm per file, on one infrastructure.
//!
//! A trainer reads a configuration ([`config`]), opens its run directory ([`run_dir`]), makes
//! examples of records ([`encode`]), and then goes straight down: batch, forward, objective,
//! backward, update, record. A run that is killed goes on from its last checkpoint
//! ([`run_dir::checkpoint`]), bit for bit.
//!
//! Not here: HTTP, the command line, and anything that prints; a trainer speaks through
//! [`progress::Progress`].
#![deny(missing_docs)]
// `expect` states invariants; what a caller can violate has its `# Panics`.
#![allow(clippy::missing_panics_doc)]

pub mod config;

pub mod error;

pub mod progress;

pub mod seeds;

pub mod ranks;

pub mod run_dir;

pub mod metrics;

pub mod order;

pub mod encode;

pub mod dataset;

pub mod microbatch;

pub mod schedule;

pub mod optimizer;

pub mod trained_model;

pub mod plan;

mod budget;

pub mod samples;

mod commentary;

pub mod run;

mod records;

pub mod sft;

pub mod reward;

pub mod dpo;

pub mod feature_reward;

pub mod score_normalization;

pub mod reward_source;

pub mod scorers;

pub mod rollout;

pub mod ppo;

pub mod grpo;

pub mod quickstart;

mod memory;
pub mod outcome;

pub mod report;

pub mod bench;

pub mod rlhf;

pub mod check;
