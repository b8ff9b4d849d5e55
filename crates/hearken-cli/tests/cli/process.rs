//! `hearken score`, `best-of`, `steps` and `evaluate`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Ran, json_lines, model, run, workspace, write};

fn fixture(name: &str) -> PathBuf {
    workspace().join("crates/hearken-train/tests/fixtures/trl").join(name)
}

fn command(parts: &[&str], paths: &[(&str, &Path)], more: &[&str]) -> Ran {
    let mut arguments: Vec<String> = parts.iter().map(|&part| part.to_owned()).collect();
    for (flag, path) in paths {
        arguments.extend([(*flag).to_owned(), path.display().to_string()]);
    }
    arguments.extend(more.iter().map(|&text| text.to_owned()));
    run(arguments)
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Logits of Transformers 5.23 for the first two solutions, as probabilities of the second class.
#[test]
fn steps_score_as_transformers_scores_them_from_tokens_and_from_text() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let process_model = fixture("prm_model");
    let score = |input: &Path, more: &[&str]| {
        command(
            &["score"],
            &[("--model", &process_model), ("--input", input), ("--output", &output)],
            more,
        )
        .ok();
        json_lines(&output)
    };
    let found = score(&fixture("prm/data.jsonl"), &[]);
    assert_eq!(found.len(), 48);
    for (line, expected) in found.iter().zip(TRANSFORMERS) {
        let steps = numbers(&line["step_scores"]);
        assert_eq!(steps.len(), expected.len());
        for (step, expected) in steps.iter().zip(expected) {
            assert!((step - expected).abs() < 1e-6, "{step}, {expected}");
        }
        let product: f64 = steps.iter().product();
        assert!((line["score"].as_f64().unwrap() - product).abs() < 1e-12);
    }
    // The same solutions as text, in another order.
    let texts = score(&fixture("prm/records.jsonl"), &["--aggregate", "min", "--keep"]);
    let sorted = |lines: &[Value]| {
        let mut all: Vec<f64> =
            lines.iter().flat_map(|line| numbers(&line["step_scores"])).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    for (of_ids, of_text) in sorted(&found).iter().zip(sorted(&texts)) {
        assert!((of_ids - of_text).abs() < 1e-6, "{of_ids}, {of_text}");
    }
    let steps = numbers(&texts[0]["step_scores"]);
    let least = steps.iter().copied().fold(1.0, f64::min);
    assert!((texts[0]["score"].as_f64().unwrap() - least).abs() < 1e-12);
    assert!(texts[0]["labels"].is_array());
    // One text that the separator divides.
    let whole = json!({"prompt": "Add 62, 35, 72.", "completion": "62 + 35 = 97\n97 + 72 = 179"});
    let one =
        score(&write(folder.path(), "in.jsonl", &whole.to_string()), &["--column", "process"]);
    let listed = texts.iter().find(|line| line["prompt"] == "Add 62, 35, 72.").unwrap();
    let steps = numbers(&one[0]["process_steps"]);
    for (step, expected) in steps.iter().zip(numbers(&listed["step_scores"])) {
        assert!((step - expected).abs() < 1e-6, "{step}, {expected}");
    }
    assert_eq!(steps.len(), 2);
}

const TRANSFORMERS: [&[f64]; 2] =
    [&[0.480_200_171, 0.471_654_445, 0.477_572_143, 0.475_861_43], &[0.525_818_288, 0.520_210_922]];

/// The path of a row, then what else was offered at its steps.
#[test]
fn solutions_of_prm800k_are_scored() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let completion = |text: &str, rating: i64| json!({"text": text, "rating": rating});
    let row = json!({
        "question": {"problem": "Add 62, 35, 72."},
        "label": {"finish_reason": "found_error", "steps": [
            {"completions": [completion("62 + 35 = 97", 1), completion("62 + 35 = 98", -1)],
             "chosen_completion": 0},
            {"completions": [completion("97 + 72 = 179", -1)], "chosen_completion": null},
        ]},
    });
    let input = write(folder.path(), "phase2.jsonl", &row.to_string());
    let process_model = fixture("prm_model");
    let paths = [("--model", process_model.as_path()), ("--input", &input), ("--output", &output)];
    command(&["score"], &paths, &["--keep"]).ok();
    let found = json_lines(&output);
    let steps: Vec<&Value> = found.iter().map(|line| &line["completions"]).collect();
    assert_eq!(steps, [&json!(["62 + 35 = 97", "97 + 72 = 179"]), &json!(["62 + 35 = 98"])]);
    assert_eq!(found[0]["ratings"], json!([1, -1]));
    assert_eq!(numbers(&found[0]["step_scores"]).len(), 2);
    // Where solutions are no answers, they are named as what they are.
    let policy = model("llama");
    let paths = [("--model", policy.as_path()), ("--input", &input), ("--output", &output)];
    let told = command(&["logprobs"], &paths, &[]).error();
    assert!(told.contains("judgements"), "{told}");
}

