//! Analyses that were computed, kept for the next who asks.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hearken_analysis::Report;
use hearken_analysis::annotators::Annotators;
use hearken_analysis::standing::Standing;
use tokio::sync::Notify;

use crate::board::StandingCounts;

/// What was computed, shared by all requests.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) analysis: Slot<Report>,
    /// Who wins at this moment.
    pub(crate) standing: tokio::sync::Mutex<Option<CachedStanding>>,
    /// What it is computed from.
    pub(crate) counts: Mutex<StandingCounts>,
    /// As HTML.
    pub(crate) features: Slot<String>,
    /// Whom to believe.
    pub(crate) people: Slot<Annotators>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// A standing, and what it was computed from.
#[derive(Clone)]
pub(crate) struct CachedStanding {
    pub(crate) standing: Arc<Standing>,
    /// The judgements of the store when it was computed.
    pub(crate) judgements: u64,
    /// What else it depends on: how many items there are, and what was changed about them.
    pub(crate) items: (usize, u64),
    pub(crate) at: Instant,
    pub(crate) took: Duration,
}

/// One result, and whether a newer one is computed.
pub(crate) struct Slot<T> {
    content: Mutex<Content<T>>,
    pub(crate) done: Notify,
}

pub(crate) struct Content<T> {
    /// Since when a newer one is computed.
    pub(crate) running: Option<Instant>,
    /// Judgements in the store when it was computed.
    pub(crate) judgements: u64,
    pub(crate) at: i64,
    /// How long that took, in milliseconds.
    pub(crate) took_ms: i64,
    pub(crate) result: Option<Arc<T>>,
    pub(crate) problem: Option<String>,
}

impl<T> Default for Content<T> {
    fn default() -> Self {
        Self { running: None, judgements: 0, at: 0, took_ms: 0, result: None, problem: None }
    }
}

impl<T> Clone for Content<T> {
    fn clone(&self) -> Self {
        let (result, problem) = (self.result.clone(), self.problem.clone());
        let Self { running, judgements, at, took_ms, .. } = *self;
        Self { running, judgements, at, took_ms, result, problem }
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { content: Mutex::default(), done: Notify::new() }
    }
}

impl<T> Slot<T> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Content<T>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
