//! Sampling from a model with a key-value cache: schedule, run, postprocess.
//!
//! An [`Engine`] completes prompts, each any number of times: sequences join and leave it as they
//! start and end (continuous batching), a prompt is run once for all of its samples and in chunks
//! where it is long, prompts that begin alike, or like an earlier completion, share the pages of the
//! cache that hold their common beginning, and memory never exceeds a stated number of bytes: a
//! sequence starts only when the cache has room for all of it, so none is ever interrupted.
//! [`generate`] is an engine for requests that are all known beforehand.
//!
//! What is sampled depends on the weights, the prompt, the settings, the request's seed and the
//! sample's index; not on what else is asked for, nor on the size of batches, pages and chunks, but
//! for the last digits of f32 sums.
//!
//! Read in this order: [`Sampling`], [`Request`] and [`Event`] (what is asked for), `sampler` (from
//! logits to a token), `pages` and `prefix` (who owns which page of the cache), `sequence`, `schedule`
//! (who runs next), [`Engine`] (the loop), [`generate`], `stop` and [`completion_text`] (where text ends).
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

mod schedule;

mod engine;

mod batch;

mod stop;

pub use batch::{Mixture, generate, generate_mixed, generate_with};
pub use engine::Engine;
pub use error::GenerateError;
pub use request::{Ended, EngineOptions, EngineStats, Event, Request};
pub use sampling::Sampling;
pub use stop::completion_text;
