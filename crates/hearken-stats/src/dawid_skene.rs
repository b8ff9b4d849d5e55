//! True labels and annotators' error rates at once.

use serde::{Deserialize, Serialize};

/// One label by one annotator; annotators may label a task more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnotatorLabel {
    /// The task, numbered from 0.
    pub task: usize,
    /// The annotator, numbered from 0.
    pub annotator: usize,
    /// The class given, numbered from 0.
    pub class: usize,
}

/// How many there are of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Tasks.
    pub tasks: usize,
    /// Annotators.
    pub annotators: usize,
    /// Classes.
    pub classes: usize,
}

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stopping {
    /// Most rounds of expectation and maximization.
    pub rounds_max: usize,
    /// Smallest gain of log-likelihood, in nats, worth another round.
    pub gain_min: f64,
}

impl Default for Stopping {
    fn default() -> Self {
        Self { rounds_max: 1000, gain_min: 1e-9 }
    }
}

/// The fitted model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DawidSkene {
    /// P(true class | labels), `[task][class]`.
    pub posteriors: Vec<Vec<f64>>,
    /// P(true class), `[class]`.
    pub prevalence: Vec<f64>,
    /// P(annotator says given | true), `[annotator][true][given]`; uniform where an annotator never met a class.
    pub confusion: Vec<Vec<Vec<f64>>>,
    /// Log-likelihood of the labels, nats.
    pub log_likelihood: f64,
    /// Rounds run.
    pub rounds: usize,
}

/// Why the model cannot be fitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DawidSkeneError {
    /// A number past the end.
    #[error("label {index}: {label:?} does not fit into {sizes:?}")]
    OutOfRange {
        /// Position of the label.
        index: usize,
        /// The label.
        label: AnnotatorLabel,
        /// The sizes given.
        sizes: Sizes,
    },
    /// A task nobody labeled.
    #[error("task {task} has no label")]
    Unlabeled {
        /// The task.
        task: usize,
    },
}

/// Expectation–maximization from the shares of votes.
///
/// ```text
/// T_ij ∝ p_j · Π_k Π_l π^k_jl^(n^k_il)      p_j = mean_i T_ij      π^k_jl ∝ Σ_i T_ij·n^k_il
/// ```
///
/// Dawid and Skene 1979, Applied Statistics 28: maximum likelihood, nothing smoothed.
///
/// # Errors
/// If a label is out of range or a task has none.
///
/// ```
/// # use hearken_stats::dawid_skene::{AnnotatorLabel, Sizes, Stopping, dawid_skene};
/// let label = |task, annotator, class| AnnotatorLabel { task, annotator, class };
/// // Annotators 0 and 1 agree; annotator 2 always says 0 and is no help.
/// let labels: Vec<_> = (0..4)
///     .flat_map(|t| [label(t, 0, t % 2), label(t, 1, t % 2), label(t, 2, 0)])
///     .collect();
/// let sizes = Sizes { tasks: 4, annotators: 3, classes: 2 };
/// let fit = dawid_skene(&labels, sizes, Stopping::default())?;
/// assert!(fit.posteriors[1][1] > 0.999 && fit.confusion[2][1][0] > 0.999);
/// # Ok::<(), hearken_stats::dawid_skene::DawidSkeneError>(())
/// ```
pub fn dawid_skene(
    labels: &[AnnotatorLabel],
    sizes: Sizes,
    stopping: Stopping,
) -> Result<DawidSkene, DawidSkeneError> {
    check(labels, sizes)?;
    let mut fit = DawidSkene {
        posteriors: vote_shares(labels, sizes),
        prevalence: Vec::new(),
        confusion: Vec::new(),
        log_likelihood: f64::NEG_INFINITY,
        rounds: 0,
    };
    while fit.rounds < stopping.rounds_max {
        let before = fit.log_likelihood;
        maximize(&mut fit, labels, sizes);
        expect(&mut fit, labels);
        fit.rounds += 1;
        if fit.log_likelihood - before < stopping.gain_min {
            break;
        }
    }
    Ok(fit)
}

fn check(labels: &[AnnotatorLabel], sizes: Sizes) -> Result<(), DawidSkeneError> {
    let mut labeled = vec![false; sizes.tasks];
    for (index, &label) in labels.iter().enumerate() {
        let AnnotatorLabel { task, annotator, class } = label;
        if sizes.tasks <= task || sizes.annotators <= annotator || sizes.classes <= class {
            return Err(DawidSkeneError::OutOfRange { index, label, sizes });
        }
        labeled[task] = true;
    }
    match labeled.iter().position(|seen| !seen) {
        Some(task) => Err(DawidSkeneError::Unlabeled { task }),
        None => Ok(()),
    }
}

fn vote_shares(labels: &[AnnotatorLabel], sizes: Sizes) -> Vec<Vec<f64>> {
    let mut shares = vec![vec![0.0; sizes.classes]; sizes.tasks];
    for l in labels {
        shares[l.task][l.class] += 1.0;
    }
    for row in &mut shares {
        normalize(row);
    }
    shares
}

/// Prevalence and confusion from the posteriors.
fn maximize(fit: &mut DawidSkene, labels: &[AnnotatorLabel], sizes: Sizes) {
    let Sizes { annotators, classes, .. } = sizes;
    fit.prevalence = vec![0.0; classes];
    for row in &fit.posteriors {
        fit.prevalence.iter_mut().zip(row).for_each(|(sum, p)| *sum += p);
    }
    normalize(&mut fit.prevalence);
    fit.confusion = vec![vec![vec![0.0; classes]; classes]; annotators];
    for label in labels {
        for (truth, p) in fit.posteriors[label.task].iter().enumerate() {
            fit.confusion[label.annotator][truth][label.class] += p;
        }
    }
    fit.confusion.iter_mut().flatten().for_each(|row| normalize(row));
}

/// Posteriors and log-likelihood from prevalence and confusion.
fn expect(fit: &mut DawidSkene, labels: &[AnnotatorLabel]) {
    let prior: Vec<f64> = fit.prevalence.iter().map(|p| p.ln()).collect();
    let mut logs = vec![prior; fit.posteriors.len()];
    for label in labels {
        for (truth, sum) in logs[label.task].iter_mut().enumerate() {
            *sum += fit.confusion[label.annotator][truth][label.class].ln();
        }
    }
    fit.log_likelihood = 0.0;
    for (row, posterior) in logs.iter().zip(&mut fit.posteriors) {
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        *posterior = row.iter().map(|x| (x - largest).exp()).collect();
        fit.log_likelihood += largest + posterior.iter().sum::<f64>().ln();
        normalize(posterior);
    }
}

/// Divides by the sum; a row of zeros (nothing seen) becomes uniform.
fn normalize(row: &mut [f64]) {
    let total: f64 = row.iter().sum();
    let uniform = 1.0 / row.len() as f64;
    for x in row {
        *x = if total > 0.0 { *x / total } else { uniform };
    }
}
