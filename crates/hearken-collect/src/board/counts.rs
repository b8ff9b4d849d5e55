//! What is said of every item, counted for who wins and how far people agree.

use std::ops::Range;

use hearken_analysis::Options;
use hearken_analysis::standing::{Counted, ItemCounts, Standing, StandingVote};

use super::{Board, ItemVotes};
use crate::queue::Index;

/// What is said of every item, counted: a label costs what is said of its item, however many others there are.
#[derive(Debug, Default)]
pub(crate) struct StandingCounts {
    counted: Counted,
    /// In the order of the index.
    items: Vec<KnownCounts>,
}

#[derive(Debug, Default)]
struct KnownCounts {
    /// The judgements of the item that were counted; none of one that is withdrawn.
    judgements: u32,
    counts: ItemCounts,
}

impl StandingCounts {
    /// What it comes to; `models` are the names of the models by their numbers.
    pub(crate) fn standing(&self, models: &[&str], options: &Options) -> Standing {
        self.counted.standing(models, options)
    }

    /// Counts anew what has changed of some items.
    pub(crate) fn bring_up(&mut self, board: &Board, index: &Index, items: Range<usize>) {
        let entries = index.entries.iter().enumerate().take(items.end).skip(items.start);
        for (at, entry) in entries {
            let said = board.of(&entry.id).filter(|_| !entry.is_withdrawn());
            let judgements = said.map_or(0, |said| said.judgements);
            if self.items.len() <= at {
                self.items.resize_with(at + 1, KnownCounts::default);
            }
            let known = &mut self.items[at];
            if known.judgements == judgements {
                continue;
            }
            self.counted.take_out(&known.counts);
            let counts = said.map(|said| counts_of(&entry.models, said)).unwrap_or_default();
            self.counted.add(&counts);
            *known = KnownCounts { judgements, counts };
        }
    }
}

fn counts_of(models: &[Option<u32>], said: &ItemVotes) -> ItemCounts {
    let votes = said.votes.iter().map(|vote| StandingVote {
        annotator: vote.person,
        is_ai: vote.is_ai,
        verdict: &vote.verdict,
    });
    ItemCounts::new(models, &votes.collect::<Vec<_>>(), said.decided.as_deref())
}
