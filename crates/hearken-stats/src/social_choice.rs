//! What a group wants: voting rules on rankings or on a matrix of pairwise support.
//!
//! Rules that differ on the same votes are the point: a Bradley–Terry fit, and with it a reward model, orders
//! alternatives by something close to Borda's count, which need not be what a majority prefers (Siththaranjan et al. 2024,
//! arXiv:2312.08358).
//!
//! | needs | rules |
//! |---|---|
//! | pairs | [`borda`], [`copeland`], [`maximin`], [`condorcet_winner`], [`smith_set`], [`schulze()`], [`ranked_pairs()`], [`kemeny()`], [`maximal_lottery`] |
//! | rankings | [`plurality`], [`instant_runoff()`] |
//!
//! A tie on a pair is half a vote for either side. Candidates that a ranking leaves out are compared with nothing.
//! Rankings that come out are tiers, best first, so that ties show.

mod instant_runoff;
mod kemeny;
mod lottery;
mod pairwise;
mod ranked_pairs;
mod schulze;

pub use instant_runoff::{InstantRunoff, instant_runoff, plurality};
pub use kemeny::{EXACT_MAX, Kemeny, Search, kemeny, kemeny_score};
pub use lottery::{Lottery, Stakes, maximal_lottery};
pub use pairwise::{borda, condorcet_winner, copeland, maximin, smith_set};
pub use ranked_pairs::{RankedPairs, ranked_pairs};
pub use schulze::schulze;
use serde::{Deserialize, Serialize};

use crate::comparison::Tally;

/// A weak and possibly partial ranking of candidates, which are numbered from 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ballot {
    /// Groups of equals, best first.
    pub tiers: Vec<Vec<usize>>,
    /// How many voters cast it.
    pub weight: f64,
}

/// Why ballots cannot be counted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BallotError {
    /// A candidate number past the end.
    #[error("ballot {index}: candidate {candidate}, but there are {candidates}, numbered from 0")]
    UnknownCandidate {
        /// Position of the ballot.
        index: usize,
        /// The number found.
        candidate: usize,
        /// How many candidates there are.
        candidates: usize,
    },
    /// A candidate ranked twice.
    #[error("ballot {index}: candidate {candidate} is ranked twice")]
    RankedTwice {
        /// Position of the ballot.
        index: usize,
        /// The candidate.
        candidate: usize,
    },
    /// A weight that is negative or not a number.
    #[error("ballot {index}: weight {weight}, expected a finite number that is not negative")]
    BadWeight {
        /// Position of the ballot.
        index: usize,
        /// The weight found.
        weight: f64,
    },
}

/// Checked ballots.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    candidates: usize,
    ballots: Vec<Ballot>,
}

impl Profile {
    /// Checks the ballots.
    ///
    /// # Errors
    /// If a ballot names an unknown candidate, ranks one twice or has a bad weight.
    pub fn new(candidates: usize, ballots: Vec<Ballot>) -> Result<Self, BallotError> {
        for (index, ballot) in ballots.iter().enumerate() {
            let mut seen = vec![false; candidates];
            for &candidate in ballot.tiers.iter().flatten() {
                let Some(seen) = seen.get_mut(candidate) else {
                    return Err(BallotError::UnknownCandidate { index, candidate, candidates });
                };
                if std::mem::replace(seen, true) {
                    return Err(BallotError::RankedTwice { index, candidate });
                }
            }
            let weight = ballot.weight;
            if !weight.is_finite() || weight < 0.0 {
                return Err(BallotError::BadWeight { index, weight });
            }
        }
        Ok(Self { candidates, ballots })
    }

    /// Number of candidates.
    pub fn candidates(&self) -> usize {
        self.candidates
    }

    /// The ballots.
    pub fn ballots(&self) -> &[Ballot] {
        &self.ballots
    }

    /// Support on every pair that some ballot compares.
    pub fn pairs(&self) -> PairMatrix {
        let mut matrix = PairMatrix::new(self.candidates);
        for ballot in &self.ballots {
            for (rank, tier) in ballot.tiers.iter().enumerate() {
                for (i, &a) in tier.iter().enumerate() {
                    tier[..i].iter().for_each(|&b| matrix.add_tie(a, b, ballot.weight));
                    let worse = ballot.tiers[rank + 1..].iter().flatten();
                    worse.for_each(|&b| matrix.add(a, b, ballot.weight));
                }
            }
        }
        matrix
    }
}

