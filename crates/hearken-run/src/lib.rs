//! What every run owns, whatever it trains: its directory, seeds, data, optimizer and log, and the loop
//! between two checkpoints.
//!
//! A run opens its directory ([`run_dir`]), makes examples of records ([`encode`], [`dataset`]), takes
//! batches in the order of a seed ([`order`], [`seeds`]) of a size that memory allows ([`plan`],
//! [`budget`]), and [`run`] steps, writes down, evaluates and saves. A run that is killed goes on from its
//! last checkpoint ([`run_dir::checkpoint`]), bit for bit.
//!
//! Not here: what a batch teaches, which is a trainer's; HTTP, the command line, and anything that prints:
//! a run speaks through [`progress::Progress`].
#![deny(missing_docs)]
// `expect` states invariants; what a caller can violate has its `# Panics`.
#![allow(clippy::missing_panics_doc)]

pub mod error;

pub mod progress;

pub mod seeds;

pub mod ranks;

pub mod run_dir;

pub mod metrics;

mod event_file;

pub mod event_reader;

mod metrics_table;

pub mod order;

pub mod encode;

pub mod mix;

pub mod data_report;

pub mod stream;

pub mod dataset;

pub mod schedule;

pub mod optimizer;

mod average;

pub mod trained_model;

pub mod plan;

pub mod budget;

pub mod samples;

pub mod commentary;

pub mod run;
