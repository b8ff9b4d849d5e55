//! Preference optimization: resuming, learning, records of every kind, and what is refused.

use std::fs;
use std::path::Path;

use crate::support::{After, Recorder, config, fixture, llama, metrics, number, overrides, steps};
use hearken_config::Configuration;
use hearken_run::error::TrainError;
use hearken_run::run::{RunOutcome, Status};
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_train::dpo::{self, DpoConfig};
use serde_json::Value;

const CONFIG: &str = "
[run]
seed = 5

[optimizer]
lr = 1e-3
schedule = 'constant'
warmup_steps = 0

[train]
batch_size = 4
steps = 6
";

fn train(
    folder: &Path,
    run: &str,
    more: &[&str],
    progress: &mut Recorder,
) -> Result<RunOutcome, TrainError> {
    let mut list = vec![
        format!("run.dir={}", folder.join(run).display()),
        format!("model.path={}", llama().display()),
        format!("data.train={}", fixture("dpo_sigmoid/data.jsonl").display()),
    ];
    list.extend(overrides(more));
    let loaded = DpoConfig::load(&config(folder, CONFIG), &list)?;
    dpo::run(Cpu::new(), &loaded, Start::Resume, progress)
}

fn go(folder: &Path, run: &str, more: &[&str]) -> Recorder {
    let mut progress = Recorder::new(After::GoOn);
    let outcome = train(folder, run, more, &mut progress).unwrap();
    assert_eq!(outcome.status, Status::Finished);
    progress
}

fn kto_data() -> String {
    format!("data.train={}", fixture("kto/data.jsonl").display())
}

fn assert_resumes(more: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let more = [more, &["data.eval_fraction=0.2", "train.eval_every=2"]].concat();
    go(folder.path(), "whole", &more);
    let mut stopping = Recorder::new(After::Stop(3));
    let stopped = train(folder.path(), "parts", &more, &mut stopping).unwrap();
    assert_eq!((stopped.status, stopped.steps), (Status::Stopped, 3));
    go(folder.path(), "parts", &more);
    let [whole, parts] = ["whole", "parts"].map(|run| folder.path().join(run));
    assert_eq!(metrics(&whole), metrics(&parts));
    for file in ["final/model.safetensors", "best/model.safetensors"] {
        assert!(
            fs::read(whole.join(file)).unwrap() == fs::read(parts.join(file)).unwrap(),
            "{file}"
        );
    }
}

#[test]
fn a_stopped_run_goes_on_bit_for_bit() {
    assert_resumes(&[]);
}

#[test]
fn a_moving_reference_goes_on_bit_for_bit() {
    assert_resumes(&["dpo.reference_sync_steps=2"]);
}

#[test]
fn the_running_shift_of_bco_goes_on_bit_for_bit() {
    assert_resumes(&["dpo.loss=bco", &kto_data()]);
}

#[test]
fn preferences_are_learned() {
    for more in [vec!["dpo.loss=sigmoid"], vec!["dpo.loss=simpo"], vec!["dpo.loss=aot"]] {
        let folder = tempfile::tempdir().unwrap();
        let short = ["data.limit=8", "train.batch_size=8", "train.steps=12"];
        go(folder.path(), "run", &[more.as_slice(), &short].concat());
        let steps = steps(&folder.path().join("run"));
        let (first, last) = (&steps[0], &steps[11]);
        assert!(number(first, "rewards/accuracies") < 0.9, "{more:?}");
        assert!(number(last, "rewards/accuracies") > 0.99, "{more:?}");
        assert!(number(first, "rewards/margins") < number(last, "rewards/margins"), "{more:?}");
    }
}

#[test]
fn undesirable_completions_fall_below_desirable_ones() {
    let folder = tempfile::tempdir().unwrap();
    let data = kto_data();
    go(folder.path(), "run", &["dpo.loss=kto", &data, "data.limit=8", "train.steps=24"]);
    let last = steps(&folder.path().join("run")).pop().unwrap();
    assert!(number(&last, "rewards/rejected") < number(&last, "rewards/chosen"));
    assert!(number(&last, "kl") >= 0.0);
}

