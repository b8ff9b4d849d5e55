//! What a run directory refuses, keeps and says.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::support::{After, Recorder, config, fixture, llama, metrics, overrides};
use hearken_config::Configuration;
use hearken_model::{LoadOptions, Model};
use hearken_reward_source::score_normalization::ScoreNormalizationFile;
use hearken_run::error::TrainError;
use hearken_run::progress::Silent;
use hearken_run::run::{RunOutcome, Status};
use hearken_run::run_dir::{OpenFor, RunDir, Start};
use hearken_tensor::Cpu;
use hearken_train::reward::{self, RewardConfig};
use hearken_train::sft::{self, SftConfig};

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

fn load(run: &Path, more: &[&str]) -> hearken_config::LoadedConfig<SftConfig> {
    let mut list = vec![
        format!("run.dir={}", run.display()),
        format!("model.path={}", llama().display()),
        format!("data.train={}", fixture("sft/data.jsonl").display()),
    ];
    list.extend(overrides(more));
    SftConfig::load(&config(run.parent().unwrap(), CONFIG), &list).unwrap()
}

fn train(run: &Path, more: &[&str], start: Start) -> Result<RunOutcome, TrainError> {
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
fn a_look_takes_no_directory_and_finds_who_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let loaded = load(&run, &[]);
    let open = |entry: OpenFor| {
        RunDir::open(&loaded.config.shared.run, loaded.config.shared.log, &loaded.frozen, entry)
    };
    let looked_at = open(OpenFor::Look(Start::Resume)).unwrap();
    assert!(!run.exists());
    let held = open(OpenFor::from(Start::Resume)).unwrap();
    let error = open(OpenFor::Look(Start::Resume)).unwrap_err().to_string();
    assert_eq!(error, open(OpenFor::from(Start::Resume)).unwrap_err().to_string());
    drop((looked_at, held));
    open(OpenFor::Look(Start::Fresh)).unwrap();
    assert!(!run.exists());
}

#[test]
fn a_run_can_be_made_longer() {
    let folder = tempfile::tempdir().unwrap();
    let (short, long) = (folder.path().join("short"), folder.path().join("long"));
    let kept = "train.keep_optimizer=true";
    train(&short, &[kept], Start::Resume).unwrap();
    let outcome = train(&short, &["train.steps=5", "train.log_every=1"], Start::Resume).unwrap();
    assert_eq!((outcome.status, outcome.steps), (Status::Finished, 5));
    train(&long, &["train.steps=5"], Start::Resume).unwrap();
    assert_eq!(metrics(&short), metrics(&long));
}

#[test]
fn a_finished_run_drops_the_moments_and_says_so_when_it_is_made_longer() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, &[], Start::Resume).unwrap();
    assert!(!run.join("checkpoints/step-000003/state/optimizer.safetensors").exists());
    let mut progress = Recorder::new(After::GoOn);
    let loaded = load(&run, &["train.steps=5"]);
    let outcome = sft::run(Cpu::new(), &loaded, Start::Resume, &mut progress).unwrap();
    assert_eq!((outcome.status, outcome.steps), (Status::Finished, 5));
    assert!(progress.said("train.keep_optimizer"), "{:?}", progress.notes);
    let steps = metrics(&run);
    assert_eq!(steps.len(), 5);
    // The moments begin anew, the weights do not.
    let loss = |at: usize| steps[at]["loss"].as_f64().unwrap();
    assert!(loss(3) < loss(0), "{steps:?}");
}

#[test]
fn time_makes_checkpoints_where_steps_make_none() {
    let folder = tempfile::tempdir().unwrap();
    let (timed, whole) = (folder.path().join("timed"), folder.path().join("whole"));
    let go = |run: &Path, more: &[&str], after: After| {
        let mut progress = Recorder::new(after);
        let loaded = load(run, more);
        let go = || sft::run(Cpu::new(), &loaded, Start::Resume, &mut progress);
        let done = catch_unwind(AssertUnwindSafe(go));
        (done.is_ok(), progress)
    };
    let always = "train.save_minutes=1e-9";
    assert!(!go(&timed, &[always], After::Die(3)).0);
    // One at the first step, and the next when twenty times as long has passed as that one took.
    let names = fs::read_dir(timed.join("checkpoints")).unwrap();
    let dirs: Vec<_> = names.map(|entry| entry.unwrap().path()).collect();
    assert!(dirs.len() == 1 && dirs[0].join("state/optimizer.safetensors").exists(), "{dirs:?}");
    let none = folder.path().join("none");
    assert!(!go(&none, &["train.save_minutes=0"], After::Die(3)).0);
    assert!(!none.join("checkpoints").exists());

    // When there are checkpoints changes nothing.
    assert!(go(&timed, &[always], After::GoOn).0);
    assert!(go(&whole, &["train.save_minutes=0"], After::GoOn).0);
    assert_eq!(metrics(&timed), metrics(&whole));
    let weights = |run: &Path| fs::read(run.join("final/model.safetensors")).unwrap();
    assert!(weights(&timed) == weights(&whole));

    // Not where the disk limit has room for one only.
    let tight = folder.path().join("tight");
    let (done, progress) = go(&tight, &[always, "run.disk_limit_gb=0.003"], After::GoOn);
    assert!(done);
    assert!(progress.said("no checkpoints by time"), "{:?}", progress.notes);
}

