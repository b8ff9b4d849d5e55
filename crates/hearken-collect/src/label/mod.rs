//! The labelling pages: the next item, what was decided about it, and taking it back.
//!
//! The page asks for items ahead of time ([`next`]), shows them at once, and sends decisions in the
//! background ([`submit`]) under names of its own making, so that a decision that is sent again is
//! stored once.

pub(crate) mod answer;
pub(crate) mod better;
mod bulk;
pub(crate) mod history;
pub(crate) mod item;
mod suggestion;
mod turn;

use axum::extract::State;
use axum::response::Html;
use axum::routing::{get, post};
use axum::{Json, Router};
use hearken_data::feedback::{Item, Origin, Suggested};
use minijinja::context;
use serde::Deserialize;
use serde_json::{Value, json};

use self::answer::PlacedDecision;
use self::better::Edited;
use crate::accounts::Permission;
use crate::distribute::{self, Next, Progress, Screened, Submission};
use crate::error::AppError;
use crate::language;
use crate::render::{Heading, excerpt, markdown};
use crate::settings::Rationale;
use crate::state::AppState;
use crate::user::CurrentUser;

/// Assignments that a page may name at once.
const HELD_MAX: usize = 64;

/// The pages and what their script calls.
pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/label", get(page))
        .route("/label/next", post(next))
        .route("/label/submit", post(submit))
        .route("/label/skip", post(skip))
        .route("/label/suggestions", get(bulk::page).post(bulk::confirm))
        .route("/label/renew", post(renew))
        .route("/label/history", get(history::list))
        .route("/label/reopen", post(history::reopen))
        .route("/label/revise/{id}", get(history::revise))
}

/// What every labelling page needs. May block.
pub(crate) fn page_values(state: &AppState) -> Result<minijinja::Value, AppError> {
    let settings = state.settings()?;
    let guidelines = state.guidelines()?;
    let text = guidelines.text.trim();
    Ok(context! {
        lease_ms => settings.lease_ms(),
        rationale => item::rationale(&settings),
        guidelines => (!text.is_empty()).then(|| markdown(text, Heading::Panel)),
    })
}

async fn page(State(state): State<AppState>, user: CurrentUser) -> Result<Html<String>, AppError> {
    state
        .blocking(move |state| {
            let values = context! { here => "label", ..page_values(state)? };
            state.page(&user, "label.html", values)
        })
        .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    held: Vec<String>,
}

/// The next item as HTML, or why there is none.
async fn next(
    State(state): State<AppState>,
    user: CurrentUser,
    Json(Held { held }): Json<Held>,
) -> Result<Json<Value>, AppError> {
    let next = distribute::next(&state, &user.annotator, &held).await?;
    state
        .blocking(move |state| {
            let progress = progress(state, &user)?;
            Ok(Json(match next {
                Next::Work(work) => {
                    let presented = &work.assignment.presented;
                    let suggestion = suggestion::of(state, &user.annotator, &work.item)?;
                    let shown = suggestion.filter(|one| one.seen == Suggested::Shown);
                    let words = shown.as_ref().and_then(|one| one.shown(presented));
                    json!({
                        "assignment": work.assignment.id,
                        "task": work.item.task,
                        "html": item::fragment(state, &work.item, presented, false, words)?,
                        "texts": better::texts(&*state.settings()?, &work.item, presented),
                        "suggestion": shown.and_then(|one| one.answer(presented)),
                        "progress": progress,
                    })
                }
                Next::Nothing(why) => {
                    json!({"assignment": null, "why": language::current().words(why.sentence()), "progress": progress})
                }
            }))
        })
        .await
}

/// A decision. Exactly one of `assignment` and `revises` is there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SentDecision {
    id: String,
    #[serde(default)]
    assignment: Option<String>,
    #[serde(default)]
    revises: Option<String>,
    answer: PlacedDecision,
    #[serde(default)]
    rationale: Option<String>,
    #[serde(default)]
    better: Option<Edited>,
    #[serde(default)]
    duration_ms: Option<u64>,
}