#[test]
fn reference_log_probabilities_are_stored_once_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = format!("dpo.reference_cache={}", folder.path().join("cache").display());
    let reference = format!("dpo.reference={}", llama().display());
    let one = go(folder.path(), "one", &[&cache]);
    assert!(one.said("are stored in") && !one.said("are read from"));
    let two = go(folder.path(), "two", &[&cache, &reference]);
    assert!(two.said("are read from") && !two.said("are stored in"));
    let [one, two] = ["one", "two"].map(|run| metrics(&folder.path().join(run)));
    assert_eq!(one, two);
    assert!(number(&one[0], "rewards/margins").abs() < 1e-5);
    let free = go(folder.path(), "free", &["dpo.loss=cpo"]);
    assert!(!free.said("reference log-probabilities"));
}

/// At the start the policy is its reference; a rate far too high then takes it away from there.
#[test]
fn the_distance_from_the_reference_is_measured_on_fresh_completions() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["dpo.kl_prompts=8", "samples.max_new_tokens=12", "optimizer.lr=0.01"];
    go(folder.path(), "run", &more);
    let records = metrics(&folder.path().join("run"));
    let kl: Vec<f64> = records
        .iter()
        .filter_map(|record| record.get("eval_kl"))
        .map(|estimate| number(estimate, "value"))
        .collect();
    assert_eq!(kl.len(), 2);
    assert!(kl[0].abs() < 1e-4 && 0.01 < kl[1], "{kl:?}");
}

/// Evaluations are what a run over records is watched by: the first that is too far ends it, slows it, or is only said.
#[test]
fn a_run_over_records_is_watched_at_its_evaluations() {
    let folder = tempfile::tempdir().unwrap();
    let far = [
        "dpo.kl_prompts=4",
        "samples.max_new_tokens=8",
        "optimizer.lr=0.01",
        "train.steps=6",
        "train.eval_every=2",
        "guard.window=1",
        "guard.kl_max=0.005",
    ];
    let warned = go(folder.path(), "warn", &far);
    let alarms: Vec<_> = warned.notes.iter().filter(|note| note.contains("signal kl")).collect();
    assert_eq!(alarms.len(), 1, "{:?}", warned.notes);
    assert!(alarms[0].starts_with("step ") && alarms[0].contains("`guard.kl_max` = 0.005"));
    assert_eq!(steps(&folder.path().join("warn")).len(), 6);

    let stopped = go(folder.path(), "stop", &[&far[..], &["guard.action=stop"]].concat());
    assert!(stopped.said("the run ends here"), "{:?}", stopped.notes);
    let made = steps(&folder.path().join("stop")).len();
    assert!((2..6).contains(&made), "{made}");
    assert!(folder.path().join("stop/final/config.json").exists());

    go(
        folder.path(),
        "slow",
        &[&far[..], &["guard.action=slow", "guard.slow_factor=0.25"]].concat(),
    );
    let rates: Vec<f64> = steps(&folder.path().join("slow"))
        .iter()
        .map(|step| number(step, "learning_rate"))
        .collect();
    assert!((rates[0] - 0.01).abs() < 1e-9 && (rates[5] - 0.0025).abs() < 1e-9, "{rates:?}");

    // Nothing is watched, and single completions are watched too.
    assert!(!go(folder.path(), "off", &[&far[..], &["guard.action=off"]].concat()).said("signal"));
    let kto = kto_data();
    let single = go(
        folder.path(),
        "kto",
        &[&far[..], &["dpo.loss=kto", &kto, "guard.kl_max=1e-9"]].concat(),
    );
    assert!(single.said("signal kl"), "{:?}", single.notes);
}

