//! Policies of control tasks: how they are learned, kept and measured.
//!
//! [`train::run`] is a run of `hearken control train`: a [`learner::Learner`] ([`ppo`], [`sac`], [`preference`], [`imitation`]) acts and updates, the run directory,
//! logs and checkpoints are those of `hearken-run`. Networks are small ([`network`], with [`convolution`] for what is seen in pixels) and run on plain slices.
//!
//! [`mce_irl`] finds the rewards behind demonstrations on tasks that can be written down.
//!
//! Not here: dynamics (`hearken-env`), losses (`hearken-objective`), and anything that prints.
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::float_cmp))]
// Tests compare numbers that are exact by construction.
// `expect` states invariants; what a caller can violate has its `# Panics`.
#![allow(clippy::missing_panics_doc)]

pub mod teacher;

pub mod query;

pub mod schedule;

pub mod config;

pub mod mce_irl;

pub mod convolution;

pub mod network;

pub mod normalization;

pub mod actions;

pub mod policy;

pub mod kept;

pub mod saved;

pub mod learner;

pub mod rollout;

pub mod npz;

pub mod demonstrations;

pub mod evaluation;

mod apng;

pub mod clip;

pub mod ppo;

pub mod replay;

pub mod sac;

pub mod preference;

pub mod reward_model;

pub mod imitation;

pub mod rewarded;

pub mod train;
