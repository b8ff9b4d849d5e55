//! A page about a run: self-contained HTML, light and dark, nothing loaded from elsewhere.
//!
//! [`write()`] looks at what a run directory holds and shows it, what came of it first: the evaluation of
//! an `rlhf` run with completions before and after side by side, or each trainer's evaluations at both
//! ends; the table of stages; curves of every trainer in the order in which they ran (scores against
//! KL, losses, lengths, …) with samples taken on the way; settings and configuration; and the
//! [`frontier`] of several methods, where `frontier.json` is.
#![deny(missing_docs)]
// `expect` states invariants; what a caller can violate has its `# Panics`.
#![allow(clippy::missing_panics_doc)]

pub mod outcome;

mod series;

mod charts;

mod page;

mod tables;

pub mod frontier;

pub mod sweep;

pub mod reranking;

pub mod signs;

pub mod gold_curve;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::outcome::PolicyComparisons;
use frontier::Frontier;
use hearken_page::Point;
use hearken_run::run_dir::{RunDirError, write_atomically};
use series::Curves;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The page cannot be written.
    #[error(transparent)]
    Written(RunDirError),
    /// A file is not what its name promises.
    #[error("{}:{line}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// There is nothing to report on.
    #[error(
        "{}: found no metrics.jsonl, here or in a folder of a stage; expected a run directory",
        path.display()
    )]
    NoRun {
        /// The directory.
        path: PathBuf,
    },
    /// A chart could not be drawn.
    #[error("chart {title:?}: {reason}")]
    Chart {
        /// Its title.
        title: String,
        /// Why not.
        reason: String,
    },
}

/// What a run directory holds.
struct RunFacts {
    name: String,
    outcome: PolicyComparisons,
    frontier: Option<Frontier>,
    /// One per trainer that left metrics.
    trainers: Vec<TrainerFacts>,
    config: Option<String>,
}

struct TrainerFacts {
    name: String,
    curves: Curves,
    samples: Vec<serde_json::Value>,
    /// Moving pictures of the policy, by what they are of.
    clips: Vec<(&'static str, Vec<u8>)>,
    /// The resolved configuration, as far as it can be read.
    settings: toml::Table,
    /// The KL to the reference above which a run counts as having gone too far.
    kl_limit: Option<f64>,
}

impl TrainerFacts {
    /// A number of the configuration.
    fn setting(&self, section: &str, key: &str) -> Option<f64> {
        let value = self.settings.get(section)?.get(key)?;
        value.as_float().or_else(|| value.as_integer().map(|number| number as f64))
    }

    /// What evaluations are compared by, and whether a higher figure is the better one.
    fn compared_by(&self) -> (&str, bool) {
        let train = self.settings.get("train");
        let named = |key: &str| train.and_then(|train| train.get(key));
        match named("metric_for_best_model").and_then(toml::Value::as_str) {
            Some(name) => {
                (name, named("greater_is_better").is_some_and(|is| is.as_bool() == Some(true)))
            }
            None if self.curves.keys_with("eval_").contains("eval_scores") => ("eval_scores", true),
            None => ("eval_loss", false),
        }
    }

