//! `hearken import` and `hearken export`.

use std::fs;
use std::path::Path;

use hearken_data::{Demonstration, Preference, ReadOptions, read};
use tempfile::tempdir;

use crate::support::{json_lines, metrics, model, run, set, workspace, write};

const ITEMS: &str = r#"{"id": "i1", "prompt": "Capital of France?", "candidates": ["Paris", "Lyon"]}
{"id": "i2", "prompt": "Capital of Italy?", "candidates": ["Rome", "Milan"]}
{"id": "i3", "prompt": "Capital of Spain?", "candidates": ["Madrid", "Seville"]}
{"id": "j1", "item": "i1", "annotator": "ada", "verdict": {"kind": "preferred", "candidate": 0}}
{"id": "j2", "item": "i2", "annotator": "ada", "verdict": {"kind": "preferred", "candidate": 0, "strength": {"points": 1, "scale": 3}}}
{"id": "j3", "item": "i3", "annotator": "ada", "verdict": {"kind": "tie"}}
{"id": "j4", "item": "i3", "annotator": "bob", "verdict": {"kind": "both_bad"}}
"#;

fn text(path: &std::path::Path) -> String {
    path.display().to_string()
}

/// The cells of the rows of a printed table that start with `first`.
fn rows<'t>(table: &'t str, first: &str) -> Vec<Vec<&'t str>> {
    let rows = table.lines().filter(|line| line.starts_with(first));
    rows.map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn files_go_into_a_store_once_and_come_out_again() {
    let folder = tempdir().unwrap();
    let file = text(&write(folder.path(), "own.jsonl", ITEMS));
    for store in ["votes.db", "votes.jsonl"] {
        let store = text(&folder.path().join(store));
        let import = || run(["import", &file, "--into", &store, "--overlap", "2"]).ok().stdout;
        let first = import();
        assert_eq!(rows(&first, "items"), [["items", "3", "0", "3", "0"]], "{first}");
        assert_eq!(rows(&first, "judgements"), [["judgements", "4", "0", "4", "0"]], "{first}");
        let second = import();
        assert_eq!(rows(&second, "items"), [["items", "3", "0", "0", "3"]], "{second}");
        assert_eq!(rows(&second, "judgements"), [["judgements", "4", "0", "0", "4"]], "{second}");
        // Another handling of the same items is no conflict.
        run(["import", &file, "--into", &store, "--overlap", "5"]).ok();

        let output = folder.path().join("pairs.jsonl");
        let table = run(["export", &store, "--output", &text(&output)]).ok().stdout;
        assert_eq!(rows(&table, "judgements"), [["judgements", "4"]], "{table}");
        assert_eq!(rows(&table, "written"), [["written", "2", "trl"]], "{table}");
        let dropped = [vec!["dropped", "1", "both", "bad"], vec!["dropped", "1", "tie"]];
        assert_eq!(rows(&table, "dropped"), dropped, "{table}");
        assert!(table.contains("strength"), "{table}");
        let (preferences, _) = read::<Preference>(&output, &ReadOptions::default()).unwrap();
        assert_eq!(preferences.len(), 2);

        let whole = folder.path().join("whole.jsonl.gz");
        run(["export", &store, "--format", "hearken", "--output", &text(&whole)]).ok();
        let counted = run(["import", &text(&whole)]).ok().stdout;
        assert_eq!(rows(&counted, "judgements"), [["judgements", "4", "0"]], "{counted}");
    }
}

#[test]
fn ties_may_be_half_and_prompts_held_out() {
    let folder = tempdir().unwrap();
    let file = text(&write(folder.path(), "own.jsonl", ITEMS));
    let output = folder.path().join("pairs.jsonl");
    let path = text(&output);
    run(["export", &file, "--output", &path, "--ties", "half", "--split", "0.34"]).ok();
    let eval = json_lines(&folder.path().join("pairs.eval.jsonl"));
    let train = json_lines(&output);
    assert_eq!(train.len() + eval.len(), 3);
    assert_eq!(eval.len(), 1);
    assert!(train.iter().all(|row| row["prompt"] != eval[0]["prompt"]));
    let half = train.iter().chain(&eval).filter(|row| row["probability"] == 0.5).count();
    assert_eq!(half, 1);
}

