//! Trainers run, from a configuration to what they leave: one program of many tests, since each program compiles all trainers anew.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod adapters;
mod average;
mod distill;
mod early_stopping;
mod evaluation;
mod grpo;
mod guard;
mod judge;
mod metrics_page;
mod mix;
mod online;
mod particles;
mod ppo;
mod preference_runs;
mod process;
mod ranks;
mod resume;
mod run_directory;
mod streaming;
#[path = "../support/mod.rs"]
mod support;
mod trainers;
mod trajectories;
mod two_heads;
