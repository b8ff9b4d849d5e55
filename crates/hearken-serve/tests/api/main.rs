//! The API as its clients meet it: requests in, answers out, on tiny models.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

mod adapters;
mod admission;
mod answers;
mod candidates;
mod feedback;
mod refusals;
mod weights;
