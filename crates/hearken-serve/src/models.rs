//! What is served, and how it is: `/v1/models`, `/health`, `/metrics`, `/tokenize`, `/detokenize`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hearken_model::tokenizer::Bos;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::chat::prompt_ids;
use crate::error::ApiError;
use crate::metrics::ModelFacts;
use crate::request::{ChatRequest, parse};
use crate::state::{AppState, ServedModel};

/// A model that is served.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ModelBody {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    /// The version of the weights that new requests get.
    version: String,
    /// Where they come from.
    root: String,
    /// The base of an adapter.
    parent: Option<String>,
    /// Tokens of prompt and completion together.
    max_model_len: usize,
    /// Tokens that a language model knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    vocab_size: Option<usize>,
    /// A digest of its tokenizer: those that encode every text alike have the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokenizer: Option<String>,
}

/// All models.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ModelList {
    object: &'static str,
    data: Vec<ModelBody>,
}

fn described(state: &AppState, served: &ServedModel) -> ModelBody {
    let weights = served.weights();
    let place = &weights.place;
    let root = place.adapter.as_ref().unwrap_or(&place.model);
    let is_adapter = state.served[0].name != served.name;
    ModelBody {
        id: served.name.clone(),
        object: "model",
        created: served.created,
        owned_by: "hearken",
        version: weights.version.clone(),
        root: root.display().to_string(),
        parent: is_adapter.then(|| state.served[0].name.clone()),
        max_model_len: weights.positions,
        vocab_size: Some(weights.vocab),
        tokenizer: Some(weights.fingerprint().to_owned()),
    }
}

fn reward_model(state: &AppState) -> Option<ModelBody> {
    state.parts.scores.as_ref().map(|scores| ModelBody {
        id: scores.name().to_owned(),
        object: "model",
        created: state.served[0].created,
        owned_by: "hearken",
        version: scores.version().to_owned(),
        root: scores.name().to_owned(),
        parent: None,
        max_model_len: scores.positions(),
        vocab_size: None,
        tokenizer: None,
    })
}

/// `GET /v1/models`.
pub(crate) async fn list(State(state): State<AppState>) -> Json<ModelList> {
    let models = state.served.iter().map(|served| described(&state, served));
    Json(ModelList { object: "list", data: models.chain(reward_model(&state)).collect() })
}

/// `GET /v1/models/{model}`.
pub(crate) async fn one(
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Json<ModelBody>, ApiError> {
    if let Some(found) = reward_model(&state).filter(|found| found.id == name) {
        return Ok(Json(found));
    }
    Ok(Json(described(&state, state.find(Some(&name))?)))
}

/// How the service is.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Health {
    /// "ok", "ending" or "broken".
    status: &'static str,
}

/// `GET /health`.
pub(crate) async fn health(State(state): State<AppState>) -> Response {
    let is_broken = state.is_broken.load(std::sync::atomic::Ordering::Relaxed);
    let (status, code) = match (is_broken, state.is_ending()) {
        (true, _) => ("broken", StatusCode::SERVICE_UNAVAILABLE),
        (false, true) => ("ending", StatusCode::SERVICE_UNAVAILABLE),
        (false, false) => ("ok", StatusCode::OK),
    };
    (code, Json(Health { status })).into_response()
}

/// `GET /metrics`.
pub(crate) async fn metrics(State(state): State<AppState>) -> Result<Response, ApiError> {
    let reading = state.clone();
    // An engine answers between two steps.
    let facts = tokio::task::spawn_blocking(move || {
        let all: Vec<_> = reading.served.iter().map(|served| served.weights()).collect();
        let fact = |(at, served): (usize, &Arc<ServedModel>)| {
            let weights = &all[at];
            let is_first = all[..at].iter().all(|other| !other.engine.is_same(&weights.engine));
            let stats = is_first.then(|| weights.engine.stats().unwrap_or_default());
            ModelFacts { name: served.name.clone(), version: weights.version.clone(), stats }
        };
        reading.served.iter().enumerate().map(fact).collect::<Vec<_>>()
    });
    let facts = facts.await.map_err(|error| ApiError::Internal(error.to_string()))?;
    let text = state.metrics.text(&facts, state.under_way());
    let kind = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    Ok(([kind], text).into_response())
}

/// What `/tokenize` takes: a text or a conversation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenizeRequest {
    /// The name of a served model; the base where it is not given.
    model: Option<String>,
    /// A text.
    prompt: Option<String>,
    /// A conversation, which the model's template renders with a generation prompt.
    messages: Option<Vec<hearken_data::Message>>,
    /// What the model may call, for its template.
    tools: Option<Vec<serde_json::Map<String, serde_json::Value>>>,
    /// Put before a text what the model's tokenizer puts there. True where it is not given.
    add_special_tokens: Option<bool>,
}

/// Tokens of a text.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Tokenized {
    count: usize,
    max_model_len: usize,
    tokens: Vec<u32>,
    /// The tokens as texts.
    token_strs: Vec<String>,
}

/// `POST /tokenize`.
pub(crate) async fn tokenize(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Tokenized>, ApiError> {
    let request: TokenizeRequest = parse(&headers, &body)?;
    let weights = state.find(request.model.as_deref())?.weights();
    let tokens = match (&request.prompt, request.messages) {
        (Some(text), None) => {
            let bos = match request.add_special_tokens.unwrap_or(true) {
                true => Bos::AsConfigured,
                false => Bos::Never,
            };
            let encoded = weights.tokenizer.encode(text, bos);
            encoded.map_err(|error| ApiError::param("prompt", format!("`prompt`: {error}")))?
        }
        (None, Some(messages)) => {
            // The one reader of conversations.
            let chat = json!({"messages": messages, "tools": request.tools});
            let chat: ChatRequest = serde_json::from_value(chat)
                .map_err(|error| ApiError::param("messages", error.to_string()))?;
            prompt_ids(&weights, &chat)?
        }
        _ => {
            let message = "expected either `prompt` or `messages`";
            return Err(ApiError::param("prompt", message));
        }
    };
    let token_strs = tokens.iter().map(|&id| weights.token(id).0).collect();
    let (count, max_model_len) = (tokens.len(), weights.positions);
    Ok(Json(Tokenized { count, max_model_len, tokens, token_strs }))
}

/// What `/detokenize` takes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DetokenizeRequest {
    /// The name of a served model; the base where it is not given.
    model: Option<String>,
    /// The tokens.
    tokens: Vec<u32>,
}

/// The text of tokens.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Detokenized {
    /// Special tokens included.
    prompt: String,
}

/// `POST /detokenize`.
pub(crate) async fn detokenize(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Detokenized>, ApiError> {
    let request: DetokenizeRequest = parse(&headers, &body)?;
    let weights = state.find(request.model.as_deref())?.weights();
    if let Some(id) = request.tokens.iter().find(|&&id| weights.vocab <= id as usize) {
        let message = format!("`tokens` has {id}; expected ids below {}", weights.vocab);
        return Err(ApiError::param("tokens", message));
    }
    Ok(Json(Detokenized { prompt: weights.tokenizer.decode_with_special(&request.tokens) }))
}
