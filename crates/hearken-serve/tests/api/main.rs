//! The API as its clients meet it: requests in, answers out, on tiny models.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

mod admission;
mod answers;
mod refusals;
mod weights;
