//! Sampling from a model with a key-value cache: schedule, run, postprocess.
//!
//! [`generate`] completes any number of prompts, each any number of times. All of them share one
//! engine: sequences join and leave it as they start and end (continuous batching), a prompt is run
//! once for all of its samples and in chunks where it is long, prompts that begin alike share the
//! pages of the cache that hold their common beginning, and memory never exceeds a stated number of
//! bytes: a sequence starts only when the cache has room for all of it, so none is ever interrupted.
//!
//! What is sampled depends on the weights, the prompt, the settings, the request's seed and the
//! sample's index; not on what else is asked for, nor on the size of batches, pages and chunks, but
//! for the last digits of f32 sums.
//!
//! Read in this order: [`Sampling`], [`Request`] and [`Event`] (what is asked for), `sampler` (from
//! logits to a token), `pages` and `prefix` (who owns which page of the cache), `sequence`, `schedule`
//! (who runs next), `engine` (the loop), `stop` and [`completion_text`] (where text ends).
//!
//! Not here: the forward pass and the layout of the cache (`hearken-model`), scores, chat formats.
#![deny(missing_docs)]

mod error;
mod request;
mod sampling;

mod sampler;

mod pages;
mod prefix;
mod sequence;

mod engine;
mod schedule;

mod stop;

pub use engine::{Mixture, generate, generate_mixed, generate_with};
pub use error::GenerateError;
pub use request::{EngineOptions, Event, Request};
pub use sampling::Sampling;
pub use stop::completion_text;
