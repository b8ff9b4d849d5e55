//! Who labels what: the next item of an annotator, and what becomes of it.
//!
//! The index says which items are open, an [`Order`] chooses among them, and the store's
//! atomic claim decides. Where several processes share a store their indexes may lag behind; then a
//! claim comes back full and the next item is tried.

mod batch;
mod standing;
mod submit;

use std::sync::Mutex;
use std::time::Instant;

use hearken_data::feedback::Item;
use hearken_store::{Assignment, Change, Claim, Claimed, ItemChange};
use rand::Rng;
use rand::seq::SliceRandom as _;
use serde::Serialize;

pub use crate::queue::{
    BUILT_IN, CONVINCING, ChosenItem, Convincing, Eligible, Offer, Order, Progress, RANDOM, Random,
};
pub(crate) use batch::batch;
pub(crate) use standing::{Screened, ScreeningState, admit, screened, screening_of};
pub use submit::{Outcome, Submission, release, renew, revise, skip, submit};
pub(crate) use submit::{check_duration, judgement};

use crate::board::Board;
use crate::error::AppError;
use crate::queue::{Misfit, Person, Shares, lock, overlap_of};
use crate::settings::ProjectSettings;
use crate::state::AppState;

/// Items that an annotator may hold at once: the one on the page and those loaded ahead.
const HELD_MAX: usize = 4;
/// Claims that are tried before the index is asked to look again.
const ATTEMPTS: usize = 64;
/// Items that are read at once.
const CHUNK: usize = 2_000;
/// How often what is known of judgements is compared with the store, while others write.
const ROUNDS: usize = 3;
/// How often the index looks at the store, at least.
const REFRESH_MS: i64 = 5_000;
/// How often it looks at the store, at most, when nothing seems open.
const LOOK_MS: i64 = 250;
/// How much of the time it may spend doing so: a twentieth.
const REFRESH_SHARE: i64 = 20;

/// An item in the hands of an annotator.
#[derive(Clone, Debug, PartialEq)]
pub struct HandedItem {
    /// The claim on it.
    pub assignment: Assignment,
    /// What is judged.
    pub item: Item,
}

/// The answer to the question what to label next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// This.
    Work(Box<HandedItem>),
    /// Nothing.
    Nothing(Why),
}

/// Why there is nothing to label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The project has no items.
    NoItems,
    /// Everything is judged, seen, or in the hands of others.
    NothingOpen,
    /// The annotator has judged as many items as one may in all.
    LimitTotal,
    /// The annotator has judged as many items as one may today.
    LimitDay,
    /// The screening items in hand have to be judged first.
    ScreeningPending,
    /// Too few screening items were judged rightly.
    ScreeningFailed,
}

impl Why {
    /// The reason as a sentence for the annotator.
    pub fn sentence(self) -> &'static str {
        match self {
            Why::NoItems => "This project has no items yet.",
            Why::NothingOpen => "There is nothing left for you at the moment. Thank you!",
            Why::LimitTotal => "You have judged as many items as one person may. Thank you!",
            Why::LimitDay => "You have judged as many items as one person may in a day. Thank you!",
            Why::ScreeningPending => "Please finish the items in hand first.",
            Why::ScreeningFailed => {
                "Thank you. Your judgements of the trial items differ too much from the guidelines, \
                 so there are no further items for you."
            }
        }
    }
}

/// Brings the index up to the store where that is due, or in any case where `at_once`.
fn refresh(state: &AppState, settings: &ProjectSettings, at_once: bool) -> Result<(), AppError> {
    let distributor = state.distributor();
    let now = state.now();
    let mut refreshed = match distributor.refreshed.try_lock() {
        Ok(refreshed) => refreshed,
        // Somebody else is at it. What is known is good enough, unless nothing is known.
        Err(std::sync::TryLockError::WouldBlock)
            if !at_once && 0 < state.distributor().index().place =>
        {
            return Ok(());
        }
        Err(_) => lock(&distributor.refreshed),
    };
    if let Some((at, took)) = *refreshed {
        let (least, share) = if at_once { (LOOK_MS, 4) } else { (REFRESH_MS, REFRESH_SHARE) };
        if (0..least.max(took * share)).contains(&(now - at)) {
            return Ok(());
        }
    }
    let started = Instant::now();
    read_new_items(state)?;
    let taken = state.store().taken(now)?;
    state.distributor().index().replace_taken(&taken, settings.overlap);
    let took = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
    *refreshed = Some((now, took));
    Ok(())
}

/// Takes over items and changes that are new to the store. May block.
///
/// # Errors
///
/// The store cannot be read.
pub(crate) fn read_new_items(state: &AppState) -> Result<(), AppError> {
    read_items(state)?;
    read_changes(state)
}

