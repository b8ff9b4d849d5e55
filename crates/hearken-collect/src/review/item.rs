//! One item with everything that is said of it, and its final verdict.

use axum::Json;
use axum::extract::{Query, State};
use axum::response::Html;
use hearken_data::feedback::{Item, Judgement, Origin, in_force};
use hearken_store::{Changed, Submitted};
use minijinja::context;
use minijinja::value::Serde;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::list::Show;
use super::rows::in_item;
use super::{Reply, named_people, queued};
use crate::accounts::Permission;
use crate::codec;
use crate::distribute::{self, Submission};
use crate::error::AppError;
use crate::label::answer::PlacedDecision;
use crate::label::better::{self, Edited};
use crate::label::{item as shown, page_values};
use crate::state::AppState;
use crate::user::CurrentUser;

/// What the address of an item says.
#[derive(Deserialize)]
pub(super) struct ReviewItemQuery {
    id: String,
    /// The queue that led here.
    #[serde(default)]
    queue: Option<Show>,
    #[serde(default)]
    done: Option<String>,
}

/// What somebody said, as a card.
#[derive(Serialize)]
struct Card {
    who: String,
    pseudonym: String,
    /// `person`, `model`, `simulation`.
    kind: &'static str,
    verdict: String,
    rationale: Option<String>,
    better: Option<String>,
    at: i64,
    seconds: Option<f64>,
    guidelines: Option<u32>,
    revised: bool,
    is_final: bool,
}

/// The item of this name.
pub(super) fn existing(state: &AppState, id: &str) -> Result<Item, AppError> {
    let item = distribute::item(state, id)?;
    item.ok_or_else(|| AppError::NotFound("there is no such item".into()))
}

/// `GET /review/item?id=…`.
pub(super) async fn page(
    State(state): State<AppState>,
    Query(asked): Query<ReviewItemQuery>,
    user: CurrentUser,
) -> Result<Html<String>, AppError> {
    state.blocking(move |state| draw(state, &user, &asked)).await
}

fn draw(
    state: &AppState,
    user: &CurrentUser,
    asked: &ReviewItemQuery,
) -> Result<Html<String>, AppError> {
    distribute::look_again(state)?;
    let item = existing(state, &asked.id)?;
    let judgements = state.store().judgements_of(&asked.id)?;
    let names = named_people(state, user)?;
    let who = |pseudonym: &str| names.get(pseudonym).cloned().unwrap_or_else(|| pseudonym.into());
    let changed = {
        let index = state.distributor().index();
        let entry = index.handle(&asked.id).map(|handle| &index.entries[handle as usize]);
        entry.and_then(|entry| entry.changed.as_deref()).cloned().unwrap_or_default()
    };
    let holding = in_force(&judgements);
    let cards: Vec<Card> = judgements
        .iter()
        .map(|one| {
            let revised = !holding.iter().any(|holds| holds.id == one.id);
            card(one, who(&one.annotator), revised)
        })
        .collect();
    let next = match asked.queue {
        Some(show) => next_of(state, show, &asked.id)?,
        None => None,
    };
    let queue = asked.queue.map(Show::name);
    let back = match queue {
        Some(queue) => format!("/review?show={queue}"),
        None if user.role.may(Permission::Manage) => "/admin/items".into(),
        None => "/review".into(),
    };
    let comments: Vec<minijinja::Value> = changed
        .comments
        .iter()
        .map(|one| context! { who => who(&one.by), at => one.at, text => one.text.clone() })
        .collect();
    let values = context! {
        here => "review",
        done => asked.done.as_ref().map(|_| "Saved."),
        id => asked.id.clone(),
        address => codec::percent(&asked.id),
        queue,
        back,
        next => next.map(|id| codec::percent(&id)),
        cards => Serde(cards),
        comments,
        meta => Serde(item.meta.clone()),
        models => item.candidates.iter().map(|one| one.model.clone()).collect::<Vec<_>>(),
        gold => item.gold.as_ref().map(|gold| in_item(&gold.verdict)),
        screening => item.gold.as_ref().is_some_and(|gold| gold.screening),
        priority => item.priority,
        ..page_values(state)?
    };
    let values = context! { ..values, ..of_changes(state, user, &changed)? };
    state.page(user, "review_item.html", values)
}

/// What a lead has changed about the item, and may change.
fn of_changes(
    state: &AppState,
    user: &CurrentUser,
    changed: &Changed,
) -> Result<minijinja::Value, AppError> {
    let names = named_people(state, user)?;
    let mut people: Vec<(&String, &String)> = names.iter().collect();
    people.sort_by_key(|(_, name)| name.to_lowercase());
    let people = people.into_iter().map(|(pseudonym, name)| {
        let has = changed.people.contains(pseudonym);
        context! { pseudonym, name, has }
    });
    let people: Vec<minijinja::Value> = people.collect();
    Ok(context! {
        withdrawn => changed.withdrawn,
        tags => Serde(changed.tags.clone()),
        all_tags => super::list::tags(state),
        people,
    })
}

fn card(judgement: &Judgement, who: String, revised: bool) -> Card {
    Card {
        pseudonym: judgement.annotator.clone(),
        who,
        kind: match judgement.origin {
            Origin::Human => "person",
            Origin::Ai => "model",
            Origin::Synthetic => "simulation",
        },
        verdict: in_item(&judgement.verdict),
        rationale: judgement.rationale.clone(),
        better: judgement.better.as_ref().map(|better| better.text.clone()),
        at: judgement.at,
        seconds: judgement.duration_ms.map(|ms| ms as f64 / 1e3),
        guidelines: judgement.guidelines,
        revised,
        is_final: judgement.is_final,
    }
}

