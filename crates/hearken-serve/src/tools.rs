//! Calls of tools in what a model writes: `<tool_call>{"name": …, "arguments": …}</tool_call>`, as the
//! templates of Hermes, Qwen, SmolLM and their kin ask for.

use std::sync::Arc;

use hearken_generate::Guide;
use llguidance::api::TopLevelGrammar;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::weights::Weights;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct ToolCall {
    /// Its place among the calls.
    pub(crate) index: usize,
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) function: FunctionCall,
}

/// What is called.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct FunctionCall {
    pub(crate) name: String,
    /// An object of JSON, as a text.
    pub(crate) arguments: String,
}

/// Tells text from calls while an answer comes. Text behind the first call is not shown before the end.
#[derive(Debug, Default)]
pub(crate) struct ToolFilter {
    held: String,
    has_call: bool,
}

impl ToolFilter {
    /// Takes more of the answer; gives the text that is certain not to belong to a call.
    pub(crate) fn push(&mut self, text: &str) -> String {
        self.held.push_str(text);
        if self.has_call {
            return String::new();
        }
        let end = self.held.find(OPEN);
        self.has_call = end.is_some();
        let end = end.unwrap_or_else(|| self.held.len() - beginning(&self.held));
        self.held.drain(..end).collect()
    }

    /// The rest of the answer: text, and the calls. What is no call, and cannot be read as one, is text.
    pub(crate) fn finish(&mut self, id: &str) -> (String, Vec<ToolCall>) {
        let held = std::mem::take(&mut self.held);
        let (mut text, mut calls) = (String::new(), Vec::new());
        let mut rest = held.as_str();
        while let Some((before, after)) = rest.split_once(OPEN) {
            // A model that ends its turn after the call may leave the end of it out.
            let (inside, behind) = after.split_once(CLOSE).unwrap_or((after, ""));
            match read(inside, id, calls.len()) {
                Some(call) => {
                    calls.push(call);
                    if !before.trim().is_empty() {
                        text.push_str(before);
                    }
                }
                None => text.push_str(&rest[..rest.len() - behind.len()]),
            }
            rest = behind;
        }
        if calls.is_empty() || !rest.trim().is_empty() {
            text.push_str(rest);
        }
        (text, calls)
    }
}

/// Bytes at the end of a text that may be the beginning of a call.
fn beginning(text: &str) -> usize {
    let lengths = (1..OPEN.len()).rev();
    lengths.into_iter().find(|&len| text.ends_with(&OPEN[..len])).unwrap_or(0)
}

fn read(inside: &str, id: &str, index: usize) -> Option<ToolCall> {
    let call: Value = serde_json::from_str(inside.trim()).ok()?;
    let name = call.get("name")?.as_str()?.to_owned();
    let arguments = match call.get("arguments").or_else(|| call.get("parameters")) {
        Some(Value::String(text)) => text.clone(),
        Some(arguments) => arguments.to_string(),
        None => "{}".to_owned(),
    };
    let function = FunctionCall { name, arguments };
    Some(ToolCall { index, id: format!("call-{id}-{index}"), kind: "function", function })
}

/// Whether a template asks for calls in this form.
pub(crate) fn are_written(template: &str) -> bool {
    template.contains(OPEN)
}

/// What keeps an answer to a call of one of the tools, in the form that the template asks for.
///
/// # Errors
/// The template asks for calls in another form, or the parameters of a tool are no schema.
pub(crate) fn guide(
    weights: &Weights,
    tools: &[&Map<String, Value>],
) -> Result<Arc<dyn Guide>, ApiError> {
    let wrong =
        |problem: String| ApiError::param("tool_choice", format!("`tool_choice`: {problem}"));
    let templates = weights.tokenizer.chat_templates();
    if !templates.and_then(|of| of.text()).is_some_and(are_written) {
        let problem = "the chat template of the model asks for calls in no form that is known here";
        return Err(wrong(problem.into()));
    }
    let call = |tool: &&Map<String, Value>| {
        let function = function(tool);
        let name = function.get("name").and_then(Value::as_str).unwrap_or_default();
        if name.is_empty() {
            return Err(wrong("a tool has no `name`".into()));
        }
        let any = || json!({"type": "object"});
        let arguments = function.get("parameters").cloned().unwrap_or_else(any);
        Ok(json!({
            "type": "object",
            "properties": {"name": {"const": name}, "arguments": arguments},
            "required": ["name", "arguments"],
            "additionalProperties": false,
        }))
    };
    let calls: Vec<Value> = tools.iter().map(call).collect::<Result<_, _>>()?;
    // Blanks as Python's json.dumps writes them, which templates show and models have learned from.
    let blanks =
        json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
    let mut schema =
        if let [only] = calls.as_slice() { only.clone() } else { json!({"anyOf": calls}) };
    schema["x-guidance"] = blanks;
    let (open, close) = (json!(format!("{}\n", OPEN)), json!(format!("\n{}", CLOSE)));
    let grammar = format!("start: {open} call {close}\ncall: %json {schema}\n");
    let grammars = weights.grammars().map_err(wrong)?;
    grammars.guide(TopLevelGrammar::from_lark(grammar)).map_err(wrong)
}

/// What a tool says of its function, which may stand in it or be all of it.
pub(crate) fn function(tool: &Map<String, Value>) -> &Map<String, Value> {
    tool.get("function").and_then(Value::as_object).unwrap_or(tool)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&str], shown: &str, text: &str, calls: &[(&str, &str)]) {
        let mut filter = ToolFilter::default();
        let found: String = pieces.iter().map(|piece| filter.push(piece)).collect();
        assert_eq!(found, shown);
        let (rest, found) = filter.finish("x");
        assert_eq!(rest, text);
        let found: Vec<_> = found
            .iter()
            .map(|call| (call.function.name.as_str(), call.function.arguments.as_str()))
            .collect();
        assert_eq!(found, calls);
    }

    #[test]
    fn calls_are_taken_out_and_the_rest_is_text() {
        check(&["a < b, ", "<tool"], "a < b, ", "<tool", &[]);
        check(
            &[
                "Let me see. <tool",
                "_call>{\"name\": \"f\", \"arguments\": {\"x\":1}}</tool_",
                "call>\n",
            ],
            "Let me see. ",
            "",
            &[("f", "{\"x\":1}")],
        );
        check(
            &[
                "<tool_call>{\"name\":\"f\"}</tool_call>\n<tool_call>{\"name\":\"g\",\"arguments\":\"{}\"}",
            ],
            "",
            "",
            &[("f", "{}"), ("g", "{}")],
        );
        check(&["<tool_call>not json</tool_call>."], "", "<tool_call>not json</tool_call>.", &[]);
    }
}
