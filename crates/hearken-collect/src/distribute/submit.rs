//! What becomes of an item in hand: judged, revised, skipped, renewed, given back.

use hearken_data::feedback::{BetterAnswer, Item, Judgement, Origin, Suggested, Verdict};
use hearken_store::{Assignment, Submitted};
use serde::Serialize;
use serde_json::json;

use crate::error::AppError;
use crate::queue::{HandOutReason, lock, overlap_of};
use crate::settings::{ProjectSettings, Rationale, rated};
use crate::state::AppState;
use crate::storable::storable;

/// Characters of a rationale.
const RATIONALE_MAX: usize = 20_000;
/// Characters of a better answer.
const BETTER_MAX: usize = 100_000;
/// Characters of a judgement's name.
const ID_MAX: usize = 64;
/// The longest duration in milliseconds.
const DURATION_MAX: u64 = i64::MAX as u64;

/// A judgement as an annotator sends it.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    /// The name of the judgement, made by the one who sends it, so that sending it twice stores it
    /// once. Letters, digits, `-` and `_`, at most 64.
    pub id: String,
    /// What was decided, in terms of the item's candidates, whatever order the page showed.
    pub verdict: Verdict,
    /// Why.
    pub rationale: Option<String>,
    /// A better answer, where one was written.
    pub better: Option<BetterAnswer>,
    /// Milliseconds from showing the item to the decision.
    pub duration_ms: Option<u64>,
    /// A person, a model, or a simulation.
    pub origin: Origin,
    /// Whether a suggestion was seen, where there was one.
    pub suggestion: Option<Suggested>,
}

/// What became of a judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[schemars(rename = "WhatBecame")]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is on the disk.
    Stored,
    /// It was there already.
    AlreadyThere,
    /// The lease has ended and others have judged the item; nothing was stored.
    LeaseLost,
}

/// Stores the judgement of an item in hand. When this returns, it is on the disk.
///
/// # Errors
///
/// The assignment is not the annotator's; the judgement does not fit the item or the settings;
/// another judgement has its name; the store cannot be used.
pub async fn submit(
    state: &AppState,
    annotator: &str,
    assignment: &str,
    submission: Submission,
) -> Result<Outcome, AppError> {
    let (annotator, assignment) = (annotator.to_owned(), assignment.to_owned());
    state
        .blocking(move |state| {
            let assignment = own(state, &annotator, &assignment)?;
            let item = item(state, &assignment.item)?;
            let submission = possible(submission, state.now() - assignment.granted_at);
            let judgement = Judgement {
                presented: assignment.presented,
                assignment: Some(assignment.id),
                guidelines: assignment.guidelines,
                propensity: assignment.propensity,
                ..judgement(state, &annotator, &item, submission)?
            };
            store(state, &item, &judgement)
        })
        .await
}

/// Stores a judgement that takes the place of an earlier one by the same annotator.
///
/// # Errors
///
/// The earlier one is not the annotator's or was revised already; otherwise as [`submit`].
pub async fn revise(
    state: &AppState,
    annotator: &str,
    revises: &str,
    submission: Submission,
) -> Result<Outcome, AppError> {
    let (annotator, revises) = (annotator.to_owned(), revises.to_owned());
    state
        .blocking(move |state| {
            let earlier = state.store().judgement(&revises)?;
            let earlier = earlier.filter(|earlier| earlier.annotator == annotator);
            let earlier =
                earlier.ok_or_else(|| AppError::NotFound("you made no such judgement".into()))?;
            let item = item(state, &earlier.item)?;
            let guidelines = state.guidelines()?.version;
            let submission = possible(submission, state.now() - earlier.at);
            let judgement = Judgement {
                presented: earlier.presented,
                revises: Some(earlier.id),
                guidelines: (guidelines > 0).then_some(guidelines),
                propensity: earlier.propensity,
                ..judgement(state, &annotator, &item, submission)?
            };
            store(state, &item, &judgement)
        })
        .await
}

/// The submission with a duration of at most `ms`, the time since the annotator got the item: what is longer is not
/// true, whatever the page says.
fn possible(submission: Submission, ms: i64) -> Submission {
    let most = u64::try_from(ms).unwrap_or(0);
    let duration_ms = submission.duration_ms.map(|said| match said {
        // What no store can hold is refused where it is checked.
        said if DURATION_MAX < said => said,
        said => said.min(most),
    });
    Submission { duration_ms, ..submission }
}

