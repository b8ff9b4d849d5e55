//! What a run directory refuses, keeps and says.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::fs;
use std::path::Path;

use hearken_model::{LoadOptions, Model};
use hearken_tensor::Cpu;
use hearken_train::error::TrainError;
use hearken_train::progress::Silent;
use hearken_train::reward::{self, RewardConfig};
use hearken_train::run::{Outcome, Status};
use hearken_train::run_dir::{RunDir, Start};
use hearken_train::score_normalization::ScoreNormalizationFile;
use hearken_train::sft::{self, SftConfig};
use support::{After, Recorder, config, fixture, llama, metrics, overrides};

const CONFIG: &str = "
[data]
shuffle = false

[optimizer]
lr = 1e-3

[train]
batch_size = 4
steps = 3
";

fn load(run: &Path, more: &[&str]) -> hearken_train::config::Loaded<SftConfig> {
    let mut list = vec![
        format!("run.dir={}", run.display()),
        format!("model.path={}", llama().display()),
        format!("data.train={}", fixture("sft/data.jsonl").display()),
    ];
    list.extend(overrides(more));
    SftConfig::load(&config(run.parent().unwrap(), CONFIG), &list).unwrap()
}

fn train(run: &Path, more: &[&str], start: Start) -> Result<Outcome, TrainError> {
    sft::run(Cpu::new(), &load(run, more), start, &mut Silent)
}

fn failure(run: &Path, more: &[&str]) -> String {
    train(run, more, Start::Resume).unwrap_err().to_string()
}

#[test]
fn another_configuration_is_refused_by_its_first_key_until_the_run_is_fresh() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, &[], Start::Resume).unwrap();
    let error = failure(&run, &["optimizer.lr=0.002"]);
    assert!(error.contains("`optimizer.lr` = 0.001, found 0.002"), "{error}");
    assert!(error.contains("--fresh"), "{error}");
    let outcome = train(&run, &["optimizer.lr=0.002"], Start::Fresh).unwrap();
    assert_eq!((outcome.status, outcome.steps), (Status::Finished, 3));
    assert_eq!(metrics(&run).len(), 3);
}

#[test]
fn a_run_can_be_made_longer() {
    let folder = tempfile::tempdir().unwrap();
    let (short, long) = (folder.path().join("short"), folder.path().join("long"));
    train(&short, &[], Start::Resume).unwrap();
    let outcome = train(&short, &["train.steps=5", "train.log_every=1"], Start::Resume).unwrap();
    assert_eq!((outcome.status, outcome.steps), (Status::Finished, 5));
    train(&long, &["train.steps=5"], Start::Resume).unwrap();
    assert_eq!(metrics(&short), metrics(&long));
}

#[test]
fn two_processes_do_not_share_a_run_directory() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let loaded = load(&run, &[]);
    let held = RunDir::open(&loaded.config.run, &loaded.frozen, Start::Resume).unwrap();
    let error = failure(&run, &[]);
    assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
    drop(held);
    train(&run, &[], Start::Resume).unwrap();
}

#[test]
fn counts_that_no_run_can_have_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grpo.toml");
    let text = "[run]\ndir = 'run'\nseed = 9000000000000000000\n[model]\npath = 'm'\n[data]\n\
                train = 'd.jsonl'\n[grpo]\nprompts = 9000000000000000000\n";
    std::fs::write(&path, text).unwrap();
    let error = hearken_train::grpo::GrpoConfig::load(&path, &[]).unwrap_err().to_string();
    let expected = "`grpo.prompts`: found 9000000000000000000, expected at most 1000000000";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn the_written_configuration_is_one_itself() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let loaded = load(&run, &[]);
    train(&run, &[], Start::Resume).unwrap();
    let again = SftConfig::load(&run.join("config.toml"), &[]).unwrap();
    assert_eq!(again.config, loaded.config);
}

#[test]
fn a_nan_stops_the_run_names_the_parameter_and_keeps_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, &[], Start::Resume).unwrap();
    // The checkpoint's model gets a NaN, as a broken disk would leave it.
    let dir = run.join("checkpoints/step-000003");
    let (mut model, _) = Model::load(Cpu::new(), &dir, &LoadOptions::language_model()).unwrap();
    let index = model.params().iter().position(|param| param.name.contains("up_proj")).unwrap();
    let name = model.params()[index].name.clone();
    let mut values = model.values(index);
    values[5] = f32::NAN;
    model.params_mut().set_values(index, &values);
    model.save(&dir).unwrap();
    let error = failure(&run, &["train.steps=5"]);
    let expected = format!("step 4: found NaN or infinity in the values of `{name}`");
    assert!(error.contains(&expected), "{error}");
    assert!(dir.join("state/state.json").exists());
    assert!(!run.join("checkpoints/step-000004").exists());
}

