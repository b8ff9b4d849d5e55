//! What a model suggests for an item, and whether an annotator sees it.

use hearken_data::feedback::{Item, Suggested, Verdict};
use sha2::{Digest as _, Sha256};

use super::answer::PlacedDecision;
use super::history::words;
use crate::distribute;
use crate::error::AppError;
use crate::settings::Suggestions;
use crate::state::AppState;

/// A suggestion for an item, and what an annotator sees of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Suggestion {
    pub(crate) verdict: Verdict,
    /// Whether it is on the page before the item is judged.
    pub(crate) seen: Suggested,
    /// Whether it is told once the item is judged.
    pub(crate) is_told_after: bool,
}

impl Suggestion {
    /// As a decision about places; none where no page gives such a verdict.
    pub(crate) fn answer(&self, presented: &[usize]) -> Option<PlacedDecision> {
        PlacedDecision::of(&self.verdict, presented)
    }

    /// In words, where it is on the page.
    pub(crate) fn shown(&self, presented: &[usize]) -> Option<String> {
        (self.seen == Suggested::Shown).then(|| words(&self.verdict, presented))
    }
}

/// The suggestion for an item: what was imported with it, otherwise what a judge said of it. None where the project shows
/// none. May block.
///
/// # Errors
///
/// The store cannot be read.
pub(crate) fn of(
    state: &AppState,
    annotator: &str,
    item: &Item,
) -> Result<Option<Suggestion>, AppError> {
    let how = state.settings()?.suggestions;
    // Nobody learns what is right of an item that measures people.
    if how == Suggestions::Off || item.gold.is_some() {
        return Ok(None);
    }
    let verdict = match item.suggestion() {
        Some(imported) => Some(imported),
        None => judged(state, item)?,
    };
    let is_shown = match how {
        Suggestions::Off | Suggestions::After => false,
        Suggestions::Shown => true,
        Suggestions::Measured => is_drawn(state.secret(), annotator, &item.id),
    };
    Ok(verdict.map(|verdict| Suggestion {
        verdict: verdict.decided(),
        seen: if is_shown { Suggested::Shown } else { Suggested::Hidden },
        is_told_after: how == Suggestions::After,
    }))
}

/// What a judge said of the item.
fn judged(state: &AppState, item: &Item) -> Result<Option<Verdict>, AppError> {
    distribute::read_judgements(state)?;
    let board = state.board();
    let votes = board.of(&item.id).map_or(&[][..], |said| &said.votes);
    Ok(votes.iter().find(|vote| vote.is_ai).map(|vote| vote.verdict.clone()))
}

/// A fair coin for each person and item, always the same.
fn is_drawn(secret: &[u8], annotator: &str, item: &str) -> bool {
    let mut hash = Sha256::new();
    for part in [b"suggestion", secret, annotator.as_bytes(), item.as_bytes()] {
        hash.update(part);
        hash.update(b"\n");
    }
    hash.finalize()[0] & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_people_see_a_suggestion_whoever_they_are() {
        let drawn = (0..1_000).filter(|at| is_drawn(b"s", &format!("a-{at}"), "item")).count();
        assert!((430..570).contains(&drawn), "{drawn}");
        let drawn = (0..1_000).filter(|at| is_drawn(b"s", "ada", &format!("item-{at}"))).count();
        assert!((430..570).contains(&drawn), "{drawn}");
        assert_eq!(is_drawn(b"s", "ada", "i"), is_drawn(b"s", "ada", "i"));
    }
}