fn read_items(state: &AppState) -> Result<(), AppError> {
    loop {
        let after = state.distributor().index().place;
        let items = state.store().items(after, CHUNK)?;
        let is_last = items.len() < CHUNK;
        state.distributor().index().add(items);
        if is_last {
            break;
        }
    }
    // Places are given before they are visible where several processes add items at once: what
    // came in below the newest place is found by going through all of them.
    let known = state.distributor().index().entries.len() as u64;
    if state.store().counts()?.items != known {
        let mut after = 0;
        loop {
            let items = state.store().items(after, CHUNK)?;
            let Some(last) = items.last() else { break };
            after = last.place;
            state.distributor().index().add(items);
        }
    }
    Ok(())
}

/// Takes over what was changed about items.
fn read_changes(state: &AppState) -> Result<(), AppError> {
    let after = state.distributor().index().changes;
    let changes = hearken_store::changes_after(state.store(), after)?;
    if changes.is_empty() {
        return Ok(());
    }
    let mut index = state.distributor().index();
    // Somebody else may have been faster.
    for (number, change) in (after + 1..).zip(&changes) {
        if index.changes < number {
            index.take(change);
            index.changes = number;
        }
    }
    drop(index);
    state.distributor().forget_people();
    Ok(())
}

/// Changes items that are there. May block.
///
/// # Errors
///
/// The store cannot be used.
pub(crate) fn change_items(
    state: &AppState,
    by: &str,
    items: Vec<String>,
    change: Change,
) -> Result<(), AppError> {
    let after = state.distributor().index().changes;
    let change = ItemChange { at: state.now(), by: by.to_owned(), items, change };
    hearken_store::add_change(state.store(), &change, after)?;
    read_changes(state)
}

/// The item with what was changed about it. May block.
///
/// # Errors
///
/// The store cannot be read.
pub(crate) fn item(state: &AppState, id: &str) -> Result<Option<Item>, AppError> {
    if id.contains('\0') {
        return Ok(None);
    }
    let Some(mut item) = state.store().item(id)? else { return Ok(None) };
    let index = state.distributor().index();
    let entry = index.handle(id).map(|handle| &index.entries[handle as usize]);
    if let Some(changed) = entry.and_then(|entry| entry.changed.as_ref()) {
        changed.apply(&mut item);
    }
    Ok(Some(item))
}

/// Brings what is known of judgements up to the store. May block.
///
/// # Errors
///
/// The store cannot be read.
pub(crate) fn read_judgements(state: &AppState) -> Result<(), AppError> {
    let mut board = state.board();
    for _ in 0..ROUNDS {
        add_judgements(state, &mut board)?;
        let known = state.store().counts()?.judgements;
        if known == board.judgements {
            return Ok(());
        }
        let before = board.place;
        add_judgements(state, &mut board)?;
        // Where several processes write, a judgement may become visible below a place that was read.
        if board.place == before {
            *board = Board::default();
        }
    }
    add_judgements(state, &mut board)
}

fn add_judgements(state: &AppState, board: &mut Board) -> Result<(), AppError> {
    loop {
        let judgements = state.store().judgements(board.place, CHUNK)?;
        let is_last = judgements.len() < CHUNK;
        board.add(judgements);
        if is_last {
            return Ok(());
        }
    }
}

/// How far the project is. May block.
///
/// # Errors
///
/// The store cannot be read.
pub fn progress(state: &AppState) -> Result<Progress, AppError> {
    let settings = state.settings()?;
    refresh(state, &settings, false)?;
    Ok(state.distributor().index().progress())
}

/// Brings what is known up to the store. May block.
pub(crate) fn look_again(state: &AppState) -> Result<(), AppError> {
    refresh(state, &*state.settings()?, true)
}

/// Whether as many annotators as asked for have judged the item, as far as is known.
pub(crate) fn is_complete(state: &AppState, item: &str) -> bool {
    state.distributor().index().is_complete(item)
}

/// Whether the item admits annotators, as far as is known.
pub(crate) fn is_screening(state: &AppState, item: &str) -> bool {
    let index = state.distributor().index();
    index.handle(item).is_some_and(|handle| index.screening.contains(&handle))
}

/// What the annotator labels next. `held` names the assignments that the page has already; one that
/// the annotator holds and that is not among them comes first (the page was loaded anew).
///
/// # Errors
///
/// The store cannot be used.
pub async fn next(state: &AppState, annotator: &str, held: &[String]) -> Result<Next, AppError> {
    let (annotator, held) = (annotator.to_owned(), held.to_vec());
    state.blocking(move |state| next_blocking(state, &annotator, &held)).await
}

