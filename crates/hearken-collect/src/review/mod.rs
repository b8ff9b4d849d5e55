//! Review: items on which people differ, and what is decided about them.
//!
//! A reviewer sees what everybody said of an item beside it, and gives the final verdict with the keys with which the
//! others judge. The verdict is a judgement of its own: theirs stay as they are.

mod item;
pub(crate) mod list;
mod rows;

use axum::extract::{Query, State};
use axum::response::{Html, Redirect};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use minijinja::context;
use minijinja::value::Serde;
use serde::Deserialize;

use self::list::{Filter, FoundItems, LISTED, Show, Sort};
use crate::error::AppError;

use crate::state::AppState;
use crate::user::CurrentUser;
use crate::{codec, distribute};

pub(crate) use rows::{named_people, rows};

/// Characters of a comment.
const COMMENT_MAX: usize = 5_000;

/// The pages and what their script calls.
pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/review", get(queue))
        .route("/review/item", get(item::page))
        .route("/review/open", post(item::open))
        .route("/review/submit", post(item::submit))
        .route("/review/comment", post(comment))
}

/// The queue of a kind, in the order in which it is decided.
fn queued(state: &AppState, show: Show) -> Result<FoundItems, AppError> {
    list::find(state, &Filter { show, sort: Sort::Difference, ..Filter::default() })
}

/// What the address of the queue says.
#[derive(Deserialize)]
#[serde(default)]
struct ReviewQuery {
    show: Show,
    page: usize,
}

impl Default for ReviewQuery {
    fn default() -> Self {
        Self { show: Show::Disagreed, page: 0 }
    }
}

/// The queues that a reviewer works on.
const QUEUES: [(Show, &str); 3] =
    [(Show::Disagreed, "Disagreed"), (Show::Doubted, "Can’t tell"), (Show::Decided, "Decided")];

/// `GET /review`.
async fn queue(
    State(state): State<AppState>,
    Query(ReviewQuery { show, page }): Query<ReviewQuery>,
    user: CurrentUser,
) -> Result<Html<String>, AppError> {
    state
        .blocking(move |state| {
            let mut tabs = Vec::new();
            let mut shown = FoundItems::default();
            for (queue, words) in QUEUES {
                let found = queued(state, queue)?;
                let (name, count) = (queue.name(), found.hits.len());
                tabs.push(context! { name, words, count, here => queue == show });
                if queue == show {
                    shown = found;
                }
            }
            let start = page.saturating_mul(LISTED).min(shown.hits.len());
            let end = (start + LISTED).min(shown.hits.len());
            let rows = rows(state, &user, &shown.hits[start..end])?;
            let values = context! {
                here => "review",
                tabs,
                show => show.name(),
                first => shown.hits.first().map(|hit| address_of(state, hit.handle)),
                rows => Serde(rows),
                page,
                more => end < shown.hits.len(),
            };
            state.page(&user, "review.html", values)
        })
        .await
}

/// An item as a part of an address.
fn address_of(state: &AppState, handle: u32) -> String {
    codec::percent(&state.distributor().index().entries[handle as usize].id)
}

#[derive(Deserialize)]
struct NewComment {
    item: String,
    text: String,
    /// The queue that led here.
    #[serde(default)]
    queue: String,
}

/// `POST /review/comment`.
async fn comment(
    State(state): State<AppState>,
    user: CurrentUser,
    Form(NewComment { item, text, queue }): Form<NewComment>,
) -> Result<Redirect, AppError> {
    let text = text.trim().replace("\r\n", "\n");
    let characters = text.chars().count();
    if !(1..=COMMENT_MAX).contains(&characters) {
        let what = format!("a comment has 1 to {COMMENT_MAX} characters, found {characters}");
        return Err(AppError::Unprocessable(what));
    }
    crate::storable::storable(&serde_json::json!(text)).map_err(AppError::Unprocessable)?;
    let to = format!(
        "/review/item?id={}&queue={}&done=saved#comments",
        codec::percent(&item),
        codec::percent(&queue)
    );
    state
        .blocking(move |state| {
            item::existing(state, &item)?;
            let comment = hearken_store::Change::Comment(text);
            distribute::change_items(state, &user.annotator, vec![item.clone()], comment)?;
            state.audit(&user.annotator, "item.commented", serde_json::json!({"item": item}))
        })
        .await?;
    Ok(Redirect::to(&to))
}

/// An answer for a script.
type Reply = Result<Json<serde_json::Value>, AppError>;
