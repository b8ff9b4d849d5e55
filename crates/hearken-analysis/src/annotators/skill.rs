//! Dawid and Skene's model of who is right how often.

use hearken_stats::dawid_skene::{AnnotatorLabel, Sizes, Stopping, dawid_skene};
use hearken_stats::proportion;

use crate::figure::Figure;
use crate::index::Index;

/// The outcome of the model.
pub(crate) struct Skills {
    /// Per annotator: sum of probabilities, number of votes.
    hits: Vec<(f64, usize)>,
    why: String,
    pub(crate) note: Option<String>,
}

impl Skills {
    pub(crate) fn figure(&self, annotator: usize) -> Figure {
        let (hits, n) = self.hits.get(annotator).copied().unwrap_or_default();
        // The sum of probabilities may exceed their number by rounding.
        Figure::new(proportion::wilson(hits.min(n as f64), n), &self.why)
    }
}

/// Fits the model to the first votes of each annotator on candidates that two or more judged. Classes: first, tie, second.
pub(crate) fn skills(index: &Index<'_>) -> Skills {
    let annotators = index.annotators.len();
    let mut task_of = vec![None; index.votes.units.len()];
    let mut tasks = 0;
    for (task, unit) in task_of.iter_mut().zip(&index.votes.units) {
        if unit.judged_twice() {
            *task = Some(tasks);
            tasks += 1;
        }
    }
    let label = |vote: &crate::index::Vote| {
        let task = task_of[vote.unit]?;
        Some(AnnotatorLabel { task, annotator: vote.annotator, class: vote.choice as usize })
    };
    let labels: Vec<AnnotatorLabel> = index.votes.first().filter_map(label).collect();
    let why = "No candidates that another annotator judged too.".to_owned();
    if labels.is_empty() {
        return Skills { hits: vec![(0.0, 0); annotators], why, note: None };
    }
    let sizes = Sizes { tasks, annotators, classes: 3 };
    // A thousandth of a nat per thousand labels changes no digit that is shown.
    let stopping = Stopping { rounds_max: 200, gain_min: 1e-6 * labels.len() as f64 };
    let fit = dawid_skene(&labels, sizes, stopping).expect("every task has a label");
    let mut by_task: Vec<Vec<AnnotatorLabel>> = vec![Vec::new(); tasks];
    for label in &labels {
        by_task[label.task].push(*label);
    }
    let mut hits = vec![(0.0, 0); annotators];
    for labels in &by_task {
        for own in labels {
            let others = labels.iter().filter(|l| l.annotator != own.annotator);
            let mut logs: Vec<f64> = fit.prevalence.iter().map(|p| p.ln()).collect();
            let mut any = false;
            for l in others {
                any = true;
                for (truth, log) in logs.iter_mut().enumerate() {
                    *log += fit.confusion[l.annotator][truth][l.class].ln();
                }
            }
            let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            // Without others, or where the others' labels exclude each other, nothing is known.
            if any && largest.is_finite() {
                let total: f64 = logs.iter().map(|x| (x - largest).exp()).sum();
                let (sum, n) = &mut hits[own.annotator];
                *sum += (logs[own.class] - largest).exp() / total;
                *n += 1;
            }
        }
    }
    let note = (fit.rounds == stopping.rounds_max).then(|| {
        format!("Dawid and Skene's model was stopped after {} rounds.", stopping.rounds_max)
    });
    Skills { hits, why, note }
}
