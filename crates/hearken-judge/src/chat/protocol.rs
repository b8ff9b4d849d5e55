//! What the two protocols say: requests, the events of a stream, whole responses, errors.

use hearken_data::{Message, Role};
use serde_json::{Map, Value, json};

use super::events::StreamEvent;
use super::options::{Api, Ask, ChatOptions};

/// The version of Anthropic's API that is spoken.
pub(super) const ANTHROPIC_VERSION: &str = "2023-06-01";
/// Anthropic's API wants a limit on the tokens of an answer.
const ANTHROPIC_MAX_TOKENS: u32 = 4096;

/// The URL of `resource`, such as "models". A base without a path means `/v1`; a base that is the
/// URL of the chat itself is understood.
pub(super) fn url(base: &str, api: Api, resource: &str) -> String {
    let chat = chat_resource(api);
    let base = base.trim().trim_end_matches('/');
    let base = base.strip_suffix(chat).map_or(base, |base| base.trim_end_matches('/'));
    let has_path = base.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    let version = if has_path { "" } else { "/v1" };
    format!("{base}{version}/{resource}")
}

/// The resource that answers.
pub(super) fn chat_resource(api: Api) -> &'static str {
    match api {
        Api::OpenAi => "chat/completions",
        Api::Anthropic => "messages",
    }
}

/// The headers of a request, the secret one first.
pub(super) fn headers(options: &ChatOptions) -> Vec<(&'static str, String)> {
    let key = options.key.as_ref().map(|key| match options.api {
        Api::OpenAi => ("authorization", format!("Bearer {}", key.as_str())),
        Api::Anthropic => ("x-api-key", key.as_str().to_owned()),
    });
    let version = (options.api == Api::Anthropic)
        .then(|| ("anthropic-version", ANTHROPIC_VERSION.to_owned()));
    key.into_iter().chain(version).collect()
}

/// Which name the limit on tokens has: newer models of OpenAI refuse the older one, and other
/// servers do not know the newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitName {
    MaxTokens,
    MaxCompletionTokens,
}

/// The body of a request for an answer.
pub(super) fn request(
    options: &ChatOptions,
    conversation: &[Message],
    limit: LimitName,
    ask: &Ask,
) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), json!(options.model));
    let is_instruction =
        |message: &&Message| matches!(message.role, Role::System | Role::Developer);
    match options.api {
        Api::OpenAi => {
            let messages = conversation.iter().map(|message| said(message, "system"));
            body.insert("messages".into(), messages.collect());
        }
        Api::Anthropic => {
            let system = conversation.iter().filter(is_instruction);
            let system: Vec<&str> = system.map(|message| message.content.as_str()).collect();
            if !system.is_empty() {
                body.insert("system".into(), json!(system.join("\n\n")));
            }
            let others = conversation.iter().filter(|message| !is_instruction(message));
            body.insert("messages".into(), others.map(|message| said(message, "user")).collect());
        }
    }
    let max_tokens = ask.max_tokens.or(options.max_tokens);
    let max_tokens = match options.api {
        Api::OpenAi => max_tokens,
        Api::Anthropic => Some(max_tokens.unwrap_or(ANTHROPIC_MAX_TOKENS)),
    };
    let name = match limit {
        LimitName::MaxTokens => "max_tokens",
        LimitName::MaxCompletionTokens => "max_completion_tokens",
    };
    body.extend(max_tokens.map(|tokens| (name.to_owned(), json!(tokens))));
    let temperature = ask.temperature.or(options.temperature);
    body.extend(temperature.map(|value| ("temperature".to_owned(), json!(value))));
    if options.api == Api::OpenAi {
        body.extend(ask.seed.map(|seed| ("seed".to_owned(), json!(seed))));
        if let Some(count) = ask.top_logprobs {
            body.insert("logprobs".into(), json!(true));
            body.insert("top_logprobs".into(), json!(count));
        }
    }
    body.insert("stream".into(), json!(!ask.whole));
    Value::Object(body)
}

