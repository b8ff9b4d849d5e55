//! Whether annotators fall into groups with different taste.
//!
//! Half of the pairs of candidates, chosen at random, divide the annotators in two: by the signs of the leading eigenvector of the
//! matrix of agreements less disagreements, minus what all annotators agree on average. The other half says whether the division is
//! real: do annotators agree more with their own group than with the other one? Division and test share no vote, so a
//! division of noise does not pass.

use std::collections::BTreeMap;

use hearken_stats::bootstrap::bootstrap;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::figure::Figure;
use crate::index::{Index, VoteChoice};
use crate::records::Options;

/// Two groups of annotators, or that there are none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Groups {
    /// Whether the interval of [`Groups::difference`] lies above 0.
    pub found: bool,
    /// Names of the larger group and of the smaller, where there are two.
    pub members: [Vec<String>; 2],
    /// Share of equal verdicts among pairs of decisive verdicts within a group, on the half that did not divide.
    pub within: Figure,
    /// The same between groups.
    pub between: Figure,
    /// Within less between; the interval is a bootstrap over pairs of candidates.
    pub difference: Figure,
}

/// Annotators from which on a division is tried.
const ANNOTATORS_MIN: usize = 4;
/// Above this the matrix is too large.
const ANNOTATORS_MAX: usize = 3000;
/// Pairs of candidates with two decisive verdicts, from which on a division is tried.
const UNITS_MIN: usize = 20;
const ITERATIONS: usize = 100;

/// Pairs of decisive verdicts on one pair of candidates: agreeing and all, within and between groups.
#[derive(Clone, Copy, Default)]
struct Tally {
    within: [f64; 2],
    between: [f64; 2],
}

pub(crate) fn groups(index: &Index<'_>, options: &Options) -> Groups {
    let annotators = index.annotators.len();
    let units = units(index);
    if annotators < ANNOTATORS_MIN || units.len() < UNITS_MIN {
        return none(&format!(
            "A division is tried with {ANNOTATORS_MIN} annotators and {UNITS_MIN} pairs of answers \
             that several judged; here {annotators} and {}.",
            units.len()
        ));
    }
    if annotators > ANNOTATORS_MAX {
        return none(&format!("There are more than {ANNOTATORS_MAX} annotators."));
    }
    let mut rng = options.rng(60);
    let (dividing, testing): (Vec<_>, Vec<_>) =
        units.into_iter().partition(|_| rng.random::<bool>());
    let second = divide(&dividing, annotators);
    let tallies: Vec<Tally> = testing.iter().map(|unit| tally(unit, &second)).collect();
    let names = |group: bool| {
        let of = (0..annotators).filter(|&k| second[k] == Some(group));
        of.map(|k| index.annotators[k].to_owned()).collect::<Vec<_>>()
    };
    let mut members = [names(false), names(true)];
    members.sort_by_key(|names| std::cmp::Reverse(names.len()));
    if members[1].is_empty() {
        return none("No annotator agrees less with some than with others.");
    }
    let rounds = options.bootstrap_rounds.min(20_000_000 / tallies.len().max(1));
    let mut figure = |of: fn(&[&Tally]) -> Option<f64>| {
        let why = "No two verdicts to compare.";
        Figure::new(bootstrap(&tallies, of, rounds, &mut rng), why)
    };
    let (within, between) =
        (figure(|t| share(t, |t| t.within)), figure(|t| share(t, |t| t.between)));
    let difference = figure(|t| Some(share(t, |t| t.within)? - share(t, |t| t.between)?));
    let found = difference.known().is_some_and(|e| e.low > 0.0 && e.low.is_finite());
    Groups { found, members, within, between, difference }
}

fn none(why: &str) -> Groups {
    let missing = || Figure::missing(why);
    Groups {
        found: false,
        members: [Vec::new(), Vec::new()],
        within: missing(),
        between: missing(),
        difference: missing(),
    }
}

/// Per pair of candidates with two annotators' decisive verdicts: annotator and whether for the first.
fn units(index: &Index<'_>) -> Vec<Vec<(usize, bool)>> {
    let mut units = vec![Vec::new(); index.votes.units.len()];
    for vote in index.votes.decisive().filter(|vote| !vote.repeated) {
        units[vote.unit].push((vote.annotator, vote.choice == VoteChoice::First));
    }
    units.retain(|unit| unit.len() >= 2);
    units
}

/// The group of each annotator who shares verdicts with others.
fn divide(units: &[Vec<(usize, bool)>], annotators: usize) -> Vec<Option<bool>> {
    let mut signed: BTreeMap<(usize, usize), [f64; 2]> = BTreeMap::new();
    let mut total = [0.0; 2];
    for unit in units {
        for (i, &(a, x)) in unit.iter().enumerate() {
            for &(b, y) in unit[..i].iter().filter(|(b, _)| *b != a) {
                let sign = if x == y { 1.0 } else { -1.0 };
                let cell = signed.entry((a.min(b), a.max(b))).or_default();
                for sums in [cell, &mut total] {
                    sums[0] += sign;
                    sums[1] += 1.0;
                }
            }
        }
    }
    let mean = if total[1] > 0.0 { total[0] / total[1] } else { 0.0 };
    let mut edges: Vec<Vec<(usize, f64)>> = vec![Vec::new(); annotators];
    for (&(a, b), &[sum, n]) in &signed {
        // Standardized, so that pairs with many common verdicts do not decide alone.
        let weight = (sum - mean * n) / n.sqrt();
        edges[a].push((b, weight));
        edges[b].push((a, weight));
    }
    let vector = leading(&edges);
    let group = |k: usize| (!edges[k].is_empty()).then(|| vector[k] < 0.0);
    (0..annotators).map(group).collect()
}

/// The eigenvector of the largest eigenvalue, by power iteration on the matrix shifted to be positive.
fn leading(edges: &[Vec<(usize, f64)>]) -> Vec<f64> {
    let shift =
        edges.iter().map(|row| row.iter().map(|(_, w)| w.abs()).sum::<f64>()).fold(0.0, f64::max);
    let n = edges.len();
    // A start that no symmetry of the matrix is likely to be orthogonal to.
    let mut vector: Vec<f64> = (0..n).map(|i| (1.0 + i as f64).sin()).collect();
    for _ in 0..ITERATIONS {
        let mut next: Vec<f64> = (0..n)
            .map(|i| shift * vector[i] + edges[i].iter().map(|&(j, w)| w * vector[j]).sum::<f64>())
            .collect();
        let norm = next.iter().map(|x| x * x).sum::<f64>().sqrt();
        if norm == 0.0 {
            break;
        }
        for x in &mut next {
            *x /= norm;
        }
        vector = next;
    }
    vector
}

fn tally(unit: &[(usize, bool)], second: &[Option<bool>]) -> Tally {
    let mut tally = Tally::default();
    for (i, &(a, x)) in unit.iter().enumerate() {
        for &(b, y) in unit[..i].iter().filter(|(b, _)| *b != a) {
            let (Some(group_a), Some(group_b)) = (second[a], second[b]) else { continue };
            let side = if group_a == group_b { &mut tally.within } else { &mut tally.between };
            side[0] += f64::from(u8::from(x == y));
            side[1] += 1.0;
        }
    }
    tally
}

fn share(tallies: &[&Tally], of: impl Fn(&Tally) -> [f64; 2]) -> Option<f64> {
    let (agreeing, all) =
        tallies.iter().map(|t| of(t)).fold((0.0, 0.0), |(a, n), [x, m]| (a + x, n + m));
    (all > 0.0).then(|| agreeing / all)
}
