//! What is open and who has seen it, in memory. What is here asks no store; who distributes keeps it up to date.

mod facts;
mod index;
mod order;
mod person;
mod worth;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use self::facts::Needle;
pub use self::index::Progress;
pub(crate) use self::index::{HandOutReason, Index, LIVE, Misfit, QueueEntry, Shares, overlap_of};
pub use self::order::{
    BUILT_IN, CONVINCING, ChosenItem, Convincing, Eligible, Offer, Order, RANDOM, Random,
};
pub(crate) use self::order::{built_in, check_names};
pub(crate) use self::person::{Person, ScreeningDraw, Standing};

/// Handles of items.
pub(crate) type Handles = HashSet<u32>;

/// What is known about the distribution, shared by all requests.
#[derive(Debug)]
pub(crate) struct Distributor {
    index: Mutex<Index>,
    people: Mutex<HashMap<String, Arc<Mutex<Person>>>>,
    /// When the index was last compared with the store, and how long that took; the lock is held
    /// while comparing.
    pub(crate) refreshed: Mutex<Option<(i64, i64)>>,
}

/// The lock, also where somebody panicked with it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Distributor {
    /// `keeps_media`: whether it is asked which images items name.
    pub(crate) fn new(keeps_media: bool) -> Self {
        let index = Mutex::new(Index::new(keeps_media));
        Self { index, people: Mutex::default(), refreshed: Mutex::default() }
    }

    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }

    pub(crate) fn person(&self, annotator: &str) -> Arc<Mutex<Person>> {
        Arc::clone(lock(&self.people).entry(annotator.to_owned()).or_default())
    }

    /// What an item is was changed: who has judged what is asked anew.
    pub(crate) fn forget_people(&self) {
        lock(&self.people).clear();
    }

    /// The settings or the items have changed: look at the store before the next answer.
    pub(crate) fn forget(&self) {
        *lock(&self.refreshed) = None;
        lock(&self.people).clear();
    }
}
