//! What an evaluation says, and that the documentation says what it means.

use std::fs;
use std::path::Path;

use crate::support::{config, fixture, llama, metrics, number};
use hearken_config::Configuration;
use hearken_run::progress::Silent;
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_train::reward::{self, RewardConfig};
use hearken_train::sft::{self, SftConfig};
use serde_json::Value;

const CONFIG: &str = "
[data]
eval_fraction = 0.5

[optimizer]
lr = 3e-3
schedule = 'constant'
warmup_steps = 0

[train]
batch_size = 8
steps = 6
eval_every = 3
";

fn run_sft(folder: &Path) -> Vec<Value> {
    let run = folder.join("sft");
    let list = [
        format!("run.dir={}", run.display()),
        format!("model.path={}", llama().display()),
        format!("data.train={}", fixture("sft/data.jsonl").display()),
    ];
    let loaded = SftConfig::load(&config(folder, CONFIG), &list).unwrap();
    sft::run(Cpu::new(), &loaded, Start::Resume, &mut Silent).unwrap();
    metrics(&run)
}

fn run_reward(folder: &Path) -> Vec<Value> {
    let run = folder.join("reward");
    let list = [
        format!("run.dir={}", run.display()),
        format!("model.path={}", fixture("rm_model").display()),
        format!("data.train={}", fixture("rm/data.jsonl").display()),
    ];
    let loaded = RewardConfig::load(&config(folder, CONFIG), &list).unwrap();
    reward::run(Cpu::new(), &loaded, Start::Resume, &mut Silent).unwrap();
    metrics(&run)
}

fn evaluations(records: &[Value]) -> Vec<&Value> {
    records.iter().filter(|record| record.get("loss").is_none()).collect()
}

fn assert_estimate(record: &Value, key: &str) -> f64 {
    let estimate = &record[key];
    let value = number(estimate, "value");
    assert!(number(estimate, "low") <= value && value <= number(estimate, "high"), "{estimate}");
    assert!(estimate["n"].is_u64() && estimate["method"].is_string(), "{estimate}");
    value
}

/// Evaluations come before the first step, every `eval_every` steps, and at the end, once each.
#[test]
fn sft_evaluates_before_between_and_after_and_improves() {
    let folder = tempfile::tempdir().unwrap();
    let records = run_sft(folder.path());
    let found = evaluations(&records);
    let steps: Vec<_> = found.iter().map(|record| record["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [0, 3, 6]);
    let losses: Vec<f64> = found.iter().map(|one| assert_estimate(one, "eval_loss")).collect();
    assert!(losses.is_sorted_by(|before, after| after < before), "{losses:?}");
    for record in found {
        let (loss, perplexity) =
            (number(&record["eval_loss"], "value"), assert_estimate(record, "eval_perplexity"));
        assert!((loss.exp() - perplexity).abs() < 1e-9);
        assert_estimate(record, "eval_mean_token_accuracy");
    }
    let sizes = records.iter().find(|record| record.get("loss").is_some()).unwrap();
    assert!(sizes["supervised_tokens"].as_u64() < sizes["tokens"].as_u64());
    assert!(folder.path().join("sft/best/model.safetensors").exists());
}

#[test]
fn reward_evaluates_accuracy_calibration_and_length() {
    let folder = tempfile::tempdir().unwrap();
    let records = run_reward(folder.path());
    let found = evaluations(&records);
    assert_eq!(found.len(), 3);
    for record in found {
        for key in ["eval_loss", "eval_accuracy", "eval_margin", "eval_calibration_error"] {
            assert_estimate(record, key);
        }
        let pairs = record["eval_accuracy"]["n"].as_u64().unwrap();
        let count = |list: &str, estimate: &str| -> u64 {
            let list = record[list].as_array().unwrap();
            list.iter().map(|one| one[estimate]["n"].as_u64().unwrap()).sum()
        };
        assert_eq!(count("eval_reliability", "observed"), pairs);
        assert_eq!(count("eval_accuracy_by_length", "accuracy"), pairs);
    }
}

#[test]
fn every_metric_is_documented() {
    let folder = tempfile::tempdir().unwrap();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let text = fs::read_to_string(docs).unwrap();
    for record in [run_sft(folder.path()), run_reward(folder.path())].concat() {
        for key in record.as_object().unwrap().keys() {
            assert!(
                text.contains(&format!("`{key}`")),
                "docs/metrics.md does not say what {key} is"
            );
        }
    }
}
