//! A run that is stopped or killed and started again is the run that was not.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::support::{After, Recorder, config, fixture, llama, metrics};
use hearken_config::Configuration;
use hearken_run::error::TrainError;
use hearken_run::run::{RunOutcome, Status};
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_train::reward::{self, RewardConfig};
use hearken_train::sft::{self, SftConfig};

const CONFIG: &str = "
[run]
seed = 3

[data]
eval_fraction = 0.25

[optimizer]
lr = 1e-3
schedule = \"cosine\"
warmup_steps = 2

[train]
batch_size = 5
epochs = 2
save_every = 3
keep_optimizer = true
eval_every = 4
";

type Trainer = fn(&Path, &mut Recorder) -> Result<RunOutcome, TrainError>;

fn train_sft(run: &Path, progress: &mut Recorder) -> Result<RunOutcome, TrainError> {
    let list = [
        format!("run.dir={}", run.display()),
        format!("model.path={}", llama().display()),
        format!("data.train={}", fixture("sft/data.jsonl").display()),
    ];
    let loaded = SftConfig::load(&config(run.parent().unwrap(), CONFIG), &list).unwrap();
    sft::run(Cpu::new(), &loaded, Start::Resume, progress)
}

fn train_reward(run: &Path, progress: &mut Recorder) -> Result<RunOutcome, TrainError> {
    let list = [
        format!("run.dir={}", run.display()),
        format!("model.path={}", llama().display()),
        format!("data.train={}", fixture("rm/data.jsonl").display()),
    ];
    let loaded = RewardConfig::load(&config(run.parent().unwrap(), CONFIG), &list).unwrap();
    reward::run(Cpu::new(), &loaded, Start::Resume, progress)
}

fn finish(train: Trainer, run: &Path) {
    let outcome = train(run, &mut Recorder::new(After::GoOn)).unwrap();
    assert_eq!(outcome.status, Status::Finished);
}

fn assert_equal_runs(one: &Path, other: &Path) {
    assert_eq!(metrics(one), metrics(other));
    for name in ["final", "best"] {
        for file in ["model.safetensors", "config.json"] {
            let read = |run: &Path| fs::read(run.join(name).join(file)).unwrap();
            assert!(read(one) == read(other), "{name}/{file} differs");
        }
    }
    let checkpoints = |run: &Path| -> Vec<_> {
        let listed = fs::read_dir(run.join("checkpoints")).unwrap();
        listed.map(|entry| entry.unwrap().file_name()).collect()
    };
    assert_eq!(checkpoints(one), checkpoints(other));
    let moments = "state/optimizer.safetensors";
    for name in checkpoints(one) {
        let read =
            |run: &Path| fs::read(run.join("checkpoints").join(&name).join(moments)).unwrap();
        assert!(read(one) == read(other), "the moments differ");
    }
}

fn check(train: Trainer, interruptions: &[After]) {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    finish(train, &whole);
    for &after in interruptions {
        let mut progress = Recorder::new(after);
        if let After::Stop(step) = after {
            let outcome = train(&parts, &mut progress).unwrap();
            assert_eq!((outcome.status, outcome.steps), (Status::Stopped, step));
            assert!(progress.said("goes on from there"));
        } else {
            let died = catch_unwind(AssertUnwindSafe(|| train(&parts, &mut progress)));
            assert!(died.is_err(), "the run should die");
        }
    }
    finish(train, &parts);
    assert_equal_runs(&whole, &parts);
}

#[test]
fn sft_that_is_stopped_goes_on_bit_for_bit() {
    check(train_sft, &[After::Stop(7)]);
}

#[test]
fn sft_that_is_killed_goes_on_bit_for_bit() {
    check(train_sft, &[After::Die(2), After::Die(8), After::Die(8), After::Die(11)]);
}

#[test]
fn reward_that_is_stopped_goes_on_bit_for_bit() {
    check(train_reward, &[After::Stop(5), After::Stop(6)]);
}

#[test]
fn reward_that_is_killed_goes_on_bit_for_bit() {
    check(train_reward, &[After::Die(1), After::Die(5), After::Die(13)]);
}

#[test]
fn a_finished_run_says_so_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    finish(train_reward, &run);
    let before = fs::read(run.join("metrics.jsonl")).unwrap();
    let mut progress = Recorder::new(After::GoOn);
    let outcome = train_reward(&run, &mut progress).unwrap();
    assert_eq!(outcome.status, Status::AlreadyFinished);
    assert!(0 < outcome.cost.tokens && 0.0 < outcome.cost.flops);
    assert!(progress.said("finished after"));
    assert_eq!(fs::read(run.join("metrics.jsonl")).unwrap(), before);
}
