//! Whole runs against recorded runs of TRL, step by step.

use crate::support::{config, fixture, json_lines, llama, number, on_ranks, overrides, steps};
use hearken_config::Configuration;
use hearken_run::progress::Silent;
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_train::reward::{self, RewardConfig};
use hearken_train::sft::{self, SftConfig};
use serde_json::Value;

const CONFIG: &str = "
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

fn run_sft(more: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let mut list = overrides(more);
    list.push(format!("run.dir={}", folder.path().join("run").display()));
    list.push(format!("model.path={}", llama().display()));
    list.push(format!("data.train={}", fixture("sft/data.jsonl").display()));
    let loaded = SftConfig::load(&config(folder.path(), CONFIG), &list).unwrap();
    sft::run(Cpu::new(), &loaded, Start::Resume, &mut Silent).unwrap();
    steps(&folder.path().join("run"))
}

fn run_reward(ranks: usize, more: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let mut list = overrides(more);
    list.push(format!("run.dir={}", folder.path().join("run").display()));
    list.push(format!("model.path={}", fixture("rm_model").display()));
    list.push(format!("data.train={}", fixture("rm/data.jsonl").display()));
    let loaded = RewardConfig::load(&config(folder.path(), CONFIG), &list).unwrap();
    on_ranks(ranks, |entry| {
        reward::run(Cpu::new(), &loaded, entry, &mut Silent).unwrap();
    });
    steps(&folder.path().join("run"))
}

/// Loss within 1e-4 and gradient norm within 1e-3, relative; the other metrics within 1e-3 absolute.
fn assert_follows(found: &[Value], case: &str, others: &[&str]) {
    let expected = json_lines(&fixture(case).join("trajectory.jsonl"));
    assert_eq!((found.len(), expected.len()), (12, 12));
    for (found, expected) in found.iter().zip(&expected) {
        let step = number(expected, "step");
        assert!((number(found, "step") - step).abs() < 0.5);
        for (key, tolerance) in [("loss", 1e-4), ("grad_norm", 1e-3)] {
            let (found, expected) = (number(found, key), number(expected, key));
            let error = (found - expected).abs() / expected.abs();
            assert!(error < tolerance, "step {step}: {key} {found}, expected {expected}");
        }
        for key in others {
            let (found, expected) = (number(found, key), number(expected, key));
            let error = (found - expected).abs();
            assert!(error < 1e-3, "step {step}: {key} {found}, expected {expected}");
        }
    }
}

const SFT_METRICS: [&str; 2] = ["mean_token_accuracy", "entropy"];
const REWARD_METRICS: [&str; 5] = ["accuracy", "margin", "mean_reward", "min_reward", "max_reward"];

#[test]
fn sft_follows_trl() {
    assert_follows(&run_sft(&[]), "sft", &SFT_METRICS);
}

/// The same batch in smaller parts must give the same steps: huggingface/trl#2175.
#[test]
fn sft_follows_trl_in_small_microbatches() {
    assert_follows(&run_sft(&["train.microbatch_tokens=160"]), "sft", &SFT_METRICS);
}

#[test]
fn sft_follows_trl_when_blocks_are_recomputed() {
    assert_follows(&run_sft(&["model.recompute=true"]), "sft", &SFT_METRICS);
}

#[test]
fn reward_follows_trl() {
    assert_follows(&run_reward(1, &[]), "rm", &REWARD_METRICS);
}

#[test]
fn reward_follows_trl_in_small_microbatches() {
    assert_follows(&run_reward(1, &["train.microbatch_tokens=160"]), "rm", &REWARD_METRICS);
}

#[test]
fn reward_follows_trl_on_two_ranks() {
    assert_follows(&run_reward(2, &[]), "rm", &REWARD_METRICS);
}
