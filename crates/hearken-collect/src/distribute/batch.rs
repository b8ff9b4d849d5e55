//! Several items at once, for somebody who confirms what models suggest.

use hearken_data::feedback::Item;

use super::{HandedItem, Next, claim_one, refresh, standing, work};
use crate::error::AppError;
use crate::queue::lock;
use crate::state::AppState;

/// Claims that are given back in one go because the item does not fit.
const MISFITS: usize = 200;

/// Up to `most` items in the hands of the annotator that `fit`: those held already, then others. What is claimed and does
/// not fit is given back and may be offered again. Nothing while the screening is open. May block.
///
/// # Errors
///
/// The store cannot be used; those of `fits`.
pub(crate) fn batch(
    state: &AppState,
    annotator: &str,
    most: usize,
    fits: impl Fn(&Item) -> Result<bool, AppError>,
) -> Result<Vec<HandedItem>, AppError> {
    let (settings, now) = (state.settings()?, state.now());
    let mut batch = Vec::new();
    let live = state.store().live_assignments(annotator, now)?;
    for assignment in &live {
        if let Next::Work(held) = work(state, assignment.clone())?
            && fits(&held.item)?
            && state.store().renew(&assignment.id, now, now + settings.lease_ms())?
        {
            batch.push(*held);
        }
    }
    refresh(state, &settings, true)?;
    let person = state.distributor().person(annotator);
    let mut held = live.len();
    let mut misfits = Vec::new();
    while batch.len() < most && misfits.len() < MISFITS {
        let known = standing::standing(state, annotator, &mut lock(&person))?;
        let Ok(false) = standing::admitted(&known, &settings, held) else { break };
        let Some(granted) = claim_one(state, annotator, &settings, false, &person)? else {
            break;
        };
        let Next::Work(given) = work(state, granted)? else { break };
        if fits(&given.item)? {
            batch.push(*given);
            held += 1;
        } else {
            state.store().renew(&given.assignment.id, now, now)?;
            state.distributor().index().given_back(&given.item.id);
            misfits.push(given.item.id);
        }
    }
    for item in misfits {
        let handle = state.distributor().index().handle(&item);
        if let Some(handle) = handle {
            lock(&person).unsee(handle);
        }
    }
    Ok(batch)
}
