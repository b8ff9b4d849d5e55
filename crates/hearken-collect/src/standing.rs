//! Who wins at this moment, and how far people agree: what is told on the page of the analysis of judgements that the analysis
//! itself has not seen yet.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use hearken_analysis::Options;

use crate::desk::CachedStanding;
use crate::distribute;
use crate::error::AppError;
use crate::state::AppState;

/// Rounds of the bootstrap: enough for an interval, and fewer than an analysis has, since a reader waits.
const ROUNDS: usize = 400;
/// Items that are looked at while others wait.
const CHUNK: usize = 4_096;
/// What takes no longer is done anew for everybody who asks. What does is told again for as long as it took: half of the time
/// goes into it at most, while judgements come in.
const QUICK: Duration = Duration::from_millis(50);

/// The standing, computed anew where something has happened.
pub(crate) async fn standing(state: &AppState) -> Result<CachedStanding, AppError> {
    let mut kept = state.desk().standing.lock().await;
    if let Some(known) = &*kept
        && QUICK < known.took
        && known.at.elapsed() < known.took
    {
        return Ok(known.clone());
    }
    let known = kept.clone();
    let computed = state.blocking(move |state| up_to_now(state, known)).await?;
    *kept = Some(computed.clone());
    Ok(computed)
}

fn up_to_now(state: &AppState, known: Option<CachedStanding>) -> Result<CachedStanding, AppError> {
    distribute::read_new_items(state)?;
    distribute::read_judgements(state)?;
    let judgements = state.board().judgements;
    let items = {
        let index = state.distributor().index();
        (index.entries.len(), index.changes)
    };
    if let Some(known) = known
        && (known.judgements, known.items) == (judgements, items)
    {
        return Ok(known);
    }
    let mut counts = state.desk().counts.lock().unwrap_or_else(PoisonError::into_inner);
    for first in (0..items.0).step_by(CHUNK) {
        let (board, index) = (state.board(), state.distributor().index());
        counts.bring_up(&board, &index, first..first + CHUNK);
    }
    let models = state.distributor().index().models();
    let names: Vec<&str> = models.iter().map(|name| &**name).collect();
    let options = Options { bootstrap_rounds: ROUNDS, ..Options::default() };
    // What is read and counted above is done once: it says nothing about how long the next takes.
    let started = Instant::now();
    let standing = Arc::new(counts.standing(&names, &options));
    Ok(CachedStanding { standing, judgements, items, at: Instant::now(), took: started.elapsed() })
}
