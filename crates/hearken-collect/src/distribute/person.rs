//! What is known about one annotator: items seen, items judged, screening.

use std::collections::HashMap;

use hearken_data::feedback::Judgement;

use super::index::{Index, Pool};
use super::{Handles, Why};
use crate::error::AppError;
use crate::settings::Settings;
use crate::state::AppState;

/// How long it is believed before the store is asked again.
const BELIEVED_MS: i64 = 60_000;
/// More judgements than one person makes.
const ALL: usize = 10_000_000;

/// What is known about one annotator.
#[derive(Debug, Default)]
pub(super) struct Person {
    seen: Handles,
    loaded: Option<Loaded>,
}

#[derive(Clone, Debug, Default)]
struct Loaded {
    at: i64,
    judged: u32,
    /// The day, in days since 1970, and the items judged on it.
    today: (i64, u32),
    /// Screening items judged, and whether rightly.
    screening: HashMap<u32, bool>,
}

/// What decides whether an annotator gets an item.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    judged: u32,
    judged_today: u32,
    screening_items: usize,
    screening_unseen: usize,
    screening_judged: usize,
    screening_right: usize,
}

fn day(at: i64) -> i64 {
    at.div_euclid(86_400_000)
}

impl Person {
    pub(super) fn seen(&self) -> &Handles {
        &self.seen
    }

    pub(super) fn saw(&mut self, handle: u32) {
        self.seen.insert(handle);
    }

    pub(super) fn unsee(&mut self, handle: u32) {
        self.seen.remove(&handle);
    }

    pub(super) fn forget(&mut self) {
        self.loaded = None;
    }

    /// Takes over a judgement; `revises` where it takes the place of another.
    pub(super) fn judged(&mut self, handle: u32, right: Option<bool>, (now, revises): (i64, bool)) {
        self.seen.insert(handle);
        let Some(loaded) = &mut self.loaded else { return };
        if let Some(right) = right {
            loaded.screening.insert(handle, right);
        }
        if !revises {
            loaded.judged += 1;
            let today = if loaded.today.0 == day(now) { loaded.today.1 } else { 0 };
            loaded.today = (day(now), today + 1);
        }
    }

    /// Asks the store where that is due.
    pub(super) fn load(&mut self, state: &AppState, annotator: &str) -> Result<Standing, AppError> {
        let now = state.now();
        let fresh = self.loaded.as_ref().is_some_and(|l| (0..BELIEVED_MS).contains(&(now - l.at)));
        if !fresh {
            let seen = state.store().seen_by(annotator)?;
            let has_screening = 0 < state.distributor().index().count(Pool::Screening);
            let judgements = judgements(state, annotator, has_screening)?;
            let index = state.distributor().index();
            self.seen = seen.iter().filter_map(|id| index.handle(id)).collect();
            self.loaded = Some(loaded(&judgements, &index, now));
        }
        let loaded = self.loaded.clone().unwrap_or_default();
        let index = state.distributor().index();
        let screening = index.count(Pool::Screening);
        let seen = self.seen.iter().filter(|handle| {
            0 < screening && index.entries[**handle as usize].pool() == Pool::Screening
        });
        Ok(Standing {
            judged: loaded.judged,
            judged_today: if loaded.today.0 == day(now) { loaded.today.1 } else { 0 },
            screening_items: screening,
            screening_unseen: screening - seen.count(),
            screening_judged: loaded.screening.len(),
            screening_right: loaded.screening.values().filter(|right| **right).count(),
        })
    }
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

/// What judgements, the newest first, say about the one who made them.
fn loaded(judgements: &[Judgement], index: &Index, now: i64) -> Loaded {
    let mut loaded = Loaded { at: now, today: (day(now), 0), ..Loaded::default() };
    for judgement in judgements {
        if judgement.revises.is_none() {
            loaded.judged += 1;
            loaded.today.1 += u32::from(day(judgement.at) == day(now));
        }
        let Some(handle) = index.handle(&judgement.item) else { continue };
        let entry = &index.entries[handle as usize];
        if let Some(gold) = entry.gold.as_ref().filter(|gold| gold.screening) {
            // Of an item and its revisions the one in force is met first.
            let right = judgement.verdict.agrees(&gold.verdict);
            loaded.screening.entry(handle).or_insert(right);
        }
    }
    loaded
}

/// Whether the annotator, who holds `held` items, gets another; if so, whether a screening item.
pub(super) fn admitted(standing: &Standing, settings: &Settings, held: usize) -> Result<bool, Why> {
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
    if standing.screening_items == 0 {
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
    let share = standing.screening_right as f64 / standing.screening_items as f64;
    if share < settings.screening_threshold { Err(Why::ScreeningFailed) } else { Ok(false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: Standing = Standing {
        judged: 10,
        judged_today: 4,
        screening_items: 4,
        screening_unseen: 0,
        screening_judged: 4,
        screening_right: 3,
    };

    fn settings() -> Settings {
        Settings { screening_threshold: 0.75, ..Settings::default() }
    }

    #[test]
    fn three_right_of_four_pass_a_threshold_of_three_quarters() {
        assert_eq!(admitted(&DONE, &settings(), 0), Ok(false));
        let failed = Standing { screening_right: 2, ..DONE };
        assert_eq!(admitted(&failed, &settings(), 0), Err(Why::ScreeningFailed));
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
        let limited = Settings { limit_total: Some(12), ..settings() };
        assert_eq!(admitted(&DONE, &limited, 1), Ok(false));
        assert_eq!(admitted(&DONE, &limited, 2), Err(Why::LimitTotal));
        let limited = Settings { limit_day: Some(4), ..settings() };
        assert_eq!(admitted(&DONE, &limited, 0), Err(Why::LimitDay));
    }
}