/// A message, with the roles that every server knows.
fn said(message: &Message, instruction: &str) -> Value {
    let role = match message.role {
        Role::Assistant => "assistant",
        Role::System | Role::Developer => instruction,
        // Without the call that it answers, the output of a tool is something that a user says.
        Role::User | Role::Tool => "user",
    };
    json!({ "role": role, "content": message.content })
}

/// What an event, or a whole response, tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct EventContent {
    pub(super) text: String,
    pub(super) model: Option<String>,
    pub(super) stop: Option<String>,
    pub(super) prompt_tokens: Option<u64>,
    pub(super) completion_tokens: Option<u64>,
    /// For each token that the server tells of, those that could have stood there, with their log-probabilities.
    pub(super) tokens: Vec<Vec<(String, f64)>>,
    /// Whether it is the last event.
    pub(super) is_end: bool,
    /// An error that the server reports.
    pub(super) error: Option<String>,
}

/// Reads an event; `None` where its data are not of the protocol.
pub(super) fn event(api: Api, event: &StreamEvent) -> Option<EventContent> {
    if event.data.trim() == "[DONE]" {
        return Some(EventContent { is_end: true, ..EventContent::default() });
    }
    let value: Value = serde_json::from_str(&event.data).ok()?;
    if let Some(error) = error_message(&value) {
        return Some(EventContent { error: Some(error), ..EventContent::default() });
    }
    match api {
        Api::OpenAi => openai(&value, "delta"),
        Api::Anthropic => anthropic(&value),
    }
}

