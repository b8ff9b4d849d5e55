//! `/admin/weights`: other weights under a name, while requests go on; `/admin/candidate`: a share of the conversations for what may become
//! them; `/admin/forget`: what is no longer to be stored.

use std::path::PathBuf;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use hearken_data::feedback::served::pseudonym;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::candidate::{CandidateReport, CandidateStanding, Purpose};
use crate::error::ApiError;
use crate::log::{Removed, Whose};
use crate::parts::WeightsPlace;
use crate::request::parse;
use crate::state::AppState;

/// Which weights come.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WeightsRequest {
    /// The name of a served model; the base where it is not given.
    model: Option<String>,
    /// A model's directory; that of now where it is not given.
    path: Option<String>,
    /// An adapter's directory; without it, and with `path`, the model has none.
    adapter: Option<String>,
}

/// What has come.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct WeightsBody {
    model: String,
    /// What new requests get.
    version: String,
    /// What those under way end with.
    previous: String,
    seconds: f64,
}

/// `POST /admin/weights`.
pub(crate) async fn post(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<WeightsBody>, ApiError> {
    let request: WeightsRequest = parse(&headers, &body)?;
    let served = state.find(request.model.as_deref())?;
    let now = served.weights().place.clone();
    let place = place(now, request.path, request.adapter)?;
    let swapped = state.swap(served, place).await?;
    Ok(Json(WeightsBody {
        model: served.name.clone(),
        version: swapped.version,
        previous: swapped.previous,
        seconds: swapped.took.as_secs_f64(),
    }))
}

fn place(
    now: WeightsPlace,
    path: Option<String>,
    adapter: Option<String>,
) -> Result<WeightsPlace, ApiError> {
    if path.is_none() && adapter.is_none() {
        let message = "expected `path`, a model's directory, or `adapter`, an adapter's";
        return Err(ApiError::param("path", message));
    }
    let model = path.map_or(now.model, PathBuf::from);
    Ok(WeightsPlace { model, adapter: adapter.map(PathBuf::from) })
}

/// The share of conversations where none is given.
const SHARE: f64 = 0.1;
/// The most candidates that are rolled back though they are as good, as a share, where none is given.
const ALPHA: f64 = 0.05;

/// What may take the place of a model's weights.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CandidateRequest {
    /// The name of a served model; the base where it is not given.
    model: Option<String>,
    /// A model's directory; that of now where it is not given.
    path: Option<String>,
    /// An adapter's directory.
    adapter: Option<String>,
    /// What it is there for; a canary where it is not given.
    purpose: Option<Purpose>,
    /// The share of conversations that it answers, above 0; 0.1 where it is not given.
    #[schemars(range(min = 0.0, max = 1.0))]
    share: Option<f64>,
    /// The most candidates that are rolled back though they are as good, as a share; 0.05 where it is not given.
    #[schemars(range(min = 0.0, max = 0.5))]
    alpha: Option<f64>,
}

/// Whose candidate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfModel {
    model: Option<String>,
}

/// `POST /admin/candidate`.
pub(crate) async fn put_candidate(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<CandidateReport>, ApiError> {
    let request: CandidateRequest = parse(&headers, &body)?;
    let served = state.find(request.model.as_deref())?;
    let (share, alpha) = (request.share.unwrap_or(SHARE), request.alpha.unwrap_or(ALPHA));
    let share = between("share", share, 1.0)?;
    let alpha = between("alpha", alpha, 0.5)?;
    let place = place(served.weights().place.clone(), request.path, request.adapter)?;
    let purpose = request.purpose.unwrap_or(Purpose::Canary);
    Ok(Json(state.put_candidate(served, place, purpose, (share, alpha)).await?))
}

/// A number above 0, at most `high`.
fn between(name: &str, found: f64, high: f64) -> Result<f64, ApiError> {
    if 0.0 < found && found <= high {
        return Ok(found);
    }
    let message = format!("`{name}` is {found}; expected a number above 0, at most {high}");
    Err(ApiError::param(name, message))
}

/// `GET /admin/candidate`.
pub(crate) async fn candidate(
    State(state): State<AppState>,
    Query(of): Query<OfModel>,
) -> Result<Json<CandidateReport>, ApiError> {
    let served = state.find(of.model.as_deref())?;
    served.candidate_report().map(Json).ok_or_else(|| no_candidate(&served.name))
}

/// `DELETE /admin/candidate`.
pub(crate) async fn end_candidate(
    State(state): State<AppState>,
    Query(of): Query<OfModel>,
) -> Result<Json<CandidateReport>, ApiError> {
    let served = state.find(of.model.as_deref())?;
    let ended = served.end_candidate(CandidateStanding::Withdrawn, None);
    ended.map(Json).ok_or_else(|| no_candidate(&served.name))
}

fn no_candidate(model: &str) -> ApiError {
    ApiError::NotFound(format!("candidate of `{model}`"))
}

/// Whose conversations are removed: one of `by` and `request_id`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForgetRequest {
    /// Who asked, as the requests called them in `user`, and `/v1/feedback` in `by`.
    by: Option<String>,
    /// The `id` of an answer.
    request_id: Option<String>,
}

/// What was removed.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ForgetBody {
    /// Completions.
    completions: usize,
    /// What was said of them, or by that person.
    feedback: usize,
}

/// `POST /admin/forget`.
pub(crate) async fn forget(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<ForgetBody>, ApiError> {
    let request: ForgetRequest = parse(&headers, &body)?;
    let invalid =
        |message: &str| ApiError::Invalid { message: message.to_owned(), param: None, code: None };
    if state.log.is_none() {
        return Err(invalid("nothing is stored here, so there is nothing to remove"));
    }
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let whose = match (given(request.by), given(request.request_id)) {
        (Some(by), None) => Whose::Person(pseudonym(&by)),
        (None, Some(id)) => Whose::Request(id),
        _ => return Err(invalid("expected one of `by` and `request_id`, not empty")),
    };
    let work = move || match &state.log {
        Some(log) => log.forget_whose(&whose),
        None => Ok(Removed::default()),
    };
    let removed = tokio::task::spawn_blocking(work).await;
    let removed = removed.map_err(|error| ApiError::Internal(error.to_string()))?;
    let Removed { completions, feedback } = removed
        .map_err(|error| ApiError::Internal(format!("not everything is removed: {error}")))?;
    Ok(Json(ForgetBody { completions, feedback }))
}
