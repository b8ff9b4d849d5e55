//! Whether annotators agree, raw and beyond chance.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use hearken_data::feedback::Verdict;
use hearken_stats::Estimate;
use hearken_stats::agreement::{
    AgreementError, Coefficient, Distance, Table, Weights, cohen, krippendorff,
};
use serde::{Deserialize, Serialize};

use crate::figure::Figure;
use crate::index::{Index, VoteChoice, Votes};
use crate::records::Options;

/// Agreement of annotators by kind of verdict; of an annotator's verdicts on the same the first counts. Intervals are percentiles
/// of a bootstrap over what was judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Which of two is better; a ranking counts as all its pairs.
    pub comparisons: Comparisons,
    /// Labels of steps: bad, neutral, good.
    pub steps: Graded,
    /// Approvals: bad, good.
    pub approvals: Graded,
    /// Ratings, by axis; the interval is over candidates.
    pub ratings: BTreeMap<String, AxisAgreement>,
    /// What a reader should know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Agreement on which of two is better. Two bad answers count as equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparisons {
    /// Pairs of candidates that two or more judged.
    pub judged_twice: usize,
    /// Share of equal verdicts among pairs of verdicts on the same candidates.
    pub raw: Figure,
    /// The same among verdicts that are no ties.
    pub raw_decisive: Figure,
    /// Cohen's kappa; where exactly two annotators judged.
    pub cohen: Figure,
    /// Fleiss' kappa, over the pairs of candidates with [`Comparisons::raters`] verdicts.
    pub fleiss: Figure,
    /// Verdicts that most pairs of candidates have; 0 where there are none.
    pub raters: usize,
    /// Krippendorff's alpha on first, tie, second as names.
    pub alpha_nominal: Figure,
    /// The same as an order.
    pub alpha_ordinal: Figure,
    /// The same as 0, ½, 1.
    pub alpha_interval: Figure,
    /// Krippendorff's interval alpha on the signed strength, where every verdict has one.
    pub alpha_strength: Figure,
}

/// Agreement on ordered labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graded {
    /// Units that two or more judged.
    pub judged_twice: usize,
    /// Share of equal labels among pairs on the same unit.
    pub raw: Figure,
    /// Krippendorff's alpha on names.
    pub alpha_nominal: Figure,
    /// Krippendorff's alpha on an order.
    pub alpha_ordinal: Figure,
}

/// Agreement on one axis of ratings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AxisAgreement {
    /// Candidates that two or more rated.
    pub judged_twice: usize,
    /// Krippendorff's alpha on an order.
    pub alpha_ordinal: Figure,
    /// Krippendorff's alpha on a scale.
    pub alpha_interval: Figure,
}

pub(crate) const NOT_TWICE: &str = "Nothing was judged by two annotators.";

pub(crate) fn agreement(index: &Index<'_>, options: &Options) -> Agreement {
    let mut steps: HashMap<(usize, usize), Vec<u32>> = HashMap::new();
    let mut approvals: HashMap<usize, Vec<u32>> = HashMap::new();
    let mut first = FirstOnly::default();
    for entry in index.by_people() {
        match &entry.judgement.verdict {
            Verdict::Steps { labels } => {
                for (step, label) in labels.iter().enumerate() {
                    if let Some(label) = label
                        && first.of(entry.annotator, (entry.item, step))
                    {
                        let counts = steps.entry((entry.item, step)).or_insert_with(|| vec![0; 3]);
                        // −1, 0, 1 in this order.
                        counts[usize::try_from(label + 1).expect("a checked label")] += 1;
                    }
                }
            }
            Verdict::Approval { good } if first.of(entry.annotator, (entry.item, APPROVAL)) => {
                approvals.entry(entry.item).or_insert_with(|| vec![0; 2])[usize::from(*good)] += 1;
            }
            _ => {}
        }
    }
    let mut agreement = Agreement {
        comparisons: comparisons(index, options),
        steps: graded(&Table::new(3, steps.into_values()), &[-1.0, 0.0, 1.0], options, 2),
        approvals: graded(&Table::new(2, approvals.into_values()), &[0.0, 1.0], options, 3),
        ratings: ratings(index, options),
        notes: Vec::new(),
    };
    agreement.notes = notes(index, &agreement);
    agreement
}

