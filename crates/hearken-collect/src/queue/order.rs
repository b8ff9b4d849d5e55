//! What to label next: the seam for other orders.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;

use rand::{Rng, RngExt as _};

use super::facts::Facts;
use super::index::QueueEntry;
use super::worth::by_worth;

/// The name of the order that is always there: [`Random`].
pub const RANDOM: &str = "random";

/// The name of the order that is there for solutions: [`Convincing`].
pub const CONVINCING: &str = "convincing";

/// The names of the orders that are always there.
pub const BUILT_IN: [&str; 7] =
    [RANDOM, CONVINCING, "entropy", "disagreement", "information", "d_optimal", "k_center"];

/// The orders that are always there; what one remembers is of one project.
pub(crate) fn built_in() -> Vec<Box<dyn Order>> {
    let mut orders: Vec<Box<dyn Order>> = vec![Box::new(Random), Box::new(Convincing)];
    orders.extend(by_worth().map(|order| Box::new(order) as Box<dyn Order>));
    orders
}

/// Why further orders cannot be told apart by their names.
pub(crate) fn check_names(orders: &[Box<dyn Order>]) -> Result<(), String> {
    let mut names = BUILT_IN.to_vec();
    for name in orders.iter().map(|order| order.name()) {
        if name.trim().is_empty() || name.contains('\0') {
            return Err(format!("found an order with the name {name:?}; expected some letters"));
        }
        if names.contains(&name) {
            return Err(format!("found a second order named {name:?}; expected another name"));
        }
        names.push(name);
    }
    Ok(())
}

/// Chooses the next item of an annotator among those of the highest priority.
///
/// A program that embeds the service hands in its own ([`Parts::orders`]). What an order wants to know of the items beyond
/// an [`Offer`] it looks up by itself; `choose` runs while others wait, so it reads no store and no file.
///
/// ```
/// use hearken_collect::distribute::{ChosenItem, Eligible, Order};
///
/// /// The item that the fewest have judged; of several the first by name.
/// struct Fewest;
///
/// impl Order for Fewest {
///     fn name(&self) -> &str {
///         "fewest"
///     }
///
///     fn choose(&self, eligible: &Eligible<'_>, _: &mut dyn rand::Rng) -> ChosenItem {
///         let offer = eligible.iter().min_by_key(|offer| (offer.judged, offer.id));
///         ChosenItem { handle: offer.expect("not empty").handle, probability: 1.0 }
///     }
/// }
/// ```
///
/// [`Parts::orders`]: crate::parts::Parts::orders
pub trait Order: Send + Sync {
    /// The name in the settings.
    fn name(&self) -> &str;

    /// Chooses one of `eligible`, which is not empty, and says with which probability it chose
    /// it. A choice of something else, or a probability outside (0, 1], is an error of the request.
    fn choose(&self, eligible: &Eligible<'_>, rng: &mut dyn Rng) -> ChosenItem;
}

/// One of several items, and the probability of the choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChosenItem {
    /// Which: [`Offer::handle`].
    pub handle: u32,
    /// In (0, 1].
    pub probability: f64,
}

/// An item that could come next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offer<'a> {
    /// What a [`ChosenItem`] calls it.
    pub handle: u32,
    /// The name of the item.
    pub id: &'a str,
    /// Annotators who have judged it, as far as is known.
    pub judged: u32,
    /// Whether the final answer of its solution is wrong, where its metadata say so: `"correct"` or
    /// `"final_answer_correct"`, of the candidate or the item.
    pub is_wrong: Option<bool>,
    /// What a model that scores solutions thinks of it, where its metadata say so: `"score"`, of the candidate or the item.
    pub score: Option<f64>,
}

/// The items that could come next: open ones that the annotator has not seen.
#[derive(Clone, Copy)]
pub struct Eligible<'a> {
    open: &'a [u32],
    /// Where each of `open` stands in it.
    place: &'a HashMap<u32, usize>,
    seen: &'a HashSet<u32>,
    entries: &'a [QueueEntry],
    asked: &'a [u32],
    count: usize,
    random_share: f64,
}

impl fmt::Debug for Eligible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Eligible").field("count", &self.count).finish_non_exhaustive()
    }
}

