//! A test that watches one annotator's votes as they come.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::index::{Index, Vote, VoteChoice};

/// LMArena's test for annotators whose votes do not look like the others'.
///
/// ```text
/// M = Π_k 1/(2·p_k)      p_k = share of decisive votes on the pair that are at most (at least) this one
/// ```
///
/// A vote is 1 for one model of a pair and 0 for the other; the annotator's own votes are among the shares, and the product
/// is looked at after every vote, up to [`Sequential::VOTES_MAX`]. For an annotator whose votes are drawn like
/// everybody's, the product exceeds 1/α ever with probability at most α. Where candidates have no model, the pair is the two
/// candidates. Deviation: ties are left out, because a factor for them would let the product grow by chance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sequential {
    /// The largest product over "at most".
    pub low_max: f64,
    /// The largest product over "at least".
    pub high_max: f64,
    /// Decisive votes looked at.
    pub votes: usize,
    /// Whether either product exceeded 20, LMArena's threshold for one annotator.
    pub flagged: bool,
}

impl Sequential {
    /// Votes of an annotator that are looked at.
    pub const VOTES_MAX: usize = 100;
    /// Below so many votes nothing is said.
    pub const VOTES_MIN: usize = 5;
    /// 1/α at α = 0.05.
    pub const THRESHOLD: f64 = 20.0;
}

pub(crate) fn sequential(index: &Index<'_>) -> Vec<Sequential> {
    let votes: Vec<(&Vote, PairKey, bool)> = index
        .votes
        .decisive()
        .map(|vote| {
            let (pair, first) = pair(index, vote);
            (vote, pair, (vote.choice == VoteChoice::First) == first)
        })
        .collect();
    let mut wins: HashMap<PairKey, [u32; 2]> = HashMap::new();
    for &(_, pair, won) in &votes {
        wins.entry(pair).or_default()[usize::from(won)] += 1;
    }
    let mut by_annotator: Vec<Vec<(i64, f64, f64)>> = vec![Vec::new(); index.annotators.len()];
    for &(vote, pair, won) in &votes {
        let [lost_all, won_all] = wins[&pair].map(f64::from);
        let total = lost_all + won_all;
        let (at_most, at_least) =
            if won { (1.0, won_all / total) } else { (lost_all / total, 1.0) };
        by_annotator[vote.annotator].push((vote.at, at_most, at_least));
    }
    by_annotator.into_iter().map(watch).collect()
}

/// Two models where both are known, else two candidates of an item.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum PairKey {
    Models(usize, usize),
    Unit(usize),
}

/// The pair of a vote, and whether its first candidate is the pair's first.
fn pair(index: &Index<'_>, vote: &Vote) -> (PairKey, bool) {
    let unit = index.votes.units[vote.unit];
    let models = (index.model(unit.item, unit.first), index.model(unit.item, unit.second));
    match models {
        (Some(a), Some(b)) if a != b => (PairKey::Models(a.min(b), a.max(b)), a < b),
        _ => (PairKey::Unit(vote.unit), true),
    }
}

const PRODUCT_MAX: f64 = 1e100;

/// Multiplies in the order of time; votes without a time keep the order in which they were appended.
fn watch(mut votes: Vec<(i64, f64, f64)>) -> Sequential {
    votes.sort_by_key(|&(at, ..)| at);
    votes.truncate(Sequential::VOTES_MAX);
    let (mut low, mut high) = (1.0, 1.0);
    let (mut low_max, mut high_max) = (0.0_f64, 0.0_f64);
    for &(_, at_most, at_least) in &votes {
        // Far beyond any bound; JSON has no infinity.
        low = (low / (2.0 * at_most)).min(PRODUCT_MAX);
        high = (high / (2.0 * at_least)).min(PRODUCT_MAX);
        low_max = low_max.max(low);
        high_max = high_max.max(high);
    }
    let flagged =
        votes.len() >= Sequential::VOTES_MIN && low_max.max(high_max) > Sequential::THRESHOLD;
    Sequential { low_max, high_max, votes: votes.len(), flagged }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_votes_against_nine_tenths_are_flagged() {
        // Each vote is a loss where one vote in ten is: a factor of 5.
        let odd = watch((0..10).map(|i| (i, 0.1, 1.0)).collect());
        assert!(odd.flagged && (odd.low_max - 5_f64.powi(10)).abs() < 1e-3);
        // Each is a win where nine in ten are: the product over "at least" shrinks by 1/1.8.
        let usual = watch((0..10).map(|i| (i, 1.0, 0.9)).collect());
        assert!(!usual.flagged && usual.high_max < 1.0);
    }
}
