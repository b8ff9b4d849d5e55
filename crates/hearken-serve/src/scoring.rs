//! `POST /v1/score`: what a reward model says of answers.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::request::parse;
use crate::shapes::Usage;
use crate::state::AppState;

/// The most answers of one request.
const INPUTS_MAX: usize = 1024;

/// What is scored.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScoreRequest {
    /// The name of the reward model.
    model: Option<String>,
    /// Answers, as lines of `hearken score` have them: {"prompt", "completion"}, {"messages"}, {"text"},
    /// {"input_ids"}, {"prompt_ids", "completion_ids"}, or the steps of a solution.
    #[schemars(length(min = 1, max = 1024))]
    input: Vec<Map<String, Value>>,
}

/// Scores.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ScoreList {
    object: &'static str,
    model: String,
    /// The version of the reward model.
    version: String,
    data: Vec<ScoreBody>,
    usage: Usage,
}

/// The score of an answer.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ScoreBody {
    index: usize,
    object: &'static str,
    score: f64,
    /// The score of each step, where the model reads steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    step_scores: Option<Vec<f64>>,
}

/// `POST /v1/score`.
pub(crate) async fn post(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<ScoreList>, ApiError> {
    let ScoreRequest { model, input } = parse(&headers, &body)?;
    let Some(scores) = &state.parts.scores else {
        return Err(ApiError::NotFound("reward model (--reward DIR serves one)".to_owned()));
    };
    let name = scores.name().to_owned();
    if let Some(model) = model.filter(|model| *model != name) {
        return Err(ApiError::NoModel { name: model, known: format!("`{name}`") });
    }
    if input.is_empty() || INPUTS_MAX < input.len() {
        let message = format!("`input` has {} answers; expected 1 to {INPUTS_MAX}", input.len());
        return Err(ApiError::param("input", message));
    }
    let _place = state.enter(1)?;
    let turn = std::sync::Arc::clone(&state.scoring).acquire_owned().await;
    let turn = turn.map_err(|error| ApiError::Internal(error.to_string()))?;
    let (scoring, version) = (state.clone(), scores.version().to_owned());
    let scored = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        scoring.parts.scores.as_ref().map(|scores| scores.score(input))
    });
    let scored = scored.await.map_err(|error| ApiError::Internal(error.to_string()))?;
    let scored = scored.unwrap_or(Ok(Vec::new())).map_err(|(index, message)| {
        ApiError::param(&format!("input[{index}]"), format!("`input[{index}]`: {message}"))
    })?;
    if let Some(index) = scored.iter().position(|scored| !scored.score.is_finite()) {
        let found = scored[index].score;
        return Err(ApiError::Internal(format!("the score of `input[{index}]` is {found}")));
    }
    let tokens = scored.iter().map(|scored| scored.tokens).sum();
    let body = |(index, scored): (usize, crate::parts::Scored)| ScoreBody {
        index,
        object: "score",
        score: scored.score,
        step_scores: scored.steps,
    };
    let data = scored.into_iter().enumerate().map(body).collect();
    Ok(Json(ScoreList { object: "list", model: name, version, data, usage: Usage::new(tokens, 0) }))
}