/// Gives an item back; the annotator is not offered it again.
///
/// # Errors
///
/// The assignment is not the annotator's or was judged; the store cannot be used.
pub async fn skip(state: &AppState, annotator: &str, assignment: &str) -> Result<(), AppError> {
    let (annotator, assignment) = (annotator.to_owned(), assignment.to_owned());
    state
        .blocking(move |state| {
            let assignment = own(state, &annotator, &assignment)?;
            state.store().skip(&assignment.id)?;
            let is_live = state.now() < assignment.expires_at;
            if is_live && assignment.state == hearken_store::AssignmentState::Live {
                state.distributor().index().given_back(&assignment.item);
            }
            Ok(())
        })
        .await
}

/// Starts the lease anew; `false` where the item is no longer in hand.
///
/// # Errors
///
/// The assignment is not the annotator's; the store cannot be used.
pub async fn renew(state: &AppState, annotator: &str, assignment: &str) -> Result<bool, AppError> {
    let (annotator, assignment) = (annotator.to_owned(), assignment.to_owned());
    state
        .blocking(move |state| {
            let assignment = own(state, &annotator, &assignment)?;
            let (now, lease_ms) = (state.now(), state.settings()?.lease_ms());
            Ok(state.store().renew(&assignment.id, now, now + lease_ms)?)
        })
        .await
}

/// Ends the leases of everything the annotator holds; they may be offered it again. May block.
///
/// # Errors
///
/// The store cannot be used.
pub fn release(state: &AppState, annotator: &str) -> Result<(), AppError> {
    let now = state.now();
    let person = state.distributor().person(annotator);
    for assignment in state.store().live_assignments(annotator, now)? {
        state.store().renew(&assignment.id, now, now)?;
        let handle = {
            let mut index = state.distributor().index();
            index.given_back(&assignment.item);
            index.handle(&assignment.item)
        };
        if let Some(handle) = handle {
            lock(&person).unsee(handle);
        }
    }
    Ok(())
}

fn own(state: &AppState, annotator: &str, id: &str) -> Result<Assignment, AppError> {
    let assignment = if id.contains('\0') { None } else { state.store().assignment(id)? };
    assignment
        .filter(|assignment| assignment.annotator == annotator)
        .ok_or_else(|| AppError::NotFound("you have no such assignment".into()))
}

fn item(state: &AppState, id: &str) -> Result<Item, AppError> {
    let item = super::item(state, id)?;
    item.ok_or_else(|| AppError::Internal(format!("there is no item {id:?}")))
}

/// The judgement of `item` that a submission makes, without the order on the page and the assignment.
pub(crate) fn judgement(
    state: &AppState,
    annotator: &str,
    item: &Item,
    submission: Submission,
) -> Result<Judgement, AppError> {
    let Submission { id, verdict, rationale, better, duration_ms, origin, suggestion } = submission;
    check_id(&id)?;
    storable(&json!([verdict, rationale, better])).map_err(AppError::Unprocessable)?;
    check_duration(duration_ms).map_err(AppError::Unprocessable)?;
    verdict.check(item).map_err(AppError::Unprocessable)?;
    let settings = state.settings()?;
    check_verdict(&verdict, item, &settings).map_err(AppError::Unprocessable)?;
    if let Some(better) = &better {
        check_better(better, item, &settings).map_err(AppError::Unprocessable)?;
    }
    let rationale = rationale.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    if let Verdict::CantTell { reason } = &verdict {
        check_length("reason", reason).map_err(AppError::Unprocessable)?;
    }
    check_rationale(rationale.as_deref(), settings.rationale).map_err(AppError::Unprocessable)?;
    Ok(Judgement {
        rationale,
        better: better.map(Box::new),
        duration_ms,
        origin,
        suggestion,
        at: state.now(),
        ..Judgement::new(id, item, annotator, verdict)
    })
}

fn check_id(id: &str) -> Result<(), AppError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=ID_MAX).contains(&id.len()) && id.bytes().all(plain) {
        return Ok(());
    }
    Err(AppError::Unprocessable(format!(
        "the name of a judgement has 1 to {ID_MAX} letters, digits, \"-\" or \"_\", found {id:?}"
    )))
}

/// Durations fit into the integers of every store.
///
/// # Errors
///
/// What is wrong, as a sentence.
pub(crate) fn check_duration(duration_ms: Option<u64>) -> Result<(), String> {
    match duration_ms {
        Some(duration_ms) if DURATION_MAX < duration_ms => {
            Err(format!("\"duration_ms\" is at most {DURATION_MAX}, found {duration_ms}"))
        }
        _ => Ok(()),
    }
}

fn check_rationale(rationale: Option<&str>, wanted: Rationale) -> Result<(), String> {
    if rationale.is_none() && wanted == Rationale::Required {
        return Err("this project asks why: the judgement has no rationale".into());
    }
    check_length("rationale", rationale.unwrap_or_default())
}

