//! Fixtures, configurations and a progress that records, stops or dies.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    reason = "each test file uses a part; tests may panic"
)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use hearken_reward_source::{Closure, RolloutView, WeightedSum};
use hearken_run::error::TrainError;
use hearken_run::metrics::TIME_FIELDS;
use hearken_run::progress::{Progress, StepReport};
use hearken_run::ranks::together;
use hearken_run::run::{RunOutcome, Status};
use hearken_run::run_dir::{OpenFor, Start};
pub(crate) use hearken_testing::{json_lines, llama, number};
use serde_json::{Value, json};

pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/trl").join(name)
}

/// Writes a configuration into `folder` and returns its path.
pub(crate) fn config(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("config.toml");
    fs::write(&path, text).unwrap();
    path
}

/// A run on so many ranks, which are threads of this process.
pub(crate) fn on_ranks(size: usize, run: impl Fn(OpenFor) + Sync) {
    match size {
        1 => run(Start::Resume.into()),
        _ => drop(together(size, |ranks| run(OpenFor::Run(Start::Resume, ranks)))),
    }
}

/// The overrides of a command line.
pub(crate) fn overrides(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// `metrics.jsonl` of a run without the fields that a clock fills.
pub(crate) fn metrics(run: &Path) -> Vec<Value> {
    hearken_testing::metrics_without(&TIME_FIELDS, run)
}

/// The records of optimizer steps.
pub(crate) fn steps(run: &Path) -> Vec<Value> {
    metrics(run).into_iter().filter(|record| record.get("loss").is_some()).collect()
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

/// The share of tokens with an even id.
#[allow(clippy::unnecessary_wraps, reason = "closures of a source may refuse")]
pub(crate) fn even(rollout: &RolloutView<'_>) -> Result<f64, String> {
    let ids = rollout.completion_ids;
    Ok(ids.iter().filter(|id| **id % 2 == 0).count() as f64 / ids.len() as f64)
}

/// [`even`], and the length, which is only measured.
pub(crate) fn even_and_length() -> WeightedSum<'static> {
    WeightedSum::new()
        .with(Closure::new("even", even), 1.0)
        .with(Closure::new("length", |r| Ok(r.completion_ids.len() as f64)), 0.0)
}

/// Twelve prompts of token ids.
pub(crate) fn write_prompts(folder: &Path) -> PathBuf {
    let path = folder.join("prompts.jsonl");
    let line = |i: u32| json!({ "prompt_ids": [10 + i, 40 + 3 * i, 7] }).to_string() + "\n";
    fs::write(&path, (0..12).map(line).collect::<String>()).unwrap();
    path
}

/// The overrides of a run in `run` of the tiny model on [`write_prompts`].
pub(crate) fn sampled(run: &Path, more: &[&str]) -> Vec<String> {
    let mut list = vec![
        format!("run.dir={}", run.display()),
        format!("model.path={}", llama().display()),
        format!("data.train={}", write_prompts(run.parent().unwrap()).display()),
    ];
    list.extend(overrides(more));
    list
}

/// Settings of a run on [`write_prompts`] that most trainers share; its last section is `[rollout]`.
pub(crate) const SAMPLED: &str = "
[run]
seed = 1

[optimizer]
lr = 3e-3
schedule = 'constant'
warmup_steps = 0

[train]
batch_size = 8
steps = 12
keep_optimizer = true

[rollout]
max_new_tokens = 8
";

/// The overrides of a run in `run` of the tiny model on recorded rollouts.
pub(crate) fn replayed(run: &Path, file: &Path, more: &[&str]) -> Vec<String> {
    let mut list = vec![
        format!("run.dir={}", run.display()),
        format!("model.path={}", llama().display()),
        format!("rollout.replay={}", file.display()),
    ];
    list.extend(overrides(more));
    list
}

/// A run of twelve steps in a folder, with the scores of some sources.
pub(crate) type TrainWith<'a> =
    &'a dyn Fn(&Path, &mut WeightedSum<'_>, &mut Recorder) -> Result<RunOutcome, TrainError>;

