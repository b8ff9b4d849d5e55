//! What the program says to bad input: file, line or key, what was found, what was expected.

use std::path::Path;

use crate::support::{model, recorded, run, set, write};

/// Runs a trainer with a configuration and returns its error.
#[track_caller]
fn trainer_error(command: &str, config: &str, more: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "run.toml", config);
    let mut arguments = vec![command.to_owned(), path.display().to_string()];
    arguments.extend(more.iter().map(|&text| text.to_owned()));
    arguments.extend(set("run.dir", &folder.path().join("run")));
    let error = run(arguments).error();
    error.replace(&path.display().to_string(), "run.toml")
}

fn model_and_data(model: &Path, data: &Path) -> String {
    let (model, data) = (model.display(), data.display());
    format!("[model]\npath = \"{model}\"\n[data]\ntrain = \"{data}\"\n[train]\nsteps = 1\n")
}

#[test]
fn a_file_that_is_missing() {
    let error = run(["sft", "nowhere/a.toml"]).error();
    assert!(error.starts_with("nowhere/a.toml"), "{error}");
    assert!(error.contains("No such file"), "{error}");
    let error = run(["logprobs", "--model", "nowhere", "--input", "none", "--output", "x"]).error();
    assert!(error.contains("none: cannot be opened"), "{error}");
}

#[test]
fn a_key_that_does_not_exist_with_the_nearest_one_that_does() {
    let files = "[model]\npath = \"m\"\n[data]\ntrain = \"d\"\n";
    let error =
        trainer_error("sft", &format!("{files}[optimizer]\nbeta = 1\n[train]\nsteps = 1\n"), &[]);
    assert!(error.contains("run.toml"), "{error}");
    assert!(error.contains("optimizer.beta") && error.contains("optimizer.betas"), "{error}");
    let error = trainer_error("sft", &format!("{files}[train]\nstep = 1\n"), &[]);
    assert!(error.contains("train.step") && error.contains("train.steps"), "{error}");
    let error = trainer_error("reward", "[optimiser]\nlr = 1\n", &[]);
    assert!(error.contains("optimiser") && error.contains("optimizer"), "{error}");
}

#[test]
fn a_value_of_the_wrong_type() {
    let error = trainer_error("sft", "[train]\nbatch_size = \"four\"\nsteps = 1\n", &[]);
    for part in ["run.toml", "train.batch_size", "four", "expected"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let error = trainer_error("ppo", "[ppo]\n", &["--set", "ppo.gae_lambda=2"]);
    assert!(error.contains("ppo.gae_lambda") && error.contains('2'), "{error}");
}

#[test]
fn options_that_contradict_each_other() {
    let error = trainer_error("sft", "[train]\nsteps = 1\nepochs = 1\n", &[]);
    assert!(error.contains("train.steps") && error.contains("train.epochs"), "{error}");
}

#[test]
fn a_line_that_is_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let good = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    let data = write(folder.path(), "d.jsonl", &format!("{good}{good}{{\"prompt\": 3}}\n"));
    let error = trainer_error("sft", &model_and_data(&model("llama"), &data), &[]);
    assert!(error.contains("d.jsonl:3"), "{error}");
    assert!(error.contains("prompt") && error.contains("expected"), "{error}");

    let input = write(folder.path(), "in.jsonl", "{\"text\": \"a\"}\n{\"text\": \"a\"\n");
    let output = folder.path().join("out.jsonl");
    let error = run([
        "logprobs".as_ref(),
        "--model".as_ref(),
        model("gpt2").as_os_str(),
        "--input".as_ref(),
        input.as_os_str(),
        "--output".as_ref(),
        output.as_os_str(),
    ])
    .error();
    assert!(error.contains("in.jsonl:2"), "{error}");
    assert!(!output.exists());
}

#[test]
fn a_folder_that_is_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let error =
        trainer_error("sft", &model_and_data(folder.path(), &recorded("sft/data.jsonl")), &[]);
    assert!(error.contains("config.json"), "{error}");
}

#[test]
fn weights_that_are_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(model("llama").join(name), folder.path().join(name)).unwrap();
    }
    let whole = std::fs::read(model("llama").join("model.safetensors")).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), &whole[..whole.len() / 2]).unwrap();
    let error =
        trainer_error("sft", &model_and_data(folder.path(), &recorded("sft/data.jsonl")), &[]);
    assert!(error.contains("model.safetensors"), "{error}");
}

#[test]
fn a_text_model_asked_for_scores_where_there_is_no_head() {
    let data = recorded("rm/data.jsonl");
    let text = model_and_data(&model("llama"), &data);
    let critic = format!("{text}[ppo]\ncritic = \"{}\"\n", model("llama").display());
    let error = trainer_error("ppo", &critic, &["--set", "rollout.replay=none.jsonl"]);
    assert!(error.contains("score.weight") || error.contains("none.jsonl"), "{error}");
}

#[test]
fn a_run_directory_of_another_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let run_dir = folder.path().join("run");
    let text = model_and_data(&model("llama"), &recorded("sft/data.jsonl"));
    let config = write(folder.path(), "a.toml", &text);
    let command = |more: &[&str]| {
        let mut arguments = vec!["sft".to_owned(), config.display().to_string()];
        arguments.extend(set("run.dir", &run_dir));
        arguments.extend(more.iter().map(|&text| text.to_owned()));
        run(arguments)
    };
    let first = command(&[]).ok();
    assert_eq!(first.stdout.trim(), run_dir.join("final").display().to_string());
    let error = command(&["--set", "optimizer.lr=0.5"]).error();
    assert!(error.contains("optimizer.lr") && error.contains("--fresh"), "{error}");
    let again = command(&[]).ok();
    assert!(again.stderr.contains("--fresh"), "{}", again.stderr);
    command(&["--set", "optimizer.lr=0.5", "--fresh"]).ok();
}

#[test]
fn an_interrupted_reader_is_no_error() {
    // `hearken doctor | head -0`: the reader is gone before anything is written.
    let mut command = crate::support::hearken(["doctor"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}
