//! Which items there are of a kind: by what is said of them, by text, tag, metadata, people.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::board::{Board, ItemVotes, Ranges, difference};
use crate::distribute;
use crate::error::AppError;
use crate::queue::{HandOutReason, Index, Needle, QueueEntry};
use crate::state::AppState;

/// Items of a page.
pub(crate) const LISTED: usize = 50;
/// Items that are read to find a text before a page is shown.
const READ_MAX: usize = 5_000;
/// The longest text that is searched for, in characters.
const TEXT_MAX: usize = 200;

/// Which items, and in which order.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Filter {
    /// What is searched for.
    pub(crate) q: String,
    pub(crate) show: Show,
    /// The name of a task; empty for all.
    pub(crate) task: String,
    pub(crate) tag: String,
    /// `name` or `name=value`.
    pub(crate) meta: String,
    /// A pseudonym: who has judged it, or is the one it is for.
    pub(crate) person: String,
    pub(crate) sort: Sort,
    /// The number of the page, from 0.
    pub(crate) page: usize,
}

/// Where items stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Show {
    /// Every item.
    #[default]
    All,
    /// Judged by nobody.
    Open,
    /// Judged by fewer than asked for.
    Begun,
    /// Judged by as many as asked for.
    Done,
    /// People differ, and nobody has decided.
    Disagreed,
    /// Somebody cannot tell, and nobody has decided.
    Doubted,
    /// Decided by a reviewer.
    Decided,
    /// Gold, screening ones among them.
    Gold,
    /// Commented on.
    Commented,
    /// For some people only.
    Assigned,
    /// Withdrawn.
    Withdrawn,
}

impl Show {
    /// Every kind with its words, as the list offers them.
    pub(crate) const ALL: [(Show, &'static str, &'static str); 11] = [
        (Show::All, "all", "All"),
        (Show::Open, "open", "Not judged yet"),
        (Show::Begun, "begun", "Judged by some"),
        (Show::Done, "done", "Judged by all asked for"),
        (Show::Disagreed, "disagreed", "Disagreed"),
        (Show::Doubted, "doubted", "Somebody can’t tell"),
        (Show::Decided, "decided", "With a final verdict"),
        (Show::Gold, "gold", "Gold and screening"),
        (Show::Commented, "commented", "With comments"),
        (Show::Assigned, "assigned", "For some people only"),
        (Show::Withdrawn, "withdrawn", "Withdrawn"),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(show, ..)| *show == self).map_or("all", |(_, name, _)| name)
    }
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sort {
    /// As they were added.
    #[default]
    Added,
    /// The most disagreed first.
    Difference,
    /// What was judged last first.
    Judged,
    /// The highest priority first.
    Priority,
}

/// An item that was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit {
    pub(crate) handle: u32,
    /// How far verdicts differ, where the list is sorted by it.
    difference: f64,
    at: i64,
    priority: i64,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct FoundItems {
    /// In the order of the list.
    pub(crate) hits: Vec<Hit>,
    /// Whether more may hold the text than were read.
    pub(crate) is_cut: bool,
}

/// The lowest and the highest value of each axis of the project.
pub(crate) fn ranges(state: &AppState) -> Result<Ranges, AppError> {
    let settings = state.settings()?;
    let range = |axis: &crate::settings::Axis| {
        (axis.name.clone(), (f64::from(axis.min), f64::from(axis.max)))
    };
    Ok(settings.axes.iter().map(range).collect())
}

/// Finds the items. What is known is brought up to the store first. May block.
pub(crate) fn find(state: &AppState, filter: &Filter) -> Result<FoundItems, AppError> {
    let text = filter.q.trim();
    if TEXT_MAX < text.chars().count() {
        let what = format!("a search has at most {TEXT_MAX} characters");
        return Err(AppError::Unprocessable(what));
    }
    distribute::look_again(state)?;
    distribute::read_judgements(state)?;
    let ranges = ranges(state)?;
    let needle = (!text.is_empty()).then(|| Needle::of(text));
    let mut hits = {
        let (board, index) = (state.board(), state.distributor().index());
        let person = Person::of(&board, &filter.person);
        let all = (0..).zip(&index.entries);
        let of_a_kind = all.filter(|(_, entry)| {
            needle.as_ref().is_none_or(|needle| entry.facts.may_hold(needle)) && fits(entry, filter)
        });
        let hit = |(handle, entry): (u32, &QueueEntry)| {
            hit(handle, entry, &index, &board, &ranges, filter, &person)
        };
        of_a_kind.filter_map(hit).collect::<Vec<Hit>>()
    };
    match filter.sort {
        Sort::Added => {}
        Sort::Difference => {
            hits.sort_by(|a, b| {
                b.difference.total_cmp(&a.difference).then(a.handle.cmp(&b.handle))
            });
        }
        Sort::Judged => hits.sort_by_key(|hit| (std::cmp::Reverse(hit.at), hit.handle)),
        Sort::Priority => hits.sort_by_key(|hit| (std::cmp::Reverse(hit.priority), hit.handle)),
    }
    let is_cut = needle.is_some() && READ_MAX < hits.len();
    if let Some(needle) = needle {
        hits.truncate(READ_MAX);
        hits = holding(state, hits, &needle)?;
    }
    Ok(FoundItems { hits, is_cut })
}

