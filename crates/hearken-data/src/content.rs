//! Text, messages or token ids: the three ways in which a prompt or a completion is written.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that stand above the conversation.
    System,
    /// The same under the name that newer chat formats give it.
    Developer,
    /// The person.
    User,
    /// The policy: its messages are what is trained on.
    Assistant,
    /// The output of a tool.
    Tool,
}

impl Role {
    /// Every role, in the order in which errors list them.
    pub const ALL: [Role; 5] =
        [Role::System, Role::Developer, Role::User, Role::Assistant, Role::Tool];

    /// The name in files and chat templates: `"user"`, `"assistant"`, ….
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of `role` that says `content`.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// A prompt, a completion, or a whole sequence of both, as its file has it.
///
/// In JSON it is a string, a list of messages, or a list of token ids.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text, to be encoded as it is.
    Text(String),
    /// Token ids, ready for the model.
    Ids(Vec<u32>),
    /// Messages, to be rendered by the model's chat template.
    Messages(Vec<Message>),
}

impl Content {
    /// Whether there is nothing in it: no character, no message, no token.
    pub fn is_empty(&self) -> bool {
        match self {
            Content::Text(text) => text.is_empty(),
            Content::Messages(messages) => messages.is_empty(),
            Content::Ids(ids) => ids.is_empty(),
        }
    }

    /// What kind it is, as errors name it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Content::Text(_) => "text",
            Content::Messages(_) => "a list of messages",
            Content::Ids(_) => "token ids",
        }
    }

    /// The column that holds it: `plain` for text and messages, `ids` for token ids.
    pub(crate) fn column(&self, plain: &'static str, ids: &'static str) -> &'static str {
        match self {
            Content::Text(_) | Content::Messages(_) => plain,
            Content::Ids(_) => ids,
        }
    }
}
