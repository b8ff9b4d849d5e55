//! `POST /v1/messages`: answers of a conversation, as Anthropic's clients ask for them.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use hearken_data::{Completion, StopReason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::answer::{Ask, Progressed};
use crate::chat;
use crate::error::ApiError;
use crate::request::{ChatRequest, parse};
use crate::state::AppState;
use crate::stream::{self, Chunks};

/// What `/v1/messages` takes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessagesRequest {
    /// The name of a served model; the base where it is not given.
    model: Option<String>,
    /// The most tokens of the answer.
    #[schemars(range(min = 1))]
    max_tokens: u32,
    /// The conversation.
    #[schemars(length(min = 1))]
    messages: Vec<hearken_data::Message>,
    /// What stands above it.
    system: Option<System>,
    /// The temperature.
    #[schemars(range(min = 0.0, max = 1.0))]
    temperature: Option<f64>,
    /// Sample among the likeliest tokens that together have this probability.
    #[schemars(range(min = 0.0, max = 1.0))]
    top_p: Option<f64>,
    /// Sample among this many likeliest tokens.
    #[schemars(range(min = 1))]
    top_k: Option<u32>,
    /// Texts at which the answer ends.
    stop_sequences: Option<Vec<String>>,
    /// Send the answer as it comes.
    stream: Option<bool>,
    /// Write the answer down for training, or do not; where it is not given, the service's setting holds.
    store: Option<bool>,
    /// `user_id` is who asks. Where answers are written down, so is a digest of it, by which `/admin/forget` finds them.
    metadata: Option<Map<String, Value>>,
}

/// A text, or several.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text or a list of blocks of text")]
enum System {
    Text(String),
    Blocks(Vec<TextBlock>),
}

/// A block of text.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TextBlock {
    #[serde(rename = "type")]
    kind: TextKind,
    text: String,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum TextKind {
    Text,
}

/// An answer.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct MessageBody {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: String,
    content: Vec<TextBlock>,
    stop_reason: Option<&'static str>,
    stop_sequence: Option<String>,
    usage: Tokens,
}

/// Counts of tokens.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
struct Tokens {
    input_tokens: usize,
    output_tokens: usize,
}

/// A failure, in Anthropic's shape.
fn failure(error: &ApiError) -> Value {
    let kind = match error.status() {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        status if status.is_server_error() => "api_error",
        _ => "invalid_request_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": error.to_string()}})
}

pub(crate) async fn post(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match answered(&state, &headers, &body).await {
        Ok(response) => response,
        Err(error) => {
            let body = Json(failure(&error)).into_response().into_body();
            // Headers and status are those of other failures.
            let (mut head, _) = error.into_response().into_parts();
            head.headers.remove(axum::http::header::CONTENT_LENGTH);
            Response::from_parts(head, body)
        }
    }
}