fn check_better(
    better: &BetterAnswer,
    item: &Item,
    settings: &ProjectSettings,
) -> Result<(), String> {
    if !settings.better_answers {
        return Err("this project asks for no better answers".into());
    }
    let characters = better.text.chars().count();
    if BETTER_MAX < characters {
        return Err(format!(
            "a better answer has at most {BETTER_MAX} characters, found {characters}"
        ));
    }
    better.check(item)
}

fn check_length(what: &str, text: &str) -> Result<(), String> {
    let characters = text.chars().count();
    if RATIONALE_MAX < characters {
        return Err(format!("a {what} has at most {RATIONALE_MAX} characters, found {characters}"));
    }
    Ok(())
}

/// Whether the project asks for such a verdict.
fn check_verdict(verdict: &Verdict, item: &Item, settings: &ProjectSettings) -> Result<(), String> {
    match verdict {
        Verdict::Tie if !settings.ties => Err("this project has no ties".into()),
        Verdict::BothBad if !settings.both_bad => Err("this project has no \"both bad\"".into()),
        Verdict::Preferred { strength: Some(strength), .. }
            if strength.scale != settings.strength_points =>
        {
            let points = settings.strength_points;
            Err(format!("the strength scale has {points} points, found {}", strength.scale))
        }
        Verdict::Ratings { axes } => axes.iter().try_for_each(|(name, values)| {
            let (axis, turn) = rated(name);
            if let Some(turn) = turn
                && !(settings.rate_turns && (1..=item.assistant_turns()).contains(&turn))
            {
                return Err(format!("this project asks for no ratings of a turn {turn}"));
            }
            let axis = settings.axes.iter().find(|known| known.name == axis);
            let axis = axis.ok_or_else(|| format!("this project has no axis {name:?}"))?;
            let range = f64::from(axis.min)..=f64::from(axis.max);
            match values.iter().flatten().find(|value| !range.contains(value)) {
                Some(value) => Err(format!(
                    "axis {name:?} goes from {} to {}, found {value}",
                    axis.min, axis.max
                )),
                None => Ok(()),
            }
        }),
        _ => Ok(()),
    }
}

fn store(state: &AppState, item: &Item, judgement: &Judgement) -> Result<Outcome, AppError> {
    if let Some(earlier) = state.store().judgement(&judgement.id)? {
        return same(&earlier, judgement);
    }
    let settings = state.settings()?;
    let overlap = overlap_of(item.overlap, item.gold.is_some(), settings.overlap);
    let submitted = match state.store().submit(judgement, overlap, state.now()) {
        Ok(submitted) => submitted,
        Err(error) => {
            // The same judgement, sent twice at the same time, differs in its time only.
            let earlier = state.store().judgement(&judgement.id)?.ok_or(error)?;
            return same(&earlier, judgement);
        }
    };
    match submitted {
        Submitted::Appended { .. } => {
            took_over(state, item, judgement);
            Ok(Outcome::Stored)
        }
        Submitted::AlreadyThere { .. } => Ok(Outcome::AlreadyThere),
        Submitted::LeaseLost => Ok(Outcome::LeaseLost),
    }
}

/// Whether `earlier`, which has the name of `judgement`, is the same but for the clock.
fn same(earlier: &Judgement, judgement: &Judgement) -> Result<Outcome, AppError> {
    let mut timeless = judgement.clone();
    timeless.at = earlier.at;
    // The later it is sent, the longer it may have taken.
    timeless.duration_ms = earlier.duration_ms;
    timeless.guidelines = earlier.guidelines;
    if timeless == *earlier {
        return Ok(Outcome::AlreadyThere);
    }
    Err(AppError::Conflict(format!("there is another judgement of the name {:?}", judgement.id)))
}

fn took_over(state: &AppState, item: &Item, judgement: &Judgement) {
    let mut index = state.distributor().index();
    let revises = judgement.revises.is_some();
    if !revises {
        index.judged(&item.id);
    }
    if let Some(handle) = index.handle(&item.id) {
        let entry = &index.entries[handle as usize];
        let right = entry
            .gold
            .as_ref()
            .filter(|_| entry.pool() == HandOutReason::Screening)
            .map(|gold| judgement.verdict.agrees(&gold.verdict));
        drop(index);
        let person = state.distributor().person(&judgement.annotator);
        lock(&person).judged(handle, right, judgement.at, revises);
    }
    state.bell().ring();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_judgements_are_plain() {
        assert!(check_id("0b6f-4_x").is_ok());
        for bad in ["", "a b", "ä", "a\0", &"x".repeat(65)] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }
}
