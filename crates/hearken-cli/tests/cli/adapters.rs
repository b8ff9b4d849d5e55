//! Adapters: `--adapter`, a PEFT directory in place of a model, and `hearken merge`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Ran, json_lines, model, names, run, write};

/// An adapter as PEFT saves it; see PROVENANCE.md there.
fn peft(name: &str) -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    crates.join("hearken-model/tests/fixtures/peft").join(name)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The log-probabilities of one sequence.
fn logprobs(folder: &Path, model: &[String]) -> Vec<f64> {
    let input = write(folder, "in.jsonl", "{\"input_ids\": [5, 17, 300, 42, 99, 381, 7]}\n");
    let output = folder.join("out.jsonl");
    let mut arguments = vec!["logprobs".to_owned()];
    arguments.extend_from_slice(model);
    arguments.extend(["--input".into(), text(&input), "--output".into(), text(&output)]);
    run(arguments).ok();
    let found = serde_json::from_value(json_lines(&output)[0]["logprobs"].clone()).unwrap();
    std::fs::remove_file(output).unwrap();
    found
}

fn merge(arguments: &[&str]) -> Ran {
    let mut all = vec!["merge"];
    all.extend(arguments);
    run(all)
}

#[test]
fn an_adapter_beside_its_model_alone_and_merged_give_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for family in ["llama", "gpt2", "gpt_neox", "qwen2"] {
        let (base, adapter) = (text(&model(family)), text(&peft(family)));
        let of = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
            logprobs(folder.path(), &arguments)
        };
        let merged = text(&folder.path().join(family));
        merge(&["--model", &base, "--adapter", &adapter, "--output", &merged]).ok();
        let plain = of(&["--model", &base]);
        let beside = of(&["--model", &base, "--adapter", &adapter]);
        let difference = |other: &[f64]| {
            other.iter().zip(&beside).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
        };
        assert!(difference(&plain) > 1e-3, "{family}");
        assert_eq!(beside, of(&["--model", &adapter]), "{family}");
        assert!(difference(&of(&["--model", &merged])) < 1e-5, "{family}");
    }
}

#[test]
fn a_merged_model_is_a_whole_folder_in_the_type_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (adapter, merged) = (text(&peft("llama")), folder.path().join("merged"));
    let ran = merge(&["--adapter", &adapter, "--output", &text(&merged), "--dtype", "bf16"]).ok();
    assert!(ran.stderr.contains("in bfloat16"), "{}", ran.stderr);
    assert_eq!(names(folder.path()), ["merged"]);
    assert!(names(&merged).contains(&"tokenizer.json".to_owned()));
    let card = std::fs::read_to_string(merged.join("README.md")).unwrap();
    for part in ["hearken merge --adapter", "base_model: \"", "- `--adapter` `", "- this model: `"]
    {
        assert!(card.contains(part), "{part} in {card}");
    }
    let config: Value =
        serde_json::from_str(&std::fs::read_to_string(merged.join("config.json")).unwrap())
            .unwrap();
    assert_eq!(config["dtype"], "bfloat16");
    // A scorer's adapter brings its head.
    let scorer = folder.path().join("scorer");
    merge(&["--adapter", &text(&peft("score")), "--output", &text(&scorer)]).ok();
    let config = std::fs::read_to_string(scorer.join("config.json")).unwrap();
    assert!(config.contains("LlamaForSequenceClassification"), "{config}");
    let again = merge(&["--adapter", &adapter, "--output", &text(&merged)]).error();
    assert!(again.contains("merged: is there already; expected a new folder"), "{again}");
}

#[test]
fn a_merged_value_that_float16_has_no_room_for_ends_with_its_name_and_nothing_written() {
    let folder = tempfile::tempdir().unwrap();
    let (base, merged) = (folder.path().join("base"), folder.path().join("merged"));
    std::fs::create_dir(&base).unwrap();
    for entry in std::fs::read_dir(model("llama")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, base.join(path.file_name().unwrap())).unwrap();
    }
    let weights = base.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[data..data + 4].copy_from_slice(&(-7e4_f32).to_le_bytes());
    std::fs::write(&weights, bytes).unwrap();
    let (base, adapter, output) = (text(&base), text(&peft("llama")), text(&merged));
    let to = |dtype| {
        merge(&["--model", &base, "--adapter", &adapter, "--output", &output, "--dtype", dtype])
    };
    let error = to("f16").error();
    assert!(error.contains("holds -70000, and float16 ends at 65504"), "{error}");
    assert_eq!(names(folder.path()), ["base"]);
    to("bf16").ok();
}