/// Which verdicts are the first of an annotator on something.
#[derive(Default)]
struct FirstOnly<T>(HashSet<(usize, T)>);

impl<T: std::hash::Hash + Eq> FirstOnly<T> {
    fn of(&mut self, annotator: usize, what: T) -> bool {
        self.0.insert((annotator, what))
    }
}

/// The place of an approval among the numbers of steps.
const APPROVAL: usize = usize::MAX;

fn notes(index: &Index<'_>, agreement: &Agreement) -> Vec<String> {
    let mut notes = Vec::new();
    let repeated = index.votes.list.iter().filter(|vote| vote.repeated).count();
    if repeated > 0 {
        notes.push(format!(
            "{repeated} verdicts on two candidates are by annotators who had judged the same before; here the first counts."
        ));
    }
    if agreement.figures().any(|figure| figure.known().is_some_and(Estimate::is_unbounded)) {
        notes.push(UNBOUNDED.to_owned());
    }
    notes
}

const UNBOUNDED: &str = "An interval is unbounded where drawing the same units again gives the same each time, or too often \
                         nothing to compare.";

fn comparisons(index: &Index<'_>, options: &Options) -> Comparisons {
    const SCALE: [f64; 3] = [0.0, 0.5, 1.0];
    let votes = &index.votes;
    let table = Table::new(3, votes.units.iter().map(|unit| unit.annotators.to_vec()));
    let raters = table.usual_raters();
    let coefficients = [
        Coefficient::Raw,
        Coefficient::RawWithout(VoteChoice::Tie as usize),
        Coefficient::Alpha(Distance::Nominal, &SCALE),
        Coefficient::Alpha(Distance::Ordinal, &SCALE),
        Coefficient::Alpha(Distance::Interval, &SCALE),
        Coefficient::Fleiss { raters: raters.unwrap_or(2) },
    ];
    let rounds = options.bootstrap_rounds;
    let mut found = table.estimates(&coefficients, rounds, &mut options.rng(1)).into_iter();
    let mut next = |why: &str| figure(found.next().expect("one result per coefficient"), why);
    Comparisons {
        judged_twice: table.units(),
        raw: next(NOT_TWICE),
        raw_decisive: next("No two verdicts on the same candidates prefer one of them."),
        alpha_nominal: next(NOT_TWICE),
        alpha_ordinal: next(NOT_TWICE),
        alpha_interval: next(NOT_TWICE),
        fleiss: next(NOT_TWICE),
        raters: raters.unwrap_or(0),
        cohen: cohens(index, options),
        alpha_strength: strengths(votes, options),
    }
}

/// Cohen's kappa of two annotators over what both judged; the first verdict of each counts.
fn cohens(index: &Index<'_>, options: &Options) -> Figure {
    if index.annotators.len() != 2 {
        let n = index.annotators.len();
        return Figure::missing(format!(
            "Cohen's kappa is about exactly two annotators; here {n} judged."
        ));
    }
    let mut both: BTreeMap<usize, [Option<usize>; 2]> = BTreeMap::new();
    for vote in index.votes.first() {
        both.entry(vote.unit).or_default()[vote.annotator] = Some(vote.choice as usize);
    }
    let pairs: Vec<[usize; 2]> = both.into_values().filter_map(|[a, b]| Some([a?, b?])).collect();
    let rounds = options.bootstrap_rounds;
    let kappa = cohen(&pairs, 3, Weights::Unweighted, rounds, &mut options.rng(2));
    figure(kappa, "The two annotators judged nothing in common.")
}

/// The estimate, or `alone` where no unit has two values.
pub(crate) fn figure(found: Result<Estimate, AgreementError>, alone: &str) -> Figure {
    match found {
        Err(AgreementError::NoPairableUnits) => Figure::missing(alone),
        found => found.into(),
    }
}

