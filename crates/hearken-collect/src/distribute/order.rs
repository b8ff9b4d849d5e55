//! What to label next: the seam for other orders.

use std::collections::HashSet;
use std::fmt;

use rand::{Rng, RngExt as _};

use super::index::Entry;

/// The names of the orders.
pub const ORDERS: [&str; 1] = ["random"];

/// The order of this name.
pub fn order(name: &str) -> Option<&'static dyn Order> {
    match name {
        "random" => Some(&Random),
        _ => None,
    }
}

/// Chooses the next item of an annotator among those of the highest priority.
pub trait Order: Send + Sync {
    /// The name in the settings.
    fn name(&self) -> &'static str;

    /// Chooses one of `eligible`, which is not empty, and says with which probability it chose
    /// it.
    fn choose(&self, eligible: &Eligible<'_>, rng: &mut dyn Rng) -> Choice;
}

/// One of several items, and the probability of the choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Which: [`Offer::handle`].
    pub handle: u32,
    /// In (0, 1].
    pub probability: f64,
}

/// An item that could come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer<'a> {
    /// What a [`Choice`] calls it.
    pub handle: u32,
    /// The name of the item.
    pub id: &'a str,
    /// Annotators who have judged it, as far as is known.
    pub judged: u32,
}

/// The items that could come next: open ones that the annotator has not seen.
#[derive(Clone, Copy)]
pub struct Eligible<'a> {
    open: &'a [u32],
    seen: &'a HashSet<u32>,
    entries: &'a [Entry],
    count: usize,
}

impl fmt::Debug for Eligible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Eligible").field("count", &self.count).finish_non_exhaustive()
    }
}

impl<'a> Eligible<'a> {
    pub(super) fn new(
        open: &'a [u32],
        seen: &'a HashSet<u32>,
        entries: &'a [Entry],
        count: usize,
    ) -> Self {
        Self { open, seen, entries, count }
    }

    /// How many there are; at least 1.
    pub fn count(&self) -> usize {
        self.count
    }

    /// All of them, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = Offer<'a>> {
        let (seen, entries) = (self.seen, self.entries);
        self.open.iter().filter(move |handle| !seen.contains(handle)).map(move |&handle| {
            let entry = &entries[handle as usize];
            Offer { handle, id: &entry.id, judged: entry.judged }
        })
    }

    /// One of them, each with the same probability, without going through all of them.
    #[expect(clippy::missing_panics_doc, reason = "there are as many as counted")]
    pub fn any(&self, rng: &mut dyn Rng) -> u32 {
        // Of what is open at least an eighth has not been seen: eight draws on average.
        if self.open.len() <= self.count.saturating_mul(8) {
            loop {
                let handle = self.open[rng.random_range(0..self.open.len())];
                if !self.seen.contains(&handle) {
                    return handle;
                }
            }
        }
        let nth = rng.random_range(0..self.count);
        self.iter().nth(nth).expect("invariant: there are `count` eligible items").handle
    }
}

/// Each eligible item with the same probability.
#[derive(Clone, Copy, Debug)]
pub struct Random;

impl Order for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn choose(&self, eligible: &Eligible<'_>, rng: &mut dyn Rng) -> Choice {
        let probability = 1.0 / eligible.count() as f64;
        Choice { handle: eligible.any(rng), probability }
    }
}
