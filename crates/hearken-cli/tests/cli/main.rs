//! The program `hearken` as its users run it: arguments in; files, streams and exit codes out.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

mod bad_input;
mod configurations;
mod help;
mod messages;

mod adapters;
mod analyze;
mod bench;
mod chat;
mod check;
mod closed_loop;
mod constitution;
mod control;
mod convert;
mod data;
mod distill;
mod doctor;
mod engines;
mod environments;
mod examples;
mod frontier;
mod generate;
mod hub;
mod imitation;
mod init;
mod judge;
mod logprobs;
mod people;
mod pixels;
mod process;
mod ranks;
mod records;
mod rlhf;
mod scaling;
mod serve;
mod served;
mod sweep;
mod template;

mod resume;
mod store;
mod trajectories;