/// The exported preferences train a reward model and a policy; the best answers are imitated.
#[test]
fn what_is_exported_is_trained_on() {
    let folder = tempdir().unwrap();
    let file = text(&write(folder.path(), "own.jsonl", ITEMS));
    let (pairs, best) = (folder.path().join("pairs.jsonl"), folder.path().join("best.jsonl"));
    run(["export", &file, "--output", &text(&pairs), "--form", "text"]).ok();
    let format = ["--format", "trl-demonstrations", "--form", "text"];
    let mut arguments = vec!["export".to_owned(), file, "--output".into(), text(&best)];
    arguments.extend(format.map(str::to_owned));
    run(arguments).ok();
    let (demonstrations, _) = read::<Demonstration>(&best, &ReadOptions::default()).unwrap();
    assert_eq!(demonstrations.len(), 2);
    for (trainer, data) in [("reward", &pairs), ("dpo", &pairs), ("sft", &best)] {
        let run_dir = folder.path().join(trainer);
        let config = workspace().join(format!("configs/{trainer}.toml"));
        let mut arguments = vec![trainer.to_owned(), text(&config)];
        arguments.extend(set("run.dir", &run_dir));
        arguments.extend(set("model.path", &model("gpt2")));
        arguments.extend(set("data.train", data));
        arguments.extend(["--set".to_owned(), "train.steps=1".to_owned()]);
        arguments.extend(["--set".to_owned(), "data.eval_fraction=0.0".to_owned()]);
        run(arguments).ok();
        assert!(run_dir.join("metrics.jsonl").exists(), "{trainer}");
    }
}

/// A store stands where a file does, and trains what its export trains, to the bit.
#[test]
fn judgements_reach_a_trainer_without_an_export() {
    let folder = tempdir().unwrap();
    let rows: Vec<String> = (0..6)
        .map(|n| {
            format!(
                r#"{{"prompt": "What is {n}?", "chosen": " {n} is good", "rejected": " {n}", "margin": 0.{n}}}"#
            )
        })
        .collect();
    let pairs = text(&write(folder.path(), "pairs.jsonl", &rows.join("\n")));
    let trained = |trainer: &str, data: &Path, more: &str| {
        let run_dir = tempdir().unwrap();
        let config = workspace().join(format!("configs/{trainer}.toml"));
        let mut arguments = vec![trainer.to_owned(), text(&config)];
        arguments.extend(set("run.dir", run_dir.path()));
        arguments.extend(set("model.path", &model("gpt2")));
        arguments.extend(set("data.train", data));
        for setting in ["train.steps=2", "train.batch_size=2", "data.eval_fraction=0.3", more] {
            arguments.extend(["--set".to_owned(), setting.to_owned()]);
        }
        run(arguments).ok();
        let losses: Vec<String> = metrics(run_dir.path())
            .iter()
            .filter(|record| record.get("loss").is_some())
            .map(|record| format!("{} {}", record["loss"], record["grad_norm"]))
            .collect();
        (losses, fs::read(run_dir.path().join("final/model.safetensors")).unwrap())
    };
    for store in ["votes.db", "votes.jsonl"] {
        let store = folder.path().join(store);
        run(["import", &pairs, "--into", &text(&store)]).ok();
        for (trainer, format, more) in [
            ("dpo", "trl", "dpo.use_margin=true"),
            ("dpo", "trl-unpaired", "dpo.loss=\"kto\""),
            ("reward", "trl", "train.log_every=1"),
            ("sft", "trl-demonstrations", "train.log_every=1"),
        ] {
            let exported = folder.path().join("exported.jsonl");
            run(["export", &text(&store), "--format", format, "--output", &text(&exported)]).ok();
            let (direct, through_a_file) =
                (trained(trainer, &store, more), trained(trainer, &exported, more));
            assert_eq!(direct.0, through_a_file.0, "{trainer} {format}");
            assert!(direct.0.len() == 2 && direct.1 == through_a_file.1, "{trainer} {format}");
        }
    }
}

