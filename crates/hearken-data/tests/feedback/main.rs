//! Feedback in files: every format in and out, and what bad files are told.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

mod exports;
mod files;
mod real_data;
mod round_trips;
mod served;
mod speed;
mod suggestions;
mod traps;
