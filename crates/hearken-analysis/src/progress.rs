//! How far the work is, and how long it takes.

use std::collections::BTreeMap;

use hearken_data::calendar;
use hearken_stats::{Estimate, mean, quantile};
use serde::{Deserialize, Serialize};

use crate::figure::Figure;
use crate::index::Index;

/// Counts of everything, and times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Items.
    pub items: usize,
    /// Items with at least one judgement by an annotator.
    pub items_judged: usize,
    /// Items with a known verdict, to measure annotators with.
    pub items_gold: usize,
    /// Judgements that count, by annotators and by judges.
    pub judgements: usize,
    /// Of these, the ones by annotators.
    pub judgements_by_annotators: usize,
    /// Items with a final verdict. It is not among the judgements.
    pub final_verdicts: usize,
    /// Judgements in whose place a later one stands.
    pub revised: usize,
    /// Judgements left out because their item is not there.
    pub unknown_item: usize,
    /// Judgements left out because their verdict does not fit their item.
    pub unfit: usize,
    /// Annotators.
    pub annotators: usize,
    /// Items by task: `pairwise`, `ranking`, `rating`, `steps`.
    pub items_by_task: BTreeMap<String, usize>,
    /// Judgements by kind of verdict: `preferred`, `tie`, `both_bad`, `cant_tell`, ….
    pub judgements_by_kind: BTreeMap<String, usize>,
    /// Number of items by how many annotators' judgements they have: `"0"`, `"1"`, ….
    pub overlap: Vec<Overlap>,
    /// Seconds per judgement, all tasks.
    pub seconds: Times,
    /// Seconds per judgement by task.
    pub seconds_by_task: BTreeMap<String, Times>,
    /// Judgements by annotators per day, UTC, ascending; only those with a time.
    pub days: Vec<Day>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// How many items have so many judgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlap {
    /// Judgements of an item.
    pub judgements: usize,
    /// Items with so many.
    pub items: usize,
}

/// How long judgements took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Half took less.
    pub median: Figure,
    /// One in ten took less.
    pub fast: Figure,
    /// One in ten took more.
    pub slow: Figure,
    /// The mean; a forgotten page weighs heavily in it.
    pub mean: Figure,
    /// Counts for a histogram: the first bin ends at 1 s, each further one at twice the one before.
    pub histogram: Vec<TimeBin>,
}

/// Judgements that took a time in [from, below).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeBin {
    /// Seconds.
    pub from: f64,
    /// Seconds.
    pub below: f64,
    /// Judgements.
    pub judgements: usize,
}

/// One day's judgements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Day {
    /// `2026-01-31`, UTC.
    pub date: String,
    /// Judgements made on it.
    pub judgements: usize,
}

pub(crate) fn progress(index: &Index<'_>) -> Progress {
    let mut per_item = vec![0_usize; index.items.len()];
    let mut by_kind: BTreeMap<String, usize> = BTreeMap::new();
    let mut days: BTreeMap<i64, usize> = BTreeMap::new();
    let mut seconds: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for entry in index.by_people() {
        per_item[entry.item] += 1;
        *by_kind.entry(entry.judgement.verdict.kind().to_owned()).or_default() += 1;
        if entry.judgement.at > 0 {
            *days.entry(entry.judgement.at.div_euclid(DAY_MS)).or_default() += 1;
        }
        if let Some(ms) = entry.judgement.duration_ms {
            seconds
                .entry(index.items[entry.item].task.as_str())
                .or_default()
                .push(ms as f64 / 1000.0);
        }
    }
    let mut overlap: BTreeMap<usize, usize> = BTreeMap::new();
    for &n in &per_item {
        *overlap.entry(n).or_default() += 1;
    }
    let mut items_by_task: BTreeMap<String, usize> = BTreeMap::new();
    for item in index.items {
        *items_by_task.entry(item.task.as_str().to_owned()).or_default() += 1;
    }
    let all: Vec<f64> = seconds.values().flatten().copied().collect();
    let by_task = seconds.iter().map(|(task, s)| ((*task).to_owned(), Times::new(s)));
    Progress {
        items: index.items.len(),
        items_judged: per_item.iter().filter(|&&n| n > 0).count(),
        items_gold: index.items.iter().filter(|item| item.gold.is_some()).count(),
        judgements: index.entries.len(),
        judgements_by_annotators: per_item.iter().sum(),
        final_verdicts: index.finals.len(),
        revised: index.left_out.revised,
        unknown_item: index.left_out.unknown_item,
        unfit: index.left_out.unfit,
        annotators: index.annotators.len(),
        items_by_task,
        judgements_by_kind: by_kind,
        overlap: overlap
            .into_iter()
            .map(|(judgements, items)| Overlap { judgements, items })
            .collect(),
        seconds: Times::new(&all),
        seconds_by_task: by_task.collect(),
        days: days
            .into_iter()
            .map(|(day, judgements)| Day { date: calendar::date(day), judgements })
            .collect(),
        notes: notes(index),
    }
}

fn notes(index: &Index<'_>) -> Vec<String> {
    let left_out = &index.left_out;
    let mut notes = Vec::new();
    if left_out.unknown_item > 0 {
        notes.push(format!(
            "{} judgements name an item that is not there; they are left out.",
            left_out.unknown_item
        ));
    }
    if let Some(first) = &left_out.first_unfit {
        notes.push(format!(
            "{} judgements do not fit their item; they are left out. The first: {first}.",
            left_out.unfit
        ));
    }
    notes
}

impl Times {
    fn new(seconds: &[f64]) -> Self {
        let why = "No judgement has a duration.";
        let figure = |e: Option<Estimate>| Figure::new(e, why);
        Self {
            median: figure(quantile::median(seconds)),
            fast: figure(quantile::quantile(seconds, 0.1)),
            slow: figure(quantile::quantile(seconds, 0.9)),
            mean: figure(mean::mean(seconds)),
            histogram: histogram(seconds),
        }
    }
}

/// Bins that double, from the first to the last that is not empty.
fn histogram(seconds: &[f64]) -> Vec<TimeBin> {
    const BINS: usize = 16;
    let mut counts = [0; BINS];
    for &s in seconds {
        let bin = if s < 1.0 { 0 } else { 1 + s.log2().floor() as usize };
        counts[bin.min(BINS - 1)] += 1;
    }
    let first = counts.iter().position(|&n| n > 0);
    let last = counts.iter().rposition(|&n| n > 0);
    let (Some(first), Some(last)) = (first, last) else { return Vec::new() };
    let edge = |bin: usize| if bin == 0 { 0.0 } else { f64::from(1_u32 << (bin - 1)) };
    let bin = |i: usize| TimeBin { from: edge(i), below: edge(i + 1), judgements: counts[i] };
    (first..=last).map(bin).collect()
}

const DAY_MS: i64 = 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_double_and_hold_everything() {
        let bins = histogram(&[0.2, 1.0, 1.9, 5.0, 7.9, 1e9]);
        assert_eq!((bins[0].from, bins[0].below, bins[0].judgements), (0.0, 1.0, 1));
        assert_eq!((bins[1].from, bins[1].below, bins[1].judgements), (1.0, 2.0, 2));
        assert_eq!((bins[3].from, bins[3].below, bins[3].judgements), (4.0, 8.0, 2));
        assert_eq!(bins.iter().map(|b| b.judgements).sum::<usize>(), 6);
        assert!(histogram(&[]).is_empty());
    }
}
