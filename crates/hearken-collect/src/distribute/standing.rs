//! Whether an annotator gets another item: limits and screening.

use hearken_data::feedback::Judgement;
use serde::Serialize;

use super::Why;
use crate::accounts;
use crate::error::AppError;
use crate::queue::{HandOutReason, Person, ScreeningDraw, Standing, lock};
use crate::settings::ProjectSettings;
use crate::state::AppState;

/// More judgements than one person makes.
const ALL: usize = 10_000_000;

/// How the annotator stands; asks the store where that is due.
pub(super) fn standing(
    state: &AppState,
    annotator: &str,
    person: &mut Person,
) -> Result<Standing, AppError> {
    let now = state.now();
    if !person.is_fresh(now) {
        let seen = state.store().seen_by(annotator)?;
        let has_screening = 0 < state.distributor().index().count(HandOutReason::Screening);
        let judgements = judgements(state, annotator, has_screening)?;
        let admitted = has_screening && accounts::is_admitted(state.store(), annotator)?;
        person.learn(&seen, &judgements, admitted, &state.distributor().index(), now);
    }
    let (count, secret) = (state.settings()?.screening_items, state.secret());
    Ok(person.standing(
        &state.distributor().index(),
        now,
        ScreeningDraw { count, secret, annotator },
    ))
}

/// What came of the screening of an annotator.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Screened {
    /// How many items were asked.
    pub(crate) items: usize,
    /// How many were judged rightly, the first time.
    pub(crate) right: usize,
    /// Whether that is enough.
    pub(crate) passed: bool,
    /// Names of the others.
    pub(crate) missed: Vec<String>,
}

/// How the screening of an annotator stands, for those who lead.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ScreeningState {
    /// `open`, `passed`, `failed`, or `admitted` by a lead.
    pub(crate) state: &'static str,
    pub(crate) items: usize,
    pub(crate) judged: usize,
    pub(crate) right: usize,
}

/// How the screening of an annotator stands; none where there is no screening. May block.
pub(crate) fn screening_of(
    state: &AppState,
    annotator: &str,
) -> Result<Option<ScreeningState>, AppError> {
    let settings = state.settings()?;
    let held = state.store().live_assignments(annotator, state.now())?.len();
    let person = state.distributor().person(annotator);
    let standing = standing(state, annotator, &mut lock(&person))?;
    // Limits have nothing to do with it.
    let unlimited = ProjectSettings { limit_total: None, limit_day: None, ..(*settings).clone() };
    let how = match admitted(&standing, &unlimited, held) {
        _ if standing.screening_items == 0 => return Ok(None),
        _ if standing.admitted => "admitted",
        Ok(false) => "passed",
        Err(Why::ScreeningFailed) => "failed",
        _ => "open",
    };
    Ok(Some(ScreeningState {
        state: how,
        items: standing.screening_items,
        judged: standing.screening_judged,
        right: standing.screening_right,
    }))
}

/// Admits an annotator whatever comes of the screening, or takes that back. May block.
///
/// # Errors
///
/// The store cannot be written.
pub(crate) fn admit(
    state: &AppState,
    annotator: &str,
    by: &str,
    anyway: bool,
) -> Result<(), AppError> {
    accounts::set_admitted(state.store(), annotator, by, anyway.then(|| state.now()))?;
    state.distributor().forget_people();
    Ok(())
}

/// What came of the screening of an annotator; none as long as an item of it is open. May block.
pub(crate) fn screened(state: &AppState, annotator: &str) -> Result<Option<Screened>, AppError> {
    let settings = state.settings()?;
    let live = state.store().live_assignments(annotator, state.now())?;
    let person = state.distributor().person(annotator);
    let mut person = lock(&person);
    let standing = standing(state, annotator, &mut person)?;
    let index = state.distributor().index();
    let is_open = |item: &str| index.handle(item).is_some_and(|it| person.drawn().contains(&it));
    let held = live.iter().any(|assignment| is_open(&assignment.item));
    if standing.screening_items == 0 || 0 < standing.screening_unseen || held {
        return Ok(None);
    }
    let name = |handle: u32| index.entries[handle as usize].id.clone();
    Ok(Some(Screened {
        items: standing.screening_items,
        right: standing.screening_right,
        passed: is_enough(&standing, &settings),
        missed: person.missed().into_iter().map(name).collect(),
    }))
}