/// Reads a response that came whole, from a server that does not stream.
pub(super) fn whole(api: Api, value: &Value) -> Option<EventContent> {
    let mut told = match api {
        Api::OpenAi => openai(value, "message")?,
        Api::Anthropic => {
            let mut told = EventContent {
                stop: text(value, "stop_reason"),
                model: text(value, "model"),
                ..EventContent::default()
            };
            usage(&mut told, value.get("usage"));
            for block in value.get("content")?.as_array()? {
                told.text += block.get("text").and_then(Value::as_str).unwrap_or("");
            }
            told
        }
    };
    told.is_end = true;
    Some(told)
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn usage(told: &mut EventContent, usage: Option<&Value>) {
    let count = |names: [&str; 2]| {
        let find = |name| usage.and_then(|usage| usage.get(name)).and_then(Value::as_u64);
        names.into_iter().find_map(find)
    };
    told.prompt_tokens = count(["prompt_tokens", "input_tokens"]);
    told.completion_tokens = count(["completion_tokens", "output_tokens"]);
}

/// `choices[0].delta.content`, or `choices[0].message.content`. The last event of some servers has
/// the usage and no choice.
fn openai(value: &Value, part: &str) -> Option<EventContent> {
    let choices = value.get("choices")?.as_array()?;
    let mut told = EventContent { model: text(value, "model"), ..EventContent::default() };
    usage(&mut told, value.get("usage"));
    if let Some(choice) = choices.first() {
        told.stop = text(choice, "finish_reason");
        told.text = choice.get(part).and_then(|part| text(part, "content")).unwrap_or_default();
        told.tokens = logprobs(choice);
    }
    Some(told)
}

/// `logprobs.content[].top_logprobs[]`, each `{"token", "logprob"}`.
fn logprobs(choice: &Value) -> Vec<Vec<(String, f64)>> {
    let content = choice.pointer("/logprobs/content").and_then(Value::as_array);
    let named = |one: &Value| Some((text(one, "token")?, one.get("logprob")?.as_f64()?));
    let of_token = |token: &Value| {
        let top = token.get("top_logprobs").and_then(Value::as_array);
        top.into_iter().flatten().filter_map(named).collect()
    };
    content.into_iter().flatten().map(of_token).collect()
}

fn anthropic(value: &Value) -> Option<EventContent> {
    let mut told = EventContent::default();
    let delta = value.get("delta");
    match value.get("type")?.as_str()? {
        "message_start" => {
            let message = value.get("message")?;
            told.model = text(message, "model");
            usage(&mut told, message.get("usage"));
        }
        "content_block_delta" => {
            told.text = delta.and_then(|delta| text(delta, "text")).unwrap_or_default();
        }
        "message_delta" => {
            told.stop = delta.and_then(|delta| text(delta, "stop_reason"));
            usage(&mut told, value.get("usage"));
        }
        "message_stop" => told.is_end = true,
        // "ping", "content_block_start", "content_block_stop", and whatever is to come.
        _ => {}
    }
    Some(told)
}

/// The message of an error in any of the shapes in use: `{"error": {"message": …}}`,
/// `{"error": …}`, `{"object": "error", "message": …}`, `{"detail": …}`.
pub(super) fn error_message(value: &Value) -> Option<String> {
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let is_error =
        value.get("object").or_else(|| value.get("type")).and_then(Value::as_str) == Some("error");
    match value.get("error").filter(|error| !error.is_null()) {
        Some(error) => Some(error.get("message").map_or_else(|| shown(error), shown)),
        None if is_error => value.get("message").map(shown),
        None => value.get("detail").map(shown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_completed_as_far_as_needed() {
        let check = |base: &str, api, expected: &str| {
            assert_eq!(url(base, api, chat_resource(api)), expected);
        };
        check("http://localhost:8000", Api::OpenAi, "http://localhost:8000/v1/chat/completions");
        check(
            "http://localhost:8000/v1/",
            Api::OpenAi,
            "http://localhost:8000/v1/chat/completions",
        );
        check("http://h/api/v3", Api::OpenAi, "http://h/api/v3/chat/completions");
        check("http://h/v1/chat/completions", Api::OpenAi, "http://h/v1/chat/completions");
        check("https://api.anthropic.com", Api::Anthropic, "https://api.anthropic.com/v1/messages");
        assert_eq!(
            url("http://h/v1/chat/completions", Api::OpenAi, "models"),
            "http://h/v1/models"
        );
    }

    #[test]
    fn instructions_stand_where_each_api_wants_them() {
        let conversation = [
            Message::new(Role::System, "Be brief."),
            Message::new(Role::User, "Hi"),
            Message::new(Role::Assistant, "Yes?"),
        ];
        let options =
            ChatOptions { temperature: Some(0.5), ..ChatOptions::new(Api::OpenAi, "", "m") };
        let body = request(&options, &conversation, LimitName::MaxTokens, &Ask::default());
        assert_eq!(
            body,
            json!({ "model": "m", "messages": [
                { "role": "system", "content": "Be brief." },
                { "role": "user", "content": "Hi" },
                { "role": "assistant", "content": "Yes?" },
            ], "temperature": 0.5, "stream": true })
        );
        let options = ChatOptions::new(Api::Anthropic, "", "m");
        let body = request(&options, &conversation, LimitName::MaxTokens, &Ask::default());
        assert_eq!((&body["system"], &body["max_tokens"]), (&json!("Be brief."), &json!(4096)));
        assert_eq!(body["messages"][0], json!({ "role": "user", "content": "Hi" }));
    }

    #[test]
    fn errors_have_many_shapes() {
        let check = |value: Value, expected: Option<&str>| {
            assert_eq!(error_message(&value).as_deref(), expected);
        };
        check(json!({ "error": { "message": "a", "code": 1 } }), Some("a"));
        check(json!({ "error": "b" }), Some("b"));
        check(json!({ "object": "error", "message": "c" }), Some("c"));
        check(json!({ "type": "error", "error": { "message": "d" } }), Some("d"));
        check(json!({ "detail": "Not Found" }), Some("Not Found"));
        check(json!({ "choices": [], "error": null }), None);
    }
}