/// How many votes prefer one candidate to another, n × n.
#[derive(Clone, Debug, PartialEq)]
pub struct PairMatrix {
    candidates: usize,
    support: Vec<f64>,
}

impl PairMatrix {
    /// No votes.
    pub fn new(candidates: usize) -> Self {
        Self { candidates, support: vec![0.0; candidates * candidates] }
    }

    /// The votes of a tally, both orders pooled, a tie as half a vote for either side.
    pub fn from_tally(tally: &Tally) -> Self {
        let mut matrix = Self::new(tally.items());
        for p in tally.pairs() {
            let [left, right] = p.halves();
            matrix.add(p.left, p.right, left);
            matrix.add(p.right, p.left, right);
        }
        matrix
    }

    /// Number of candidates.
    pub fn candidates(&self) -> usize {
        self.candidates
    }

    /// Votes for `a` over `b`.
    pub fn support(&self, a: usize, b: usize) -> f64 {
        self.support[a * self.candidates + b]
    }

    /// Votes for `a` over `b` less those for `b` over `a`.
    pub fn margin(&self, a: usize, b: usize) -> f64 {
        self.support(a, b) - self.support(b, a)
    }

    /// Adds `votes` for `a` over `b`.
    ///
    /// # Panics
    /// If there is no such candidate.
    pub fn add(&mut self, a: usize, b: usize, votes: f64) {
        assert!(a < self.candidates && b < self.candidates && a != b, "no pair ({a}, {b})");
        self.support[a * self.candidates + b] += votes;
    }

    fn add_tie(&mut self, a: usize, b: usize, votes: f64) {
        self.add(a, b, votes / 2.0);
        self.add(b, a, votes / 2.0);
    }

    /// The other candidates.
    fn others(&self, a: usize) -> impl Iterator<Item = usize> {
        (0..self.candidates).filter(move |&b| b != a)
    }
}

/// The candidates with the highest score.
///
/// ```
/// assert_eq!(hearken_stats::social_choice::best(&[1.0, 3.0, 3.0]), [1, 2]);
/// ```
pub fn best(scores: &[f64]) -> Vec<usize> {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (0..scores.len()).filter(|&i| scores[i] >= top).collect()
}

/// A rule that names winners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is the function of its name")]
pub enum Rule {
    Plurality,
    InstantRunoff,
    Borda,
    Copeland,
    Maximin,
    Schulze,
    RankedPairs,
    Kemeny,
}

/// The winners under every rule that a pair matrix suffices for, in the order of [`Rule`]: where they differ, the
/// group has no single will.
pub fn winners_by_pairs(matrix: &PairMatrix) -> Vec<(Rule, Vec<usize>)> {
    let top = |tiers: Vec<Vec<usize>>| tiers.into_iter().next().unwrap_or_default();
    vec![
        (Rule::Borda, best(&borda(matrix))),
        (Rule::Copeland, best(&copeland(matrix))),
        (Rule::Maximin, best(&maximin(matrix))),
        (Rule::Schulze, top(schulze(matrix))),
        (Rule::RankedPairs, top(ranked_pairs(matrix).tiers)),
        (Rule::Kemeny, kemeny(matrix).winners),
    ]
}

/// The winners under every rule, in the order of [`Rule`].
pub fn winners(profile: &Profile) -> Vec<(Rule, Vec<usize>)> {
    let mut winners = vec![
        (Rule::Plurality, best(&plurality(profile))),
        (Rule::InstantRunoff, instant_runoff(profile).winners),
    ];
    winners.extend(winners_by_pairs(&profile.pairs()));
    winners
}

/// Tiers of a transitive relation: again and again those that nobody left is above.
fn tiers(candidates: usize, above: impl Fn(usize, usize) -> bool) -> Vec<Vec<usize>> {
    let mut left: Vec<usize> = (0..candidates).collect();
    let mut tiers = Vec::new();
    while !left.is_empty() {
        let top: Vec<usize> =
            left.iter().copied().filter(|&a| !left.iter().any(|&b| above(b, a))).collect();
        assert!(!top.is_empty(), "a transitive relation has maximal elements");
        left.retain(|a| !top.contains(a));
        tiers.push(top);
    }
    tiers
}
