//! What a judge is asked about.

use hearken_data::Message;
use serde::Serialize;
use serde_json::{Map, Value};

/// One prompt with one completion, as a judge sees it.
///
/// In JSON the extra fields stand beside `prompt`, `completion` and, of a conversation, `messages`; a
/// field of such a name in `fields` is left out, so that what was asked and sampled cannot be shadowed.
///
/// ```
/// let fields = serde_json::json!({ "answer": 4, "prompt": "ignored" });
/// let item = hearken_judge::Item {
///     prompt: "2 + 2 =",
///     messages: None,
///     completion: " 4",
///     fields: fields.as_object().expect("an object"),
/// };
/// assert_eq!(item.to_json().to_string(), r#"{"prompt":"2 + 2 =","completion":" 4","answer":4}"#);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The text given to the policy, all of it: of a conversation as it was rendered.
    pub prompt: &'a str,
    /// The messages of the conversation, where the prompt is one and the policy saw all of it.
    pub messages: Option<&'a [Message]>,
    /// The text it produced, without an end token.
    pub completion: &'a str,
    /// Further columns of the prompt's record.
    pub fields: &'a Map<String, Value>,
}

impl Item<'_> {
    /// The item as a JSON object.
    pub fn to_json(&self) -> Value {
        Value::Object(self.to_object())
    }

    pub(crate) fn to_object(self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("prompt".into(), self.prompt.into());
        if let Some(messages) = self.messages {
            object.insert("messages".into(), messages_json(messages));
        }
        object.insert("completion".into(), self.completion.into());
        for (key, value) in self.fields {
            if !object.contains_key(key) {
                object.insert(key.clone(), value.clone());
            }
        }
        object
    }
}

impl Serialize for Item<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

/// A conversation as files have it.
pub(crate) fn messages_json(messages: &[Message]) -> Value {
    messages.iter().map(Message::to_json).collect()
}

/// A number from a judge's JSON, or what stood there instead.
pub(crate) fn finite_score(value: Option<&Value>) -> Result<f64, String> {
    match value {
        Some(Value::Number(number)) => match number.as_f64() {
            Some(score) if score.is_finite() => Ok(score),
            _ => Err(format!("{number} is not a finite number")),
        },
        Some(other) => {
            Err(format!("{} where a finite number is expected", excerpt(&other.to_string())))
        }
        None => Err("no score".to_owned()),
    }
}

/// The beginning of a text, for an error message.
pub(crate) fn excerpt(text: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    let text = text.trim();
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