#[test]
fn bad_input_is_an_error_and_leaves_nothing_behind() {
    let folder = tempdir().unwrap();
    let bad = write(folder.path(), "bad.jsonl", &format!("{ITEMS}{{\"candidates\": [1]}}\n"));
    let store = folder.path().join("votes.db");
    let error = run(["import", &text(&bad), "--into", &text(&store)]).error();
    assert!(error.contains("bad.jsonl:8: "), "{error}");
    assert!(!store.exists());
    let skipped = run(["import", &text(&bad), "--skip-bad"]).ok().stdout;
    assert!(skipped.contains("bad row, skipped") && skipped.contains("bad.jsonl:8: "), "{skipped}");

    let prompts = write(folder.path(), "prompts.jsonl", "{\"prompt\": \"Hi\"}\n");
    let error = run(["import", &text(&prompts)]).error();
    assert!(error.contains("found 1 prompts without answers"), "{error}");

    let output = folder.path().join("out.jsonl");
    let error = run(["export", &text(&folder.path().join("none.db")), "--output", &text(&output)]);
    assert!(error.error().contains("there is no such file or store"));
    let ran = run(["export", &text(&bad), "--output", &text(&output), "--format", "parquet"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("found the format \"parquet\", expected one of"), "{}", ran.stderr);
    assert!(!output.exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

/// What reward models think of items goes into their metadata, one model after the other; it is what `hearken score` says of the answers.
#[test]
fn items_get_the_scores_of_reward_models_and_a_state() {
    let folder = tempdir().unwrap();
    let reward = text(&crate::support::recorded("rm_model"));
    let items = write(folder.path(), "items.jsonl", ITEMS);
    let [first, second] = ["first.jsonl", "second.jsonl"].map(|name| folder.path().join(name));
    let score = |input: &Path, output: &Path, more: &[&str]| {
        let (input, output) = (text(input), text(output));
        let all = ["score", "--items", "--model", &reward, "--input", &input, "--output", &output];
        run(all.iter().chain(more))
    };
    let ran = score(&items, &first, &["--states", "4"]).ok();
    assert!(ran.stderr.contains("left out 4 judgements"), "{}", ran.stderr);
    score(&first, &second, &[]).ok();
    let scored = json_lines(&second);
    assert_eq!(scored.len(), 3);
    let answers: Vec<String> = scored
        .iter()
        .flat_map(|item| {
            let prompt = &item["prompt"][0]["content"];
            let of = move |candidate: &serde_json::Value| {
                serde_json::json!({"messages": [
                    {"role": "user", "content": prompt},
                    {"role": "assistant", "content": candidate["text"]},
                ]})
                .to_string()
            };
            item["candidates"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()
        })
        .collect();
    let input = text(&write(folder.path(), "answers.jsonl", &(answers.join("\n") + "\n")));
    let output = folder.path().join("scores.jsonl");
    run(["score", "--model", &reward, "--input", &input, "--output", &text(&output)]).ok();
    let expected = json_lines(&output);
    let candidates = scored.iter().flat_map(|item| item["candidates"].as_array().unwrap());
    for (candidate, expected) in candidates.zip(&expected) {
        let scores = candidate["meta"]["scores"].as_array().unwrap();
        assert_eq!(scores.len(), 2);
        for score in scores {
            let difference = score.as_f64().unwrap() - expected["score"].as_f64().unwrap();
            assert!(difference.abs() < 1e-5, "{candidate} {expected}");
        }
        // That of the first model stays.
        assert_eq!(candidate["meta"]["state"].as_array().unwrap().len(), 4, "{candidate}");
    }
    let broken =
        fs::read_to_string(&first).unwrap().replacen("\"scores\":[", "\"scores\":[\"x\",", 1);
    let broken = write(folder.path(), "broken.jsonl", &broken);
    let error = score(&broken, &folder.path().join("none.jsonl"), &[]).error();
    assert!(error.contains("candidate 0") && error.contains("a list of numbers"), "{error}");
    assert!(!folder.path().join("none.jsonl").exists());
    let error = score(&items, &folder.path().join("none.jsonl"), &["--keep"]);
    assert_eq!(error.code, Some(2), "{}", error.stderr);
}
