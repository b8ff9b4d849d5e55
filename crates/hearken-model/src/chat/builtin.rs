//! Conversations as tokens, in a format of their own, for models without a chat template.
//!
//! The format is that of the HH-RLHF transcripts, with an end token after every turn of the
//! assistant:
//!
//! ```text
//! Be brief.                            system or developer, if it comes first: no header
//! ⏎⏎Human: Hi!                         user
//! ⏎⏎Assistant: Hello.<|endoftext|>     assistant
//! ```
//!
//! A system message in the middle has the header `⏎⏎System:`, a tool's `⏎⏎Tool:`. Contents lose the
//! white space around them and stand after one space. A generation prompt ends at `⏎⏎Assistant:`, so
//! a completion begins with its space, as in HH-RLHF's files: where only the last turn is the
//! assistant's, the messages of a transcript and its text give the same tokens.
//!
//! It is rendered in token space: each header and each content is encoded by itself, so that the
//! boundaries between roles are known and never searched for in a text. In contents, the text of a
//! special token is ordinary text.
//!
//! Not here: calls of tools, which have no text in this format, and the chat templates that come with
//! models.

use hearken_data::{Message, Role};

use super::{ChatTokens, Turn};
use crate::template::TemplateError;
use crate::tokenizer::{Bos, SpecialText, Tokenizer, TokenizerError};

/// Text at which a completion can be stopped if the policy has not learned to end its turn.
pub const STOP: &str = "\n\nHuman:";

/// Encodes a conversation; `add_generation_prompt` adds the header of an assistant's turn that a
/// completion can follow.
///
/// The tokens of some messages with a generation prompt are the beginning of the tokens of the same
/// messages with the assistant's answer.
///
/// # Errors
///
/// There is an assistant's message and the tokenizer has no end token, a message calls tools, or a
/// content cannot be encoded.
pub fn encode_messages(
    tokenizer: &Tokenizer,
    messages: &[Message],
    add_generation_prompt: bool,
) -> Result<ChatTokens, TokenizerError> {
    if let Some(message) = messages.iter().position(Message::calls_tools) {
        return Err(TemplateError::NoCalls { message }.into());
    }
    tokenizer.note_built_in_format();
    let mut chat = ChatTokens::default();
    for (index, message) in messages.iter().enumerate() {
        let start = chat.ids.len();
        let header = header(message.role, index == 0);
        let text = message.content.trim();
        let content_start = if header.is_empty() {
            chat.append(tokenizer, text)?;
            start
        } else {
            chat.append(tokenizer, header)?;
            let content_start = chat.ids.len();
            if !text.is_empty() {
                chat.append(tokenizer, &format!(" {text}"))?;
            }
            content_start
        };
        if message.role == Role::Assistant {
            chat.ids.push(tokenizer.eos_for_training().ok_or(TokenizerError::NoEndToken)?);
        }
        let end = chat.ids.len();
        chat.supervised.resize(content_start, false);
        chat.supervised.resize(end, message.role == Role::Assistant);
        chat.turns.push(Turn {
            role: message.role,
            tokens: start..end,
            content: content_start..end,
        });
    }
    if add_generation_prompt {
        chat.append(tokenizer, header(Role::Assistant, messages.is_empty()))?;
        chat.supervised.resize(chat.ids.len(), false);
    }
    Ok(chat)
}

/// What stands before a content.
fn header(role: Role, is_first: bool) -> &'static str {
    match role {
        Role::System | Role::Developer if is_first => "",
        Role::System | Role::Developer => "\n\nSystem:",
        Role::User => "\n\nHuman:",
        Role::Assistant => "\n\nAssistant:",
        Role::Tool => "\n\nTool:",
    }
}

impl ChatTokens {
    /// Appends a segment; the first one begins the sequence.
    fn append(&mut self, tokenizer: &Tokenizer, text: &str) -> Result<(), TokenizerError> {
        let ids = if self.ids.is_empty() {
            tokenizer.encode_start(text, Bos::AsConfigured, SpecialText::Literal)?
        } else {
            tokenizer.encode_continuation(text, SpecialText::Literal)?
        };
        self.ids.extend(ids);
        Ok(())
    }
}
