//! Each annotator: how many, how well, how fast, and what is conspicuous.
//!
//! A number is compared with those of all others together. What is *conspicuous* passed a test at [`LEVEL`], corrected for
//! the number of annotators; a page of honest annotators shows any at all with a probability of at most [`LEVEL`] per
//! kind of test. Speed alone has no test but a fixed bound.

mod conspicuous;
mod gold;
mod majority;
mod sequential;
mod skill;
mod speed;

use hearken_stats::significance::{self, Significance};
use hearken_stats::{proportion, side_bias};
use serde::{Deserialize, Serialize};

pub use conspicuous::{Reason, ReasonKind};
pub use sequential::Sequential;
pub use speed::Speed;

use crate::figure::{Figure, Test};
use crate::index::{Index, Vote};
use gold::Gold;
pub(crate) use majority::{Majority, strict_plurality};
pub(crate) use skill::{Skills, skills};

/// The level of every test that makes an annotator conspicuous, after correction.
pub const LEVEL: f64 = 0.01;

/// All annotators.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Annotators {
    /// [`LEVEL`].
    pub level: f64,
    /// Share of left among all decisive votes whose sides are known.
    pub left_share: Figure,
    /// Its test against one half; over all votes, not corrected.
    pub left_test: Option<Test>,
    /// Share of verdicts that equal the majority of the others', over all annotators.
    pub agreement: Figure,
    /// One per annotator, in the order of their names.
    pub list: Vec<Annotator>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// One annotator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Annotator {
    /// The pseudonym.
    pub name: String,
    /// Judgements that count.
    pub judgements: usize,
    /// Share of verdicts on two candidates that equal the strict majority of all others' (left, tie, right).
    pub agreement: Figure,
    /// The test of it against all others' share: small where the annotator agrees less.
    pub agreement_test: Option<Test>,
    /// The same among verdicts without ties, against the majority of the others' without ties.
    pub agreement_decisive: Figure,
    /// Share of ties among verdicts on two candidates.
    pub tie_share: Figure,
    /// Share of left among decisive votes whose sides are known.
    pub left_share: Figure,
    /// Its exact test against one half, corrected for the number of annotators.
    pub left_test: Option<Test>,
    /// Share of decisive votes for the longer answer.
    pub longer_share: Figure,
    /// The test of it against all others' share.
    pub longer_test: Option<Test>,
    /// Time per judgement.
    pub speed: Speed,
    /// Share of right verdicts on gold items.
    pub gold: Figure,
    /// The test of it against all others' share.
    pub gold_test: Option<Test>,
    /// Share of verdicts that say what the final verdict on the item says.
    pub final_agreement: Figure,
    /// Dawid and Skene's model: the mean probability of what the annotator said, given what all others said.
    pub skill: Figure,
    /// A test that watches the votes as they come.
    pub sequential: Sequential,
    /// Why the annotator is conspicuous; empty if not.
    pub conspicuous: Vec<Reason>,
}

/// Hits and trials of one annotator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HitCount {
    pub(crate) hits: u32,
    pub(crate) n: u32,
}

impl HitCount {
    pub(crate) fn count(&mut self, hit: bool) {
        self.hits += u32::from(hit);
        self.n += 1;
    }

    pub(crate) fn figure(self, why: &str) -> Figure {
        Figure::new(proportion::wilson(f64::from(self.hits), self.n as usize), why)
    }

    fn sum(scores: &[Self]) -> Self {
        let add = |sum: Self, s: &Self| Self { hits: sum.hits + s.hits, n: sum.n + s.n };
        scores.iter().fold(Self::default(), add)
    }

    /// All trials of the others.
    fn others(self, all: Self) -> Self {
        Self { hits: all.hits - self.hits, n: all.n - self.n }
    }
}

pub(crate) fn annotators(index: &Index<'_>, skills: &Skills) -> Annotators {
    let votes = VoteScores::new(index);
    let speeds = speed::speeds(index);
    let gold = Gold::new(index);
    let decided = gold::against_finals(index);
    let mut judgements = vec![0; index.annotators.len()];
    index.by_people().for_each(|entry| judgements[entry.annotator] += 1);
    let sequential = sequential::sequential(index);
    let tests = Tests::new(&votes, &gold);
    let annotator = |k: usize| Annotator {
        name: index.annotators[k].to_owned(),
        judgements: judgements[k],
        agreement: votes.majority.all[k].figure(NO_OTHERS),
        agreement_test: tests.agreement[k],
        agreement_decisive: votes.majority.decisive[k].figure(NO_OTHERS),
        tie_share: votes.ties[k].figure("The annotator judged no two candidates."),
        left_share: votes.left[k].figure(NO_SIDES),
        left_test: tests.left[k],
        longer_share: votes.longer[k].figure("No decisive vote on answers of different length."),
        longer_test: tests.longer[k],
        speed: speeds[k].clone(),
        gold: gold.scores[k].figure("The annotator judged no gold item."),
        gold_test: tests.gold[k],
        final_agreement: decided[k]
            .figure("No item that the annotator judged has a final verdict."),
        skill: skills.figure(k),
        sequential: sequential[k].clone(),
        conspicuous: Vec::new(),
    };
    let mut list: Vec<Annotator> = (0..index.annotators.len()).map(annotator).collect();
    conspicuous::mark(&mut list, &votes, &gold);
    let all_left = HitCount::sum(&votes.left);
    Annotators {
        level: LEVEL,
        left_share: all_left.figure(NO_SIDES),
        left_test: Test::family(&[sided(all_left)])[0],
        agreement: HitCount::sum(&votes.majority.all).figure(NO_OTHERS),
        notes: notes(index, skills),
        list,
    }
}

