//! The labelling service: people open a page, compare answers, and their judgements become training
//! data.
//!
//! [`Service`] is made of a store and [`Options`]; [`Service::router`] is the whole of it as an axum
//! router, [`Service::serve`] runs it on a socket. Pages are rendered on the server; what
//! the pages do, other programs do through `/api/v1`.
//!
//! Not here: the engine. Models that answer and the small reward network come in through the traits
//! of [`parts`].
#![deny(missing_docs)]

pub mod accounts;
mod api;
mod assets;
mod bell;
mod board;
mod codec;
mod desk;
pub mod distribute;
mod error;
pub mod exchange;
mod health;
mod label;
mod language;
mod limits;
mod live;
mod openid;
mod options;
mod pages;
pub mod parts;
mod pieces;
mod pool;
mod projects;
mod queue;
mod render;
mod review;
mod security;
mod server;
mod session;
mod settings;
mod standing;
mod state;
mod steady;
mod storable;
mod templates;
mod user;
mod webhooks;

pub use api::tokens;
pub use error::{AppError, StartError};
pub use openid::OpenId;
pub use options::{Media, Options};
pub use projects::{Project, Projects};
pub use server::Service;
pub use settings::{Axis, ProjectSettings, Rationale, Suggestions};
pub use state::{AppState, Clock, system_clock};
pub use user::CurrentUser;
