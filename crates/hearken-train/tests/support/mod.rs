//! Fixtures, configurations and a progress that records, stops or dies.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part; tests may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use hearken_train::metrics::TIME_FIELDS;
use hearken_train::progress::{Progress, StepReport};
use serde_json::Value;

pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/trl").join(name)
}

/// The tiny language model.
pub(crate) fn llama() -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    crates.join("hearken-model/tests/fixtures/hf/llama")
}

/// Writes a configuration into `folder` and returns its path.
pub(crate) fn config(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("config.toml");
    fs::write(&path, text).unwrap();
    path
}

/// The overrides of a command line.
pub(crate) fn overrides(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

pub(crate) fn json_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `metrics.jsonl` of a run without the fields that a clock fills.
pub(crate) fn metrics(run: &Path) -> Vec<Value> {
    let mut records = json_lines(&run.join("metrics.jsonl"));
    for record in &mut records {
        for field in TIME_FIELDS {
            record.as_object_mut().unwrap().remove(field);
        }
    }
    records
}

/// The records of optimizer steps.
pub(crate) fn steps(run: &Path) -> Vec<Value> {
    metrics(run).into_iter().filter(|record| record.get("loss").is_some()).collect()
}

pub(crate) fn number(record: &Value, key: &str) -> f64 {
    record[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {record}"))
}

/// What happens after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    GoOn,
    /// Ask to stop, as Ctrl-C does.
    Stop(u64),
    /// Die in the middle, as after kill -9: nothing is saved.
    Die(u64),
}

/// Records what a trainer says.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) after: After,
    pub(crate) step: u64,
    pub(crate) notes: Vec<String>,
}

impl Recorder {
    pub(crate) fn new(after: After) -> Self {
        Self { after, step: 0, notes: Vec::new() }
    }

    pub(crate) fn said(&self, part: &str) -> bool {
        self.notes.iter().any(|note| note.contains(part))
    }
}

impl Progress for Recorder {
    fn stage(&mut self, _: &str, _: Option<u64>) {}

    fn step(&mut self, report: &StepReport<'_>) {
        self.step = report.step;
        assert!(self.after != After::Die(report.step), "killed at step {}", report.step);
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    fn stop_requested(&self) -> bool {
        self.after == After::Stop(self.step)
    }
}
