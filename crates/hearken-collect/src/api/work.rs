//! Labelling without pages: the next item, and what was decided.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use hearken_data::Message;
use hearken_data::feedback::{BetterAnswer, Item, Media, Origin, Task, Verdict};
use hearken_store::Assignment;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tokens::{Scope, Token};
use super::{known_name, no_such};
use crate::distribute::{self, Next, Outcome, Submission, Why};
use crate::error::AppError;
use crate::state::AppState;
use crate::storable::storable;

/// Who asks for the next item.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asking {
    /// The pseudonym of the annotator; the token's own where it is missing.
    #[serde(default)]
    #[schemars(regex(pattern = "^[A-Za-z0-9_.:-]{1,64}$"))]
    annotator: Option<String>,
    /// Assignments that the annotator has at hand.
    #[serde(default)]
    held: Vec<String>,
}

/// An item as an annotator may see it: no models, no metadata, no known verdict.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ShownItem")]
pub(crate) struct Blind {
    id: String,
    task: Task,
    prompt: Vec<Message>,
    media: Vec<Media>,
    sensitive: bool,
    candidates: Vec<BlindCandidate>,
}

/// A candidate without who wrote it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ShownCandidate")]
pub(crate) struct BlindCandidate {
    text: String,
    steps: Vec<String>,
    media: Vec<Media>,
}

impl Blind {
    fn of(item: Item) -> Self {
        let candidates = item.candidates.into_iter().map(|candidate| BlindCandidate {
            text: candidate.text,
            steps: candidate.steps,
            media: candidate.media,
        });
        Self {
            id: item.id,
            task: item.task,
            prompt: item.prompt,
            media: item.media,
            sensitive: item.sensitive,
            candidates: candidates.collect(),
        }
    }
}

/// A pseudonym that a program may use: letters, digits and `-_.:`, at most 64.
fn annotator_of(token: &Token, annotator: Option<String>) -> Result<String, AppError> {
    let Some(annotator) = annotator else { return Ok(token.id.clone()) };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if (1..=64).contains(&annotator.len()) && annotator.bytes().all(plain) {
        return Ok(annotator);
    }
    let what = "an annotator has 1 to 64 letters, digits, \"-\", \"_\", \".\" or \":\"";
    Err(AppError::Unprocessable(what.into()))
}

/// What an annotator holds.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Assignment")]
pub(crate) struct Held {
    id: String,
    annotator: String,
    /// Place `k` shows candidate `presented[k]`.
    presented: Vec<usize>,
    /// Milliseconds since 1970 in UTC.
    expires_at: i64,
}

/// An item in hand, or why there is none.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Next")]
#[serde(untagged)]
pub(crate) enum NextBody {
    Work {
        assignment: Held,
        item: Blind,
    },
    Nothing {
        /// Always null.
        assignment: (),
        why: Why,
        /// The same for the annotator.
        sentence: &'static str,
    },
}

/// `POST /next`.
pub(crate) async fn next(
    State(state): State<AppState>,
    token: Token,
    Json(asking): Json<Asking>,
) -> Result<Json<NextBody>, AppError> {
    token.must(Scope::Label)?;
    let annotator = annotator_of(&token, asking.annotator)?;
    let next = distribute::next(&state, &annotator, &asking.held).await?;
    Ok(Json(match next {
        Next::Work(work) => {
            let Assignment { id, annotator, presented, expires_at, .. } = work.assignment;
            let assignment = Held { id, annotator, presented, expires_at };
            NextBody::Work { assignment, item: Blind::of(work.item) }
        }
        Next::Nothing(why) => NextBody::Nothing { assignment: (), why, sentence: why.sentence() },
    }))
}

/// A decision.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decision {
    /// Made by the client; sending the same judgement twice stores it once.
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{1,64}$"))]
    id: String,
    #[schemars(with = "Verdict")]
    verdict: Value,
    #[serde(default)]
    rationale: Option<String>,
    /// A better answer, where the project asks for one.
    #[serde(default)]
    better: Option<BetterAnswer>,
    #[serde(default)]
    duration_ms: Option<u64>,
    #[serde(default)]
    origin: Origin,
}

impl Decision {
    fn submission(self) -> Result<Submission, AppError> {
        let Decision { id, verdict, rationale, better, duration_ms, origin } = self;
        storable(&verdict).map_err(AppError::Unprocessable)?;
        let verdict: Verdict = serde_json::from_value(verdict)
            .map_err(|error| AppError::Unprocessable(format!("verdict: {error}")))?;
        Ok(Submission { id, verdict, rationale, better, duration_ms, origin, suggestion: None })
    }
}

/// What became of a judgement.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Outcome")]
pub(crate) struct Told {
    outcome: Outcome,
}

fn told(outcome: Outcome) -> Result<(StatusCode, Json<Told>), AppError> {
    let status = match outcome {
        Outcome::Stored => StatusCode::CREATED,
        Outcome::AlreadyThere => StatusCode::OK,
        Outcome::LeaseLost => {
            let what = "the lease has ended and others have judged the item; nothing was stored";
            return Err(AppError::Conflict(what.into()));
        }
    };
    Ok((status, Json(Told { outcome })))
}

/// Whose assignment it is. The name of an assignment is hard to guess: who knows it got it.
async fn holder(state: &AppState, id: &str) -> Result<String, AppError> {
    known_name("assignment", id)?;
    let id = id.to_owned();
    let assignment = state.read(move |store| store.assignment(&id)).await?;
    assignment.map(|assignment| assignment.annotator).ok_or_else(|| no_such("assignment"))
}

/// `POST /assignments/{id}/judgement`.
pub(crate) async fn submit(
    State(state): State<AppState>,
    token: Token,
    Path(id): Path<String>,
    Json(decision): Json<Decision>,
) -> Result<(StatusCode, Json<Told>), AppError> {
    token.must(Scope::Label)?;
    let annotator = holder(&state, &id).await?;
    told(distribute::submit(&state, &annotator, &id, decision.submission()?).await?)
}

/// `POST /assignments/{id}/skip`.
pub(crate) async fn skip(
    State(state): State<AppState>,
    token: Token,
    Path(id): Path<String>,
) -> Result<StatusCode, AppError> {
    token.must(Scope::Label)?;
    let annotator = holder(&state, &id).await?;
    distribute::skip(&state, &annotator, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /assignments/{id}/renewal`.
pub(crate) async fn renew(
    State(state): State<AppState>,
    token: Token,
    Path(id): Path<String>,
) -> Result<StatusCode, AppError> {
    token.must(Scope::Label)?;
    let annotator = holder(&state, &id).await?;
    if distribute::renew(&state, &annotator, &id).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(AppError::Conflict("the assignment is over".into()))
}

/// A decision that takes the place of an earlier one.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Revision {
    /// The pseudonym of the annotator; the token's own where it is missing.
    #[serde(default)]
    #[schemars(regex(pattern = "^[A-Za-z0-9_.:-]{1,64}$"))]
    annotator: Option<String>,
    judgement: Decision,
}

/// `POST /judgements/{id}/revision`.
pub(crate) async fn revise(
    State(state): State<AppState>,
    token: Token,
    Path(id): Path<String>,
    Json(revision): Json<Revision>,
) -> Result<(StatusCode, Json<Told>), AppError> {
    token.must(Scope::Label)?;
    known_name("judgement", &id)?;
    let annotator = annotator_of(&token, revision.annotator)?;
    told(distribute::revise(&state, &annotator, &id, revision.judgement.submission()?).await?)
}
