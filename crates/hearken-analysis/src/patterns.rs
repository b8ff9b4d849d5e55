//! What predicts the choice: each feature alone, and all together.
//!
//! ```text
//! P(first preferred) = σ(β·(x_first − x_second)/SD)
//! ```
//!
//! There is no intercept, because which candidate is first means nothing. SD is that of the differences about 0. The votes on two
//! candidates are one observation for the interval (they depend on the same texts); the share of wins counts votes.

use hearken_stats::bradley_terry::Covariance;
use hearken_stats::logistic::{self, Observation};
use hearken_stats::proportion;
use hearken_stats::significance::{self, Significance};
use rand::seq::index::sample;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::features::{self, FEATURES, Feature};
use crate::figure::{Figure, Test};
use crate::index::{Index, Unit, VoteChoice};
use crate::records::Options;

/// Which features predict the choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Patterns {
    /// Pairs of candidates with text and at least one decisive vote that were read.
    pub pairs: usize,
    /// Decisive votes on them.
    pub votes: usize,
    /// One per feature, in the order of their names' list.
    pub features: Vec<Pattern>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// One feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pattern {
    /// The name.
    pub feature: String,
    /// What it is.
    pub description: String,
    /// β alone: log-odds per standard deviation of the difference.
    pub effect: Figure,
    /// Its test, corrected for all features.
    pub test: Option<Test>,
    /// β in the regression on all features.
    pub joint_effect: Figure,
    /// Its test, corrected for all features.
    pub joint_test: Option<Test>,
    /// Share of decisive votes for the side that has more of it, where one has.
    pub more_wins: Figure,
    /// Its test against one half, corrected for all features; all votes on a pair are one observation.
    pub more_wins_test: Option<Test>,
    /// Decisive votes for the side that has more.
    pub wins: usize,
    /// Decisive votes for the side that has less.
    pub losses: usize,
    /// Decisive votes where both have the same.
    pub equal: usize,
    /// The standard deviation of differences, after ln(1 + x) for counts.
    pub deviation: f64,
    /// Pairs in which the difference is large and the choice follows the effect.
    pub examples: Vec<Example>,
}

/// A pair that shows a pattern.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The item.
    pub item: String,
    /// The candidate with more votes.
    pub chosen: ExampleSide,
    /// The other.
    pub rejected: ExampleSide,
}

/// One side of an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExampleSide {
    /// The candidate's number in the item.
    pub candidate: usize,
    /// Votes for it.
    pub votes: u32,
    /// The value of the feature.
    pub value: f64,
    /// How its text begins.
    pub excerpt: String,
}

/// A pair with what was counted in its texts.
struct Read {
    unit: Unit,
    /// First and second.
    values: [Vec<f64>; 2],
}

impl Read {
    /// Difference of the features as models read them.
    fn differences(&self) -> Vec<f64> {
        let [first, second] = [0, 1].map(|side| features::for_model(&self.values[side]));
        first.iter().zip(second).map(|(a, b)| a - b).collect()
    }

    /// Votes for first and for second.
    fn votes(&self) -> [u32; 2] {
        decisive(&self.unit)
    }
}

fn decisive(unit: &Unit) -> [u32; 2] {
    [unit.counts[VoteChoice::First as usize], unit.counts[VoteChoice::Second as usize]]
}

/// Pairs from which on a regression is tried.
const PAIRS_MIN: usize = 10;
const EXAMPLES: usize = 3;
/// Characters of an excerpt.
const EXCERPT: usize = 160;

pub(crate) fn patterns(index: &Index<'_>, options: &Options) -> Patterns {
    let (read, notes) = read(index, options);
    let differences: Vec<Vec<f64>> = read.iter().map(Read::differences).collect();
    let deviations: Vec<f64> = (0..FEATURES.len()).map(|j| deviation(&differences, j)).collect();
    let votes: Vec<[u32; 2]> = read.iter().map(Read::votes).collect();
    let alone: Vec<Fitted> = (0..FEATURES.len())
        .into_par_iter()
        .map(|j| alone(&differences, &votes, &deviations, j))
        .collect();
    let joint = joint(&differences, &votes, &deviations);
    let (tests, joint_tests) = (family(&alone), family(&joint));
    let counts: Vec<MoreWins> = (0..FEATURES.len()).map(|j| more_wins(&read, j)).collect();
    let more_tests = Test::family(&counts.iter().map(MoreWins::significance).collect::<Vec<_>>());
    let pattern = |(j, feature): (usize, &Feature)| {
        let counts = &counts[j];
        Pattern {
            feature: feature.name.to_owned(),
            description: feature.description.to_owned(),
            effect: alone[j].effect.clone(),
            test: tests[j],
            joint_effect: joint[j].effect.clone(),
            joint_test: joint_tests[j],
            more_wins: Figure::new(
                proportion::wilson(counts.wins as f64, counts.wins + counts.losses),
                "No decisive vote on texts that differ in it.",
            ),
            more_wins_test: more_tests[j],
            wins: counts.wins,
            losses: counts.losses,
            equal: counts.equal,
            deviation: deviations[j],
            examples: examples(index, &read, j, alone[j].effect.value()),
        }
    };
    Patterns {
        pairs: read.len(),
        votes: votes.iter().flatten().map(|&v| v as usize).sum(),
        features: FEATURES.iter().enumerate().map(pattern).collect(),
        notes,
    }
}

