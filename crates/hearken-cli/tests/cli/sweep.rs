//! `hearken sweep`.

use std::fs;
use std::path::Path;

use crate::support::{Ran, metrics, model, names, recorded, run, write};

fn sweep(folder: &Path, more: &[&str]) -> Ran {
    let config = write(
        folder,
        "my.toml",
        &format!(
            "[run]\ndir = '{}'\n[model]\npath = '{}'\n[data]\ntrain = '{data}'\neval = '{data}'\n\
             [train]\nsteps = 4\nbatch_size = 4\neval_every = 2\n",
            folder.join("sweep").display(),
            model("llama").display(),
            data = recorded("sft_lora/data.jsonl").display(),
        ),
    );
    let mut arguments = vec!["sweep".to_owned(), config.display().to_string()];
    arguments.extend(more.iter().map(|&text| text.to_owned()));
    run(arguments)
}

const RATES: &str = "optimizer.lr=[1e-5, 1e-2]";

#[test]
fn every_combination_is_a_run_and_the_best_leads_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--over", RATES, "--over", "optimizer.schedule=[constant, linear]"];
    let asked = [&more[..], &["--metric", "eval_loss"]].concat();
    let ran = sweep(folder.path(), &asked).ok();
    let dir = folder.path().join("sweep");
    assert_eq!(names(&dir), ["1", "2", "3", "4", "report.html", "sweep.csv", "sweep.json"]);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("run") && lines[0].contains("eval_loss"), "{}", ran.stdout);
    // The larger rate learns more in four steps.
    assert!(lines[1].contains("0.01"), "{}", ran.stdout);
    assert_eq!(lines.iter().filter(|line| line.ends_with("finished")).count(), 4);
    let csv = fs::read_to_string(dir.join("sweep.csv")).unwrap();
    assert!(csv.starts_with("run,optimizer.lr,optimizer.schedule,eval_loss,best,at step,state\n"));
    // Done already: nothing is trained again, and the same table is printed.
    let before = metrics(&dir.join("2"));
    assert_eq!(sweep(folder.path(), &asked).ok().stdout, ran.stdout);
    assert_eq!(metrics(&dir.join("2")), before);
    let other = sweep(folder.path(), &[&asked[..], &["--greater-is-better"]].concat()).error();
    assert!(other.contains("found another sweep"), "{other}");
}

#[test]
fn a_run_that_fails_is_noted_and_the_next_one_begins() {
    let folder = tempfile::tempdir().unwrap();
    let there = recorded("sft_lora/data.jsonl");
    let over = format!("data.train=['nowhere.jsonl', '{}']", there.display());
    let ran = sweep(folder.path(), &["--over", &over, "--metric", "loss"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("run 1 failed: ") && ran.stderr.contains("nowhere.jsonl"));
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[1].ends_with("finished") && lines[2].contains("failed: "), "{}", ran.stdout);
}

#[test]
fn a_key_that_no_trainer_has_is_refused_before_the_first_run() {
    let folder = tempfile::tempdir().unwrap();
    for (over, expected) in [
        ("optimizer.learning=[1, 2]", "optimizer.learning"),
        ("optimizer.lr=[1e-3, \"fast\"]", "`optimizer.lr`"),
        ("optimizer.lr=uniform(0, 1)", "`optimizer.lr`: found a range"),
    ] {
        let error = sweep(folder.path(), &["--over", over, "--metric", "eval_loss"]).error();
        assert!(error.contains(expected), "{expected} in {error}");
        assert!(!folder.path().join("sweep").exists());
    }
}

#[test]
fn drawn_runs_follow_from_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--over", "optimizer.lr=log_uniform(1e-4, 1e-2)", "--draws", "3"];
    let asked = [&more[..], &["--metric", "eval_loss", "--set", "train.steps=1"]].concat();
    let ran = sweep(folder.path(), &asked).ok();
    assert_eq!(ran.stdout.lines().filter(|line| line.ends_with("finished")).count(), 3);
    fs::remove_dir_all(folder.path().join("sweep")).unwrap();
    assert_eq!(sweep(folder.path(), &asked).ok().stdout, ran.stdout);
}
