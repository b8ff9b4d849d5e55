//! `POST /v1/feedback`: what a user says of an answer.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use hearken_data::feedback::served::{
    AnswerName, Said, ServedFeedback, ServedLine, Thumb, pseudonym,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::candidate::CandidateStanding;
use crate::error::ApiError;
use crate::ids;
use crate::log::{CompletionLog, KeptAnswer, digest_of_text, now_ms};
use crate::request::parse;
use crate::state::AppState;

/// The most other answers that one is picked over.
const OTHERS_MAX: usize = 128;
/// Who says something where nobody says who.
const SOMEBODY: &str = "user";

/// What is said of an answer that was written down: one of `thumb`, `edit` and `over`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FeedbackRequest {
    /// The `id` of the answer.
    request_id: String,
    /// The `index` of the choice; 0 where it is not given.
    #[serde(default)]
    choice: usize,
    /// Whether it is good.
    thumb: Option<ThumbWord>,
    /// What the answer should have been.
    edit: Option<String>,
    /// It is better than these answers to the same prompt: others of the request, or those that were asked for again.
    #[schemars(length(min = 1, max = 128))]
    over: Option<Vec<OtherAnswer>>,
    /// Who says so. A digest of it is stored, which tells people apart.
    by: Option<String>,
}

/// Up or down.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ThumbWord {
    Up,
    Down,
}

/// An answer.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OtherAnswer {
    /// Its `id`.
    request_id: String,
    /// The `index` of the choice; 0 where it is not given.
    #[serde(default)]
    choice: usize,
}

/// What was stored.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct FeedbackBody {
    feedback_id: String,
    request_id: String,
    choice: usize,
    /// The version that wrote the answer.
    version: String,
}

/// `POST /v1/feedback`.
pub(crate) async fn post(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<FeedbackBody>, ApiError> {
    let request: FeedbackRequest = parse(&headers, &body)?;
    let Some(log) = &state.log else {
        let message = "nothing is stored here, so there is no answer to say something of";
        return Err(ApiError::Invalid { message: message.to_owned(), param: None, code: None });
    };
    let of = AnswerName { request_id: request.request_id, choice: request.choice };
    let answer = kept(log, &of)?;
    let said = match (request.thumb, request.edit, request.over) {
        (Some(ThumbWord::Up), None, None) => Said::Thumb(Thumb::Up),
        (Some(ThumbWord::Down), None, None) => Said::Thumb(Thumb::Down),
        (None, Some(edit), None) => Said::Edit(edited(log, &answer, &edit)?),
        (None, None, Some(others)) => Said::Over(picked_over(log, (&of, &answer), others)?),
        _ => {
            let message = "expected one of `thumb`, `edit` and `over`";
            return Err(ApiError::Invalid { message: message.to_owned(), param: None, code: None });
        }
    };
    let by = request.by.filter(|by| !by.is_empty());
    let line = ServedFeedback {
        feedback_id: ids::new("feedback"),
        at: hearken_data::calendar::time(now_ms()),
        of,
        by: by.map_or_else(|| SOMEBODY.to_owned(), |by| pseudonym(&by)),
        said,
    };
    log.write(&ServedLine::Feedback(line.clone())).map_err(|error| {
        ApiError::Internal(format!("what was said is not written down: {error}"))
    })?;
    hear(&state, log, &line, &answer);
    let ServedFeedback { feedback_id, of: AnswerName { request_id, choice }, .. } = line;
    Ok(Json(FeedbackBody { feedback_id, request_id, choice, version: answer.version }))
}

/// Tells the candidate that the model may have what was said, and rolls it back where users find it worse.
fn hear(state: &AppState, log: &CompletionLog, line: &ServedFeedback, answer: &KeptAnswer) {
    let Ok(served) = state.find(Some(&answer.model)) else { return };
    let Some(candidate) = served.candidate() else { return };
    let others = match &line.said {
        Said::Over(others) => others.as_slice(),
        _ => &[],
    };
    let version = |name: &AnswerName| Some((name.clone(), log.answer(name)?.version));
    let over: Vec<(AnswerName, String)> = others.iter().filter_map(version).collect();
    if candidate.hear((&line.of, &answer.version), &line.said, &over)
        && let Some(report) = served.end_candidate(CandidateStanding::RolledBack, Some(&candidate))
    {
        state.metrics.rolled_back.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            model = report.model,
            version = report.version,
            comparisons = report.comparisons,
            "users find the candidate worse: it is rolled back"
        );
    }
}

fn kept(log: &CompletionLog, of: &AnswerName) -> Result<KeptAnswer, ApiError> {
    let AnswerName { request_id, choice } = of;
    log.answer(of).ok_or_else(|| {
        ApiError::NotFound(format!("stored answer of the request {request_id:?}, choice {choice},"))
    })
}

fn edited(log: &CompletionLog, answer: &KeptAnswer, edit: &str) -> Result<String, ApiError> {
    let wrong = |message| Err(ApiError::param("edit", message));
    if edit.trim().is_empty() {
        return wrong("`edit` is empty; expected what the answer should have been");
    }
    let edit = log.redact_text(edit);
    if digest_of_text(&edit) == answer.text {
        return wrong("`edit` is the answer itself; expected another one");
    }
    Ok(edit)
}

fn picked_over(
    log: &CompletionLog,
    (of, answer): (&AnswerName, &KeptAnswer),
    others: Vec<OtherAnswer>,
) -> Result<Vec<AnswerName>, ApiError> {
    let wrong = |message: String| Err(ApiError::param("over", message));
    if others.is_empty() || OTHERS_MAX < others.len() {
        let found = others.len();
        return wrong(format!("`over` has {found} answers; expected 1 to {OTHERS_MAX}"));
    }
    let mut names: Vec<AnswerName> = Vec::with_capacity(others.len());
    for OtherAnswer { request_id, choice } in others {
        let name = AnswerName { request_id, choice };
        if name == *of || names.contains(&name) {
            return wrong(format!("`over` names {:?}, choice {choice}, twice", name.request_id));
        }
        if kept(log, &name)?.prompt != answer.prompt {
            return wrong(format!(
                "`over` names {:?}, an answer to another prompt; expected one to the same",
                name.request_id
            ));
        }
        names.push(name);
    }
    Ok(names)
}