/// Alpha on strength × direction; ties are 0.
fn strengths(votes: &Votes, options: &Options) -> Figure {
    let decisive = || votes.decisive();
    if decisive().next().is_none() || decisive().any(|vote| vote.strength.is_none()) {
        return Figure::missing("Not every verdict has a strength.");
    }
    let mut units = vec![Vec::new(); votes.units.len()];
    for vote in votes.first() {
        let sign = [1.0, 0.0, -1.0][vote.choice as usize];
        units[vote.unit].push(sign * vote.strength.unwrap_or(0.0));
    }
    alpha(&units, Distance::Interval, options, 3)
}

fn graded(table: &Table, scale: &[f64], options: &Options, purpose: u64) -> Graded {
    let coefficients = [
        Coefficient::Raw,
        Coefficient::Alpha(Distance::Nominal, scale),
        Coefficient::Alpha(Distance::Ordinal, scale),
    ];
    let rounds = options.bootstrap_rounds;
    let found = table.estimates(&coefficients, rounds, &mut options.rng(10 + purpose));
    let mut found = found.into_iter().map(|e| figure(e, NOT_TWICE));
    let mut next = || found.next().expect("one result per coefficient");
    Graded {
        judged_twice: table.units(),
        raw: next(),
        alpha_nominal: next(),
        alpha_ordinal: next(),
    }
}

fn ratings(index: &Index<'_>, options: &Options) -> BTreeMap<String, AxisAgreement> {
    let mut axes: BTreeMap<&str, BTreeMap<(usize, usize), Vec<f64>>> = BTreeMap::new();
    let mut first: BTreeSet<(&str, usize, usize, usize)> = BTreeSet::new();
    for entry in index.by_people() {
        if let Verdict::Ratings { axes: rated } = &entry.judgement.verdict {
            for (axis, values) in rated {
                let units = axes.entry(axis).or_default();
                for (candidate, value) in values.iter().enumerate() {
                    let Some(value) = value else { continue };
                    if first.insert((axis, entry.annotator, entry.item, candidate)) {
                        units.entry((entry.item, candidate)).or_default().push(*value);
                    }
                }
            }
        }
    }
    let rated = |(i, (axis, units)): (usize, (&str, BTreeMap<_, Vec<f64>>))| {
        let units: Vec<Vec<f64>> = units.into_values().filter(|unit| unit.len() >= 2).collect();
        let purpose = 20 + 2 * i as u64;
        let rated = AxisAgreement {
            judged_twice: units.len(),
            alpha_ordinal: alpha(&units, Distance::Ordinal, options, purpose),
            alpha_interval: alpha(&units, Distance::Interval, options, purpose + 1),
        };
        (axis.to_owned(), rated)
    };
    axes.into_iter().enumerate().map(rated).collect()
}

/// Alpha of values that are no categories. Rounds are fewer where there are more units than a thousand rounds can
/// read in seconds.
fn alpha(units: &[Vec<f64>], distance: Distance, options: &Options, purpose: u64) -> Figure {
    const VALUES_READ_MAX: usize = 20_000_000;
    let values: usize = units.iter().map(Vec::len).sum();
    let rounds = options.bootstrap_rounds.min(VALUES_READ_MAX / values.max(1));
    figure(krippendorff(units, distance, rounds, &mut options.rng(30 + purpose)), NOT_TWICE)
}

impl Agreement {
    /// Every figure of the section.
    fn figures(&self) -> impl Iterator<Item = &Figure> {
        let c = &self.comparisons;
        let comparisons = [
            &c.raw,
            &c.raw_decisive,
            &c.cohen,
            &c.fleiss,
            &c.alpha_nominal,
            &c.alpha_ordinal,
            &c.alpha_interval,
            &c.alpha_strength,
        ];
        let graded = [&self.steps, &self.approvals]
            .into_iter()
            .flat_map(|g| [&g.raw, &g.alpha_nominal, &g.alpha_ordinal]);
        let rated =
            self.ratings.values().flat_map(|rated| [&rated.alpha_ordinal, &rated.alpha_interval]);
        comparisons.into_iter().chain(graded).chain(rated)
    }
}
