//! `hearken analyze` and `hearken reward --features`.
#![allow(clippy::print_stderr, clippy::format_push_string, reason = "tests say what they skip")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::tempdir;

use crate::support::{run, write};

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// LLMFAO, if it is there.
fn llmfao() -> Option<PathBuf> {
    let root = std::env::var_os("HEARKEN_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let path = root.join("data/llmfao");
    if !path.exists() {
        eprintln!("skipped: {} is not there; set HEARKEN_DATA", path.display());
        return None;
    }
    Some(path)
}

/// 30 prompts, of two answers the longer one preferred by both of two annotators but in every fifth.
fn votes() -> String {
    let mut lines = String::new();
    for i in 0..30 {
        let (long, short) = ("word ".repeat(10 + i), "word ".repeat(2 + i % 3));
        lines += &format!(
            "{{\"id\": \"i{i}\", \"prompt\": \"Question {i}?\", \"candidates\": [\"{long}\", \"{short}\"]}}\n"
        );
        for who in ["ada", "bob"] {
            let candidate = usize::from(i % 5 == 0);
            lines += &format!(
                "{{\"id\": \"{who}{i}\", \"item\": \"i{i}\", \"annotator\": \"{who}\", \"verdict\": \
                 {{\"kind\": \"preferred\", \"candidate\": {candidate}}}}}\n"
            );
        }
    }
    lines
}

#[test]
fn a_file_is_analyzed_and_its_report_written() {
    let folder = tempdir().unwrap();
    let file = text(&write(folder.path(), "votes.jsonl", &votes()));
    let (numbers, page) = (folder.path().join("numbers.json"), folder.path().join("page.html"));
    let arguments =
        ["analyze", &file, "--json", &text(&numbers), "--html", &text(&page), "--bootstrap", "50"];
    let ran = run(arguments).ok();
    assert!(
        ran.stdout.contains("60 judgements by 2 annotators on 30 of 30 items"),
        "{}",
        ran.stdout
    );
    let numbers = json(&numbers);
    assert_eq!(numbers["agreement"]["comparisons"]["cohen"]["value"], 1.0);
    assert_eq!(numbers["patterns"]["features"][0]["wins"], 48);
    assert_eq!(numbers["options"]["bootstrap_rounds"], 50);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("Krippendorff"));
    // The same file twice adds nothing.
    assert_eq!(run(["analyze", &file, &file, "--bootstrap", "50"]).ok().stdout, ran.stdout);
}

#[test]
fn features_are_trained_on_and_length_is_warned_of() {
    let folder = tempdir().unwrap();
    let file = text(&write(folder.path(), "votes.jsonl", &votes()));
    let output = folder.path().join("network");
    let numbers = folder.path().join("numbers.json");
    let arguments =
        ["reward", "--features", &file, "--output", &text(&output), "--json", &text(&numbers)];
    let ran = run(arguments).ok();
    assert!(ran.stdout.contains("warning: Length alone explains it"), "{}", ran.stdout);
    let numbers = json(&numbers);
    assert_eq!((&numbers["pairs"], &numbers["groups"]), (&30.into(), &30.into()));
    assert_eq!(numbers["longer_wins"]["value"], 0.8);
    let network = json(&output.join("feature_reward.json"));
    assert_eq!(network["features"].as_array().unwrap().len(), 17);
    let few = text(&write(
        folder.path(),
        "few.jsonl",
        &votes().lines().take(9).collect::<Vec<_>>().join("\n"),
    ));
    let error = run(["reward", "--features", &few]).error();
    assert!(error.starts_with("3 pairs with a preference on 3 prompts"), "{error}");
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempdir().unwrap();
    let nowhere = text(&folder.path().join("nowhere.db"));
    assert!(run(["analyze", &nowhere]).error().contains("nowhere.db"));
    let error = run(["analyze", &text(folder.path())]).error();
    assert!(error.contains("found a folder without files"), "{error}");
    assert_eq!(run(["analyze"]).code, Some(2));
    assert_eq!(run(["reward"]).code, Some(2));
    assert_eq!(run(["reward", "config.toml", "--features", &nowhere]).code, Some(2));
}

#[test]
fn a_folder_of_llmfao_gives_its_facts() {
    let Some(llmfao) = llmfao() else { return };
    let folder = tempdir().unwrap();
    let numbers = folder.path().join("numbers.json");
    run(["analyze", &text(&llmfao), "--json", &text(&numbers), "--bootstrap", "20"]).ok();
    let numbers = json(&numbers);
    let alpha = numbers["agreement"]["comparisons"]["alpha_nominal"]["value"].as_f64().unwrap();
    assert!((alpha - 0.2906).abs() < 6e-5);
    assert_eq!(numbers["leaderboard"]["triads"]["cyclic"], 510);
    assert_eq!(numbers["leaderboard"]["models"][0]["model"], "GPT 4");
    let judges = &numbers["judges"]["list"];
    assert_eq!((&judges[0]["name"], &judges[1]["name"]), (&"gpt3".into(), &"gpt4".into()));
    assert_eq!(judges[1]["agreement"]["n"], 1043);
}
