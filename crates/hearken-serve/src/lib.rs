//! Models behind OpenAI's API.
//!
//! [`Service`] is made of models, [`Options`] and [`parts::Parts`]; [`Service::router`] is the whole of it as an axum
//! router, [`Service::serve`] runs it on a socket.
//!
//! A request goes this way: `request` reads it, `chat` or `completions` makes an `answer::Ask` of it, which holds on
//! to the weights of that moment; their engine samples, `answer` makes pieces of what comes, and `stream` sends them
//! as they come, or the handler all at once. Whoever leaves drops the receiver, and with it what is not sampled yet.
//!
//! Not here: sampling (`hearken-generate`), connections and their time-outs (`hearken-http`), reading models and
//! reward models, which come in through the traits of [`parts`].
#![deny(missing_docs)]

mod admin;
mod answer;
mod candidate;
mod chat;
mod completions;
mod constraint;
mod error;
mod feedback;
mod grammars;
mod ids;
mod keys;
mod log;
mod logprobs;
mod messages;
mod metrics;
mod models;
mod openapi;
mod options;
pub mod parts;
mod request;
mod scoring;
mod server;
mod shapes;
mod state;
mod stream;
mod tools;
mod weights;

pub use error::StartError;
pub use keys::ApiKeys;
pub use options::{Consent, Log, Options};
pub use server::Service;
pub use weights::version;
