//! Conversations as tokens: by the model's own template, or in the built-in format.
//!
//! A model whose directory has a chat template is talked to as that template says; one
//! without in a format of ours ([`builtin`]).
//!
//! Not here: templates as programs ([`crate::template`]).

pub mod builtin;
mod rendered;

use std::ops::Range;

use hearken_data::{Message, Role};
use serde_json::{Map, Value};

use crate::template::{Ending, TemplateError};
use crate::tokenizer::{Tokenizer, TokenizerError};

pub use builtin::STOP;
pub use rendered::{Seen, encode_json};

/// What is said, once, where messages of a model without a chat template become tokens.
pub const BUILT_IN_FORMAT: &str = "the model has no chat template: messages are written in the built-in format \
    (Human: … Assistant: …), which it knows only if it was trained in it; a chat_template.jinja in its folder, \
    or another one chosen, is used instead";

/// A conversation with what a template can read beside its messages.
#[derive(Clone, Copy, Debug)]
pub struct Conversation<'a> {
    /// The messages.
    pub messages: &'a [Message],
    /// The further columns of the record: `tools`, `documents`, `chat_template_kwargs`, whose entries
    /// are variables too, and whatever else the template reads. The built-in format reads none.
    pub columns: &'a Map<String, Value>,
}

/// A conversation as tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatTokens {
    /// The whole sequence.
    pub ids: Vec<u32>,
    /// One per message, in order, in the built-in format; a generation prompt belongs to none. A
    /// template does not tell.
    pub turns: Vec<Turn>,
    /// As long as `ids`; true for what the assistant writes: its contents and their end tokens.
    pub supervised: Vec<bool>,
}

/// Where one message stands in the sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// Header, content and end token; for the first turn also a BOS token.
    pub tokens: Range<usize>,
    /// What the message says; for the assistant with the end token, for a first message without
    /// header with the BOS token.
    pub content: Range<usize>,
}

/// The tokens of messages with the header of an assistant's turn that a completion can follow.
///
/// # Errors
///
/// The template refuses the messages, or their text cannot be encoded.
pub fn encode_prompt(
    tokenizer: &Tokenizer,
    conversation: Conversation<'_>,
) -> Result<Vec<u32>, TokenizerError> {
    match tokenizer.chat_templates() {
        Some(templates) => {
            rendered::encode(tokenizer, templates, conversation, &Ending::GenerationPrompt)
        }
        None => Ok(builtin::encode_messages(tokenizer, conversation.messages, true)?.ids),
    }
}

/// The tokens of a whole conversation, without saying who writes what.
///
/// # Errors
///
/// As [`encode_prompt`].
pub fn encode_closed(
    tokenizer: &Tokenizer,
    conversation: Conversation<'_>,
) -> Result<Vec<u32>, TokenizerError> {
    match tokenizer.chat_templates() {
        Some(templates) => rendered::encode(tokenizer, templates, conversation, &Ending::Closed),
        None => Ok(builtin::encode_messages(tokenizer, conversation.messages, false)?.ids),
    }
}

/// A whole conversation as tokens, with what the assistant writes in it.
///
/// # Errors
///
/// As [`encode_prompt`]; there is an assistant's message and nothing ends its turn; or there is no
/// telling what the assistant writes, because the template writes the beginning of a conversation
/// otherwise where more follows.
pub fn encode_conversation(
    tokenizer: &Tokenizer,
    conversation: Conversation<'_>,
) -> Result<ChatTokens, TokenizerError> {
    match tokenizer.chat_templates() {
        Some(templates) => rendered::encode_whole(tokenizer, templates, conversation),
        None => builtin::encode_messages(tokenizer, conversation.messages, false),
    }
}

/// A conversation of which the first `prompt` messages are given and the others, of which the first
/// is the assistant's, answer them; and how many of its tokens are the prompt's. The sequence ends
/// with the end token of its last turn: what a template writes behind it, nobody samples. In the prompt
/// nothing is supervised.
///
/// # Errors
///
/// As [`encode_conversation`].
///
/// # Panics
///
/// If there are fewer messages.
pub fn encode_completion(
    tokenizer: &Tokenizer,
    conversation: Conversation<'_>,
    prompt: usize,
) -> Result<(ChatTokens, usize), TokenizerError> {
    if let Some(templates) = tokenizer.chat_templates() {
        return rendered::encode_completion(tokenizer, templates, conversation, prompt);
    }
    let mut chat = builtin::encode_messages(tokenizer, conversation.messages, false)?;
    let first = chat.turns.get(prompt).map_or(chat.ids.len(), |turn| turn.content.start);
    chat.supervised[..first].fill(false);
    Ok((chat, first))
}

impl From<TemplateError> for TokenizerError {
    fn from(error: TemplateError) -> Self {
        Self::Template(Box::new(error))
    }
}