#[test]
fn what_cannot_be_scored_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let error = |model: &Path, line: Value, more: &[&str]| {
        let input = write(folder.path(), "in.jsonl", &line.to_string());
        let paths = [("--model", model), ("--input", &input), ("--output", output.as_path())];
        command(&["score"], &paths, more).error()
    };
    let solution = json!({"prompt": "p", "completions": ["a"]});
    let (process_model, reward_model, policy) =
        (fixture("prm_model"), fixture("rm_model"), model("llama"));
    let told = error(&policy, solution.clone(), &[]);
    assert!(told.contains("without a score head"), "{told}");
    let told = error(&process_model, json!({"text": "a"}), &[]);
    assert!(told.contains("in.jsonl:1") && told.contains("expected steps"), "{told}");
    let told = error(&process_model, json!({"prompt": "p", "completions": ["a\nb"]}), &[]);
    assert!(told.contains("separator") && told.contains("step 1"), "{told}");
    let told = error(&process_model, json!({"input_ids": [5, 6], "step_ends": [2]}), &[]);
    assert!(told.contains("step_ends`[0]"), "{told}");
    let told = error(&process_model, solution.clone(), &["--keep", "--column", "prompt"]);
    assert!(told.contains("`prompt`"), "{told}");
    let told = error(&reward_model, solution, &["--reference", policy.to_str().unwrap()]);
    assert!(told.contains("a head of its own"), "{told}");
    assert!(!output.exists());
}

#[test]
fn solutions_become_steps_and_steps_get_labels() {
    let folder = tempfile::tempdir().unwrap();
    let text = "1 + 2 = 3. Then 3 + 3 = 7.\nSo be it.";
    let line = json!({"prompt": "1 + 2 + 3", "completion": text, "answer": 6, "id": 4});
    let input = write(folder.path(), "in.jsonl", &line.to_string());
    let steps = folder.path().join("steps.jsonl");
    let paths = [("--input", input.as_path()), ("--output", steps.as_path())];
    command(&["steps", "split"], &paths, &["--by", "sentences"]).ok();
    let found = json_lines(&steps);
    assert_eq!(found[0]["completions"], json!(["1 + 2 = 3.", "Then 3 + 3 = 7.", "So be it."]));
    assert_eq!(found[0]["id"], 4);
    let labelled = folder.path().join("labelled.jsonl");
    let policy = model("llama");
    let paths =
        [("--model", policy.as_path()), ("--input", &steps), ("--output", labelled.as_path())];
    for by in ["rollouts", "both"] {
        let told = command(&["steps", "label"], &paths[1..], &["--by", by]).error();
        assert!(told.contains("--model") && told.contains(by), "{told}");
    }
    // Arithmetic needs no model.
    let ran = command(&["steps", "label"], &paths[1..], &["--by", "arithmetic"]).ok();
    assert!(ran.stderr.contains("1 good steps, 1 bad, 1 without a label"), "{}", ran.stderr);
    assert_eq!(json_lines(&labelled)[0]["labels"], json!([1.0, 0.0, null]));
    let more = ["--by", "both", "--rollouts", "2", "--max-new-tokens", "4"];
    let ran = command(&["steps", "label"], &paths, &more).ok();
    assert!(ran.stderr.contains("agree on"), "{}", ran.stderr);
    let found = json_lines(&labelled);
    // The last step is as right as the answer, and a random model reaches none.
    assert_eq!(found[0]["rollouts_right"], json!([0, 0, 0]));
    assert_eq!(found[0]["labels"], json!([null, 0.0, 0.0]));
}

