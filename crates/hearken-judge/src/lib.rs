//! Scores, preferences and answers from elsewhere: commands, HTTP endpoints, LLM APIs.
//!
//! A scorer takes [`Item`]s (a prompt, its completion, whatever else is known) and gives one finite
//! score per item, in order, within a deadline, or an error that says what the other side did wrong.
//!
//! | the score comes from | scorer |
//! |---|---|
//! | a program that reads and writes JSON lines | [`CommandScorer`] |
//! | a server that takes JSON batches | [`HttpScorer`] |
//!
//! What is preferred of two completions, [`pairwise`] judges say, how several are ordered, those of [`ranking`], and how good one is by
//! itself, those of [`rating`]; a
//! [`model`] is what either asks, and answers to conversations come from [`chat`]. A [`sampling_server`] completes prompts for a
//! trainer.
//!
//! Not here: what a score or an answer is used for.
#![deny(missing_docs)]

pub mod chat;

pub mod model;

pub mod pairwise;

pub mod ranking;

pub mod rating;

pub mod sampling_server;

mod choice;

mod line_program;

mod command;
mod error;
mod http;
mod item;

pub use choice::{ChoiceMethod, ChoiceOptions, Reasoning};
pub use command::CommandScorer;
pub use error::JudgeError;
pub use http::{HttpOptions, HttpScorer};
pub use item::Item;
pub use line_program::CommandOptions;