/// p = 0 is the swapped pair: everything learned is learned the other way round.
#[test]
fn a_soft_label_of_zero_swaps_the_pair() {
    let folder = tempfile::tempdir().unwrap();
    let data = fs::read_to_string(fixture("dpo_sigmoid/data.jsonl")).unwrap();
    let (soft, swapped) = (folder.path().join("soft.jsonl"), folder.path().join("swapped.jsonl"));
    let rewrite = |of: fn(&mut serde_json::Map<String, Value>)| -> String {
        let line = |line: &str| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            of(record.as_object_mut().unwrap());
            format!("{record}\n")
        };
        data.lines().map(line).collect()
    };
    let zero = |record: &mut serde_json::Map<String, Value>| {
        record.insert("probability".into(), 0.0.into());
    };
    fs::write(&soft, rewrite(zero)).unwrap();
    let swap = |record: &mut serde_json::Map<String, Value>| {
        let chosen = record["chosen_ids"].take();
        let rejected = record.insert("rejected_ids".into(), chosen).unwrap();
        record.insert("chosen_ids".into(), rejected);
    };
    fs::write(&swapped, rewrite(swap)).unwrap();
    for (run, path) in [("soft", soft), ("swapped", swapped)] {
        go(folder.path(), run, &[&format!("data.train={}", path.display())]);
    }
    let [soft, swapped] = ["soft", "swapped"].map(|run| steps(&folder.path().join(run)));
    for (soft, swapped) in soft.iter().zip(&swapped) {
        let error = number(soft, "loss") - number(swapped, "loss");
        assert!(error.abs() < 1e-5, "{soft} {swapped}");
        let sum = number(soft, "rewards/margins") + number(swapped, "rewards/margins");
        assert!(sum.abs() < 1e-4, "{soft} {swapped}");
    }
}

fn run_records(records: &str, more: &[&str]) -> Result<Vec<Value>, TrainError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.jsonl");
    fs::write(&path, records).unwrap();
    let data = format!("data.train={}", path.display());
    let more = [more, &[&data, "train.steps=2"]].concat();
    train(folder.path(), "run", &more, &mut Recorder::new(After::GoOn))?;
    Ok(metrics(&folder.path().join("run")))
}

fn refused(records: &str, more: &[&str]) -> String {
    run_records(records, more).unwrap_err().to_string()
}

const TEXTS: &str = r#"{"prompt": "To be, or", "chosen": " not to be", "rejected": " to sleep"}
{"prompt": "My kingdom for", "chosen": " a horse", "rejected": " a hors"}
"#;

#[test]
fn texts_and_completions_that_begin_alike_are_records() {
    let steps = run_records(TEXTS, &["train.sample_every=1"]).unwrap();
    assert!(steps.iter().all(|step| number(step, "grad_norm") > 0.0));
    let prefix = r#"{"prompt_ids": [5, 6], "chosen_ids": [7], "rejected_ids": [7, 8]}"#;
    for loss in ["dpo.loss=sigmoid", "dpo.loss=simpo", "dpo.loss=orpo", "dpo.loss=nca_pair"] {
        let steps = run_records(prefix, &[loss]).unwrap();
        assert!(steps.iter().all(|step| number(step, "grad_norm") > 0.0), "{loss}");
    }
    let judged = r#"{"prompt": "To be, or", "completion": " not to be", "label": true}
{"prompt": "My kingdom for", "completion": " a horse", "label": false}
"#;
    assert!(run_records(judged, &["dpo.loss=kto"]).is_ok());
}

/// A pair is a good and a bad completion: the same file written out one by one trains the same.
#[test]
fn pairs_serve_losses_on_single_completions() {
    let pairs = r#"{"prompt_ids": [5, 6], "chosen_ids": [7], "rejected_ids": [8, 9]}
{"prompt_ids": [10], "chosen_ids": [11, 12], "rejected_ids": [13]}
"#;
    let singles = r#"{"prompt_ids": [5, 6], "completion_ids": [7], "label": true}
{"prompt_ids": [10], "completion_ids": [11, 12], "label": true}
{"prompt_ids": [5, 6], "completion_ids": [8, 9], "label": false}
{"prompt_ids": [10], "completion_ids": [13], "label": false}
"#;
    for loss in ["dpo.loss=kto", "dpo.loss=bco"] {
        let more = [loss, "data.shuffle=false"];
        assert_eq!(run_records(pairs, &more).unwrap(), run_records(singles, &more).unwrap());
    }
    let whole = r#"{"chosen_ids": [5, 7], "rejected_ids": [5, 8]}"#;
    assert!(refused(whole, &["dpo.loss=kto"]).contains("the prompt"));
}

