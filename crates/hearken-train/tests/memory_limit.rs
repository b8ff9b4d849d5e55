//! Runs within a limit of memory.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::path::Path;

use hearken_config::Configuration;
use hearken_model::{Footprint, Head, ModelConfig};
use hearken_run::plan::MemoryPlan;
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_tensor::device::Precision;
use hearken_train::sft::{self, SftConfig};
use support::{After, Recorder, config, fixture, llama, number, overrides, steps};

const CONFIG: &str = "
[data]
shuffle = false
[optimizer]
lr = 1e-3
schedule = 'constant'
warmup_steps = 0
[train]
batch_size = 4
steps = 3
";

/// What the run's model takes.
fn footprint() -> Footprint {
    let config = ModelConfig::read(&llama()).unwrap();
    Footprint::new(&config, Head::LanguageModel, Precision::F32, |_| true)
}

/// The limit, in GB, that leaves room for microbatches of so many tokens.
fn limit(tokens: usize) -> String {
    let footprint = footprint();
    let per_row = 1.25 * footprint.kept_bytes_per_row() as f64;
    let bytes = MemoryPlan::trained(&footprint).held() as f64 + (tokens as f64 + 0.5) * per_row;
    format!("run.memory_limit_gb={}", bytes / 1e9)
}

/// Trains; gives the losses and what was said, or the error.
fn train(folder: &Path, more: &[&str]) -> Result<(Vec<f64>, Recorder), String> {
    let run = folder.join("run");
    let mut list = vec![
        format!("run.dir={}", run.display()),
        format!("model.path={}", llama().display()),
        format!("data.train={}", fixture("sft/data.jsonl").display()),
    ];
    list.extend(overrides(more));
    let loaded = SftConfig::load(&config(folder, CONFIG), &list).unwrap();
    let mut recorder = Recorder::new(After::GoOn);
    sft::run(Cpu::new(), &loaded, Start::Fresh, &mut recorder)
        .map_err(|error| error.to_string())?;
    let losses = steps(&run).iter().map(|step| number(step, "loss")).collect();
    Ok((losses, recorder))
}

/// Means of means weigh short sequences more: huggingface/trl#2175.
#[test]
fn microbatches_follow_from_the_limit_and_change_no_loss() {
    let folder = tempfile::tempdir().unwrap();
    let (expected, said) = train(folder.path(), &[]).unwrap();
    assert!(said.said("microbatches of at most 4096"), "{:?}", said.notes);
    for tokens in [200, 333] {
        let (losses, said) = train(folder.path(), &[&limit(tokens)]).unwrap();
        assert!(said.said(&format!("microbatches of at most {tokens})")), "{:?}", said.notes);
        for (found, expected) in losses.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5 * expected, "{found} {expected}");
        }
    }
}

#[test]
fn a_number_of_tokens_of_ones_own_wins() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [limit(1), "train.microbatch_tokens=160".to_owned()];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let (_, said) = train(folder.path(), &settings).unwrap();
    assert!(said.said("microbatches of at most 160)"), "{:?}", said.notes);
}

#[test]
fn what_does_not_fit_is_an_error_with_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let error = train(folder.path(), &["run.memory_limit_gb=0.05"]).unwrap_err();
    assert!(error.contains("`run.memory_limit_gb`: found 50.0 MB, expected at least"), "{error}");
    assert!(error.contains("weights") && error.contains("optimizer"), "{error}");
    let error = train(folder.path(), &[&limit(2)]).unwrap_err();
    assert!(error.contains("room for microbatches of 2 tokens"), "{error}");
    assert!(error.contains("the longest example"), "{error}");
}
