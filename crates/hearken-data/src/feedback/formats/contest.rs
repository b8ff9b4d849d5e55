//! What a verdict says about two candidates.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::export::{ExportEntry, Output};
use crate::feedback::{Item, Strength, Verdict};

/// Who won between two candidates of an item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ContestWinner {
    /// The first.
    First(Option<Strength>),
    /// The second.
    Second(Option<Strength>),
    /// Neither.
    Tie,
    /// Neither, since both are bad.
    BothBad,
    /// The probability that the first is better.
    Soft(f64),
}

/// Two candidates of an item, by their indices, and the outcome between them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contest {
    /// The index of one candidate.
    pub first: usize,
    /// The index of the other.
    pub second: usize,
    /// Which of them is better.
    pub outcome: ContestWinner,
}

/// The contests that a judgement amounts to. None, and counted, where it says nothing of that kind.
pub(super) fn contests(entry: &ExportEntry<'_>, output: &mut Output<'_>) -> Vec<Contest> {
    contests_of(entry.item, &entry.judgement.verdict).unwrap_or_else(|reason| {
        output.drop(reason);
        Vec::new()
    })
}

/// The contests that a verdict on an item amounts to: one for two candidates, one for each two of several.
///
/// # Errors
/// If it says nothing of that kind; what it says instead.
pub fn contests_of(item: &Item, verdict: &Verdict) -> Result<Vec<Contest>, &'static str> {
    let between = |outcome| vec![Contest { first: 0, second: 1, outcome }];
    Ok(match verdict {
        Verdict::Preferred { candidate: 0, strength } => between(ContestWinner::First(*strength)),
        Verdict::Preferred { strength, .. } => between(ContestWinner::Second(*strength)),
        Verdict::Tie => between(ContestWinner::Tie),
        Verdict::BothBad => between(ContestWinner::BothBad),
        Verdict::Soft { probability } => between(ContestWinner::Soft(*probability)),
        Verdict::Ranking { order } => by_key(item, |candidate| {
            // The first group is the best.
            order.iter().position(|group| group.contains(&candidate)).map(|place| -(place as f64))
        }),
        Verdict::Ratings { axes } => {
            if item.candidates.len() < 2 {
                return Err("ratings of a single candidate");
            }
            by_key(item, |candidate| overall(axes, candidate))
        }
        Verdict::CantTell { .. } => return Err("can't tell"),
        Verdict::Steps { .. } => return Err("step labels"),
        Verdict::Approval { .. } => return Err("approval of a single candidate"),
    })
}

/// The overall rating of a candidate: the axis "overall" where there is one, else the mean of the
/// axes on which it is rated.
pub(super) fn overall(axes: &BTreeMap<String, Vec<Option<f64>>>, candidate: usize) -> Option<f64> {
    let of = |values: &Vec<Option<f64>>| values.get(candidate).copied().flatten();
    if let Some(values) = axes.get("overall") {
        return of(values);
    }
    let values: Vec<f64> = axes.values().filter_map(of).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Compares each two candidates that have a key; the higher wins.
fn by_key(item: &Item, key: impl Fn(usize) -> Option<f64>) -> Vec<Contest> {
    let keys: Vec<Option<f64>> = (0..item.candidates.len()).map(key).collect();
    let mut contests = Vec::new();
    for first in 0..keys.len() {
        for second in first + 1..keys.len() {
            let (Some(one), Some(other)) = (keys[first], keys[second]) else { continue };
            let outcome = match one.total_cmp(&other) {
                Ordering::Greater => ContestWinner::First(None),
                Ordering::Less => ContestWinner::Second(None),
                Ordering::Equal => ContestWinner::Tie,
            };
            contests.push(Contest { first, second, outcome });
        }
    }
    contests
}

/// The order that a judgement amounts to, the best group first; `None` where it says nothing of
/// that kind.
pub(super) fn order(item: &Item, verdict: &Verdict) -> Option<Vec<Vec<usize>>> {
    match verdict {
        Verdict::Preferred { candidate, .. } => Some(vec![vec![*candidate], vec![1 - candidate]]),
        Verdict::Tie => Some(vec![vec![0, 1]]),
        Verdict::Ranking { order } => Some(order.clone()),
        Verdict::Ratings { axes } => {
            let keys = (0..item.candidates.len()).map(|candidate| overall(axes, candidate));
            let keys: Vec<f64> = keys.collect::<Option<_>>()?;
            Some(groups(&keys.iter().map(|key| -key).collect::<Vec<_>>()))
        }
        _ => None,
    }
}

/// Candidates in groups of equal rank, the lowest first.
pub(super) fn groups(ranks: &[f64]) -> Vec<Vec<usize>> {
    let mut candidates: Vec<usize> = (0..ranks.len()).collect();
    candidates.sort_by(|&a, &b| ranks[a].total_cmp(&ranks[b]));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for candidate in candidates {
        match groups.last_mut() {
            Some(group) if ranks[group[0]].total_cmp(&ranks[candidate]).is_eq() => {
                group.push(candidate);
            }
            _ => groups.push(vec![candidate]),
        }
    }
    groups
}

/// The rank of each candidate of an order, 1 the best, equal ones equal, as in a race: after two
/// first ones comes a third. `None` for a candidate that is missing.
pub(super) fn ranks(order: &[Vec<usize>], candidates: usize) -> Vec<Option<usize>> {
    let mut ranks = vec![None; candidates];
    let mut next = 1;
    for group in order {
        for &candidate in group {
            ranks[candidate] = Some(next);
        }
        next += group.len();
    }
    ranks
}

/// A strength on a scale of `points` a side, at least 1.
pub(super) fn scaled(strength: Strength, points: u8) -> i64 {
    (strength.share() * f64::from(points)).round().clamp(1.0, f64::from(points)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_and_groups_are_inverse_and_keep_ties() {
        let order = groups(&[2.0, 1.0, 2.0, 4.0]);
        assert_eq!(order, [vec![1], vec![0, 2], vec![3]]);
        assert_eq!(ranks(&order, 5), [Some(2), Some(1), Some(2), Some(4), None]);
    }

    #[test]
    fn an_overall_rating_is_its_own_axis_or_the_mean() {
        let axes = BTreeMap::from([
            ("a".into(), vec![Some(1.0), None]),
            ("b".into(), vec![Some(4.0), Some(3.0)]),
        ]);
        assert_eq!((overall(&axes, 0), overall(&axes, 1)), (Some(2.5), Some(3.0)));
        let axes = BTreeMap::from([("a".into(), vec![Some(1.0)]), ("overall".into(), vec![None])]);
        assert_eq!(overall(&axes, 0), None);
    }

    #[test]
    fn strengths_change_scales_and_never_vanish() {
        assert_eq!(scaled(Strength { points: 1, scale: 9 }, 3), 1);
        assert_eq!(scaled(Strength { points: 4, scale: 4 }, 3), 3);
        assert_eq!(scaled(Strength { points: 2, scale: 3 }, 3), 2);
    }
}