#[test]
fn a_learning_rate_that_explodes_is_an_error_with_its_step() {
    let folder = tempfile::tempdir().unwrap();
    let error = failure(&folder.path().join("run"), &["optimizer.lr=1e38", "train.steps=6"]);
    assert!(error.starts_with("step "), "{error}");
    assert!(error.contains("found NaN or infinity in"), "{error}");
}

#[test]
fn a_disk_limit_is_an_error_before_the_write() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // A checkpoint takes about 1.2 MB here: weights and two moments of 100,000 parameters.
    let error = failure(&run, &["run.disk_limit_gb=0.0005"]);
    assert!(error.contains("run.disk_limit_gb"), "{error}");
    assert!(!run.join("checkpoints/step-000003").exists());
    train(&run, &["run.disk_limit_gb=0.1"], Start::Resume).unwrap();
}

#[test]
fn only_the_newest_checkpoint_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, &["train.save_every=1"], Start::Resume).unwrap();
    let names: Vec<_> = fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, ["step-000003"]);
}

#[test]
fn a_truncated_checkpoint_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, &[], Start::Resume).unwrap();
    let path = run.join("checkpoints/step-000003/state/optimizer.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = failure(&run, &["train.steps=5"]);
    assert!(error.contains("optimizer.safetensors: not the state of this run"), "{error}");
}

#[test]
fn frozen_parameters_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let frozen = ["model.freeze=[\"model.layers.0.*\", \"model.embed_tokens.weight\"]"];
    train(&run, &frozen, Start::Resume).unwrap();
    let values = |dir: &Path| {
        let (model, _) = Model::load(Cpu::new(), dir, &LoadOptions::language_model()).unwrap();
        let all = 0..model.params().len();
        all.map(|index| (model.params()[index].name.clone(), model.values(index)))
            .collect::<Vec<_>>()
    };
    for ((name, before), (_, after)) in values(&llama()).iter().zip(&values(&run.join("final"))) {
        let is_frozen = name.starts_with("model.layers.0.") || name.contains("embed_tokens");
        assert_eq!(before == after, is_frozen, "{name}");
    }
    let error = failure(&folder.path().join("other"), &["model.freeze=[\"encoder.*\"]"]);
    assert!(error.contains("matches no parameter"), "{error}");
}

#[test]
fn the_first_notes_say_what_will_happen() {
    let folder = tempfile::tempdir().unwrap();
    let mut progress = Recorder::new(After::GoOn);
    let loaded = load(&folder.path().join("run"), &[]);
    sft::run(Cpu::new(), &loaded, Start::Resume, &mut progress).unwrap();
    for part in ["48 examples", "3 steps of 4 examples", "parameters trained, 0 frozen", "memory:"]
    {
        assert!(progress.said(part), "{part}: {:?}", progress.notes);
    }
}

#[test]
fn samples_are_written_down_and_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["train.sample_every=2", "samples.count=3", "samples.max_new_tokens=5"];
    let samples = |name: &str| {
        let run = folder.path().join(name);
        train(&run, &more, Start::Resume).unwrap();
        support::json_lines(&run.join("samples.jsonl"))
    };
    let found = samples("one");
    assert_eq!(found.len(), 3);
    for sample in &found {
        assert_eq!(sample["step"], 2);
        assert!(sample["tokens"].as_u64().unwrap() <= 5);
        assert!(sample["prompt"].is_string() && sample["completion"].is_string(), "{sample}");
    }
    assert_eq!(found, samples("other"));
}

#[test]
fn a_reward_model_is_a_classifier_with_its_normalization_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let list = [
        format!("run.dir={}", run.display()),
        format!("model.path={}", llama().display()),
        format!("data.train={}", fixture("rm/data.jsonl").display()),
    ];
    let loaded = RewardConfig::load(&config(folder.path(), CONFIG), &list).unwrap();
    let mut progress = Recorder::new(After::GoOn);
    reward::run(Cpu::new(), &loaded, Start::Resume, &mut progress).unwrap();
    assert!(progress.said("`score.weight`"), "{:?}", progress.notes);

    let text = fs::read_to_string(run.join("final/config.json")).unwrap();
    let saved: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(saved["architectures"], serde_json::json!(["LlamaForSequenceClassification"]));
    assert_eq!(saved["id2label"], serde_json::json!({"0": "LABEL_0"}));
    assert_eq!(saved["pad_token_id"], serde_json::json!(1));
    Model::load(Cpu::new(), &run.join("final"), &LoadOptions::scorer()).unwrap();
    let measured = ScoreNormalizationFile::load(&run.join("final")).unwrap().expect("the file");
    assert_eq!(measured.n, 48);
    assert!(0.0 < measured.std && measured.mean.is_finite());
}
