//! A chat template renders, or ends with an error in bounded time and memory.
#![no_main]

use hearken_model::template::{ChatTemplates, Ending, TemplateSource};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, json};

fuzz_target!(|text: &str| {
    let [name, text, origin] = ["default", text, "chat_template.jinja"].map(str::to_owned);
    let source = TemplateSource { name, text, origin };
    let templates = ChatTemplates::new(vec![source], Map::new(), 0);
    let messages = [
        json!({ "role": "system", "content": "Be brief." }),
        json!({ "role": "user", "content": "Hello" }),
        json!({ "role": "assistant", "content": "Hi", "tool_calls": [{ "type": "function",
            "function": { "name": "f", "arguments": { "x": [1, 2.5, null, "é"] } } }] }),
        json!({ "role": "tool", "name": "f", "content": "3" }),
    ];
    for ending in [Ending::Closed, Ending::GenerationPrompt] {
        let _ = templates.render(&messages, &Map::new(), &ending);
    }
});
