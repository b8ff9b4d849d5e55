//! What is known about one annotator: items seen, items judged, screening.

use std::collections::HashMap;

use hearken_data::feedback::Judgement;
use sha2::{Digest as _, Sha256};

use super::Handles;
use super::index::Index;

/// How long it is believed before the store is asked again.
const BELIEVED_MS: i64 = 60_000;
/// What is known about one annotator.
#[derive(Debug, Default)]
pub(crate) struct Person {
    seen: Handles,
    loaded: Option<LoadedPeople>,
    /// The screening items that admit this annotator.
    drawn: Handles,
    /// Whether a lead has admitted them, whatever came of the screening.
    admitted: bool,
}

/// How the screening items of an annotator are drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScreeningDraw<'a> {
    /// How many; `None` for all.
    pub(crate) count: Option<u32>,
    /// What nobody outside the service knows.
    pub(crate) secret: &'a [u8],
    pub(crate) annotator: &'a str,
}

impl ScreeningDraw<'_> {
    /// Where an item stands in the annotator's own order of the screening items: at random, and always the same, so that
    /// who gives an item back draws no other.
    fn turn(&self, item: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [b"screening", self.secret, self.annotator.as_bytes(), item.as_bytes()] {
            hash.update(part);
            hash.update(b"\n");
        }
        hash.finalize().into()
    }
}

#[derive(Clone, Debug, Default)]
struct LoadedPeople {
    at: i64,
    judged: u32,
    /// The day, in days since 1970, and the items judged on it.
    today: (i64, u32),
    /// Screening items judged, and whether the first judgement was right: what comes later may follow from what was told
    /// about it.
    screening: HashMap<u32, bool>,
}

/// What decides whether an annotator gets an item.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) admitted: bool,
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
    pub(crate) fn judged(&mut self, handle: u32, right: Option<bool>, now: i64, revises: bool) {
        self.seen.insert(handle);
        let Some(loaded) = &mut self.loaded else { return };
        if let Some(right) = right.filter(|_| !revises) {
            loaded.screening.entry(handle).or_insert(right);
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

    /// Takes over what the store says: the names of the items seen, the judgements, the newest first, and
    /// whether a lead has admitted them.
    pub(crate) fn learn(
        &mut self,
        seen: &[String],
        judgements: &[Judgement],
        admitted: bool,
        index: &Index,
        now: i64,
    ) {
        self.admitted = admitted;
        self.seen = seen.iter().filter_map(|id| index.handle(id)).collect();
        self.loaded = Some(loaded(judgements, index, now));
    }

    /// The screening items that admit this annotator, as [`Person::standing`] has drawn them.
    pub(crate) fn drawn(&self) -> &Handles {
        &self.drawn
    }

    /// Those of them that were not judged, or judged wrongly.
    pub(crate) fn missed(&self) -> Vec<u32> {
        let right = |handle: &u32| {
            self.loaded.as_ref().is_some_and(|it| it.screening.get(handle) == Some(&true))
        };
        let mut missed: Vec<u32> = self.drawn.iter().filter(|it| !right(it)).copied().collect();
        missed.sort_unstable();
        missed
    }

    /// Draws the screening items: those that were judged or seen first, then by turn.
    fn draw(&mut self, index: &Index, draw: ScreeningDraw<'_>) {
        let all = &index.screening;
        let wanted = draw.count.map_or(all.len(), |count| all.len().min(count as usize));
        if self.drawn.len() == wanted {
            return;
        }
        let mut ordered = all.clone();
        let judged =
            |handle: &u32| self.loaded.as_ref().is_some_and(|it| it.screening.contains_key(handle));
        ordered.sort_by_cached_key(|handle| {
            let turn = draw.turn(&index.entries[*handle as usize].id);
            (!judged(handle), !self.seen.contains(handle), turn)
        });
        self.drawn = ordered.into_iter().take(wanted).collect();
    }

    /// What decides whether there is another item.
    pub(crate) fn standing(
        &mut self,
        index: &Index,
        now: i64,
        draw: ScreeningDraw<'_>,
    ) -> Standing {
        self.draw(index, draw);
        let loaded = self.loaded.clone().unwrap_or_default();
        let seen = self.drawn.intersection(&self.seen).count();
        let judged = loaded.screening.iter().filter(|(handle, _)| self.drawn.contains(handle));
        let judged: Vec<bool> = judged.map(|(_, right)| *right).collect();
        Standing {
            admitted: self.admitted,
            judged: loaded.judged,
            judged_today: if loaded.today.0 == day(now) { loaded.today.1 } else { 0 },
            screening_items: self.drawn.len(),
            screening_unseen: self.drawn.len() - seen,
            screening_judged: judged.len(),
            screening_right: judged.into_iter().filter(|right| *right).count(),
        }
    }
}

/// What judgements, the newest first, say about the one who made them.
fn loaded(judgements: &[Judgement], index: &Index, now: i64) -> LoadedPeople {
    let mut loaded = LoadedPeople { at: now, today: (day(now), 0), ..LoadedPeople::default() };
    for judgement in judgements {
        if judgement.revises.is_none() {
            loaded.judged += 1;
            loaded.today.1 += u32::from(day(judgement.at) == day(now));
        }
        let Some(handle) = index.handle(&judgement.item) else { continue };
        let entry = &index.entries[handle as usize];
        if let Some(gold) = entry.gold.as_ref().filter(|gold| gold.screening) {
            // The oldest is met last, and counts.
            let right = judgement.verdict.agrees(&gold.verdict);
            loaded.screening.insert(handle, right);
        }
    }
    loaded
}
