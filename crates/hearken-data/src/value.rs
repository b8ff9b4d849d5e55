//! Values of columns: what they are, and what errors call them.

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

fn message(value: &Value, name: &str) -> Result<Message, FieldError> {
    const EXPECTED: &str = "an object with `role` and `content`";
    let error = |at: &str, found: String, expected: String| {
        Err(unexpected(format!("{name}{at}"), found, expected))
    };
    let Value::Object(fields) = value else { return error("", describe(value), EXPECTED.into()) };
    let (Some(role), Some(content)) = (fields.get("role"), fields.get("content")) else {
        return error("", describe(value), EXPECTED.into());
    };
    // A call would be lost without a word if the text around it alone were kept.
    if let Some(calls) = fields.get("tool_calls").filter(|calls| !calls.is_null()) {
        return error(".tool_calls", describe(calls), "messages that hold text alone".into());
    }
    let Some(known) = Role::ALL.into_iter().find(|known| role == known.as_str()) else {
        let roles: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
        return error(".role", describe(role), format!("one of {}", roles.join(", ")));
    };
    match content {
        Value::String(content) => Ok(Message::new(known, content.as_str())),
        other => error(".content", describe(other), "text".into()),
    }
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