#[test]
fn an_adapter_of_another_model_ends_with_both_named_and_nothing_written() {
    let folder = tempfile::tempdir().unwrap();
    let (base, adapter) = (text(&model("qwen2")), text(&peft("qwen3")));
    let output = text(&folder.path().join("merged"));
    let error = merge(&["--model", &base, "--adapter", &adapter, "--output", &output]).error();
    for part in ["adapter_model.safetensors", "q_proj.lora_B.weight", "[96, 2]", "[64, 2]", "qwen2"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(names(folder.path()).is_empty());
}

/// A copy of a reward model whose head is multiplied by `factor`.
fn scaled(folder: &Path, name: &str, factor: f32) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("hearken-train/tests/fixtures/trl/rm_model");
    let copy = folder.join(name);
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    let weights = copy.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..data]).unwrap();
    let at = |index: usize| {
        data + header["score.weight"]["data_offsets"][index].as_u64().unwrap() as usize
    };
    for value in bytes[at(0)..at(1)].chunks_exact_mut(4) {
        let old = f32::from_le_bytes(value.try_into().unwrap());
        value.copy_from_slice(&(factor * old).to_le_bytes());
    }
    std::fs::write(&weights, bytes).unwrap();
    copy
}

fn score(folder: &Path, model: &Path) -> f64 {
    let input = write(folder, "scored.jsonl", "{\"input_ids\": [5, 17, 42, 99, 7]}\n");
    let output = folder.join("scores.jsonl");
    let [model, input] = [text(model), text(&input)];
    run(["score", "--model", &model, "--input", &input, "--output", &text(&output)]).ok();
    let score = json_lines(&output)[0]["score"].as_f64().unwrap();
    std::fs::remove_file(output).unwrap();
    score
}

/// Over one trunk a head is linear: the mean of the weights scores the mean.
#[test]
fn reward_models_that_share_a_trunk_are_averaged_to_the_mean_of_their_scores() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let models = [("one", 1.0), ("two", -2.0), ("three", 7.0)]
        .map(|(name, factor)| scaled(folder, name, factor));
    let scores = models.each_ref().map(|model| score(folder, model));
    let merged = folder.join("warm");
    let paths = models.each_ref().map(|model| text(model));
    let average = |more: &[&str]| {
        let mut arguments = vec!["--average"];
        arguments.extend(paths.iter().map(String::as_str));
        arguments.extend(more);
        merge(&arguments)
    };
    let output = text(&merged);
    average(&["--output", &output]).ok();
    let mean = scores.iter().sum::<f64>() / 3.0;
    assert!((score(folder, &merged) - mean).abs() < 1e-5, "{scores:?}");
    assert!(names(&merged).contains(&"tokenizer.json".to_owned()));
    assert!(!merged.join("score_normalization.json").exists());
    let measured = folder.join("measured");
    let lines = ["To be", "My lord, he is dead", "brave"]
        .map(|text| serde_json::json!({"prompt": "To be", "completion": text}).to_string() + "\n");
    let completions = text(&write(folder, "completions.jsonl", &lines.concat()));
    average(&["--output", &text(&measured), "--normalize-on", &completions]).ok();
    let stored = std::fs::read_to_string(measured.join("score_normalization.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&stored).unwrap()["n"], 3);
}

#[test]
fn models_that_have_no_mean_are_refused_with_both_named_and_nothing_written() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let output = text(&folder.join("merged"));
    let reward = text(&scaled(folder, "reward", 1.0));
    for (other, part) in [
        (model("llama"), "found 20 tensors, expected 21"),
        (model("qwen2"), "expected"),
        (peft("llama"), "found an adapter, expected a whole model"),
        (folder.join("none"), "none"),
    ] {
        let error = merge(&["--average", &reward, &text(&other), "--output", &output]).error();
        assert!(error.contains(part), "{}: {error}", other.display());
        assert_eq!(names(folder), ["reward"]);
    }
}