/// The item that comes after this one in its queue; the first where this one has left it.
fn next_of(state: &AppState, show: Show, id: &str) -> Result<Option<String>, AppError> {
    let found = queued(state, show)?;
    let index = state.distributor().index();
    let name = |hit: &super::list::Hit| index.entries[hit.handle as usize].id.clone();
    let here = found.hits.iter().position(|hit| index.entries[hit.handle as usize].id == id);
    let next = match here {
        Some(here) => found.hits.get(here + 1).or_else(|| found.hits.first().filter(|_| 0 < here)),
        None => found.hits.first(),
    };
    Ok(next.map(name))
}

/// The final judgement that holds.
fn last_final(judgements: &[Judgement]) -> Option<&Judgement> {
    judgements.iter().rev().find(|judgement| judgement.is_final)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Open {
    item: String,
}

/// `POST /review/open`: the item in its own order, with what was decided about it.
pub(super) async fn open(
    State(state): State<AppState>,
    _user: CurrentUser,
    Json(Open { item }): Json<Open>,
) -> Reply {
    state
        .blocking(move |state| {
            let item = existing(state, &item)?;
            let judgements = state.store().judgements_of(&item.id)?;
            let places: Vec<usize> = (0..item.candidates.len()).collect();
            let decided = last_final(&judgements);
            Ok(Json(json!({
                "decides": item.id,
                "task": item.task,
                "html": shown::fragment(state, &item, &places, decided.is_some(), None)?,
                "texts": better::texts(&*state.settings()?, &item, &places),
                "better": decided
                    .and_then(|one| one.better.as_ref())
                    .map(|better| Edited::of(better, &places)),
                "earlier": decided.map(|judgement| &judgement.id),
                "answer": decided.and_then(|one| PlacedDecision::of(&one.verdict, &places)),
                "rationale": decided.and_then(|one| one.rationale.as_ref()),
            })))
        })
        .await
}

/// A final verdict as the page sends it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FinalDecision {
    /// The page's own name for it.
    #[serde(rename = "id")]
    _id: String,
    item: String,
    answer: PlacedDecision,
    #[serde(default)]
    rationale: Option<String>,
    #[serde(default)]
    better: Option<Edited>,
    #[serde(default)]
    duration_ms: Option<u64>,
    /// The final judgement that held when the page was opened.
    #[serde(default)]
    earlier: Option<String>,
}

/// `POST /review/submit`: when the answer arrives, the verdict is on the disk.
pub(super) async fn submit(
    State(state): State<AppState>,
    user: CurrentUser,
    Json(decision): Json<FinalDecision>,
) -> Reply {
    state.blocking(move |state| decide(state, &user, decision)).await
}

fn decide(state: &AppState, user: &CurrentUser, decision: FinalDecision) -> Reply {
    let FinalDecision { item, answer, rationale, better, duration_ms, earlier, .. } = decision;
    let item = existing(state, &item)?;
    let places: Vec<usize> = (0..item.candidates.len()).collect();
    let scale = state.settings()?.strength_points;
    let verdict = answer.verdict(&places, scale).map_err(AppError::Unprocessable)?;
    let rationale = rationale.or_else(|| match &verdict {
        hearken_data::feedback::Verdict::CantTell { reason } => Some(reason.clone()),
        _ => None,
    });
    let better = better.map(|edited| edited.candidate(&places)).transpose();
    let better = better.map_err(AppError::Unprocessable)?;
    let judgements = state.store().judgements_of(&item.id)?;
    let last = last_final(&judgements);
    let number = judgements.iter().filter(|judgement| judgement.is_final).count() + 1;
    // Of two reviewers at the same time one gets the name.
    let id = format!("final-{}-{number}", &codec::sha256_hex(item.id.as_bytes())[..32]);
    let (origin, suggestion) = (Origin::Human, None);
    let submission = Submission { id, verdict, rationale, better, duration_ms, origin, suggestion };
    let guidelines = state.guidelines()?.version;
    let judgement = Judgement {
        presented: places,
        is_final: true,
        revises: last.map(|last| last.id.clone()),
        guidelines: (0 < guidelines).then_some(guidelines),
        ..distribute::judgement(state, &user.annotator, &item, submission)?
    };
    if last.map(|last| &last.id) != earlier.as_ref() {
        let is_same = last.is_some_and(|last| {
            last.annotator == judgement.annotator
                && last.verdict == judgement.verdict
                && last.rationale == judgement.rationale
                && last.better == judgement.better
        });
        return if is_same { Ok(Json(json!({"outcome": "already_there"}))) } else { Err(faster()) };
    }
    let stored = state.store().submit(&judgement, 0, state.now());
    match stored {
        Ok(Submitted::Appended { .. } | Submitted::AlreadyThere { .. }) => {
            let details = json!({"item": item.id, "verdict": judgement.verdict.kind()});
            state.audit(&user.annotator, "item.decided", details)?;
            state.bell().ring();
            Ok(Json(json!({"outcome": "stored"})))
        }
        Ok(Submitted::LeaseLost) => {
            Err(AppError::Internal("a final judgement needs no lease".into()))
        }
        Err(hearken_store::StoreError::Conflict(_)) => Err(faster()),
        Err(error) => Err(error.into()),
    }
}

fn faster() -> AppError {
    AppError::Conflict(
        "somebody else has decided this item in the meantime; reload to see how".into(),
    )
}