    /// How the run ended before its last step, if evaluations are the reason.
    fn early_stop(&self) -> Option<EarlyStop> {
        let patience = self.setting("train", "early_stopping_patience").filter(|n| 0.0 < *n)?;
        let (metric, is_greater) = self.compared_by();
        let evaluations = self.curves.all("step", metric);
        let is_better = |one: f64, other: f64| if is_greater { other < one } else { one < other };
        let (mut best, mut without) = (*evaluations.first()?, 0);
        for evaluation in &evaluations[1..] {
            if is_better(evaluation.y, best.y) {
                (best, without) = (*evaluation, 0);
            } else {
                without += 1;
            }
        }
        let step = evaluations.last()?.x;
        let total = self.setting("train", "steps");
        let is_early = patience <= f64::from(without) && total.is_none_or(|total| step < total);
        is_early.then(|| EarlyStop { step, total, without, metric: metric.to_owned(), best })
    }
}

/// How a run ended before its last step, after evaluations without a better one.
struct EarlyStop {
    step: f64,
    /// Steps that the run was to make, where the configuration says so.
    total: Option<f64>,
    /// Evaluations since the best.
    without: u32,
    metric: String,
    /// The step and the figure of the best evaluation.
    best: Point,
}

/// Writes `report.html` into a run directory, of one trainer or of several stages, and returns its path.
///
/// # Errors
/// As [`write_to`].
pub fn write(run_dir: &Path) -> Result<PathBuf, ReportError> {
    let path = run_dir.join("report.html");
    write_to(run_dir, &path)?;
    Ok(path)
}

/// Writes the page about a run directory to `path`.
///
/// # Errors
/// If the directory holds no metrics, or a file cannot be read or written.
pub fn write_to(run_dir: &Path, path: &Path) -> Result<(), ReportError> {
    let html = page::render(&read(run_dir)?);
    write_atomically(path, html.as_bytes()).map_err(ReportError::Written)
}

fn read(run_dir: &Path) -> Result<RunFacts, ReportError> {
    const STAGES: [&str; 6] = ["sft", "reward", "ppo", "dpo", "grpo", "distill"];
    let name = run_dir.file_name().unwrap_or(run_dir.as_os_str()).to_string_lossy().into_owned();
    let folders = std::iter::once((name.clone(), run_dir.to_owned()))
        .chain(STAGES.iter().map(|stage| ((*stage).to_owned(), run_dir.join(stage))));
    let mut trainers = Vec::new();
    for (name, folder) in folders {
        let curves = Curves::read(&folder.join("metrics.jsonl"))?;
        if curves.is_empty() {
            continue;
        }
        let samples = series::json_lines(&folder.join("samples.jsonl"))?;
        let settings = read_if_there(&folder.join("config.toml"))?;
        let settings = settings.and_then(|text| text.parse().ok()).unwrap_or_default();
        let clips = read_clips(&folder.join("clips"))?;
        trainers.push(TrainerFacts { name, curves, samples, clips, settings, kl_limit: None });
    }
    let frontier: Option<Frontier> = json(&run_dir.join("frontier.json"))?;
    if trainers.is_empty() && frontier.is_none() {
        return Err(ReportError::NoRun { path: run_dir.to_owned() });
    }
    let outcome: PolicyComparisons = json(&run_dir.join("outcome.json"))?.unwrap_or_default();
    let evaluation = outcome.evaluation.as_ref();
    if let Some(last) = trainers.last_mut() {
        last.kl_limit = evaluation.and_then(|evaluation| evaluation.kl_limit_nats);
    }
    let config = read_if_there(&run_dir.join("config.toml"))?;
    Ok(RunFacts { name, outcome, frontier, trainers, config })
}

/// What a file of JSON holds; `None` where there is none.
fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, ReportError> {
    let Some(text) = read_if_there(path)? else { return Ok(None) };
    let wrong = |error: serde_json::Error| ReportError::Format {
        path: path.to_owned(),
        line: error.line(),
        reason: error.to_string(),
    };
    serde_json::from_str(&text).map(Some).map_err(wrong)
}

/// The clips that a trainer of control policies leaves.
fn read_clips(folder: &Path) -> Result<Vec<(&'static str, Vec<u8>)>, ReportError> {
    let mut clips = Vec::new();
    for name in ["before", "after"] {
        let bytes = if_there(&folder.join(format!("{name}.png")), fs::read)?;
        clips.extend(bytes.map(|bytes| (name, bytes)));
    }
    Ok(clips)
}

fn read_if_there(path: &Path) -> Result<Option<String>, ReportError> {
    if_there(path, fs::read_to_string)
}

fn if_there<'a, T>(
    path: &'a Path,
    read: impl Fn(&'a Path) -> io::Result<T>,
) -> Result<Option<T>, ReportError> {
    match read(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReportError::File { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests;
