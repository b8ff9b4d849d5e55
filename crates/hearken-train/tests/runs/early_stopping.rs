//! A run ends when evaluations gain nothing.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::support::{
    After, Recorder, SAMPLED, config, even_and_length, fixture, llama, metrics, overrides, sampled,
};
use hearken_config::Configuration;
use hearken_run::error::TrainError;
use hearken_run::run::{RunOutcome, Status};
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_train::ppo::{self, PpoConfig};
use hearken_train::sft::{self, SftConfig};

/// The loss on held-out examples falls from evaluation to evaluation.
const CONFIG: &str = "
[data]
eval_fraction = 0.25

[optimizer]
lr = 1e-3
schedule = 'constant'
warmup_steps = 0

[train]
batch_size = 5
steps = 9
save_every = 1
eval_every = 2
";

/// By this the falling loss is a loss.
const WORSE: [&str; 2] = ["train.metric_for_best_model=eval_loss", "train.greater_is_better=true"];

fn load(run: &Path, more: &[&str]) -> Result<hearken_config::LoadedConfig<SftConfig>, String> {
    let mut list = vec![
        format!("run.dir={}", run.display()),
        format!("model.path={}", llama().display()),
        format!("data.train={}", fixture("sft/data.jsonl").display()),
    ];
    list.extend(overrides(more));
    let file = config(run.parent().unwrap(), CONFIG);
    SftConfig::load(&file, &list).map_err(|error| error.to_string())
}

fn train(run: &Path, more: &[&str], progress: &mut Recorder) -> Result<RunOutcome, TrainError> {
    sft::run(Cpu::new(), &load(run, more).unwrap(), Start::Resume, progress)
}

#[test]
fn a_run_ends_after_as_many_evaluations_without_a_better_one() {
    let folder = tempfile::tempdir().unwrap();
    for (more, steps) in [
        (vec!["train.early_stopping_patience=2"], 9),
        ([&WORSE[..], &["train.early_stopping_patience=2"]].concat(), 4),
        ([&WORSE[..], &["train.early_stopping_patience=1"]].concat(), 2),
        (WORSE.to_vec(), 9),
    ] {
        let run = folder.path().join(format!("run-{steps}-{}", more.len()));
        let mut progress = Recorder::new(After::GoOn);
        let outcome = train(&run, &more, &mut progress).unwrap();
        assert_eq!((outcome.status, outcome.steps), (Status::Finished, steps), "{more:?}");
        assert_eq!(metrics(&run).last().unwrap()["step"], steps, "it ends with its evaluation");
        let stops = progress.said("stopped early, after step");
        assert_eq!(stops, steps < 9, "{:?}", progress.notes);
        assert_eq!(progress.said("the best eval_loss is"), stops);
        assert!(run.join("final/model.safetensors").exists());
        let mut again = Recorder::new(After::GoOn);
        assert_eq!(train(&run, &more, &mut again).unwrap().status, Status::AlreadyFinished);
    }
}

#[test]
fn a_run_that_is_killed_counts_the_evaluations_before() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let more = [&WORSE[..], &["train.early_stopping_patience=3"]].concat();
    assert_eq!(train(&whole, &more, &mut Recorder::new(After::GoOn)).unwrap().steps, 6);
    for step in [3, 4, 6] {
        let mut progress = Recorder::new(After::Die(step));
        let died = catch_unwind(AssertUnwindSafe(|| train(&parts, &more, &mut progress)));
        assert!(died.is_err(), "the run should die");
    }
    assert_eq!(train(&parts, &more, &mut Recorder::new(After::GoOn)).unwrap().steps, 6);
    assert_eq!(metrics(&parts), metrics(&whole));
    for name in ["final", "best"] {
        let read = |run: &Path| fs::read(run.join(name).join("model.safetensors")).unwrap();
        assert!(read(&parts) == read(&whole), "{name} differs");
    }
    // With more patience it goes on.
    let more = [&WORSE[..], &["train.early_stopping_patience=4"]].concat();
    assert_eq!(train(&parts, &more, &mut Recorder::new(After::GoOn)).unwrap().steps, 8);
}

#[test]
fn best_is_the_model_of_the_named_figure() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, &WORSE, &mut Recorder::new(After::GoOn)).unwrap();
    // The loss is highest before the first step.
    let card = fs::read_to_string(run.join("best/README.md")).unwrap();
    assert!(card.contains("On held-out data, at step 0:"), "{card}");
}

#[test]
fn runs_that_sample_end_by_their_scores() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let more = [
        "data.eval_fraction=0.4",
        "optimizer.lr=0",
        "train.eval_every=2",
        "train.early_stopping_patience=2",
        "ppo.epochs=1",
    ];
    let loaded = PpoConfig::load(&config(folder.path(), SAMPLED), &sampled(&run, &more)).unwrap();
    let mut progress = Recorder::new(After::GoOn);
    let outcome =
        ppo::run_with(Cpu::new(), &loaded, Start::Resume, &mut even_and_length(), &mut progress);
    assert_eq!(outcome.unwrap().steps, 4, "{:?}", progress.notes);
    assert!(progress.said("stopped early, after step 4 of 12: 2 evaluations in a row"));
}

#[test]
fn what_evaluations_need_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let patience = "train.early_stopping_patience=2";
    for (more, part) in [
        (vec![patience, "train.eval_every=0"], "`train.eval_every`"),
        (vec![patience, "data.eval_fraction=0"], "found no `data.eval`"),
        (vec![WORSE[0]], "found no `train.greater_is_better`"),
        (vec![WORSE[1]], "found no `train.metric_for_best_model`"),
        (vec!["train.early_stopping_patience=-1"], "found the integer -1"),
    ] {
        let error = load(&run, &more).unwrap_err();
        assert!(error.contains(part), "{more:?}: {error}");
    }
    let more = ["train.metric_for_best_model=eval_los", "train.greater_is_better=false"];
    let error = train(&run, &more, &mut Recorder::new(After::GoOn)).unwrap_err().to_string();
    let expected = "expected one of eval_loss, eval_perplexity, eval_mean_token_accuracy";
    assert!(error.contains("\"eval_los\"") && error.contains(expected), "{error}");
}
