//! One message of a conversation: what was said, which tools were called, what they gave.

use hearken_data::{Message, Role};
use serde::Serialize;
use serde_json::Value;

use crate::render::{Heading, excerpt, markdown};

/// Where messages keep what a model thought before it spoke.
const REASONING: [&str; 2] = ["reasoning_content", "reasoning"];
/// Characters of the first line of what is folded.
const EXCERPT: usize = 80;
/// Characters of a system prompt or a thought from which on it is folded.
const FOLDED_FROM: usize = 600;

/// A message as the page shows it.
#[derive(Serialize)]
pub(crate) struct Turn {
    role: &'static str,
    who: &'static str,
    /// The tool that speaks.
    name: Option<String>,
    html: String,
    /// What a tool gave, as it is.
    observed: Option<String>,
    thought: Option<String>,
    calls: Vec<Call>,
    /// Among the turns of the assistant, from 1.
    number: Option<usize>,
    /// Where the turn is folded, the beginning of it.
    folded: Option<String>,
}

/// A call of a tool.
#[derive(Debug, PartialEq, Serialize)]
struct Call {
    name: String,
    arguments: String,
}

impl Turn {
    pub(crate) fn of(message: &Message, number: Option<usize>) -> Self {
        let who = match message.role {
            Role::System | Role::Developer => "System",
            Role::User => "User",
            Role::Assistant => "Assistant",
            Role::Tool => "Tool",
        };
        let text = message.content.trim();
        let is_tool = message.role == Role::Tool;
        let is_long = FOLDED_FROM < text.chars().count();
        let is_folded = is_tool || (who == "System" && is_long);
        let text_of = |name: &str| message.field(name).and_then(Value::as_str).map(str::trim);
        let thought = REASONING.iter().find_map(|name| text_of(name));
        Self {
            role: message.role.as_str(),
            who,
            name: text_of("name").filter(|_| is_tool).map(str::to_owned),
            html: match is_tool || text.is_empty() {
                true => String::new(),
                false => markdown(text, Heading::Answer),
            },
            observed: is_tool.then(|| pretty(text)),
            thought: thought.filter(|thought| !thought.is_empty()).map(str::to_owned),
            calls: calls(message),
            number,
            folded: is_folded.then(|| excerpt(text, EXCERPT)),
        }
    }

    /// Whether something of it is folded.
    pub(crate) fn is_folded(&self) -> bool {
        self.folded.is_some() || self.thought.is_some()
    }
}

/// The tools that a message calls: in the form of chat APIs, or with name and arguments at once.
fn calls(message: &Message) -> Vec<Call> {
    let calls = message.field("tool_calls").and_then(Value::as_array);
    let call = |call: &Value| {
        let function = call.get("function").filter(|function| function.is_object());
        let of = function.unwrap_or(call);
        let name = of.get("name").and_then(Value::as_str).unwrap_or("a tool");
        let arguments = match of.get("arguments") {
            None | Some(Value::Null) => String::new(),
            // Chat APIs give arguments as JSON in a text.
            Some(Value::String(text)) => pretty(text),
            Some(other) => indented(other),
        };
        Call { name: name.to_owned(), arguments }
    };
    calls.map_or_else(Vec::new, |calls| calls.iter().map(call).collect())
}

/// A text as it is; JSON with a line for each field.
fn pretty(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => indented(&value),
        _ => text.to_owned(),
    }
}

fn indented(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(json: &str) -> Turn {
        Turn::of(&serde_json::from_str(json).unwrap(), None)
    }

    #[test]
    fn calls_are_read_in_the_form_of_apis_and_plainly() {
        let called = turn(
            r#"{"role": "assistant", "content": null, "reasoning_content": "Look it up.", "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "search", "arguments": "{\"q\": \"x\"}"}},
                {"name": "now", "arguments": {}}, {"function": {"name": "run", "arguments": "ls -l"}}]}"#,
        );
        let calls: Vec<(&str, &str)> =
            called.calls.iter().map(|call| (&*call.name, &*call.arguments)).collect();
        assert_eq!(calls, [("search", "{\n  \"q\": \"x\"\n}"), ("now", "{}"), ("run", "ls -l")]);
        assert_eq!((called.html.as_str(), called.thought.as_deref()), ("", Some("Look it up.")));
        assert!(called.is_folded() && called.folded.is_none());
    }

    #[test]
    fn what_a_tool_gives_is_folded_and_stays_as_it_is() {
        let observed =
            turn(r#"{"role": "tool", "name": "search", "content": "<b>1</b>\n# 2 rows"}"#);
        assert_eq!(observed.observed.as_deref(), Some("<b>1</b>\n# 2 rows"));
        assert_eq!(observed.folded.as_deref(), Some("<b>1</b> # 2 rows"));
        assert_eq!((observed.name.as_deref(), observed.html.as_str()), (Some("search"), ""));
        let plain = turn(r#"{"role": "user", "content": "Hi"}"#);
        assert!(!plain.is_folded() && plain.html.contains("Hi") && plain.calls.is_empty());
    }
}
