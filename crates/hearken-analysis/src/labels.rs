//! Labels of steps, and approvals.

use std::collections::BTreeSet;

use hearken_data::feedback::Verdict;
use hearken_stats::proportion;
use serde::{Deserialize, Serialize};

use crate::figure::Figure;
use crate::index::Index;

/// Shares of labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelShares {
    /// Solutions whose steps were labeled.
    pub solutions: usize,
    /// Labels of steps.
    pub steps: usize,
    /// Share of steps labeled good.
    pub good_steps: Figure,
    /// Share of steps labeled neutral.
    pub neutral_steps: Figure,
    /// Share of steps labeled bad.
    pub bad_steps: Figure,
    /// Share of judgements of solutions that label a step bad.
    pub solutions_with_error: Figure,
    /// Share of approvals that say good.
    pub approved: Figure,
}

pub(crate) fn labels(index: &Index<'_>) -> LabelShares {
    let mut steps = [0_usize; 3];
    let (mut solutions, mut with_error) = (0, 0);
    let mut items = BTreeSet::new();
    let (mut approvals, mut approved) = (0, 0);
    for entry in index.deciding() {
        match &entry.judgement.verdict {
            Verdict::Steps { labels } => {
                items.insert(entry.item);
                solutions += 1;
                with_error += usize::from(labels.contains(&Some(-1)));
                for label in labels.iter().flatten() {
                    steps[usize::try_from(label + 1).expect("a checked label")] += 1;
                }
            }
            Verdict::Approval { good } => {
                approvals += 1;
                approved += usize::from(*good);
            }
            _ => {}
        }
    }
    let total = steps.iter().sum();
    let share = |hits: usize, n: usize, why| Figure::new(proportion::wilson(hits as f64, n), why);
    let no_steps = "No step was labeled.";
    LabelShares {
        solutions: items.len(),
        steps: total,
        good_steps: share(steps[2], total, no_steps),
        neutral_steps: share(steps[1], total, no_steps),
        bad_steps: share(steps[0], total, no_steps),
        solutions_with_error: share(with_error, solutions, no_steps),
        approved: share(approved, approvals, "Nothing was approved or rejected."),
    }
}