/// Stores a decision. When the answer arrives, it is on the disk.
async fn submit(
    State(state): State<AppState>,
    user: CurrentUser,
    Json(decision): Json<SentDecision>,
) -> Result<Json<Value>, AppError> {
    let SentDecision { id, assignment, revises, answer, rationale, better, duration_ms } = decision;
    let whose = user.clone();
    let (about, earlier) = (assignment.clone(), revises.clone());
    let (item, submission, told) = state
        .blocking(move |state| {
            let (item, presented) = shown(state, &whose, about.as_deref(), earlier.as_deref())?;
            let settings = state.settings()?;
            let rationale = rationale.or_else(|| match &answer {
                // A reason for not deciding is the reason that the project asks for.
                PlacedDecision::CantTell { reason }
                    if settings.rationale == Rationale::Required =>
                {
                    Some(reason.clone())
                }
                _ => None,
            });
            let scale = settings.strength_points;
            let verdict = answer.verdict(&presented, scale).map_err(AppError::Unprocessable)?;
            let better = better.map(|edited| edited.candidate(&presented)).transpose();
            let better = better.map_err(AppError::Unprocessable)?;
            let origin = Origin::Human;
            let suggested = suggestion::of(state, &whose.annotator, &item)?;
            // Who judges anew what was told after the first time has seen it.
            let told = suggested.as_ref().filter(|one| one.is_told_after);
            let seen = suggested.as_ref().map(|one| match told {
                Some(_) if earlier.is_some() => Suggested::Shown,
                _ => one.seen,
            });
            let told = told.map(|one| history::words(&one.verdict, &presented));
            let suggestion = seen;
            let submission =
                Submission { id, verdict, rationale, better, duration_ms, origin, suggestion };
            Ok((item, submission, told))
        })
        .await?;
    let outcome = match (assignment, revises) {
        (Some(assignment), None) => {
            distribute::submit(&state, &user.annotator, &assignment, submission).await?
        }
        (None, Some(revises)) => {
            distribute::revise(&state, &user.annotator, &revises, submission).await?
        }
        _ => return Err(neither()),
    };
    let is_screening = item.gold.as_ref().is_some_and(|gold| gold.screening);
    state
        .blocking(move |state| {
            let feedback = if is_screening { feedback(state, &user.annotator)? } else { None };
            let progress = progress(state, &user)?;
            let feedback = feedback.or_else(|| {
                let told = told.as_ref().filter(|_| outcome != distribute::Outcome::LeaseLost);
                told.map(|words| {
                    let words = language::current().words(words);
                    format!("A model suggested for the item before: {words}. “Undo” takes your judgement up again.")
                })
            });
            let feedback = feedback.map(|text| language::current().words(&text).into_owned());
            Ok(Json(json!({"outcome": outcome, "feedback": feedback, "progress": progress})))
        })
        .await
}

/// How far the project is, for those who may see it: whoever judges for others could tell gold items by what does not
/// count.
fn progress(state: &AppState, user: &CurrentUser) -> Result<Option<Progress>, AppError> {
    if !user.role.may(Permission::SeeResults) {
        return Ok(None);
    }
    distribute::progress(state).map(Some)
}

fn neither() -> AppError {
    AppError::Unprocessable("a decision names an \"assignment\", or what it \"revises\"".into())
}

/// The item that a decision is about, and the order in which it was shown.
fn shown(
    state: &AppState,
    user: &CurrentUser,
    assignment: Option<&str>,
    revises: Option<&str>,
) -> Result<(Item, Vec<usize>), AppError> {
    let (item, presented) = match (assignment, revises) {
        (Some(id), None) => {
            let assignment = if id.contains('\0') { None } else { state.store().assignment(id)? };
            let assignment = assignment
                .filter(|assignment| assignment.annotator == user.annotator)
                .ok_or_else(|| AppError::NotFound("you have no such assignment".into()))?;
            (assignment.item, Some(assignment.presented))
        }
        (None, Some(id)) => {
            let judgement = history::own(state, user, id)?;
            (judgement.item, Some(judgement.presented).filter(|presented| !presented.is_empty()))
        }
        _ => return Err(neither()),
    };
    let item = distribute::item(state, &item)?;
    let item = item.ok_or_else(|| AppError::Internal("the item is gone from the store".into()))?;
    let presented = presented.unwrap_or_else(|| (0..item.candidates.len()).collect());
    Ok((item, presented))
}

/// What an annotator learns when the screening is over: how many items were judged as they should be, and why the others
/// are judged otherwise. Before that nothing is said, so that no item can be tried out.
fn feedback(state: &AppState, annotator: &str) -> Result<Option<String>, AppError> {
    let Some(screened) = distribute::screened(state, annotator)? else { return Ok(None) };
    let Screened { items, right, passed, missed } = screened;
    let mut lines = vec![format!(
        "The trial is over: {right} of {items} items were judged as expected. {}",
        if passed { "The work begins." } else { "That is too few." }
    )];
    for name in missed {
        let Some(item) = distribute::item(state, &name)? else { continue };
        let asked = item.prompt.last().map_or_else(String::new, |it| excerpt(&it.content, 90));
        let reason = item.gold.and_then(|gold| gold.reason);
        let reason = reason.as_deref().unwrap_or("The guidelines say why.");
        lines.push(format!("Judged otherwise here: “{asked}” {reason}"));
    }
    Ok(Some(lines.join("\n")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Skip {
    assignment: String,
}

async fn skip(
    State(state): State<AppState>,
    user: CurrentUser,
    Json(Skip { assignment }): Json<Skip>,
) -> Result<Json<Value>, AppError> {
    distribute::skip(&state, &user.annotator, &assignment).await?;
    state
        .blocking(move |state| {
            let item = state.store().assignment(&assignment)?.map(|assignment| assignment.item);
            let is_screening = item.is_some_and(|item| distribute::is_screening(state, &item));
            let feedback = if is_screening { feedback(state, &user.annotator)? } else { None };
            let feedback = feedback.map(|text| language::current().words(&text).into_owned());
            Ok(Json(json!({"outcome": "skipped", "feedback": feedback})))
        })
        .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Renew {
    assignments: Vec<String>,
}

/// Starts leases anew and names those that are over.
async fn renew(
    State(state): State<AppState>,
    user: CurrentUser,
    Json(Renew { assignments }): Json<Renew>,
) -> Result<Json<Value>, AppError> {
    let mut lost = Vec::new();
    for assignment in assignments.into_iter().take(HELD_MAX) {
        match distribute::renew(&state, &user.annotator, &assignment).await {
            Ok(true) => {}
            Ok(false) | Err(AppError::NotFound(_)) => lost.push(assignment),
            Err(error) => return Err(error),
        }
    }
    Ok(Json(json!({"lost": lost})))
}