#[test]
fn two_processes_do_not_share_a_run_directory() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let loaded = load(&run, &[]);
    let held = RunDir::open(
        &loaded.config.shared.run,
        loaded.config.shared.log,
        &loaded.frozen,
        Start::Resume,
    )
    .unwrap();
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
    let error = failure(&run, &["run.disk_limit_gb=0.0005", "train.keep_optimizer=true"]);
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
    train(&run, &["train.keep_optimizer=true"], Start::Resume).unwrap();
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
        crate::support::json_lines(&run.join("samples.jsonl"))
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

/// The files below a folder, with their bytes.
fn contents(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != "lock" {
                let bytes = fs::read(&path).unwrap();
                found.push((path, bytes));
            }
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::write(to.join(path.file_name().unwrap()), fs::read(&path).unwrap()).unwrap();
    }
}

#[test]
fn a_fresh_start_that_cannot_read_its_inputs_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, &[], Start::Resume).unwrap();
    let before = contents(&run);
    let (final_model, inside) = (run.join("final"), run.join("more.jsonl"));
    let path = format!("model.path={}", final_model.display());
    let data = format!("data.train={}", inside.display());
    for (wrong, says) in [
        ("data.train=absent.jsonl", "absent.jsonl"),
        ("model.path=absent", "absent"),
        ("model.freeze=[\"encoder.*\"]", "matches no parameter"),
        ("run.memory_limit_gb=0.000001", "memory_limit_gb"),
        (path.as_str(), "`model.path`"),
    ] {
        let error = train(&run, &[wrong], Start::Fresh).unwrap_err().to_string();
        assert!(error.contains(says), "{wrong}: {error}");
        assert!(contents(&run) == before && !folder.path().join("run.old-1").exists(), "{wrong}");
    }
    fs::write(&inside, fs::read(fixture("sft/data.jsonl")).unwrap()).unwrap();
    let error = train(&run, &[&data], Start::Fresh).unwrap_err().to_string();
    assert!(
        error.contains("`data.train`") && error.contains("lies in the run directory"),
        "{error}"
    );
}

#[test]
fn what_a_fresh_start_replaces_is_kept_until_the_first_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (run, aside) = (folder.path().join("run"), folder.path().join("run.old-1"));
    train(&run, &[], Start::Resume).unwrap();
    let before = fs::read(run.join("final/model.safetensors")).unwrap();
    let failing = ["optimizer.lr=1e38", "train.steps=6"];
    let mut progress = Recorder::new(After::GoOn);
    sft::run(Cpu::new(), &load(&run, &failing), Start::Fresh, &mut progress).unwrap_err();
    assert!(progress.said("run.old-1"), "{:?}", progress.notes);
    assert!(fs::read(aside.join("final/model.safetensors")).unwrap() == before);
    // The run that failed has no checkpoint, so that the next one may have any settings.
    let outcome = train(&run, &[], Start::Resume).unwrap();
    assert_eq!(outcome.steps, 3);
    assert!(!aside.exists() && run.join("final").is_dir());
}

#[test]
fn files_that_are_no_runs_are_not_replaced() {
    for name in ["final", "metrics.jsonl", "config.toml"] {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        fs::create_dir(&run).unwrap();
        if name == "final" {
            copy(&llama(), &run.join(name));
        } else {
            fs::write(run.join(name), "# mine").unwrap();
        }
        let before = contents(&run);
        for start in [Start::Resume, Start::Fresh] {
            let error = train(&run, &[], start).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("not the folder of a run"), "{error}");
        }
        assert!(contents(&run) == before, "{name}");
    }
    // Nor is the model of a run whose checkpoints somebody has removed.
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, &[], Start::Resume).unwrap();
    fs::remove_dir_all(run.join("checkpoints")).unwrap();
    assert!(failure(&run, &[]).contains("no checkpoint to go on from"));
    train(&run, &[], Start::Fresh).unwrap();
}

