//! Language models that judged the same items as people.

use std::collections::BTreeMap;

use hearken_stats::proportion;
use hearken_stats::side_bias::{Sides, SwapCounts};
use serde::{Deserialize, Serialize};

use crate::annotators::{HitCount, strict_plurality};
use crate::figure::{Figure, Test};
use crate::index::{Index, Vote, VoteChoice};

/// All judges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judges {
    /// One per judge, in the order of their names.
    pub list: Vec<Judge>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// One judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judge {
    /// The name.
    pub name: String,
    /// Verdicts on two candidates.
    pub votes: usize,
    /// Of these, ties.
    pub ties: usize,
    /// How often the judge agrees with people: among its decisive verdicts on candidates where strictly more people chose one side
    /// than the other, and than a tie.
    pub agreement: Figure,
    /// Share of left among decisive verdicts whose sides are known.
    pub left_share: Figure,
    /// Its test against one half, corrected for the number of judges.
    pub left_test: Option<Test>,
    /// Share of equal verdicts among candidates that the judge saw in both orders.
    pub swap_consistency: Figure,
}

pub(crate) fn judges(index: &Index<'_>) -> Judges {
    let people: BTreeMap<(usize, usize, usize), [u32; 3]> = index
        .votes
        .units
        .iter()
        .map(|unit| ((unit.item, unit.first, unit.second), unit.annotators))
        .collect();
    let tallies: Vec<Tally> =
        (0..index.judges.len()).map(|judge| Tally::new(index, &people, judge)).collect();
    let bias = |t: &Tally| {
        let sides = Sides { left: t.left.hits, right: t.left.n - t.left.hits };
        sides.bias().map(|bias| bias.significance)
    };
    let tests = Test::family(&tallies.iter().map(bias).collect::<Vec<_>>());
    let share =
        |s: HitCount, why| Figure::new(proportion::wilson(f64::from(s.hits), s.n as usize), why);
    let judge = |(j, t): (usize, &Tally)| Judge {
        name: index.judges[j].to_owned(),
        votes: t.votes,
        ties: t.ties,
        agreement: share(t.agreement, "No verdict where people have a strict majority."),
        left_share: share(t.left, "No decisive vote whose sides are known."),
        left_test: tests[j],
        swap_consistency: Figure::new(
            t.swaps.consistency(),
            "The judge saw no candidates in both orders.",
        ),
    };
    let notes = if index.judges.is_empty() {
        vec!["No language model judged beside people.".to_owned()]
    } else {
        Vec::new()
    };
    Judges { list: tallies.iter().enumerate().map(judge).collect(), notes }
}

#[derive(Default)]
struct Tally {
    votes: usize,
    ties: usize,
    agreement: HitCount,
    left: HitCount,
    swaps: SwapCounts,
}

impl Tally {
    fn new(
        index: &Index<'_>,
        people: &BTreeMap<(usize, usize, usize), [u32; 3]>,
        judge: usize,
    ) -> Self {
        let mut tally = Self::default();
        let mut by_unit: BTreeMap<usize, Vec<&Vote>> = BTreeMap::new();
        for vote in index.judge_votes.list.iter().filter(|vote| vote.annotator == judge) {
            tally.votes += 1;
            tally.ties += usize::from(vote.choice == VoteChoice::Tie);
            if let Some(left) = vote.for_left() {
                tally.left.count(left);
            }
            let unit = index.judge_votes.units[vote.unit];
            let counts = people.get(&(unit.item, unit.first, unit.second)).copied();
            let most = counts.and_then(strict_plurality);
            let decisive =
                |&most: &usize| most != VoteChoice::Tie as usize && vote.choice != VoteChoice::Tie;
            if let Some(most) = most.filter(decisive) {
                tally.agreement.count(most == vote.choice as usize);
            }
            by_unit.entry(vote.unit).or_default().push(vote);
        }
        for votes in by_unit.values() {
            let shown = |left: bool| votes.iter().find(|vote| vote.first_left == Some(left));
            if let (Some(one), Some(other)) = (shown(true), shown(false)) {
                let count = match (one.choice, other.choice) {
                    (a, b) if a == b => &mut tally.swaps.consistent,
                    (VoteChoice::First, VoteChoice::Second) => &mut tally.swaps.first,
                    (VoteChoice::Second, VoteChoice::First) => &mut tally.swaps.second,
                    _ => &mut tally.swaps.mixed,
                };
                *count += 1;
            }
        }
        tally
    }
}
