//! Items as lines of a list.

use std::collections::{BTreeMap, HashMap};

use hearken_data::feedback::Verdict;
use serde::Serialize;

use super::list::{self, Hit};
use crate::accounts::{self, Permission};
use crate::board::{Ranges, difference};
use crate::codec;
use crate::error::AppError;
use crate::label::history::words;
use crate::queue::HandOutReason;
use crate::render::excerpt;
use crate::state::AppState;
use crate::user::CurrentUser;

/// Characters of a prompt.
const EXCERPT: usize = 120;
/// Verdicts that a line names.
const VERDICTS: usize = 4;

/// An item as a line of a list.
#[derive(Debug, Serialize)]
pub(crate) struct ItemRow {
    id: String,
    address: String,
    task: &'static str,
    excerpt: String,
    /// `gold`, `screening`, or nothing.
    pool: &'static str,
    priority: i64,
    judged: u32,
    wanted: Option<u32>,
    /// What is said, and by how many: the most said first.
    verdicts: Vec<(String, usize)>,
    decided: Option<String>,
    /// In percent.
    difference: f64,
    withdrawn: bool,
    tags: Vec<String>,
    people: Vec<String>,
    comments: usize,
}

/// The names of people by their pseudonyms, for those who manage them; others see pseudonyms. May block.
pub(crate) fn named_people(
    state: &AppState,
    user: &CurrentUser,
) -> Result<HashMap<String, String>, AppError> {
    if !user.role.may(Permission::Manage) {
        return Ok(HashMap::new());
    }
    let accounts = accounts::all(state.store())?.into_iter();
    let named = accounts.filter(|account| !account.name.is_empty());
    Ok(named.map(|account| (account.pseudonym, account.name)).collect())
}

/// The lines of some items. May block.
pub(crate) fn rows(
    state: &AppState,
    user: &CurrentUser,
    hits: &[Hit],
) -> Result<Vec<ItemRow>, AppError> {
    let names = named_people(state, user)?;
    let ranges = list::ranges(state)?;
    hits.iter().map(|hit| row(state, (&names, &ranges), hit)).collect()
}

fn row(
    state: &AppState,
    (names, ranges): (&HashMap<String, String>, &Ranges),
    hit: &Hit,
) -> Result<ItemRow, AppError> {
    let (board, index) = (state.board(), state.distributor().index());
    let entry = &index.entries[hit.handle as usize];
    let said = board.of(&entry.id);
    let votes = said.map_or(&[][..], |said| &said.votes);
    let verdicts: Vec<&Verdict> = votes.iter().map(|vote| &vote.verdict).collect();
    let changed = entry.changed.as_deref().cloned().unwrap_or_default();
    let overlap = entry.overlap(index.overlap);
    let mut row = ItemRow {
        address: codec::percent(&entry.id),
        id: entry.id.clone(),
        task: entry.facts.task.as_str(),
        excerpt: String::new(),
        pool: match entry.pool() {
            HandOutReason::Screening => "screening",
            HandOutReason::Gold => "gold",
            HandOutReason::Regular => "",
        },
        priority: entry.priority,
        judged: entry.judged,
        wanted: (entry.pool() == HandOutReason::Regular).then_some(overlap),
        verdicts: counted(&verdicts),
        decided: said.and_then(|said| said.decided.as_deref()).map(in_item),
        difference: said.map_or(0.0, |said| difference(said.verdicts(), ranges)) * 100.0,
        withdrawn: changed.withdrawn,
        tags: changed.tags.into_iter().collect(),
        people: changed
            .people
            .into_iter()
            .map(|person| names.get(&person).cloned().unwrap_or(person))
            .collect(),
        comments: changed.comments.len(),
    };
    drop((board, index));
    let item = state.store().item(&row.id)?;
    let asked = item.as_ref().and_then(|item| item.prompt.last());
    row.excerpt =
        asked.map_or_else(|| "(no prompt)".into(), |last| excerpt(&last.content, EXCERPT));
    Ok(row)
}

/// A verdict in words that name candidates in the order of the item.
pub(super) fn in_item(verdict: &Verdict) -> String {
    // More places than anybody judges at once.
    let places: Vec<usize> = (0..64).collect();
    match verdict {
        Verdict::Ratings { axes } => {
            let places: Vec<usize> = (0..axes.values().map(Vec::len).max().unwrap_or(0)).collect();
            words(verdict, &places)
        }
        Verdict::Soft { probability } => format!("A is better with {:.0} %", probability * 100.0),
        _ => words(verdict, &places),
    }
}

/// The different things that are said, and by how many.
fn counted(verdicts: &[&Verdict]) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for verdict in verdicts {
        let said = match verdict {
            // How strongly does not make it another verdict.
            Verdict::Preferred { candidate, .. } => in_item(&Verdict::preferred(*candidate)),
            Verdict::CantTell { .. } => "Can’t tell".into(),
            other => in_item(other),
        };
        *counts.entry(said).or_default() += 1;
    }
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.truncate(VERDICTS);
    counts
}

#[cfg(test)]
mod tests {
    use hearken_data::feedback::Strength;

    use super::*;

    #[test]
    fn what_is_said_by_most_comes_first_whatever_its_strength() {
        let strength = Some(Strength { points: 2, scale: 3 });
        let strong = Verdict::Preferred { candidate: 1, strength };
        let doubt = Verdict::CantTell { reason: "?".into() };
        let verdicts = [&Verdict::Tie, &strong, &doubt, &Verdict::preferred(1)];
        let expected =
            [("B is better".to_owned(), 2), ("Can’t tell".into(), 1), ("Equally good".into(), 1)];
        assert_eq!(counted(&verdicts), expected);
    }
}
