//! What a judge is worth: beside people, and beside itself with the answers the other way round.
//!
//! [`judge_reports`] reads verdicts of language models (`origin` is `ai`) on pairs, one or two of each pair, and says how often
//! they agree with people and people among themselves, whether probabilities are what they say, which biases there are, where people
//! should be asked, and what models win when few labels of people correct many of the judge.

mod bias;
mod seen;
mod win_rates;

use hearken_stats::agreement::{Weights, cohen};
use hearken_stats::calibration::{Prediction, expected_calibration_error};
use serde::{Deserialize, Serialize};

use crate::annotators::{HitCount, Majority, strict_plurality};
use crate::figure::Figure;
use crate::index::{Index, VoteChoice};
use crate::records::{JudgedItems, Options};
use seen::Seen;

pub use bias::{Leaning, Position};
pub use win_rates::WinRate;

/// Bins of the calibration.
const BINS: usize = 10;

/// Pairs that are named for people to look at, at most.
const UNCERTAIN_MAX: usize = 50;

/// All judges of some records, and the people beside them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeReports {
    /// How far people agree among themselves, on any pairs.
    pub people: AmongPeople,
    /// One per judge, in the order of their names.
    pub judges: Vec<JudgeReport>,
}

/// How far people agree among themselves: what can be asked of a judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AmongPeople {
    /// Pairs that people judged.
    pub pairs: usize,
    /// Of two decisive votes on a pair, how often they are the same.
    pub pairwise: Figure,
    /// How often a decisive vote is what most of the others decide: what `agreement` is for a judge.
    pub one_against_others: Figure,
}

/// One judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeReport {
    /// The name.
    pub name: String,
    /// Pairs that it judged.
    pub pairs: usize,
    /// Of these, ties: the mean of both orders is one half.
    pub ties: usize,
    /// Pairs that people judged too.
    pub labelled: usize,
    /// Among its decisive verdicts where people have a strict plurality that is no tie: how often it says the same.
    pub agreement: Figure,
    /// Cohen's kappa with that plurality; ties are verdicts.
    pub kappa: Figure,
    /// How far its probabilities are from the shares of people's votes, in ten bins.
    pub calibration_error: Figure,
    /// Mean squared distance of its probabilities from the shares of people's votes.
    pub brier: Figure,
    /// What is shown first.
    pub position: Position,
    /// The longer answer.
    pub length: Leaning,
    /// An answer without any text.
    pub empty: Leaning,
    /// An answer that is the same for several prompts.
    pub constant: Leaning,
    /// Its own answer.
    pub own: Leaning,
    /// What the numbers say against it, as sentences.
    pub findings: Vec<String>,
    /// Pairs that people should judge: those of which it is least sure, and that nobody has judged.
    pub ask_people: Vec<String>,
    /// How often each model wins, by people, by the judge, and by the judge corrected by people.
    pub win_rates: Vec<WinRate>,
}

/// Reports on every language model that judged.
pub fn judge_reports(records: &JudgedItems, options: &Options) -> JudgeReports {
    let index = Index::of_judges(records);
    let all = seen::of_judges(&index);
    let judges =
        all.iter().zip(&index.judges).map(|(seen, name)| report(&index, name, seen, options));
    JudgeReports { people: among_people(&index, options), judges: judges.collect() }
}

fn among_people(index: &Index<'_>, options: &Options) -> AmongPeople {
    let majority = Majority::new(&index.votes, index.annotators.len());
    let sum = majority.decisive.iter().fold(HitCount::default(), |sum, score| HitCount {
        hits: sum.hits + score.hits,
        n: sum.n + score.n,
    });
    let mut decisive = vec![Vec::new(); index.votes.units.len()];
    for vote in index.votes.first().filter(|vote| vote.choice != VoteChoice::Tie) {
        decisive[vote.unit].push(vote.choice);
    }
    let rounds = options.bootstrap_rounds;
    let pairwise =
        hearken_stats::agreement::pairwise_agreement(&decisive, rounds, &mut options.rng(50));
    AmongPeople {
        pairs: index.votes.units.len(),
        pairwise: pairwise.into(),
        one_against_others: sum.figure("No pair has the votes of two people."),
    }
}

fn report(index: &Index<'_>, name: &str, seen: &[Seen], options: &Options) -> JudgeReport {
    const WITHOUT_PEOPLE: &str = "No pair of it was judged by people.";
    let rounds = options.bootstrap_rounds;
    let labelled: Vec<(&Seen, [u32; 3])> =
        seen.iter().filter_map(|one| Some((one, one.people?))).collect();
    let mut agreement = HitCount::default();
    let mut kappa_units = Vec::new();
    for (one, counts) in &labelled {
        let Some(most) = strict_plurality(*counts) else { continue };
        let said = one.choice() as usize;
        kappa_units.push([said, most]);
        let tie = VoteChoice::Tie as usize;
        if most != tie && said != tie {
            agreement.count(most == said);
        }
    }
    let kappa = cohen(&kappa_units, 3, Weights::Unweighted, rounds, &mut options.rng(51));
    let predictions: Vec<Prediction> = labelled
        .iter()
        .map(|(one, counts)| Prediction { probability: one.probability, outcome: share(*counts) })
        .collect();
    let calibration = expected_calibration_error(&predictions, BINS, rounds, &mut options.rng(52));
    let squares: Vec<f64> =
        predictions.iter().map(|one| (one.probability - one.outcome).powi(2)).collect();
    let constant = bias::constant_texts(index.items);
    let mut report = JudgeReport {
        name: name.to_owned(),
        pairs: seen.len(),
        ties: seen.iter().filter(|one| one.choice() == VoteChoice::Tie).count(),
        labelled: labelled.len(),
        agreement: agreement.figure("No decisive verdict where people have a strict plurality."),
        kappa: kappa.into(),
        calibration_error: Figure::new(calibration, WITHOUT_PEOPLE),
        brier: Figure::new(hearken_stats::mean::mean(&squares), WITHOUT_PEOPLE),
        position: Position::of(seen),
        length: Leaning::of(seen, |one| bias::longer(index, one), "Answers are equally long."),
        empty: Leaning::of(seen, |one| bias::empty(index, one), "No answer is empty."),
        constant: Leaning::of(
            seen,
            |one| bias::constant(index, one, &constant),
            "No answer stands for several prompts.",
        ),
        own: Leaning::of(
            seen,
            |one| bias::own(index, one, name),
            "No pair has an answer that is known to be its own.",
        ),
        findings: Vec::new(),
        ask_people: ask_people(index, seen),
        win_rates: win_rates::win_rates(index, seen),
    };
    report.findings = bias::findings(&report);
    report
}

/// The share of votes for the first, ties as halves.
fn share([first, tie, second]: [u32; 3]) -> f64 {
    (f64::from(first) + 0.5 * f64::from(tie)) / f64::from(first + tie + second)
}

fn ask_people(index: &Index<'_>, seen: &[Seen]) -> Vec<String> {
    let mut open: Vec<&Seen> = seen.iter().filter(|one| one.people.is_none()).collect();
    open.sort_by(|a, b| a.certainty().total_cmp(&b.certainty()));
    let names = open.into_iter().take(UNCERTAIN_MAX);
    names.map(|one| index.items[one.item].id.clone()).collect()
}

#[cfg(test)]
mod tests;