/// Reads the texts of pairs with decisive votes.
fn read(index: &Index<'_>, options: &Options) -> (Vec<Read>, Vec<String>) {
    let has_text = |unit: &&Unit| {
        let candidates = &index.items[unit.item].candidates;
        decisive(unit) != [0, 0]
            && [unit.first, unit.second].iter().any(|&c| features::characters(&candidates[c]) > 0)
    };
    let mut units: Vec<Unit> = index.results().units.iter().filter(has_text).copied().collect();
    let mut notes = Vec::new();
    if units.is_empty() {
        notes.push("No decisive vote on answers with text.".to_owned());
    }
    if index.results().rankings > 0 {
        notes.push(
            "Pairs of one ranking count as independent; intervals are somewhat too narrow.".into(),
        );
    }
    if units.len() > options.texts_max {
        let all = units.len();
        let mut chosen = sample(&mut options.rng(50), all, options.texts_max).into_vec();
        chosen.sort_unstable();
        units = chosen.into_iter().map(|i| units[i]).collect();
        notes.push(format!("Of {all} pairs a random choice of {} was read.", units.len()));
    }
    let read = |unit: Unit| {
        let item = &index.items[unit.item];
        let of = |candidate: usize| features::of(&item.prompt, &item.candidates[candidate]);
        Read { unit, values: [of(unit.first), of(unit.second)] }
    };
    (units.into_par_iter().map(read).collect(), notes)
}

/// Root of the mean square of the differences of one feature.
fn deviation(differences: &[Vec<f64>], feature: usize) -> f64 {
    let squares: f64 = differences.iter().map(|d| d[feature] * d[feature]).sum();
    if differences.is_empty() { 0.0 } else { (squares / differences.len() as f64).sqrt() }
}

/// One coefficient.
#[derive(Clone)]
struct Fitted {
    effect: Figure,
    significance: Option<Significance>,
}

impl Fitted {
    fn missing(why: &str) -> Self {
        Self { effect: Figure::missing(why), significance: None }
    }
}

fn family(fitted: &[Fitted]) -> Vec<Option<Test>> {
    Test::family(&fitted.iter().map(|f| f.significance).collect::<Vec<_>>())
}

fn alone(
    differences: &[Vec<f64>],
    votes: &[[u32; 2]],
    deviations: &[f64],
    feature: usize,
) -> Fitted {
    let fitted = regress(differences, votes, deviations, &[feature]);
    fitted.into_iter().next().expect("one coefficient")
}

fn joint(differences: &[Vec<f64>], votes: &[[u32; 2]], deviations: &[f64]) -> Vec<Fitted> {
    let varying: Vec<usize> = (0..deviations.len()).filter(|&j| deviations[j] > 0.0).collect();
    let mut joint = vec![Fitted::missing(NEVER_DIFFERS); deviations.len()];
    if !varying.is_empty() {
        let fitted = regress(differences, votes, deviations, &varying);
        for (j, fitted) in varying.into_iter().zip(fitted) {
            joint[j] = fitted;
        }
    }
    joint
}

const NEVER_DIFFERS: &str = "The feature never differs between two answers.";

