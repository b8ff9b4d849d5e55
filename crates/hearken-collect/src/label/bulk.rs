//! Suggestions of models, confirmed many at once where the project allows it.

use axum::extract::{Form, Query, State};
use axum::response::{Html, Redirect};
use hearken_data::feedback::{Item, Origin, Suggested};
use minijinja::context;
use minijinja::value::Serde;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::item::ShownAnswer;
use super::{shown, suggestion};
use crate::distribute::{self, Outcome, Submission};
use crate::error::AppError;
use crate::render::{Heading, markdown};
use crate::state::AppState;
use crate::user::CurrentUser;

/// Items on the page.
const LISTED: usize = 10;

/// An item with what is suggested for it.
#[derive(Serialize)]
struct BulkRow {
    assignment: String,
    prompt: String,
    suggestion: String,
    answers: Vec<ShownAnswer>,
}

#[derive(Deserialize)]
pub(super) struct BulkQuery {
    #[serde(default)]
    confirmed: Option<usize>,
}

fn offered(state: &AppState) -> Result<(), AppError> {
    match state.settings()?.confirms_in_bulk() {
        true => Ok(()),
        false => Err(AppError::NotFound("suggestions are not confirmed in bulk here".into())),
    }
}

/// Whether the annotator sees a suggestion for the item, and nothing has to be asked for first.
fn fits(state: &AppState, annotator: &str, item: &Item) -> Result<bool, AppError> {
    if item.sensitive {
        return Ok(false);
    }
    let suggested = suggestion::of(state, annotator, item)?;
    Ok(suggested.is_some_and(|one| one.seen == Suggested::Shown))
}

/// `GET /label/suggestions`: some items in hand with what is suggested for each.
pub(super) async fn page(
    State(state): State<AppState>,
    Query(asked): Query<BulkQuery>,
    user: CurrentUser,
) -> Result<Html<String>, AppError> {
    state
        .blocking(move |state| {
            offered(state)?;
            let who = &user.annotator;
            let work = distribute::batch(state, who, LISTED, |item| fits(state, who, item))?;
            let mut rows = Vec::new();
            for one in work.iter().take(LISTED) {
                let presented = &one.assignment.presented;
                let suggested = suggestion::of(state, who, &one.item)?;
                let Some(words) = suggested.and_then(|it| it.shown(presented)) else { continue };
                rows.push(row(&one.item, &one.assignment.id, presented, words));
            }
            let done = asked.confirmed.map(|count| match count {
                1 => "1 suggestion was confirmed.".to_owned(),
                _ => format!("{count} suggestions were confirmed."),
            });
            let values = context! { here => "suggestions", done, rows => Serde(rows) };
            state.page(&user, "label_bulk.html", values)
        })
        .await
}

fn row(item: &Item, assignment: &str, presented: &[usize], suggestion: String) -> BulkRow {
    let shown = |(place, candidate): (usize, &usize)| {
        Some(ShownAnswer::of(item.candidates.get(*candidate)?, place))
    };
    BulkRow {
        assignment: assignment.to_owned(),
        prompt: item
            .prompt
            .last()
            .map_or_else(String::new, |last| markdown(&last.content, Heading::Answer)),
        suggestion,
        answers: presented.iter().enumerate().filter_map(shown).collect(),
    }
}

/// `POST /label/suggestions`: the ticked ones are judgements of the annotator, as suggested. The others come next, one by
/// one.
pub(super) async fn confirm(
    State(state): State<AppState>,
    user: CurrentUser,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Redirect, AppError> {
    let named = |name: &str| -> Vec<String> {
        let these = fields.iter().filter(|(field, _)| field == name);
        these.map(|(_, value)| value.clone()).take(LISTED).collect()
    };
    let (listed, ticked) = (named("listed"), named("assignment"));
    let mut confirmed = 0;
    for assignment in &ticked {
        let (whose, about) = (user.clone(), assignment.clone());
        let submission = state.blocking(move |state| taken_over(state, &whose, &about)).await?;
        let outcome = distribute::submit(&state, &user.annotator, assignment, submission).await?;
        confirmed += usize::from(outcome != Outcome::LeaseLost);
    }
    let (actor, count) = (user.annotator.clone(), ticked.len());
    if 0 < count {
        let details = json!({ "suggestions": count });
        state.blocking(move |state| state.audit(&actor, "suggestions.confirmed", details)).await?;
    }
    // What was not ticked is in hand, and the labelling page begins with it.
    Ok(match listed.len() == ticked.len() || ticked.is_empty() && listed.is_empty() {
        true => Redirect::to(&format!("/label/suggestions?confirmed={confirmed}")),
        false => Redirect::to("/label"),
    })
}

/// The judgement that confirms what is suggested for an item in hand.
fn taken_over(
    state: &AppState,
    user: &CurrentUser,
    assignment: &str,
) -> Result<Submission, AppError> {
    offered(state)?;
    let (item, _) = shown(state, user, Some(assignment), None)?;
    let suggested = match fits(state, &user.annotator, &item)? {
        true => suggestion::of(state, &user.annotator, &item)?,
        false => None,
    };
    let suggested = suggested.ok_or_else(|| {
        AppError::Conflict(format!("nothing is suggested for the item {:?} any more", item.id))
    })?;
    Ok(Submission {
        id: format!("bulk-{assignment}"),
        verdict: suggested.verdict,
        rationale: None,
        better: None,
        duration_ms: None,
        origin: Origin::Human,
        suggestion: Some(Suggested::Shown),
    })
}
