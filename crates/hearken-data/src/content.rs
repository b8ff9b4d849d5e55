//! Text, messages or token ids: the three ways in which a prompt or a completion is written.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::ser::{SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

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
///
/// ```
/// use hearken_data::{Message, Role};
///
/// let line = r#"{"role":"assistant","content":null,"tool_calls":[{"function":{"name":"now","arguments":{}}}]}"#;
/// let message: Message = serde_json::from_str(line)?;
/// assert_eq!((message.role, message.content.as_str()), (Role::Assistant, ""));
/// assert!(message.calls_tools());
/// assert_eq!(serde_json::to_string(&message)?, line);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, JsonSchema)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; of a list of parts, their texts together.
    pub content: String,
    /// The whole object of a message that has more than a role and a text, as its file has it.
    #[schemars(skip)]
    whole: Option<Arc<Map<String, Value>>>,
}

impl Message {
    /// A message of `role` that says `content`.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), whole: None }
    }

    /// A message that has more to it: calls of tools, parts, a name, reasoning.
    pub(crate) fn with_whole(self, whole: Map<String, Value>) -> Self {
        Self { whole: Some(Arc::new(whole)), ..self }
    }

    /// Whether tools are called.
    pub fn calls_tools(&self) -> bool {
        self.field("tool_calls")
            .is_some_and(|calls| calls.as_array().is_none_or(|of| !of.is_empty()))
    }

    /// Whether there is neither text nor a call.
    pub fn is_empty(&self) -> bool {
        self.content.is_empty() && !self.calls_tools()
    }

    /// Whether there is more to the message than its role and its content.
    pub fn has_more(&self) -> bool {
        self.whole.is_some()
    }

    /// What the message has under a further name, unless it is null.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.whole.as_ref()?.get(name).filter(|value| !value.is_null())
    }

    /// The message as JSON: what its file has.
    pub fn to_json(&self) -> Value {
        match &self.whole {
            None => json!({ "role": self.role, "content": self.content }),
            Some(whole) => {
                let mut fields = Map::clone(whole);
                if let Some(Value::String(content)) = fields.get_mut("content") {
                    content.clone_from(&self.content);
                }
                Value::Object(fields)
            }
        }
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.whole.is_some() {
            return self.to_json().serialize(serializer);
        }
        let mut fields = serializer.serialize_struct("Message", 2)?;
        fields.serialize_field("role", &self.role)?;
        fields.serialize_field("content", &self.content)?;
        fields.end()
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
