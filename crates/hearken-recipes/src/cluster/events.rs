//! Events in the order of time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// What happens at a time, in seconds.
#[derive(Clone, Debug)]
struct Event<T> {
    at_s: f64,
    /// Those of one time happen in the order in which they were foreseen.
    number: u64,
    what: T,
}

impl<T> Event<T> {
    fn key(&self) -> (f64, u64) {
        (self.at_s, self.number)
    }
}

impl<T> PartialEq for Event<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Event<T> {}

impl<T> PartialOrd for Event<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Event<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        let ((at, number), (other_at, other_number)) = (self.key(), other.key());
        at.total_cmp(&other_at).then(number.cmp(&other_number))
    }
}

/// What is foreseen.
#[derive(Debug)]
pub(super) struct Foreseen<T> {
    queue: BinaryHeap<Reverse<Event<T>>>,
    count: u64,
    /// The time of the last event.
    now_s: f64,
}

impl<T> Foreseen<T> {
    pub(super) fn starting_at(now_s: f64) -> Self {
        Self { queue: BinaryHeap::new(), count: 0, now_s }
    }

    /// Foresees an event so many seconds from now.
    pub(super) fn after(&mut self, seconds: f64, what: T) {
        self.count += 1;
        self.queue.push(Reverse(Event { at_s: self.now_s + seconds, number: self.count, what }));
    }

    pub(super) fn now_s(&self) -> f64 {
        self.now_s
    }
}

impl<T> Iterator for Foreseen<T> {
    type Item = T;

    /// Goes to the next event.
    fn next(&mut self) -> Option<T> {
        let Reverse(Event { at_s, what, .. }) = self.queue.pop()?;
        self.now_s = at_s;
        Some(what)
    }
}