#[test]
fn a_run_that_failed_before_its_first_step_takes_any_settings() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    failure(&run, &["data.train=absent.jsonl"]);
    assert!(!run.exists());
    failure(&run, &["optimizer.lr=1e38", "train.steps=6"]);
    assert_eq!(train(&run, &[], Start::Resume).unwrap().steps, 3);
}

#[test]
fn keys_that_change_no_result_may_change() {
    let folder = tempfile::tempdir().unwrap();
    let (run, whole) = (folder.path().join("run"), folder.path().join("whole"));
    train(&run, &["train.keep_optimizer=true"], Start::Resume).unwrap();
    let others = ["train.steps=5", "train.microbatch_tokens=4000", "run.memory_limit_gb=8"];
    let mut progress = Recorder::new(After::GoOn);
    sft::run(Cpu::new(), &load(&run, &others), Start::Resume, &mut progress).unwrap();
    assert!(progress.said("may differ in the last bits"), "{:?}", progress.notes);
    train(&whole, &["train.steps=5"], Start::Resume).unwrap();
    assert_eq!(metrics(&run).len(), metrics(&whole).len());
}

#[test]
fn another_file_under_the_same_name_is_refused_and_another_start_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (run, data, model) =
        (folder.path().join("run"), folder.path().join("data.jsonl"), folder.path().join("model"));
    let text = fs::read_to_string(fixture("sft/data.jsonl")).unwrap();
    fs::write(&data, &text).unwrap();
    copy(&llama(), &model);
    let inputs =
        [format!("data.train={}", data.display()), format!("model.path={}", model.display())];
    let with =
        |more: &'static str| [inputs[0].as_str(), inputs[1].as_str(), more].map(String::from);
    let refs = |list: &[String]| list.iter().map(String::clone).collect::<Vec<_>>();
    let run_with = |more: &'static str| {
        let list = refs(&with(more));
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        let mut progress = Recorder::new(After::GoOn);
        let done = sft::run(Cpu::new(), &load(&run, &list), Start::Resume, &mut progress);
        (done.map(|outcome| outcome.steps).map_err(|error| error.to_string()), progress)
    };
    run_with("train.steps=3").0.unwrap();
    for other in [text.lines().take(5).collect::<Vec<_>>().join("\n"), text.replace("222", "223")] {
        fs::write(&data, other).unwrap();
        let error = run_with("train.steps=6").0.unwrap_err();
        assert!(error.contains("`data.train`") && error.contains("holds other data"), "{error}");
        // A run that has come to its end is what it is.
        assert_eq!(run_with("train.steps=3").0.unwrap(), 3);
    }
    fs::write(&data, &text).unwrap();
    let (mut other, _) = Model::load(Cpu::new(), &model, &LoadOptions::language_model()).unwrap();
    let mut values = other.values(0);
    values[0] += 0.5;
    other.params_mut().set_values(0, &values);
    other.save(&model).unwrap();
    let (steps, progress) = run_with("train.steps=6");
    assert_eq!(steps.unwrap(), 6);
    assert!(progress.said("another model than when the run began"), "{:?}", progress.notes);
}

#[test]
fn a_checkpoint_that_says_nothing_of_its_inputs_is_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, &[], Start::Resume).unwrap();
    let path = run.join("checkpoints/step-000003/state/state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    state.as_object_mut().unwrap().remove("inputs").unwrap();
    fs::write(&path, state.to_string()).unwrap();
    // Of a file that has become shorter, it knows how far it is.
    let few = folder.path().join("few.jsonl");
    let text = fs::read_to_string(fixture("sft/data.jsonl")).unwrap();
    fs::write(&few, text.lines().take(5).collect::<Vec<_>>().join("\n")).unwrap();
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    let old = fixture("sft/data.jsonl").display().to_string();
    fs::write(run.join("config.toml"), config.replace(&old, &few.display().to_string())).unwrap();
    let few = format!("data.train={}", few.display());
    let error = failure(&run, &["train.steps=6", &few]);
    assert!(error.contains("found 5 examples"), "{error}");
    fs::write(run.join("config.toml"), config).unwrap();
    assert_eq!(train(&run, &["train.steps=6"], Start::Resume).unwrap().steps, 6);
}

