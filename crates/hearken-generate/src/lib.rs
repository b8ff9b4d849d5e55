//! Sampling from a model with a key-value cache: schedule, run, postprocess.
//!
//! An [`Engine`] completes prompts, each any number of times: sequences join and leave it as they
//! start and end (continuous batching), a prompt is run once for all of its samples and in chunks
//! where it is long, prompts that begin alike, or like an earlier completion, share the pages of the
//! cache that hold their common beginning, and memory never exceeds a stated number of bytes: a
//! sequence starts when the cache has room for all of it, or for a part, and then gives way where
//! another needs the room more. [`generate`] is an engine for requests that are all known beforehand,
//! [`EngineHandle`] one on a thread of its own for whoever asks.
//!
//! What is sampled depends on the weights, the prompt, the settings, the request's seed and the
//! sample's index; not on what else is asked for, nor on the size of batches, pages and chunks, but
//! for the last digits of f32 sums.
//!
//! Read in this order: [`Sampling`], [`Wishes`], [`SamplingRequest`] and [`TokenSampled`] (what is asked for), `sampler` (its
//! random numbers), `pages` and `prefix` (who owns which page of the cache), `sequence`, `schedule`
//! (who runs next), `rows` (what a step runs), [`Engine`] (the loop), [`generate`], [`read_completions`], [`EngineHandle`], `stop`, [`completion_text`] and
//! [`TextPieces`] (where text ends).
//!
//! Not here: the forward pass and the layout of the cache (`hearken-model`), scores, chat formats.
#![deny(missing_docs)]

mod error;
mod wishes;

mod request;
mod sampling;

mod sampler;

mod pages;
mod prefix;
mod sequence;

mod schedule;

mod rows;

mod engine;

mod batch;

mod reading;

mod handle;

mod stop;

mod pieces;

pub use batch::{Mixture, generate, generate_mixed, generate_with};
pub use engine::Engine;
pub use error::{AttachError, GenerateError};
pub use handle::{Attached, EngineHandle, Generation, Listener, Sink, Ticket, Update};
pub use pieces::TextPieces;
pub use reading::{Read, Reading, read_completions};
pub use request::{
    CompletionEnded, EngineOptions, EngineStats, SamplingRequest, TokenSampled, unobserved,
};
pub use sampling::Sampling;
pub use stop::completion_text;
pub use wishes::{AdapterId, Allowed, Guidance, Guide, TokenReport, Wishes};
