//! Values of columns: what they are, and what errors call them.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::bad_record::FieldError;
use crate::content::{Message, Role};

pub(crate) fn unexpected(field: String, found: String, expected: String) -> FieldError {
    FieldError::Unexpected { field, found, expected }
}

/// A finite number, or text that is one, as the cells of a CSV file are.
pub(crate) fn as_number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}

/// A flag in any of the ways in which files write it.
pub(crate) fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => match number.as_f64() {
            Some(0.0) => Some(false),
            Some(1.0) => Some(true),
            _ => None,
        },
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// The messages of a list that stands in a column called `name`.
pub(crate) fn messages(values: &[Value], name: &str) -> Result<Vec<Message>, FieldError> {
    let one = |(index, value): (usize, &Value)| message(value, &format!("{name}[{index}]"));
    values.iter().enumerate().map(one).collect()
}

/// The message that `value`, which errors call `name`, holds.
pub(crate) fn message(value: &Value, name: &str) -> Result<Message, FieldError> {
    const EXPECTED: &str = "an object with `role` and `content`";
    let error = |at: &str, found: String, expected: String| {
        Err(unexpected(format!("{name}{at}"), found, expected))
    };
    let Value::Object(fields) = value else { return error("", describe(value), EXPECTED.into()) };
    let calls = fields.get("tool_calls").filter(|calls| !calls.is_null());
    let (Some(role), content) = (fields.get("role"), fields.get("content")) else {
        return error("", describe(value), EXPECTED.into());
    };
    if content.is_none() && calls.is_none() {
        return error("", describe(value), EXPECTED.into());
    }
    let Some(known) = Role::ALL.into_iter().find(|known| role == known.as_str()) else {
        let roles: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
        return error(".role", describe(role), format!("one of {}", roles.join(", ")));
    };
    if let Some(calls) = calls {
        check_calls(calls, name)?;
    }
    let text = match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => text_of_parts(parts, &format!("{name}.content"))?,
        // What only calls tools says nothing.
        None | Some(Value::Null) if calls.is_some() => String::new(),
        other => {
            let found = other.map_or_else(|| "nothing".to_owned(), describe);
            return error(".content", found, "text, or a list of parts with text".into());
        }
    };
    let message = Message::new(known, text);
    let has_more = fields.keys().any(|key| key != "role" && key != "content")
        || !content.is_some_and(Value::is_string);
    Ok(if has_more { message.with_whole(fields.clone()) } else { message })
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        message(&value, "the message").map_err(serde::de::Error::custom)
    }
}

/// Refuses calls of tools that are no list of objects.
fn check_calls(calls: &Value, name: &str) -> Result<(), FieldError> {
    const EXPECTED: &str = "a list of objects, one per call";
    let Value::Array(list) = calls else {
        return Err(unexpected(format!("{name}.tool_calls"), describe(calls), EXPECTED.into()));
    };
    match list.iter().position(|call| !call.is_object()) {
        Some(index) => {
            let field = format!("{name}.tool_calls[{index}]");
            Err(unexpected(field, describe(&list[index]), "an object with `function`".into()))
        }
        None => Ok(()),
    }
}

/// The texts of a content's parts, `{"type": "text", "text": "…"}`, together.
fn text_of_parts(parts: &[Value], name: &str) -> Result<String, FieldError> {
    let mut text = String::new();
    for (index, part) in parts.iter().enumerate() {
        let said = match part {
            Value::String(said) => Some(said),
            Value::Object(fields) => match fields.get("text") {
                Some(Value::String(said)) => Some(said),
                _ => None,
            },
            _ => None,
        };
        let Some(said) = said else {
            let expected = "a part with text: {\"type\": \"text\", \"text\": …}";
            return Err(unexpected(format!("{name}[{index}]"), describe(part), expected.into()));
        };
        text.push_str(said);
    }
    Ok(text)
}

/// A value as errors show it: its type, and enough of it to find it.
pub(crate) fn describe(value: &Value) -> String {
    const SHOWN_CHARS: usize = 40;
    match value {
        Value::Null => "null".into(),
        Value::Bool(flag) => format!("{flag}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.chars().count() <= SHOWN_CHARS => format!("the text {text:?}"),
        Value::String(text) => {
            let start: String = text.chars().take(SHOWN_CHARS).collect();
            format!("a text that starts {start:?}")
        }
        Value::Array(values) => format!("a list of {}", values.len()),
        Value::Object(fields) if fields.is_empty() => "an empty object".into(),
        Value::Object(fields) => {
            let keys: Vec<String> = fields.keys().take(8).map(|key| format!("`{key}`")).collect();
            format!("an object with {}", keys.join(", "))
        }
    }
}