async fn answered(
    state: &AppState,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, ApiError> {
    let request: MessagesRequest = parse(headers, body)?;
    let streams = request.stream == Some(true);
    let (ask, _) = chat::asked(state, &as_chat(request)?)?;
    let places = state.enter(1)?;
    let mut writer = MessageWriter { ask, sampled: 0 };
    let mut told = writer.ask.clone().start(state, places);
    if streams {
        return Ok(stream::response(told, writer));
    }
    let (mut answer, mut ended) = (String::new(), None);
    while let Some(told) = told.recv().await {
        match told {
            Progressed::Token { text, .. } => {
                writer.sampled += 1;
                answer.push_str(&text);
            }
            Progressed::Ended { completion, .. } => ended = Some(completion),
            Progressed::Failed(error) => return Err(error),
        }
    }
    stream::check_all_ended(usize::from(ended.is_some()), 1)?;
    let (stop_reason, stop_sequence) = ended.map_or((None, None), |of| writer.stopped(&of));
    let mut message = writer.message();
    message.content.push(TextBlock { kind: TextKind::Text, text: answer });
    (message.stop_reason, message.stop_sequence) = (stop_reason, stop_sequence);
    Ok(Json(message).into_response())
}

/// The same request as the other API has it.
fn as_chat(request: MessagesRequest) -> Result<ChatRequest, ApiError> {
    if let Some(found) = request.temperature.filter(|found| !(0.0..=1.0).contains(found)) {
        let message = format!("`temperature` is {found}; expected a number from 0 to 1");
        return Err(ApiError::param("temperature", message));
    }
    let system = request.system.map(|system| match system {
        System::Text(text) => text,
        System::Blocks(blocks) => blocks.into_iter().map(|block| block.text).collect(),
    });
    let above = system.map(|text| json!({"role": "system", "content": text}));
    let said = request.messages.into_iter().map(|message| message.to_json());
    let messages: Vec<Value> = above.into_iter().chain(said).collect();
    let user = request.metadata.as_ref().and_then(|metadata| metadata.get("user_id")?.as_str());
    let chat = json!({
        "model": request.model, "messages": messages, "user": user, "max_tokens": request.max_tokens,
        "temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k,
        "stop": request.stop_sequences, "store": request.store,
    });
    serde_json::from_value(chat).map_err(|error| ApiError::param("messages", error.to_string()))
}

/// Makes answers, whole or in events.
#[derive(Debug)]
struct MessageWriter {
    ask: Ask,
    sampled: usize,
}

impl MessageWriter {
    /// The answer without what is said.
    fn message(&self) -> MessageBody {
        MessageBody {
            id: self.ask.id.clone(),
            kind: "message",
            role: "assistant",
            model: self.ask.model.clone(),
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage: self.usage(),
        }
    }

    fn usage(&self) -> Tokens {
        Tokens { input_tokens: self.ask.prompt_tokens(), output_tokens: self.sampled }
    }

    /// Why the answer ended, and the text that ended it.
    fn stopped(&self, completion: &Completion) -> (Option<&'static str>, Option<String>) {
        match completion.stop_reason {
            StopReason::EndOfText => (Some("end_turn"), None),
            StopReason::Length | StopReason::Positions => (Some("max_tokens"), None),
            StopReason::StopSequence => {
                let text = self.ask.weights.tokenizer.decode_with_special(&completion.ids);
                let mut stops = self.ask.sampling.stop.iter();
                (Some("stop_sequence"), stops.find(|stop| text.contains(stop.as_str())).cloned())
            }
        }
    }
}

/// A named event.
fn named(name: &str, value: &Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {value}\n\n"))
}

impl Chunks for MessageWriter {
    fn choices(&self) -> usize {
        1
    }

    fn begin(&mut self) -> Vec<Bytes> {
        let block = json!({"type": "text", "text": ""});
        vec![
            named("message_start", &json!({"type": "message_start", "message": self.message()})),
            named(
                "content_block_start",
                &json!({"type": "content_block_start", "index": 0, "content_block": block}),
            ),
        ]
    }

    fn part(&mut self, told: Progressed) -> Vec<Bytes> {
        match told {
            Progressed::Token { text, .. } => {
                self.sampled += 1;
                if text.is_empty() {
                    return Vec::new();
                }
                let delta = json!({"type": "text_delta", "text": text});
                let body = json!({"type": "content_block_delta", "index": 0, "delta": delta});
                vec![named("content_block_delta", &body)]
            }
            Progressed::Ended { completion, .. } => {
                let (reason, sequence) = self.stopped(&completion);
                let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
                let body = json!({"type": "message_delta", "delta": delta, "usage": self.usage()});
                vec![
                    named("content_block_stop", &json!({"type": "content_block_stop", "index": 0})),
                    named("message_delta", &body),
                ]
            }
            Progressed::Failed(error) => self.failed(&error),
        }
    }

    fn end(&mut self) -> Vec<Bytes> {
        vec![named("message_stop", &json!({"type": "message_stop"}))]
    }

    fn failed(&mut self, error: &ApiError) -> Vec<Bytes> {
        vec![named("error", &failure(error))]
    }
}