/// Of items that may hold a text those that do.
fn holding(state: &AppState, hits: Vec<Hit>, needle: &Needle) -> Result<Vec<Hit>, AppError> {
    let mut held = Vec::new();
    for hit in hits {
        let id = state.distributor().index().entries[hit.handle as usize].id.clone();
        if state.store().item(&id)?.is_some_and(|item| needle.is_in(&item)) {
            held.push(hit);
        }
    }
    Ok(held)
}

/// Somebody whom a list is about.
struct Person<'a> {
    name: &'a str,
    number: Option<u32>,
}

impl<'a> Person<'a> {
    fn of(board: &Board, name: &'a str) -> Self {
        let name = name.trim();
        Self { name, number: board.number(name) }
    }

    /// Whether the item was judged by them, or is for them.
    fn has(&self, entry: &QueueEntry, said: Option<&ItemVotes>) -> bool {
        let judged =
            said.is_some_and(|said| said.votes.iter().any(|vote| Some(vote.person) == self.number));
        judged || entry.people().iter().any(|person| person == self.name)
    }
}

/// Whether task, tag and metadata are what is asked for.
fn fits(entry: &QueueEntry, filter: &Filter) -> bool {
    let (tag, meta) = (filter.tag.trim(), filter.meta.trim());
    let has_task = filter.task.is_empty() || entry.facts.task.as_str() == filter.task;
    let has_tag =
        tag.is_empty() || entry.changed.as_ref().is_some_and(|changed| changed.tags.contains(tag));
    let has_meta = meta.is_empty()
        || match meta.split_once('=') {
            Some((name, value)) => entry.facts.has(name.trim(), Some(value.trim())),
            None => entry.facts.has(meta, None),
        };
    has_task && has_tag && has_meta
}

fn hit(
    handle: u32,
    entry: &QueueEntry,
    index: &Index,
    board: &Board,
    ranges: &Ranges,
    filter: &Filter,
    person: &Person<'_>,
) -> Option<Hit> {
    let said = board.of(&entry.id);
    // Comparing all verdicts of all items takes most of the time of a list.
    let by_difference = filter.sort == Sort::Difference || filter.show == Show::Disagreed;
    let said_apart = said.filter(|_| by_difference);
    let difference = said_apart.map_or(0.0, |said| difference(said.verdicts(), ranges));
    let is_decided = said.is_some_and(|said| said.decided.is_some());
    let judged = entry.judged;
    let is_full = entry.overlap(index.overlap) <= judged;
    let changed = entry.changed.as_ref();
    let is_in = !entry.is_withdrawn();
    let is_shown = match filter.show {
        Show::All => true,
        Show::Open => is_in && judged == 0,
        Show::Begun => is_in && 0 < judged && !is_full,
        Show::Done => is_in && is_full,
        Show::Disagreed => is_in && 0.0 < difference && !is_decided,
        Show::Doubted => is_in && !is_decided && said.is_some_and(ItemVotes::is_doubted),
        Show::Decided => is_decided,
        Show::Gold => entry.pool() != HandOutReason::Regular,
        Show::Commented => changed.is_some_and(|changed| !changed.comments.is_empty()),
        Show::Assigned => !entry.people().is_empty(),
        Show::Withdrawn => !is_in,
    };
    let is_of = person.name.is_empty() || person.has(entry, said);
    (is_shown && is_of).then(|| Hit {
        handle,
        difference,
        at: said.map_or(0, |said| said.at),
        priority: entry.priority,
    })
}

/// Every tag of the project, in the order of the alphabet.
pub(crate) fn tags(state: &AppState) -> Vec<String> {
    let index = state.distributor().index();
    let changed = index.entries.iter().filter_map(|entry| entry.changed.as_ref());
    let tags: HashSet<&String> = changed.flat_map(|changed| &changed.tags).collect();
    let mut tags: Vec<String> = tags.into_iter().cloned().collect();
    tags.sort_unstable();
    tags
}
