//! A reward model with a head for the length: what is saved of it, and that length leaves the score.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{After, Recorder, config, llama, metrics, number, steps};
use hearken_config::Configuration;
use hearken_model::checkpoint::TensorFiles;
use hearken_model::{LoadOptions, Model};
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_train::reward::{self, RewardConfig};
use serde_json::{Value, json};

const CONFIG: &str = "
[run]
seed = 3

[data]
eval_fraction = 0.25

[optimizer]
lr = 3e-3
schedule = 'constant'
warmup_steps = 0

[train]
batch_size = 8
steps = 30
save_every = 4
keep_optimizer = true
";

/// Comparisons in which the longer completion is chosen, and of two as long the one with more even tokens.
fn comparisons(folder: &Path) -> PathBuf {
    let path = folder.join("pairs.jsonl");
    let of = |at: u32, length: u32, parity: u32| -> Vec<u32> {
        (0..length).map(|step| 20 + 2 * ((7 * at + 5 * step) % 100) + parity).collect()
    };
    let line = |at: u32| {
        let (chosen, rejected) = match at % 2 {
            0 => (of(at, 8 + at % 5, at % 2), of(at, 2 + at % 3, at % 2)),
            _ => (of(at, 5, 0), of(at, 5, 1)),
        };
        let pair =
            json!({"prompt_ids": [5, 6, 7 + at], "chosen_ids": chosen, "rejected_ids": rejected});
        pair.to_string() + "\n"
    };
    fs::write(&path, (0..64).map(line).collect::<String>()).unwrap();
    path
}

fn train(folder: &Path, name: &str, more: &[&str], after: After) -> PathBuf {
    let run = folder.join(name);
    let mut list = vec![
        format!("run.dir={}", run.display()),
        format!("model.path={}", llama().display()),
        format!("data.train={}", comparisons(folder).display()),
    ];
    list.extend(crate::support::overrides(more));
    let loaded = RewardConfig::load(&config(folder, CONFIG), &list).unwrap();
    let mut told = Recorder::new(after);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        reward::run(Cpu::new(), &loaded, Start::Resume, &mut told).unwrap()
    }));
    assert_eq!(outcome.is_err(), matches!(after, After::Die(_)));
    run
}

fn last_evaluation(run: &Path) -> Value {
    metrics(run).into_iter().rfind(|record| record.get("eval_loss").is_some()).unwrap()
}

#[test]
fn length_leaves_the_score_for_the_other_head() {
    let folder = tempfile::tempdir().unwrap();
    let correlation =
        |run: &Path| number(&last_evaluation(run)["eval_length_correlation"], "value");
    let plain = correlation(&train(folder.path(), "plain", &[], After::GoOn));
    let run = train(folder.path(), "heads", &["reward.length_coef=1"], After::GoOn);
    let without = correlation(&run);
    assert!(
        0.5 < plain && without.abs() < 0.5 * plain,
        "{plain} with one head, {without} with two"
    );
    let found = steps(&run);
    let first = number(&found[0], "length_correlation");
    let last = number(found.last().unwrap(), "length_correlation");
    assert!(last.abs() < 0.5 && first.is_finite(), "{first} first, {last} last");
}

/// Checkpoints have both heads, the model that is used has one.
#[test]
fn what_is_saved_is_a_reward_model_like_others() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "run", &["reward.length_coef=1"], After::GoOn);
    let model = run.join("final");
    let (loaded, _) = Model::load(Cpu::new(), &model, &LoadOptions::scorer()).unwrap();
    let width = loaded.config().width;
    assert_eq!(TensorFiles::open(&model).unwrap().shape("score.weight"), Some(&[1, width][..]));
    let text = fs::read_to_string(model.join("config.json")).unwrap();
    assert!(text.contains("LABEL_0") && !text.contains("LABEL_1"), "{text}");
    assert!(model.join("score_normalization.json").exists());
}

#[test]
fn a_run_that_is_killed_goes_on_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let whole = train(folder.path(), "whole", &["reward.length_coef=1"], After::GoOn);
    train(folder.path(), "killed", &["reward.length_coef=1"], After::Die(6));
    let killed = train(folder.path(), "killed", &["reward.length_coef=1"], After::GoOn);
    assert_eq!(metrics(&whole), metrics(&killed));
    let weights = |run: &Path| fs::read(run.join("final/model.safetensors")).unwrap();
    assert!(weights(&whole) == weights(&killed));
}

/// Correlations are over the batch, however it is cut.
#[test]
fn microbatches_change_no_step() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, tokens: &str| {
        let tokens = format!("train.microbatch_tokens={tokens}");
        let more = ["reward.length_coef=0.7", "train.steps=4", tokens.as_str()];
        steps(&train(folder.path(), name, &more, After::GoOn))
    };
    let (small, large) = (run("small", "20"), run("large", "4096"));
    for (small, large) in small.iter().zip(&large) {
        for key in ["loss", "grad_norm", "length_correlation"] {
            let (small, large) = (number(small, key), number(large, key));
            assert!((small - large).abs() < 1e-4, "{key}: {small}, {large}");
        }
    }
}