#[test]
fn bad_records_are_named() {
    let same = r#"{"prompt_ids": [5, 6], "chosen_ids": [7, 8], "rejected_ids": [7, 8]}"#;
    assert!(refused(same, &[]).contains("records.jsonl:1"), "{}", refused(same, &[]));
    let empty = r#"{"prompt_ids": [5, 6], "chosen_ids": [], "rejected_ids": [7, 8]}"#;
    assert!(refused(empty, &[]).contains("chosen_ids"), "{}", refused(empty, &[]));
    let unknown = r#"{"prompt_ids": [5, 9999], "chosen_ids": [7], "rejected_ids": [8]}"#;
    assert!(refused(unknown, &[]).contains("9999"), "{}", refused(unknown, &[]));
    let alone = r#"{"prompt_ids": [5, 6], "completion_ids": [7, 8], "label": true}"#;
    assert!(refused(alone, &["dpo.loss=kto"]).contains("at least two prompts"));
}

/// Four tokens of prompt where three tokens have room.
#[test]
fn prompts_longer_than_the_context_follow_the_truncation() {
    let records = r#"{"prompt_ids": [5, 6, 7, 8], "chosen_ids": [9], "rejected_ids": [10, 11]}
{"prompt_ids": [5], "chosen_ids": [9], "rejected_ids": [10, 11]}
"#;
    let limit = "data.max_tokens=3";
    let message = refused(records, &[limit]);
    assert!(
        message.contains("records.jsonl:1") && message.contains("data.truncation"),
        "{message}"
    );
    assert!(run_records(records, &[limit, "data.truncation=drop"]).is_ok());
    assert!(run_records(records, &[limit, "data.truncation=left"]).is_ok());
    // The right end is cut: nothing is left of the first record's completions, and it is left out.
    assert!(run_records(records, &[limit, "data.truncation=right"]).is_ok());
}

#[test]
fn contradictions_and_ranges_are_named_early() {
    for (more, part) in [
        (vec!["dpo.loss=dpo"], "one of \"sigmoid\""),
        (vec!["dpo.los=ipo"], "`dpo.loss`"),
        (vec!["dpo.loss=aot", "dpo.wpo=true"], "`dpo.wpo`"),
        (vec!["dpo.loss=nca_pair", "dpo.divergence=forward_kl"], "`dpo.divergence`"),
        (vec!["dpo.loss=kto", "dpo.rpo_alpha=1"], "`dpo.rpo_alpha`"),
        (vec!["dpo.loss=exo_pair", "dpo.label_smoothing=0"], "`dpo.label_smoothing`"),
        (vec!["dpo.beta=0"], "`dpo.beta`"),
        (vec!["dpo.loss=['sigmoid', 'orpo']"], "stands alone"),
        (vec!["dpo.loss=['sigmoid', 'ipo']", "dpo.loss_weights=[1.0]"], "`dpo.loss_weights`"),
        (vec!["dpo.reference_cache=x", "dpo.reference_sync_steps=2"], "dpo.reference_cache"),
    ] {
        let message = refused(TEXTS, &more);
        assert!(message.contains(part), "{more:?}: {message}");
    }
}

#[test]
fn a_key_that_means_nothing_to_the_loss_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let progress = go(folder.path(), "run", &["dpo.simpo_gamma=1", "train.steps=1"]);
    assert!(progress.said("`dpo.simpo_gamma` means nothing to this loss"));
}
