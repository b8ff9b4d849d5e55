//! What a judge said of pairs.

use std::collections::BTreeMap;

use crate::index::{Index, VoteChoice};

/// What a judge said of a pair, and people beside it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Position of the item.
    pub(super) item: usize,
    /// The two candidates.
    pub(super) pair: [usize; 2],
    /// The probability that the first is better, mean of both orders.
    pub(super) probability: f64,
    /// The same where the first was shown first, and where it was shown second.
    pub(super) shown: [Option<f64>; 2],
    /// Votes of people: for the first, ties, for the second.
    pub(super) people: Option<[u32; 3]>,
}

impl Seen {
    /// What its probability decides.
    pub(super) fn choice(&self) -> VoteChoice {
        decided(self.probability)
    }

    /// How sure the judge is: the distance from a toss-up, and 0 where the orders say different things.
    pub(super) fn certainty(&self) -> f64 {
        match self.shown {
            [Some(one), Some(other)] if decided(one) != decided(other) => 0.0,
            _ => (self.probability - 0.5).abs(),
        }
    }
}

/// The side that is more probable, or a tie.
pub(super) fn decided(probability: f64) -> VoteChoice {
    match probability.total_cmp(&0.5) {
        std::cmp::Ordering::Greater => VoteChoice::First,
        std::cmp::Ordering::Equal => VoteChoice::Tie,
        std::cmp::Ordering::Less => VoteChoice::Second,
    }
}

/// Per judge what it said of every pair.
pub(super) fn of_judges(index: &Index<'_>) -> Vec<Vec<Seen>> {
    let people: BTreeMap<(usize, usize, usize), [u32; 3]> = index
        .votes
        .units
        .iter()
        .map(|unit| ((unit.item, unit.first, unit.second), unit.annotators))
        .collect();
    let mut of_units: Vec<BTreeMap<usize, [Vec<f64>; 3]>> =
        vec![BTreeMap::new(); index.judges.len()];
    for vote in &index.judge_votes.list {
        let said = of_units[vote.annotator].entry(vote.unit).or_default();
        let place = vote.first_left.map_or(2, |left| usize::from(!left));
        said[place].push(vote.probability);
    }
    let mean = |of: &[f64]| (!of.is_empty()).then(|| of.iter().sum::<f64>() / of.len() as f64);
    let seen = |(unit, said): (usize, [Vec<f64>; 3])| {
        let unit = index.judge_votes.units[unit];
        let shown = [mean(&said[0]), mean(&said[1])];
        // Each order counts the same, however often it was asked.
        let parts: Vec<f64> = shown.into_iter().chain([mean(&said[2])]).flatten().collect();
        Seen {
            item: unit.item,
            pair: [unit.first, unit.second],
            probability: mean(&parts).unwrap_or(0.5),
            shown,
            people: people.get(&(unit.item, unit.first, unit.second)).copied(),
        }
    };
    of_units.into_iter().map(|units| units.into_iter().map(seen).collect()).collect()
}
