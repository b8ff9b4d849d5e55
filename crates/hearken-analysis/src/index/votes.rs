//! Verdicts on two candidates, whatever the task they come from.

use std::collections::{HashMap, HashSet};

use hearken_data::feedback::{Item, Judgement, Strength, Verdict};

use super::CountedJudgement;

/// What a vote says of the first and the second candidate of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum VoteChoice {
    First,
    Tie,
    Second,
}

/// One annotator's verdict on two candidates of an item: a pairwise verdict, or two places of a ranking.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vote {
    /// Position in [`Votes::units`].
    pub(crate) unit: usize,
    pub(crate) annotator: usize,
    pub(crate) choice: VoteChoice,
    /// The probability that the first is better: as a soft verdict has it, else 1, ½ or 0.
    pub(crate) probability: f64,
    /// How strongly, in (0, 1], where it was asked.
    pub(crate) strength: Option<f64>,
    /// Whether the first candidate was shown on the left; `None` where it is not known, or in a ranking.
    pub(crate) first_left: Option<bool>,
    /// When, in milliseconds; 0 where it is not known.
    pub(crate) at: i64,
    /// Whether the annotator had judged the unit before. What one person says twice is no agreement between two.
    pub(crate) repeated: bool,
}

/// Two candidates of an item, and how often each choice was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    pub(crate) item: usize,
    pub(crate) first: usize,
    pub(crate) second: usize,
    /// Votes by [`VoteChoice`] in its order.
    pub(crate) counts: [u32; 3],
    /// Annotators by their first choice.
    pub(crate) annotators: [u32; 3],
}

impl Unit {
    /// Whether two annotators judged it.
    pub(crate) fn judged_twice(&self) -> bool {
        self.annotators.iter().sum::<u32>() >= 2
    }
}

/// Votes with their units.
#[derive(Default)]
pub(crate) struct Votes {
    pub(crate) units: Vec<Unit>,
    /// In the order of the judgements.
    pub(crate) list: Vec<Vote>,
    /// Rankings of more than two among the judgements.
    pub(crate) rankings: usize,
}

impl Votes {
    pub(crate) fn new<'a>(
        items: &[Item],
        entries: impl Iterator<Item = &'a CountedJudgement<'a>>,
    ) -> Self {
        let mut votes = Self::default();
        let mut units: HashMap<(usize, usize, usize), usize> = HashMap::new();
        let mut seen: HashSet<(usize, usize)> = HashSet::new();
        for entry in entries {
            let pairs = pairs_of(&entry.judgement.verdict);
            votes.rankings += usize::from(pairs.len() > 1);
            let pairwise = items[entry.item].candidates.len() == 2;
            for (first, second, choice, strength) in pairs {
                let next = votes.units.len();
                let unit = *units.entry((entry.item, first, second)).or_insert(next);
                if unit == next {
                    let (item, none) = (entry.item, [0; 3]);
                    votes.units.push(Unit { item, first, second, counts: none, annotators: none });
                }
                let repeated = !seen.insert((unit, entry.annotator));
                votes.units[unit].counts[choice as usize] += 1;
                votes.units[unit].annotators[choice as usize] += u32::from(!repeated);
                votes.list.push(Vote {
                    unit,
                    annotator: entry.annotator,
                    choice,
                    probability: probability(&entry.judgement.verdict, choice),
                    strength,
                    first_left: first_left(entry.judgement, first).filter(|_| pairwise),
                    at: entry.judgement.at,
                    repeated,
                });
            }
        }
        votes
    }

    /// The first vote of each annotator on each unit.
    pub(crate) fn first(&self) -> impl Iterator<Item = &Vote> {
        self.list.iter().filter(|vote| !vote.repeated)
    }

    /// Votes for one or the other.
    pub(crate) fn decisive(&self) -> impl Iterator<Item = &Vote> {
        self.list.iter().filter(|vote| vote.choice != VoteChoice::Tie)
    }
}

impl Vote {
    /// Whether a decisive vote went to what was shown on the left.
    pub(crate) fn for_left(&self) -> Option<bool> {
        match self.choice {
            VoteChoice::First => self.first_left,
            VoteChoice::Second => self.first_left.map(|first| !first),
            VoteChoice::Tie => None,
        }
    }
}

fn probability(verdict: &Verdict, choice: VoteChoice) -> f64 {
    match (verdict, choice) {
        (Verdict::Soft { probability }, _) => *probability,
        (_, VoteChoice::First) => 1.0,
        (_, VoteChoice::Tie) => 0.5,
        (_, VoteChoice::Second) => 0.0,
    }
}

/// Whether candidate `first` was shown before the other of two.
fn first_left(judgement: &Judgement, first: usize) -> Option<bool> {
    judgement.presented.first().map(|&left| left == first)
}

pub(crate) type PairVote = (usize, usize, VoteChoice, Option<f64>);

/// What a verdict says about pairs of candidates, the lower number first. Two bad answers are as good as each other; a soft label
/// is a vote for the more probable side.
pub(crate) fn pairs_of(verdict: &Verdict) -> Vec<PairVote> {
    match verdict {
        Verdict::Preferred { candidate, strength } => {
            let choice = if *candidate == 0 { VoteChoice::First } else { VoteChoice::Second };
            vec![(0, 1, choice, strength.map(Strength::share))]
        }
        Verdict::Tie | Verdict::BothBad => vec![(0, 1, VoteChoice::Tie, None)],
        Verdict::Soft { probability } => {
            let choice = match probability.total_cmp(&0.5) {
                std::cmp::Ordering::Greater => VoteChoice::First,
                std::cmp::Ordering::Equal => VoteChoice::Tie,
                std::cmp::Ordering::Less => VoteChoice::Second,
            };
            vec![(0, 1, choice, None)]
        }
        Verdict::Ranking { order } => pairs_of_order(order),
        Verdict::CantTell { .. }
        | Verdict::Ratings { .. }
        | Verdict::Steps { .. }
        | Verdict::Approval { .. } => Vec::new(),
    }
}

fn pairs_of_order(order: &[Vec<usize>]) -> Vec<PairVote> {
    let mut pairs = Vec::new();
    for (rank, tier) in order.iter().enumerate() {
        for (i, &a) in tier.iter().enumerate() {
            let equals = tier[..i].iter().map(|&b| (a.min(b), a.max(b), VoteChoice::Tie, None));
            let worse = order[rank + 1..].iter().flatten().map(|&b| {
                let choice = if a < b { VoteChoice::First } else { VoteChoice::Second };
                (a.min(b), a.max(b), choice, None)
            });
            pairs.extend(equals.chain(worse));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ranking_is_all_its_pairs() {
        let mut pairs = pairs_of_order(&[vec![2], vec![0, 3], vec![1]]);
        pairs.sort_by_key(|p| (p.0, p.1));
        let choices: Vec<_> = pairs.iter().map(|&(a, b, choice, _)| (a, b, choice)).collect();
        assert_eq!(
            choices,
            [
                (0, 1, VoteChoice::First),
                (0, 2, VoteChoice::Second),
                (0, 3, VoteChoice::Tie),
                (1, 2, VoteChoice::Second),
                (1, 3, VoteChoice::Second),
                (2, 3, VoteChoice::First),
            ]
        );
    }

    #[test]
    fn a_soft_label_votes_for_the_more_probable_side() {
        let choice = |probability| pairs_of(&Verdict::Soft { probability })[0].2;
        assert_eq!(
            [choice(0.9), choice(0.5), choice(0.1)],
            [VoteChoice::First, VoteChoice::Tie, VoteChoice::Second]
        );
    }
}