fn is_enough(standing: &Standing, settings: &ProjectSettings) -> bool {
    let share = standing.screening_right as f64 / standing.screening_items as f64;
    settings.screening_threshold <= share
}

/// The annotator's judgements, where something depends on them.
fn judgements(
    state: &AppState,
    annotator: &str,
    has_screening: bool,
) -> Result<Vec<Judgement>, AppError> {
    let settings = state.settings()?;
    let is_limited = settings.limit_total.is_some() || settings.limit_day.is_some();
    if is_limited || has_screening {
        Ok(state.store().judgements_by(annotator, ALL)?)
    } else {
        Ok(Vec::new())
    }
}

/// Whether the annotator, who holds `held` items, gets another; if so, whether a screening item.
pub(super) fn admitted(
    standing: &Standing,
    settings: &ProjectSettings,
    held: usize,
) -> Result<bool, Why> {
    let in_hand = u32::try_from(held).unwrap_or(u32::MAX);
    let reached = |judged: u32, limit: Option<u32>| {
        limit.is_some_and(|limit| limit <= judged.saturating_add(in_hand))
    };
    if reached(standing.judged, settings.limit_total) {
        return Err(Why::LimitTotal);
    }
    if reached(standing.judged_today, settings.limit_day) {
        return Err(Why::LimitDay);
    }
    if standing.screening_items == 0 || standing.admitted {
        return Ok(false);
    }
    if 0 < standing.screening_unseen {
        return Ok(true);
    }
    if standing.screening_judged == 0 && held == 0 {
        // Every screening item was skipped.
        return Err(Why::ScreeningFailed);
    }
    // Skipped items count as not judged rightly; items in hand have to be judged first.
    let open = standing.screening_items - standing.screening_judged;
    if 0 < open && 0 < held {
        return Err(Why::ScreeningPending);
    }
    if is_enough(standing, settings) { Ok(false) } else { Err(Why::ScreeningFailed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: Standing = Standing {
        admitted: false,
        judged: 10,
        judged_today: 4,
        screening_items: 4,
        screening_unseen: 0,
        screening_judged: 4,
        screening_right: 3,
    };

    fn settings() -> ProjectSettings {
        ProjectSettings { screening_threshold: 0.75, ..ProjectSettings::default() }
    }

    #[test]
    fn three_right_of_four_pass_a_threshold_of_three_quarters() {
        assert_eq!(admitted(&DONE, &settings(), 0), Ok(false));
        let failed = Standing { screening_right: 2, ..DONE };
        assert_eq!(admitted(&failed, &settings(), 0), Err(Why::ScreeningFailed));
        let anyway = Standing { admitted: true, ..failed };
        assert_eq!(admitted(&anyway, &settings(), 0), Ok(false));
    }

    #[test]
    fn screening_comes_first_and_has_to_be_finished() {
        let open = Standing { screening_unseen: 1, screening_judged: 3, ..DONE };
        assert_eq!(admitted(&open, &settings(), 0), Ok(true));
        let pending = Standing { screening_judged: 3, ..DONE };
        assert_eq!(admitted(&pending, &settings(), 1), Err(Why::ScreeningPending));
    }

    #[test]
    fn limits_count_what_is_in_hand() {
        let limited = ProjectSettings { limit_total: Some(12), ..settings() };
        assert_eq!(admitted(&DONE, &limited, 1), Ok(false));
        assert_eq!(admitted(&DONE, &limited, 2), Err(Why::LimitTotal));
        let limited = ProjectSettings { limit_day: Some(4), ..settings() };
        assert_eq!(admitted(&DONE, &limited, 0), Err(Why::LimitDay));
    }
}
