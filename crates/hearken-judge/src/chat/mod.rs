//! Answers from the APIs of language models, as they are written.
//!
//! | API | who speaks it |
//! |---|---|
//! | [`Api::OpenAi`], chat completions | OpenAI, vLLM, llama.cpp, Ollama and most others |
//! | [`Api::Anthropic`], messages | Anthropic |
//!
//! ```no_run
//! use std::ops::ControlFlow;
//!
//! use hearken_data::{Message, Role};
//! use hearken_judge::chat::{Api, ChatClient, ChatOptions};
//!
//! let options = ChatOptions::new(Api::OpenAi, "http://localhost:11434", "qwen2.5:0.5b");
//! let client = ChatClient::new(options)?;
//! let conversation = [Message::new(Role::User, "What is 2 + 2?")];
//! let answer = client.answer(&conversation, &mut |text| {
//!     print!("{text}");
//!     ControlFlow::Continue(())
//! })?;
//! assert!(!answer.text.is_empty());
//! # Ok::<(), hearken_judge::chat::ChatError>(())
//! ```
//!
//! Not here: judging with a model, and what an answer is used for.

mod client;
mod error;
mod events;
mod options;
mod protocol;
mod stream;
mod transfer;

pub(crate) use client::shown;
pub use client::{ChatAnswer, ChatClient, Stop};
pub use error::ChatError;
pub use options::{Api, ApiKey, Ask, ChatOptions, Timeouts};