/// What is read in place of TRL's columns would be read in place of the new labels, too.
#[test]
fn new_labels_are_what_is_learned_whatever_the_columns_were() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("labelled.jsonl");
    let rows = [
        json!({"id": 1, "problem": "1+2+3", "steps": ["1+2=3", "3+3=7"], "label": -1}),
        json!({"id": 1, "task": "sums", "input": "1+2+3 Step 1: 1+2=3 ки\nStep 2: 3+3=7 ки",
               "label": "1+2+3 Step 1: 1+2=3 +\nStep 2: 3+3=7 +"}),
    ];
    for row in rows {
        let input = write(folder.path(), "in.jsonl", &row.to_string());
        let paths = [("--input", input.as_path()), ("--output", output.as_path())];
        command(&["steps", "label"], &paths, &["--by", "arithmetic"]).ok();
        let labelled = &json_lines(&output)[0];
        assert_eq!(labelled["id"], 1);
        let judged: hearken_data::JudgedSteps = serde_json::from_value(labelled.clone()).unwrap();
        assert_eq!(judged.labels, [Some(1.0), Some(0.0)], "{labelled}");
        // Without labels, too, they are solutions.
        let process_model = fixture("prm_model");
        let paths = [&[("--model", process_model.as_path())][..], &paths].concat();
        command(&["score"], &paths, &[]).ok();
        assert_eq!(numbers(&json_lines(&output)[0]["step_scores"]).len(), 2);
    }
}

#[test]
fn the_best_of_several_answers_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "{\"prompt\": \"Add 1, 2.\", \"answer\": \"3\"}\n{\"prompt\": \"Add 4, 5.\", \"answer\": \"9\"}\n";
    let input = write(folder.path(), "in.jsonl", lines);
    let output = folder.path().join("out.jsonl");
    let (policy, process_model) = (model("llama"), fixture("prm_model"));
    let paths =
        [("--model", policy.as_path()), ("--input", &input), ("--output", output.as_path())];
    let with_reward = [&paths[..], &[("--reward", process_model.as_path())]].concat();
    let more = ["-n", "4", "--max-new-tokens", "12", "--all", "--answer", "answer"];
    command(&["best-of"], &with_reward, &more).ok();
    for line in json_lines(&output) {
        let scores = numbers(&line["scores"]);
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        assert_eq!((scores.len(), line["answers"].as_u64()), (4, Some(4)));
        assert!((line["score"].as_f64().unwrap() - most).abs() < 1e-12);
        let at = scores.iter().position(|score| score.total_cmp(&most).is_eq()).unwrap();
        assert_eq!(line["completions"][at], line["completion"]);
        assert!(line["right"].is_boolean());
    }
    for search in ["beam", "diverse"] {
        let more = [
            "-n",
            "4",
            "--width",
            "2",
            "--search",
            search,
            "--max-new-tokens",
            "16",
            "--max-steps",
            "3",
        ];
        command(&["best-of"], &with_reward, &more).ok();
        for line in json_lines(&output) {
            let score = line["score"].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&score), "{line}");
        }
    }
    command(&["best-of"], &paths, &["-n", "3", "--max-new-tokens", "4", "--choose", "majority"])
        .ok();
    assert!(json_lines(&output)[0]["score"].is_null());
    let told = command(&["best-of"], &paths, &["-n", "3"]).error();
    assert!(told.contains("--reward"), "{told}");
    let more = ["-n", "3", "--width", "2", "--search", "beam"];
    assert!(command(&["best-of"], &with_reward, &more).error().contains("multiple of --width"));
}