#[test]
fn models_are_written_in_the_format_and_the_files_that_the_configuration_says() {
    use hearken_model::checkpoint::{NumberFormat, TensorFiles};

    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, &["run.save_dtype=f16", "run.shard_size_gb=0.00005"], Start::Resume).unwrap();
    let stored = |name: &str| TensorFiles::open(&run.join(name)).unwrap().stored();
    assert_eq!(stored("final"), NumberFormat::F16);
    assert_eq!(stored("checkpoints/step-000003"), NumberFormat::F32);
    assert!(run.join("final/model.safetensors.index.json").exists());
    assert!(!run.join("final/model.safetensors").exists());
    // Neither key makes another run of it.
    train(&run, &["train.steps=5", "run.save_dtype=bf16"], Start::Resume).unwrap();
    assert_eq!(stored("final"), NumberFormat::Bf16);
    assert!(run.join("final/model.safetensors").exists());
}

#[test]
fn models_have_the_format_of_the_one_that_training_starts_from() {
    use hearken_model::checkpoint::{NumberFormat, TensorFiles};

    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    copy(&llama(), &base);
    let (model, _) = Model::load(Cpu::new(), &base, &LoadOptions::language_model()).unwrap();
    model.save_as(&base, NumberFormat::Bf16).unwrap();
    let run = folder.path().join("run");
    let base = format!("model.path={}", base.display());
    train(&run, &[&base, "data.eval_fraction=0.2"], Start::Resume).unwrap();
    let stored = |name: &str| TensorFiles::open(&run.join(name)).unwrap().stored();
    let all = ["final", "best", "checkpoints/step-000003"].map(stored);
    assert_eq!(all, [NumberFormat::Bf16, NumberFormat::Bf16, NumberFormat::F32]);
    let text = fs::read_to_string(run.join("final/config.json")).unwrap();
    assert!(text.contains("\"dtype\": \"bfloat16\""), "{text}");
    // And the run goes on from f32: what is rounded is not trained on.
    train(&run, &[&base, "data.eval_fraction=0.2", "train.steps=5"], Start::Resume).unwrap();
}

#[cfg(unix)]
#[test]
fn equal_models_are_on_the_disk_once() {
    use std::os::unix::fs::MetadataExt;

    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, &["data.eval_fraction=0.2", "train.steps=6"], Start::Resume).unwrap();
    let file = |name: &str| fs::metadata(run.join(name).join("model.safetensors")).unwrap().ino();
    assert_eq!(file("final"), file("checkpoints/step-000006"));
    let last = metrics(&run).last().unwrap()["eval_loss"].is_object();
    assert!(last, "the run ends with an evaluation");
    let best = metrics(&run);
    let losses: Vec<f64> =
        best.iter().filter_map(|record| record["eval_loss"]["value"].as_f64()).collect();
    let is_best = losses.iter().all(|&loss| losses[losses.len() - 1] <= loss);
    assert_eq!(is_best, file("final") == file("best"));
}

/// A card, and the digest that it has for a part of something.
fn card(model: &Path) -> (String, impl Fn(&str) -> String + use<>) {
    let text = fs::read_to_string(model.join("README.md")).unwrap();
    let lines = text.clone();
    let digest = move |what: &str| {
        let line = lines.lines().find(|line| line.starts_with(what));
        let line = line.unwrap_or_else(|| panic!("no {what} in {lines}"));
        line.rsplit('`').nth(1).unwrap().to_owned()
    };
    (text, digest)
}

#[test]
fn a_saved_model_has_a_card_by_which_it_is_followed_back() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    train(&first, &["data.eval_fraction=0.2"], Start::Resume).unwrap();
    let base = format!("model.path={}", first.join("final").display());
    train(&second, &[&base], Start::Resume).unwrap();
    let ((text, of_first), (later, of_second)) =
        (card(&first.join("final")), card(&second.join("final")));
    assert_eq!(of_first("- this model, weights:"), of_second("- `model.path`"));
    let data = "- `data.train`";
    assert_eq!(of_first(data), of_second(data));
    assert_ne!(of_first("- this model, weights:"), of_second("- this model, weights:"));
    assert!(card(&first.join("best")).0.contains("| `eval_loss` | "));

    let head: Vec<&str> = text.split("---\n").nth(1).unwrap().lines().collect();
    assert_eq!(head[0], format!("base_model: {:?}", llama().display().to_string()));
    let data = fixture("sft/data.jsonl").display().to_string();
    assert_eq!(head[1..3], ["datasets:", &format!("- {data:?}")]);
    let rest = ["library_name: transformers", "pipeline_tag: text-generation", "tags:"];
    assert_eq!(head[3..6], rest);
    assert!(text.contains("\nhearken sft ") && text.contains("lr = 0.001\n"), "{text}");
    assert!(text.contains("On held-out data, at step 3:") && text.contains(" to "), "{text}");
    assert!(later.contains("Nothing was evaluated on held-out data."), "{later}");
    assert!(!text.contains("seconds") && !text.contains("tokens_per_s"), "{text}");
}