/// A run whose source fails, in an iteration or in the last evaluation, keeps what it has trained, says
/// how to go on, and ends as one whose source never fails. It must evaluate and not save on the way.
pub(crate) fn check_failing_scores(train: TrainWith<'_>) {
    let folder = tempfile::tempdir().unwrap();
    let calls = AtomicUsize::new(0);
    let go = |run: &Path, fails_at: Option<usize>| {
        calls.store(0, Ordering::Relaxed);
        let source = Closure::new("even", |rollout| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            if Some(call) == fails_at { Err("out of order".to_owned()) } else { even(rollout) }
        });
        let mut sources = WeightedSum::new().with(source, 1.0);
        train(run, &mut sources, &mut Recorder::new(After::GoOn))
    };
    let whole = folder.path().join("whole");
    assert_eq!(go(&whole, None).unwrap().steps, 12);
    let count = calls.load(Ordering::Relaxed);
    assert!(
        metrics(&whole).last().unwrap().get("eval_scores").is_some(),
        "an evaluation at the end"
    );
    for (fails_at, steps) in [(count / 2, 2..12), (count - 1, 12..13)] {
        let run = folder.path().join(format!("fails-at-{fails_at}"));
        // What fails again loses nothing either.
        for fails_at in [fails_at, 0] {
            let error = go(&run, Some(fails_at)).unwrap_err();
            let TrainError::Kept { step, .. } = &error else { panic!("{error}") };
            assert!(steps.contains(step), "{error}");
            let error = error.to_string();
            for part in ["even", "out of order", "same command", &run.display().to_string()] {
                assert!(error.contains(part), "{part} in {error}");
            }
        }
        go(&run, None).unwrap();
        assert_eq!(metrics(&run), metrics(&whole), "it failed at call {fails_at} of {count}");
        let file = "final/model.safetensors";
        assert!(fs::read(run.join(file)).unwrap() == fs::read(whole.join(file)).unwrap());
        assert_eq!(go(&run, Some(0)).unwrap().status, Status::AlreadyFinished);
        assert_eq!(metrics(&run), metrics(&whole));
    }
    // Nothing has been trained that could be lost.
    let run = folder.path().join("fails-at-once");
    assert!(matches!(go(&run, Some(0)).unwrap_err(), TrainError::Reward(_)));
}

/// A run of twelve steps in a folder.
pub(crate) type Train<'a> = &'a dyn Fn(&Path, &mut Recorder) -> Result<RunOutcome, TrainError>;

/// A run that is stopped or dies, again and again, ends as one that goes through.
pub(crate) fn check_interruptions(train: Train<'_>, interruptions: &[After]) {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let outcome = train(&whole, &mut Recorder::new(After::GoOn)).unwrap();
    assert_eq!((outcome.status, outcome.steps), (Status::Finished, 12));
    for &after in interruptions {
        let mut progress = Recorder::new(after);
        if let After::Stop(step) = after {
            let outcome = train(&parts, &mut progress).unwrap();
            assert_eq!((outcome.status, outcome.steps), (Status::Stopped, step));
        } else {
            let died = catch_unwind(AssertUnwindSafe(|| train(&parts, &mut progress)));
            assert!(died.is_err(), "the run should die");
        }
    }
    train(&parts, &mut Recorder::new(After::GoOn)).unwrap();
    assert_eq!(metrics(&parts), metrics(&whole));
    let adapter = "final/adapter_model.safetensors";
    let trained = if whole.join(adapter).exists() { adapter } else { "final/model.safetensors" };
    for file in [trained, "checkpoints/step-000012/state/optimizer.safetensors"] {
        let read = |run: &Path| fs::read(run.join(file)).unwrap();
        assert!(read(&parts) == read(&whole), "{file} differs");
    }
    let again = train(&parts, &mut Recorder::new(After::GoOn)).unwrap();
    assert_eq!(again.status, Status::AlreadyFinished);
}