#[test]
fn choosing_among_answers_is_measured_by_their_number() {
    let folder = tempfile::tempdir().unwrap();
    let answer = |text: &str, score: f64| {
        json!({"prompt": "p", "completion": text, "answer": "3", "process": score}).to_string()
            + "\n"
    };
    let lines: String = [("so 3", 0.9), ("so 4", 0.2), ("so 4", 0.1), ("so 3.0", 0.8)]
        .map(|(text, score)| answer(text, score))
        .concat();
    let input = write(folder.path(), "in.jsonl", &lines);
    let (json, html) = (folder.path().join("found.json"), folder.path().join("curves.html"));
    let paths =
        [("--input", input.as_path()), ("--json", json.as_path()), ("--html", html.as_path())];
    let ran = command(&["evaluate", "best-of"], &paths, &["--score", "process"]).ok();
    assert!(ran.stdout.contains("1 problems, 4 answers each"), "{}", ran.stdout);
    let found: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let at = |choice: &str, n: u64| {
        let curves = found["curves"].as_array().unwrap();
        let curve = curves.iter().find(|curve| curve["choice"] == choice).unwrap();
        let points = curve["points"].as_array().unwrap();
        points.iter().find(|point| point[0] == n).unwrap()[1]["value"].as_f64().unwrap()
    };
    assert!((at("best by process", 1) - 0.5).abs() < 1e-12);
    // Of six pairs, the one of two wrong answers alone has no right one to choose.
    assert!((at("best by process", 2) - 5.0 / 6.0).abs() < 1e-12);
    assert!((at("any is right", 2) - 5.0 / 6.0).abs() < 1e-12);
    assert!((at("weighted by process", 4) - 1.0).abs() < 1e-12);
    assert!(std::fs::read_to_string(&html).unwrap().contains("<svg"));
    // One problem has no spread, and is one trial.
    assert!(ran.stdout.contains("weighted by process less majority at N = 4:"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("inf"), "{}", ran.stdout);
    let told = command(&["evaluate", "best-of"], &paths[..1], &["--score", "none"]).error();
    assert!(told.contains("found no column `none`"), "{told}");
}

#[test]
fn wrong_steps_are_found_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("found.json");
    let (process_model, data) = (fixture("prm_model"), fixture("prm/records.jsonl"));
    let paths =
        [("--model", process_model.as_path()), ("--input", &data), ("--json", json.as_path())];
    let ran = command(&["evaluate", "steps"], &paths, &[]).ok();
    assert!(ran.stdout.contains("first error, F1 %"), "{}", ran.stdout);
    let found: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(found[0]["solutions"], 48);
    assert!(found[0]["first_error_f1"]["value"].is_number());
    // Whatever is called wrong from a threshold above every score: the first step of all.
    command(&["evaluate", "steps"], &paths, &["--threshold", "1.1"]).ok();
    let found: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(found[0]["all_good"]["value"], 0.0);
}

/// Merged, a reward model scores as its adapter did, and what says how its scores are read comes along.
#[test]
fn a_merged_reward_model_keeps_how_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let run_dir = folder.path().join("run");
    let keys = [
        format!("run.dir={}", run_dir.display()),
        format!("model.path={}", model("llama").display()),
        format!("data.train={}", fixture("prm/data.jsonl").display()),
        "train.steps=2".to_owned(),
        "reward.kind=process".to_owned(),
        "lora.r=4".to_owned(),
    ];
    let config = workspace().join("configs/reward.toml");
    let mut arguments = vec!["reward".to_owned(), config.display().to_string()];
    arguments.extend(keys.into_iter().flat_map(|key| ["--set".to_owned(), key]));
    run(arguments).ok();
    let (adapter, merged) = (run_dir.join("final"), folder.path().join("merged"));
    command(&["merge"], &[("--adapter", &adapter), ("--output", &merged)], &[]).ok();
    let read = |dir: &Path| std::fs::read(dir.join("process_reward.json")).unwrap();
    assert_eq!(read(&adapter), read(&merged));
    let scores = |dir: &Path| {
        let (input, output) = (fixture("prm/data.jsonl"), folder.path().join("out.jsonl"));
        command(&["score"], &[("--model", dir), ("--input", &input), ("--output", &output)], &[])
            .ok();
        json_lines(&output)
            .iter()
            .flat_map(|line| numbers(&line["step_scores"]))
            .collect::<Vec<_>>()
    };
    for (adapted, merged) in scores(&adapter).iter().zip(scores(&merged)) {
        assert!((adapted - merged).abs() < 1e-5, "{adapted}, {merged}");
    }
}

/// What says how steps are read is never passed over in silence.
#[test]
fn a_damaged_file_beside_a_process_reward_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("model");
    std::fs::create_dir(&damaged).unwrap();
    for entry in std::fs::read_dir(fixture("prm_model")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, damaged.join(path.file_name().unwrap())).unwrap();
    }
    write(&damaged, "process_reward.json", "{\"step_separator\": \"\"}");
    let (policy, input) =
        (model("llama"), write(folder.path(), "in.jsonl", "{\"prompt\": \"Add 1, 2.\"}\n"));
    let (output, steps) = (folder.path().join("out.jsonl"), fixture("prm/records.jsonl"));
    let told = [
        command(
            &["score"],
            &[("--model", &damaged), ("--input", &steps), ("--output", &output)],
            &[],
        ),
        command(&["evaluate", "steps"], &[("--model", &damaged), ("--input", &steps)], &[]),
        command(
            &["best-of"],
            &[
                ("--model", &policy),
                ("--reward", &damaged),
                ("--input", &input),
                ("--output", &output),
            ],
            &["-n", "2"],
        ),
    ];
    for told in told.map(Ran::error) {
        assert!(told.contains("process_reward.json") && told.contains("step_separator"), "{told}");
    }
    assert!(!output.exists());
}
