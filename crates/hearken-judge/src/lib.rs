//! Scores from elsewhere: commands and HTTP endpoints.
//!
//! A client takes [`Item`]s (a prompt, its completion, whatever else is known) and gives one finite
//! score per item, in order, within a deadline, or an error that says what the other side did wrong.
//!
//! | the score comes from | client |
//! |---|---|
//! | a program that reads and writes JSON lines | [`CommandScorer`] |
//! | a server that takes JSON batches | [`HttpScorer`] |
//!
//! Not here: what a score is used for.
#![deny(missing_docs)]

mod command;
mod error;
mod http;
mod item;

pub use command::{CommandOptions, CommandScorer};
pub use error::JudgeError;
pub use http::{HttpOptions, HttpScorer};
pub use item::Item;