fn next_blocking(state: &AppState, annotator: &str, held: &[String]) -> Result<Next, AppError> {
    let (settings, now) = (state.settings()?, state.now());
    let live = state.store().live_assignments(annotator, now)?;
    let forgotten = live.iter().find(|assignment| !held.contains(&assignment.id));
    let again = forgotten.or_else(|| live.first().filter(|_| HELD_MAX <= live.len()));
    if let Some(assignment) = again {
        let expires_at = now + settings.lease_ms();
        if state.store().renew(&assignment.id, now, expires_at)? {
            return work(state, Assignment { expires_at, ..assignment.clone() });
        }
    }
    let distributor = state.distributor();
    refresh(state, &settings, false)?;
    let person = distributor.person(annotator);
    for at_once in [false, true] {
        if at_once {
            refresh(state, &settings, true)?;
            lock(&person).forget();
        }
        let known = standing::standing(state, annotator, &mut lock(&person))?;
        let screening = match standing::admitted(&known, &settings, live.len()) {
            Ok(screening) => screening,
            Err(why) => return Ok(Next::Nothing(why)),
        };
        if let Some(granted) = claim_one(state, annotator, &settings, screening, &person)? {
            return work(state, granted);
        }
    }
    let nothing_there = distributor.index().entries.is_empty();
    Ok(Next::Nothing(if nothing_there { Why::NoItems } else { Why::NothingOpen }))
}

fn work(state: &AppState, assignment: Assignment) -> Result<Next, AppError> {
    let item = item(state, &assignment.item)?;
    let item = item.ok_or_else(|| AppError::Internal("an assignment without its item".into()))?;
    Ok(Next::Work(Box::new(HandedItem { assignment, item })))
}

/// Chooses and claims until a claim is granted or nothing is open.
fn claim_one(
    state: &AppState,
    annotator: &str,
    settings: &ProjectSettings,
    screening: bool,
    person: &Mutex<Person>,
) -> Result<Option<Assignment>, AppError> {
    // A store may come from a program that knew more orders.
    let order = state.order(&settings.order).unwrap_or(&Random);
    let distributor = state.distributor();
    for _ in 0..ATTEMPTS {
        let mut rng = rand::rng();
        let chosen = {
            // A person is locked before the index, everywhere.
            let (person, mut index) = (lock(person), distributor.index());
            let drawn = screening.then(|| person.drawn());
            let shares = Shares { gold: settings.gold_share, random: settings.order_random_share };
            let choice = index.choose(drawn, annotator, person.seen(), shares, order, &mut rng);
            let choice = choice.map_err(|Misfit(choice)| {
                AppError::Internal(format!(
                    "the order {:?} chose {choice:?}; expected one of the items it was offered, and a probability in (0, 1]",
                    order.name()
                ))
            })?;
            choice.map(|choice| {
                let id = index.entries[choice.handle as usize].id.clone();
                // At once, so that whoever asks at the same time is not sent after the same item.
                index.claimed(&id);
                (choice, id)
            })
        };
        let Some((choice, id)) = chosen else { return Ok(None) };
        let claimed = claim(state, (annotator, &id), choice, settings, &mut rng);
        if !matches!(claimed, Ok(Claimed::Granted(_))) {
            distributor.index().given_back(&id);
        }
        match claimed? {
            Claimed::Granted(assignment) => {
                lock(person).saw(choice.handle);
                return Ok(Some(assignment));
            }
            Claimed::Full => distributor.index().full(&id),
            Claimed::SeenBefore => lock(person).saw(choice.handle),
        }
    }
    Ok(None)
}

/// Asks the store for an item that was chosen.
fn claim(
    state: &AppState,
    (annotator, id): (&str, &str),
    choice: ChosenItem,
    settings: &ProjectSettings,
    rng: &mut impl Rng,
) -> Result<Claimed, AppError> {
    let Some(item) = item(state, id)? else {
        return Err(AppError::Internal(format!("the item {id:?} is gone from the store")));
    };
    let guidelines = state.guidelines()?.version;
    Ok(state.store().claim(&Claim {
        item: id.to_owned(),
        annotator: annotator.to_owned(),
        presented: shuffled(item.candidates.len(), rng),
        propensity: Some(choice.probability),
        guidelines: (guidelines > 0).then_some(guidelines),
        overlap: overlap_of(item.overlap, item.gold.is_some(), settings.overlap),
        now: state.now(),
        lease_ms: settings.lease_ms(),
    })?)
}

/// A uniform permutation of `0..n`.
fn shuffled(n: usize, rng: &mut impl Rng) -> Vec<usize> {
    let mut places: Vec<usize> = (0..n).collect();
    places.shuffle(rng);
    places
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Each of the six orders of three candidates comes equally often.
    #[test]
    fn sides_are_shuffled_uniformly() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..6_000 {
            *counts.entry(shuffled(3, &mut rng)).or_insert(0_i32) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| (count - 1_000).abs() < 130), "{counts:?}");
    }
}
