//! Chat templates: what a model's directory says a conversation looks like.
//!
//! [`ChatTemplates`] are those of one model, with what Transformers gives them beside the messages;
//! [`Template`] is one of them, compiled.
//!
//! Not here: tokens ([`crate::chat`]), and the built-in format of models without a template.

mod error;
mod jinja;
mod templates;

pub use error::TemplateError;
pub use jinja::{Rendered, Template};
pub use templates::{ChatTemplates, Ending, TemplateSource};
