//! Several trainers in a row, and looks at them from outside.
//!
//! [`rlhf`] goes from demonstrations and preferences to a policy and says what each stage bought; [`closed_loop`] asks, learns and
//! updates a policy round by round;
//! [`quickstart`] makes the model and the data of its first example; [`check`] goes the way of a run up to
//! its first step and changes nothing; [`search`] spends compute at inference; [`step_labels`] labels steps without
//! people; [`judging`] judges items by models, [`constitution`] has one improve its answers by principles; [`sweep`] runs a trainer over values of some keys; [`mod@bench`] times a few
//! steps of each trainer, [`cluster`] says what many machines would make of such times.
//!
//! Not here: what a batch teaches (`hearken-train`), the command line, and anything that prints.
#![deny(missing_docs)]
// `expect` states invariants; what a caller can violate has its `# Panics`.
#![allow(clippy::missing_panics_doc)]

pub mod quickstart;

pub mod memory;

pub mod bench;

pub mod cluster;

pub mod rlhf;

pub mod closed_loop;

pub mod check;

pub mod sweep;

pub mod search;

pub mod judging;

pub mod constitution;

pub mod step_labels;
