//! What is known about one annotator: items seen, items judged, screening.

use std::collections::HashMap;

use hearken_data::feedback::Judgement;

use super::Handles;
use super::index::{Index, Pool};

/// How long it is believed before the store is asked again.
const BELIEVED_MS: i64 = 60_000;
/// What is known about one annotator.
#[derive(Debug, Default)]
pub(crate) struct Person {
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
pub(crate) struct Standing {
    pub(crate) judged: u32,
    pub(crate) judged_today: u32,
    pub(crate) screening_items: usize,
    pub(crate) screening_unseen: usize,
    pub(crate) screening_judged: usize,
    pub(crate) screening_right: usize,
}

fn day(at: i64) -> i64 {
    at.div_euclid(86_400_000)
}

impl Person {
    pub(crate) fn seen(&self) -> &Handles {
        &self.seen
    }

    pub(crate) fn saw(&mut self, handle: u32) {
        self.seen.insert(handle);
    }

    pub(crate) fn unsee(&mut self, handle: u32) {
        self.seen.remove(&handle);
    }

    pub(crate) fn forget(&mut self) {
        self.loaded = None;
    }

    /// Takes over a judgement; `revises` where it takes the place of another.
    pub(crate) fn judged(&mut self, handle: u32, right: Option<bool>, (now, revises): (i64, bool)) {
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

    /// Whether what is known is believed still.
    pub(crate) fn is_fresh(&self, now: i64) -> bool {
        self.loaded.as_ref().is_some_and(|l| (0..BELIEVED_MS).contains(&(now - l.at)))
    }

    /// Takes over what the store says: the names of the items seen, and the judgements, the newest first.
    pub(crate) fn learn(
        &mut self,
        seen: &[String],
        judgements: &[Judgement],
        index: &Index,
        now: i64,
    ) {
        self.seen = seen.iter().filter_map(|id| index.handle(id)).collect();
        self.loaded = Some(loaded(judgements, index, now));
    }

    /// What decides whether there is another item.
    pub(crate) fn standing(&self, index: &Index, now: i64) -> Standing {
        let loaded = self.loaded.clone().unwrap_or_default();
        let screening = index.count(Pool::Screening);
        let seen = self.seen.iter().filter(|handle| {
            0 < screening && index.entries[**handle as usize].pool() == Pool::Screening
        });
        Standing {
            judged: loaded.judged,
            judged_today: if loaded.today.0 == day(now) { loaded.today.1 } else { 0 },
            screening_items: screening,
            screening_unseen: screening - seen.count(),
            screening_judged: loaded.screening.len(),
            screening_right: loaded.screening.values().filter(|right| **right).count(),
        }
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