/// Regresses the choice on some features, each in its standard deviations.
fn regress(
    differences: &[Vec<f64>],
    votes: &[[u32; 2]],
    deviations: &[f64],
    chosen: &[usize],
) -> Vec<Fitted> {
    let missing = |why: &str| vec![Fitted::missing(why); chosen.len()];
    if differences.len() < PAIRS_MIN.max(3 * chosen.len()) {
        return missing(&format!("{} pairs are too few to regress on.", differences.len()));
    }
    if chosen.iter().any(|&j| deviations[j] == 0.0) {
        return missing(NEVER_DIFFERS);
    }
    let row = |(d, [first, second]): (&Vec<f64>, &[u32; 2])| {
        let n = f64::from(first + second);
        Observation {
            features: chosen.iter().map(|&j| d[j] / deviations[j]).collect(),
            outcome: f64::from(*first) / n,
            weight: n,
        }
    };
    let rows: Vec<Observation> = differences.iter().zip(votes).map(row).collect();
    match logistic::fit(&rows, 0.0) {
        Ok(fit) => {
            let estimates = fit.estimates(Covariance::Sandwich).into_iter();
            let tests = fit.significances(Covariance::Sandwich);
            let pair = |(e, s)| Fitted {
                effect: Figure::new(Some(e), "The regression has no finite estimate."),
                significance: Some(s),
            };
            estimates.zip(tests).map(pair).collect()
        }
        Err(error) => missing(&crate::figure::sentence(&error.to_string())),
    }
}

/// Decisive votes by which side has more of a feature.
#[derive(Default)]
struct MoreWins {
    wins: usize,
    losses: usize,
    equal: usize,
    /// Σ over pairs of (wins − losses)².
    squares: f64,
}

impl MoreWins {
    /// z = Σ(wins − losses)/√Σ(wins − losses)²: pairs are independent, votes on one pair are not.
    fn significance(&self) -> Option<Significance> {
        let sum = self.wins as f64 - self.losses as f64;
        (self.squares > 0.0).then(|| significance::normal(sum / self.squares.sqrt()))
    }
}

fn more_wins(read: &[Read], feature: usize) -> MoreWins {
    let mut counts = MoreWins::default();
    for pair in read {
        let [first, second] = pair.votes().map(|votes| votes as usize);
        let (a, b) = (pair.values[0][feature], pair.values[1][feature]);
        let (wins, losses) = if a > b {
            (first, second)
        } else if a < b {
            (second, first)
        } else {
            counts.equal += first + second;
            continue;
        };
        counts.wins += wins;
        counts.losses += losses;
        counts.squares += (wins as f64 - losses as f64).powi(2);
    }
    counts
}

/// The pairs with the largest differences in the direction of the effect, one per item.
fn examples(index: &Index<'_>, read: &[Read], feature: usize, effect: Option<f64>) -> Vec<Example> {
    let Some(effect) = effect.filter(|&e| e != 0.0) else { return Vec::new() };
    let mut fitting: Vec<(f64, &Read, usize)> = read
        .iter()
        .filter_map(|pair| {
            let [first, second] = pair.votes();
            let chosen = usize::from(second > first);
            let [a, b] = [chosen, 1 - chosen].map(|side| pair.values[side][feature]);
            let fits = (a - b) * effect > 0.0 && first != second;
            fits.then_some(((a - b).abs(), pair, chosen))
        })
        .collect();
    fitting.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut seen = std::collections::HashSet::new();
    fitting.retain(|(_, pair, _)| seen.insert(pair.unit.item));
    let example = |(_, pair, chosen): (f64, &Read, usize)| {
        let item = &index.items[pair.unit.item];
        let side = |side: usize| {
            let candidate = [pair.unit.first, pair.unit.second][side];
            ExampleSide {
                candidate,
                votes: pair.votes()[side],
                value: pair.values[side][feature],
                excerpt: excerpt(&item.candidates[candidate].full_text()),
            }
        };
        Example { item: item.id.clone(), chosen: side(chosen), rejected: side(1 - chosen) }
    };
    fitting.into_iter().take(EXAMPLES).map(example).collect()
}

/// The beginning of a text on one line.
fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sentiment that rounds to nothing may be −0.
    #[test]
    fn a_negative_zero_is_not_less_than_zero() {
        let unit = Unit { item: 0, first: 0, second: 1, counts: [2, 0, 1], annotators: [2, 0, 1] };
        let values = |a, b| [vec![a], vec![b]];
        let equal = more_wins(&[Read { unit, values: values(-0.0, 0.0) }], 0);
        assert_eq!((equal.wins, equal.losses, equal.equal), (0, 0, 3));
        let more = more_wins(&[Read { unit, values: values(-0.5, 0.0) }], 0);
        assert_eq!((more.wins, more.losses, more.equal), (1, 2, 0));
    }

    #[test]
    fn an_excerpt_is_one_line_and_ends_between_characters() {
        assert_eq!(excerpt("a\n\n b"), "a b");
        let long = excerpt(&"ä".repeat(400));
        assert_eq!(long.chars().count(), EXCERPT + 1);
    }
}
