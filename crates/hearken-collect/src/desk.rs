//! Analyses that were computed, kept for the next who asks.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What was computed, shared by all requests.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) analysis: Slot,
    pub(crate) features: Slot,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// One result, and whether a newer one is being computed.
#[derive(Default)]
pub(crate) struct Slot {
    content: Mutex<Content>,
    pub(crate) done: Notify,
}

#[derive(Clone, Default)]
pub(crate) struct Content {
    pub(crate) running: bool,
    /// Judgements in the store when it was computed.
    pub(crate) judgements: u64,
    pub(crate) at: i64,
    pub(crate) html: Option<Arc<str>>,
    pub(crate) problem: Option<String>,
}

impl Slot {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
