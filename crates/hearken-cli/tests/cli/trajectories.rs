//! Whole runs through the command line against recorded runs of TRL, step by step.

use std::path::Path;

use serde_json::Value;

use crate::support::{json_lines, metrics, model, number, recorded, run, set, write};

const TRAINING: &str = "
[data]
shuffle = false
[optimizer]
lr = 1e-3
schedule = 'constant'
warmup_steps = 0
[train]
batch_size = 4
steps = 12
";

const REPLAY: &str = "
[optimizer]
lr = 1e-3
schedule = 'constant'
warmup_steps = 0
max_grad_norm = 0
[train]
batch_size = 8
[rollout]
max_new_tokens = 12
[kl]
beta = 0.05
[ppo]
epochs = 3
minibatches = 1
normalize_scores = false
";

/// The records of the optimizer steps of a run.
fn train(command: &str, config: &str, paths: &[(&str, &Path)], more: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let run_dir = folder.path().join("run");
    let config = write(folder.path(), "run.toml", config);
    let mut arguments = vec![command.to_owned(), config.display().to_string()];
    for (key, path) in paths.iter().chain([&("run.dir", run_dir.as_path())]) {
        arguments.extend(set(key, path));
    }
    arguments.extend(more.iter().map(|&text| text.to_owned()));
    run(arguments).ok();
    metrics(&run_dir).into_iter().filter(|record| record.get("loss").is_some()).collect()
}

/// How far a run may be from the recorded one.
struct Tolerance {
    loss_absolute: f64,
    loss_relative: f64,
    grad_norm: f64,
}

const TRAINED: Tolerance = Tolerance { loss_absolute: 0.0, loss_relative: 1e-4, grad_norm: 1e-3 };
const REPLAYED: Tolerance = Tolerance { loss_absolute: 1e-5, loss_relative: 0.0, grad_norm: 1e-4 };

#[track_caller]
fn check(found: &[Value], case: &str, tolerance: &Tolerance) {
    let expected = json_lines(&recorded(case).join("trajectory.jsonl"));
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        let step = &expected["step"];
        assert_eq!(&found["step"], step);
        let (loss, wanted) = (number(found, "loss"), number(expected, "loss"));
        let allowed = tolerance.loss_absolute + tolerance.loss_relative * wanted.abs();
        assert!((loss - wanted).abs() <= allowed, "step {step}: loss {loss}, expected {wanted}");
        let (norm, wanted) = (number(found, "grad_norm"), number(expected, "grad_norm"));
        let error = (norm - wanted).abs() / wanted;
        assert!(error <= tolerance.grad_norm, "step {step}: grad_norm {norm}, expected {wanted}");
    }
}

fn sft(more: &[&str]) -> Vec<Value> {
    let (model, data) = (model("llama"), recorded("sft/data.jsonl"));
    train("sft", TRAINING, &[("model.path", &model), ("data.train", &data)], more)
}

fn reward(more: &[&str]) -> Vec<Value> {
    let (model, data) = (recorded("rm_model"), recorded("rm/data.jsonl"));
    train("reward", TRAINING, &[("model.path", &model), ("data.train", &data)], more)
}

fn ppo(more: &[&str]) -> Vec<Value> {
    let (model, critic) = (model("llama"), recorded("ppo_critic"));
    let rollouts = recorded("ppo/rollouts.jsonl");
    let paths: [(&str, &Path); 3] =
        [("model.path", &model), ("ppo.critic", &critic), ("rollout.replay", &rollouts)];
    train("ppo", REPLAY, &paths, more)
}

const GROUPS: &str = "
[optimizer]
lr = 1e-3
schedule = 'constant'
warmup_steps = 0
[rollout]
max_new_tokens = 12
[grpo]
epochs = 2
";

fn dpo(data: &str, more: &[&str]) -> Vec<Value> {
    let (model, data) = (model("llama"), recorded(data));
    train("dpo", TRAINING, &[("model.path", &model), ("data.train", &data)], more)
}

fn grpo(case: &str, more: &[&str]) -> Vec<Value> {
    let (model, rollouts) = (model("llama"), recorded(case).join("rollouts.jsonl"));
    train("grpo", GROUPS, &[("model.path", &model), ("rollout.replay", &rollouts)], more)
}

/// What TRL says of rewards, within 1e-3.
#[track_caller]
fn check_rewards(found: &[Value], case: &str) {
    let expected = json_lines(&recorded(case).join("trajectory.jsonl"));
    for (found, expected) in found.iter().zip(&expected) {
        let rewards = expected.as_object().unwrap().iter();
        let mut rewards = rewards.filter(|(key, _)| key.starts_with("rewards/")).peekable();
        assert!(rewards.peek().is_some(), "{case} has rewards");
        for (key, wanted) in rewards {
            let (found, wanted) = (number(found, key), wanted.as_f64().unwrap());
            assert!((found - wanted).abs() <= 1e-3, "{case}: {key} {found}, expected {wanted}");
        }
    }
}

const SMALL: [&str; 2] = ["--set", "train.microbatch_tokens=160"];

#[test]
fn supervised_fine_tuning_follows_trl() {
    check(&sft(&[]), "sft", &TRAINED);
    check(&sft(&SMALL), "sft", &TRAINED);
}

#[test]
fn a_reward_model_follows_trl() {
    check(&reward(&[]), "rm", &TRAINED);
    check(&reward(&SMALL), "rm", &TRAINED);
}

#[test]
fn replayed_ppo_follows_trl() {
    check(&ppo(&[]), "ppo", &REPLAYED);
    check(&ppo(&SMALL), "ppo", &REPLAYED);
}

#[test]
fn preference_optimization_follows_trl() {
    for (case, data, loss) in [
        ("dpo_sigmoid", "dpo_sigmoid/data.jsonl", "dpo.loss=sigmoid"),
        ("dpo_ipo", "dpo_sigmoid/data.jsonl", "dpo.loss=ipo"),
        ("kto", "kto/data.jsonl", "dpo.loss=kto"),
    ] {
        for more in [&[][..], &SMALL] {
            let found = dpo(data, &[&["--set", loss, "--set", "dpo.beta=0.1"], more].concat());
            check(&found, case, &TRAINED);
            check_rewards(&found, case);
        }
    }
}

#[test]
fn replayed_groups_follow_trl() {
    check(&grpo("grpo_grpo", &[]), "grpo_grpo", &REPLAYED);
    let preset = ["--set", "grpo.preset=dr_grpo", "--set", "kl.beta=0.04"];
    check(&grpo("grpo_dr_grpo", &preset), "grpo_dr_grpo", &REPLAYED);
}
