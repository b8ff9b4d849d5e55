//! Training loops: one algorithm per file, on one infrastructure.
//!
//! A trainer reads its configuration, opens a run (`hearken-run`), makes examples of records, and then
//! goes straight down: batch, forward, objective, backward, update, record. [`records`] is the frame of
//! those who learn from records, [`rollout`] of those who sample.
//!
//! Not here: what every run owns (`hearken-run`), where scores come from (`hearken-reward-source`), several
//! trainers in a row (`hearken-recipes`), HTTP, the command line, and anything that prints.
#![deny(missing_docs)]
// `expect` states invariants; what a caller can violate has its `# Panics`.
#![allow(clippy::missing_panics_doc)]

pub mod records;

pub mod sft;

pub mod reward;

pub mod dpo;

pub mod feature_reward;

pub mod rollout;

pub mod ppo;

pub mod grpo;

pub mod distill;