const NO_OTHERS: &str = "No verdict on candidates that others judged with a majority.";
const NO_SIDES: &str = "No decisive vote whose sides are known.";

fn notes(index: &Index<'_>, skills: &Skills) -> Vec<String> {
    let mut notes = Vec::new();
    match index.annotators.len() {
        0 => notes.push("Nobody has judged.".into()),
        1 => notes.push("One annotator judged: there is nobody to compare with.".into()),
        _ => {}
    }
    notes.extend(skills.note.clone());
    notes
}

/// Scores that come from votes on two candidates, per annotator.
pub(crate) struct VoteScores {
    majority: Majority,
    ties: Vec<HitCount>,
    left: Vec<HitCount>,
    longer: Vec<HitCount>,
}

impl VoteScores {
    fn new(index: &Index<'_>) -> Self {
        let n = index.annotators.len();
        let mut scores = Self {
            majority: Majority::new(&index.votes, n),
            ties: vec![HitCount::default(); n],
            left: vec![HitCount::default(); n],
            longer: vec![HitCount::default(); n],
        };
        let longer: Vec<Option<bool>> = index
            .votes
            .units
            .iter()
            .map(|unit| crate::features::first_longer(index, unit))
            .collect();
        for vote in &index.votes.list {
            let k = vote.annotator;
            scores.ties[k].count(vote.choice == crate::index::VoteChoice::Tie);
            if let Some(left) = vote.for_left() {
                scores.left[k].count(left);
            }
            if let Some(hit) = for_longer(vote, longer[vote.unit]) {
                scores.longer[k].count(hit);
            }
        }
        scores
    }
}

/// Whether a decisive vote went to the longer answer, where one is longer.
fn for_longer(vote: &Vote, first_longer: Option<bool>) -> Option<bool> {
    use crate::index::VoteChoice;
    match vote.choice {
        VoteChoice::First => first_longer,
        VoteChoice::Second => first_longer.map(|first| !first),
        VoteChoice::Tie => None,
    }
}

/// Tests of each annotator, corrected within each column.
struct Tests {
    agreement: Vec<Option<Test>>,
    left: Vec<Option<Test>>,
    longer: Vec<Option<Test>>,
    gold: Vec<Option<Test>>,
}

impl Tests {
    fn new(votes: &VoteScores, gold: &Gold) -> Self {
        let left: Vec<_> = votes.left.iter().map(|&score| sided(score)).collect();
        Self {
            agreement: below_others(&votes.majority.all),
            left: Test::family(&left),
            longer: unlike_others(&votes.longer),
            gold: below_others(&gold.scores),
        }
    }
}

fn sided(score: HitCount) -> Option<Significance> {
    let sides = side_bias::Sides { left: score.hits, right: score.n - score.hits };
    sides.bias().map(|bias| bias.significance)
}

/// Exact tests of each score against the share of all others: small p where it is lower.
fn below_others(scores: &[HitCount]) -> Vec<Option<Test>> {
    let all = HitCount::sum(scores);
    let test = |score: &HitCount| {
        let others = score.others(all);
        let share = f64::from(others.hits) / f64::from(others.n.max(1));
        significance::at_most(u64::from(score.hits), u64::from(score.n), share)
            .filter(|_| others.n > 0)
    };
    Test::family(&scores.iter().map(test).collect::<Vec<_>>())
}

/// Two-sided tests of each score against that of all others.
fn unlike_others(scores: &[HitCount]) -> Vec<Option<Test>> {
    let all = HitCount::sum(scores);
    let share = |s: HitCount| proportion::Share { hits: f64::from(s.hits), n: s.n as usize };
    let test = |&s: &HitCount| {
        share(s).minus(share(s.others(all))).map(|difference| difference.significance)
    };
    Test::family(&scores.iter().map(test).collect::<Vec<_>>())
}
