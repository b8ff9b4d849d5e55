//! What an annotator has judged before, and taking it up again.

use std::collections::HashSet;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Html;
use hearken_data::feedback::{Item, Judgement, Verdict};
use minijinja::context;
use minijinja::value::Serde;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::PlacedDecision;
use super::better::{self, Edited};
use super::{item, page_values};
use crate::codec;
use crate::error::AppError;
use crate::render::excerpt;
use crate::state::AppState;
use crate::user::CurrentUser;

/// Judgements on the page.
const LISTED: usize = 200;

#[derive(Serialize)]
struct HistoryRow {
    address: String,
    at: i64,
    prompt: String,
    verdict: String,
    rationale: Option<String>,
    better: bool,
    revised: bool,
}

/// `GET /label/history`.
pub(super) async fn list(
    State(state): State<AppState>,
    user: CurrentUser,
) -> Result<Html<String>, AppError> {
    state
        .blocking(move |state| {
            let judgements = state.store().judgements_by(&user.annotator, LISTED)?;
            let revised: HashSet<&str> =
                judgements.iter().filter_map(|one| one.revises.as_deref()).collect();
            let rows = judgements
                .iter()
                .map(|judgement| row(state, judgement, revised.contains(judgement.id.as_str())))
                .collect::<Result<Vec<_>, _>>()?;
            let judgements = Serde(rows);
            state.page(&user, "label_history.html", context! { here => "history", judgements })
        })
        .await
}

fn row(state: &AppState, judgement: &Judgement, revised: bool) -> Result<HistoryRow, AppError> {
    let item = state.store().item(&judgement.item)?;
    let prompt = item.as_ref().and_then(|item| item.prompt.last());
    Ok(HistoryRow {
        address: codec::percent(&judgement.id).replace('/', "%2F"),
        at: judgement.at,
        prompt: prompt
            .map_or_else(|| "(no prompt)".into(), |message| excerpt(&message.content, 90)),
        verdict: item.map_or_else(String::new, |item| {
            words(&judgement.verdict, &presented(judgement, &item))
        }),
        rationale: judgement.rationale.as_deref().map(|text| excerpt(text, 90)),
        better: judgement.better.is_some(),
        revised,
    })
}

/// The order in which a judgement was made; the item's own where it is not known.
pub(super) fn presented(judgement: &Judgement, item: &Item) -> Vec<usize> {
    match judgement.presented.len() == item.candidates.len() {
        true => judgement.presented.clone(),
        false => (0..item.candidates.len()).collect(),
    }
}

/// A verdict in words, answers named as the page named them.
pub(crate) fn words(verdict: &Verdict, presented: &[usize]) -> String {
    let letter = |place: usize| item::name(place).replace("Answer ", "");
    match PlacedDecision::of(verdict, presented) {
        Some(PlacedDecision::Preferred { place, points: None }) => {
            format!("{} is better", letter(place))
        }
        Some(PlacedDecision::Preferred { place, points: Some(points) }) => {
            format!("{} is better (strength {points})", letter(place))
        }
        Some(PlacedDecision::Tie) => "Equally good".into(),
        Some(PlacedDecision::BothBad) => "Both bad".into(),
        Some(PlacedDecision::CantTell { reason }) => {
            format!("Can’t tell: {}", excerpt(&reason, 60))
        }
        Some(PlacedDecision::Ranking { order }) => {
            let group = |group: &Vec<usize>| {
                group.iter().map(|place| letter(*place)).collect::<Vec<_>>().join(" = ")
            };
            order.iter().map(group).collect::<Vec<_>>().join(" > ")
        }
        Some(PlacedDecision::Ratings { axes }) => {
            let value = |value: &Option<f64>| value.map_or("–".into(), |value| value.to_string());
            let axis = |(axis, values): (&String, &Vec<Option<f64>>)| {
                format!("{axis}: {}", values.iter().map(value).collect::<Vec<_>>().join(", "))
            };
            axes.iter().map(axis).collect::<Vec<_>>().join("; ")
        }
        Some(PlacedDecision::Steps { labels }) => {
            let sign = |label: &Option<i8>| match label {
                Some(1) => "+",
                Some(0) => "0",
                Some(_) => "−",
                None => "·",
            };
            labels.iter().map(sign).collect::<Vec<_>>().join(" ")
        }
        None => verdict.kind().replace('_', " "),
    }
}

/// `GET /label/revise/{id}`: the labelling page with an earlier judgement.
pub(super) async fn revise(
    State(state): State<AppState>,
    user: CurrentUser,
    Path(id): Path<String>,
) -> Result<Html<String>, AppError> {
    state
        .blocking(move |state| {
            own(state, &user, &id)?;
            let values = context! { here => "history", revise => id, ..page_values(state)? };
            state.page(&user, "label.html", values)
        })
        .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reopen {
    judgement: String,
}

/// `POST /label/reopen`: the item of an own judgement as it was shown, with what was decided.
pub(super) async fn reopen(
    State(state): State<AppState>,
    user: CurrentUser,
    Json(asked): Json<Reopen>,
) -> Result<Json<Value>, AppError> {
    state
        .blocking(move |state| {
            let judgement = own(state, &user, &asked.judgement)?;
            let item = state.store().item(&judgement.item)?;
            let item = item.ok_or_else(|| AppError::Internal("the item is gone".into()))?;
            let presented = presented(&judgement, &item);
            Ok(Json(json!({
                "revises": judgement.id,
                "task": item.task,
                "html": item::fragment(state, &item, &presented, true, None)?,
                "texts": better::texts(&*state.settings()?, &item, &presented),
                "better": judgement.better.as_ref().map(|one| Edited::of(one, &presented)),
                "answer": PlacedDecision::of(&judgement.verdict, &presented),
                "rationale": judgement.rationale,
            })))
        })
        .await
}

pub(super) fn own(state: &AppState, user: &CurrentUser, id: &str) -> Result<Judgement, AppError> {
    let judgement = if id.contains('\0') { None } else { state.store().judgement(id)? };
    judgement
        .filter(|judgement| judgement.annotator == user.annotator)
        .ok_or_else(|| AppError::NotFound("you made no such judgement".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_told_as_the_page_showed_them() {
        let presented = [1, 0];
        assert_eq!(words(&Verdict::preferred(1), &presented), "A is better");
        let ranking = Verdict::Ranking { order: vec![vec![2], vec![0, 1]] };
        assert_eq!(words(&ranking, &[0, 1, 2]), "C > A = B");
        let steps = Verdict::Steps { labels: vec![Some(1), Some(0), Some(-1), None] };
        assert_eq!(words(&steps, &[0]), "+ 0 − ·");
        assert_eq!(words(&Verdict::Soft { probability: 0.5 }, &presented), "soft");
    }
}