impl<'a> Eligible<'a> {
    /// `count` of `open`, each of which has its place there, are not `seen`.
    pub(crate) fn new(
        (open, place): (&'a [u32], &'a HashMap<u32, usize>),
        seen: &'a HashSet<u32>,
        (entries, asked): (&'a [QueueEntry], &'a [u32]),
        count: usize,
        random_share: f64,
    ) -> Self {
        Self { open, place, seen, entries, asked, count, random_share }
    }

    /// All items that there are, by handle, whether they can come or not.
    pub(super) fn entries(&self) -> &'a [QueueEntry] {
        self.entries
    }

    /// The items that were handed out to anybody, in the order in which they were.
    pub(super) fn asked(&self) -> &'a [u32] {
        self.asked
    }

    /// The items that could come next.
    pub(super) fn handles(&self) -> impl Iterator<Item = u32> {
        let seen = self.seen;
        self.open.iter().copied().filter(move |handle| !seen.contains(handle))
    }

    /// Whether an item could come next.
    pub(super) fn holds(&self, handle: u32) -> bool {
        self.place.contains_key(&handle) && !self.seen.contains(&handle)
    }

    /// One of `first`, each with the same probability; with the project's share any item, so that none has a probability of 0 where
    /// that share is above 0. What is known of those that came, each divided by its probability, then estimates what holds of all.
    ///
    /// # Panics
    /// If `first` is empty.
    pub fn favor(&self, first: &[u32], rng: &mut dyn Rng) -> ChosenItem {
        assert!(!first.is_empty(), "first: at least one item");
        let is_random = rng.random_range(0.0..1.0) < self.random_share;
        let handle =
            if is_random { self.any(rng) } else { first[rng.random_range(0..first.len())] };
        let mut probability = self.random_share / self.count as f64;
        if first.contains(&handle) {
            probability += (1.0 - self.random_share) / first.len() as f64;
        }
        ChosenItem { handle, probability }
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
            let Facts { is_wrong, score, .. } = entry.facts;
            Offer { handle, id: &entry.id, judged: entry.judged, is_wrong, score }
        })
    }

    /// Whether a choice is one of them, with a probability.
    pub(crate) fn admits(&self, choice: ChosenItem) -> bool {
        let ChosenItem { handle, probability } = choice;
        self.holds(handle) && 0.0 < probability && probability <= 1.0
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
    fn name(&self) -> &str {
        RANDOM
    }

    fn choose(&self, eligible: &Eligible<'_>, rng: &mut dyn Rng) -> ChosenItem {
        let probability = 1.0 / eligible.count() as f64;
        ChosenItem { handle: eligible.any(rng), probability }
    }
}

/// Solutions with a wrong final answer first, those before all that a model takes for right: there a label of the step that
/// is wrong teaches the model most (Lightman et al. 2023, arXiv:2305.20050, section 4). Then those of which it is not known
/// whether they are right, then the right ones. Among equals each with the same probability; a share of
/// all at random.
#[derive(Clone, Copy, Debug)]
pub struct Convincing;

impl Convincing {
    /// What goes first is greater.
    fn urgency(offer: &Offer<'_>) -> (i8, f64) {
        match offer.is_wrong {
            Some(true) => (1, offer.score.unwrap_or(f64::MIN)),
            None => (0, 0.0),
            Some(false) => (-1, 0.0),
        }
    }
}

impl Order for Convincing {
    fn name(&self) -> &str {
        CONVINCING
    }

    fn choose(&self, eligible: &Eligible<'_>, rng: &mut dyn Rng) -> ChosenItem {
        let mut best = (i8::MIN, f64::NEG_INFINITY);
        let mut first: Vec<u32> = Vec::new();
        for offer in eligible.iter() {
            let urgency = Self::urgency(&offer);
            match urgency.0.cmp(&best.0).then(urgency.1.total_cmp(&best.1)) {
                Ordering::Less => continue,
                Ordering::Equal => {}
                Ordering::Greater => first.clear(),
            }
            best = urgency;
            first.push(offer.handle);
        }
        eligible.favor(&first, rng)
    }
}
