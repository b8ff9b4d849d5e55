//! The committed configurations.

use crate::support::{names, run, set, workspace};

/// The command for a configuration: the last part of its name says it.
fn command(name: &str) -> &str {
    match name.trim_end_matches(".toml").rsplit('-').next() {
        Some("quickstart") => "rlhf",
        Some(last) => last,
        None => unreachable!("a name has a last part"),
    }
}

#[test]
fn every_committed_configuration_of_a_control_task_is_read_and_refuses_an_unknown_key() {
    let folder = workspace().join("configs/control");
    let mut files: Vec<_> = names(&folder).into_iter().map(|name| folder.join(name)).collect();
    files.push(workspace().join("configs/control.toml"));
    for path in files {
        let scratch = tempfile::tempdir().unwrap();
        let mut arguments = vec!["control".to_owned(), "train".to_owned()];
        arguments.push(path.display().to_string());
        arguments.extend(set("run.dir", &scratch.path().join("run")));
        let pairs = ["run.sead=1", "train.environment_steps=1"];
        arguments.extend(pairs.iter().flat_map(|pair| ["--set".to_owned(), (*pair).to_owned()]));
        if path.ends_with("control.toml") {
            arguments.extend(["--set".to_owned(), "environment.id=CartPole-v1".to_owned()]);
        }
        let error = run(arguments).error();
        let expected = "`run.sead`; the nearest known key is `run.seed`";
        assert!(error.contains(expected), "{}: {error}", path.display());
    }
    let text = std::fs::read_to_string(workspace().join("configs/control.toml")).unwrap();
    assert_eq!(run(["config", "control"]).ok().stdout, text);
    assert!(run(["schema", "control"]).ok().stdout.contains("gae_lambda"));
}

#[test]
fn the_configuration_of_judges_is_complete_and_refuses_what_it_does_not_know() {
    let path = workspace().join("configs/judge.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(run(["config", "judge"]).ok().stdout, text);
    let schema = run(["schema", "judge"]).ok().stdout;
    let path = path.display().to_string();
    let with = |sets: &[&str]| {
        let mut arguments = vec!["judge", &path, "--input", "none.jsonl", "--evaluate"];
        for set in sets {
            arguments.extend(["--set", set]);
        }
        run(arguments).error()
    };
    let judge = "judge=[{kind=\"command\", program=\"x\"}]";
    assert!(with(&[]).contains("`judge`, expected at least one [[judge]]"), "{}", with(&[]));
    for (set, expected) in [
        ("ask.votse=3", "`ask.votse`; the nearest known key is `ask.votes`"),
        (
            "ask.task=order",
            "`ask.task`: found the text \"order\", expected one of \"compare\", \"rate\", \"rank\"",
        ),
        ("ask.task=rank", "`judge[0].kind`"),
        ("ask.task=rate", "`judge[0].kind`"),
        ("template.question={a} or b", "`template.question`: found no `{b}`"),
        ("template.choices=[\"A\", \"a\"]", "`template.choices`"),
        ("axis=[{name=\"x\", text=\"y\"}, {name=\"x\", text=\"z\"}]", "names that differ"),
        ("judge=[{kind=\"robot\"}]", "`judge[0].kind`: found the text \"robot\""),
        ("judge=[{kind=\"openai\", model=\"m\"}]", "found no `judge[0].base_url`"),
        ("budget.money=-1", "`budget.money`: found -1, expected a number from 0"),
    ] {
        let error = with(&[judge, set]);
        assert!(error.contains(expected), "{set}: {error}");
    }
    for key in ["reason_tokens", "prompt_price", "then_rate", "both_orders"] {
        assert!(schema.contains(key) && text.contains(key), "{key}");
    }
}

#[test]
fn every_committed_configuration_is_of_a_command_and_refuses_an_unknown_key() {
    let folder = workspace().join("configs");
    let help = run(["--help"]).ok().stdout;
    for name in names(&folder) {
        let command = command(&name);
        if ["control", "judge", "constitution", "principles"].contains(&command) {
            continue;
        }
        // A trainer whose command is not there has no user yet.
        if !help.contains(&format!("  {command} ")) {
            continue;
        }
        let path = folder.join(&name).display().to_string();
        let scratch = tempfile::tempdir().unwrap();
        let mut arguments = vec![command.to_owned(), path.clone()];
        arguments.extend(set("run.dir", &scratch.path().join("run")));
        let mut pairs = vec!["run.sead=1"];
        // A pipeline has no model and data of its own, and some files say how long they are.
        let is_pipeline = ["rlhf", "rlaif", "loop"].contains(&command);
        if !is_pipeline {
            pairs.extend(["model.path=none", "data.train=none"]);
        }
        if !is_pipeline && name.trim_end_matches(".toml") == command {
            pairs.push("train.steps=1");
        }
        for pair in pairs {
            arguments.extend(["--set".to_owned(), pair.to_owned()]);
        }
        let error = run(arguments).error();
        assert!(error.contains("run.sead") && error.contains("run.seed"), "{name}: {error}");
    }
}

#[test]
fn the_program_prints_the_commented_files_and_their_schemas() {
    let folder = workspace().join("configs");
    for command in ["sft", "reward", "dpo", "ppo", "grpo", "rlhf", "loop"] {
        let file = if command == "rlhf" { "quickstart" } else { command };
        let text = std::fs::read_to_string(folder.join(format!("{file}.toml"))).unwrap();
        assert_eq!(run(["config", command]).ok().stdout, text);
        let schema: serde_json::Value =
            serde_json::from_str(&run(["schema", command]).ok().stdout).unwrap();
        let seed = &schema["properties"]["run"]["properties"]["seed"];
        assert_eq!((seed["type"].as_str(), seed["default"].as_u64()), (Some("integer"), Some(0)));
        assert!(schema["title"].as_str().unwrap().ends_with(command));
    }
    let wrong = run(["config", "dpoo"]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("dpo"), "{}", wrong.stderr);
}

/// A key that was pasted is shown neither in the error nor anywhere else.
#[test]
fn a_pasted_key_is_refused_and_not_echoed() {
    let folder = tempfile::tempdir().unwrap();
    let key = "sk-proj-0a1b2c3d4e5f6a7b8c9d";
    for (text, set) in [
        (format!("[judge]\nkey_env = '{key}'\n"), "dpo.online=dpo".to_owned()),
        (format!("[judge]\napi_key = '{key}'\n"), "dpo.online=dpo".to_owned()),
        (format!("[judge]\napi_key = {key}\n"), "dpo.online=dpo".to_owned()),
        (String::new(), format!("judge.key_env={key}")),
        (String::new(), format!("judge.token={key}")),
        (String::new(), key.to_owned()),
    ] {
        let config = crate::support::write(folder.path(), "run.toml", &text);
        let run_dir = folder.path().join("run");
        let mut arguments = vec!["dpo".to_owned(), config.display().to_string()];
        arguments.extend(crate::support::set("run.dir", &run_dir));
        arguments.extend(["--set".to_owned(), set]);
        let error = run(arguments).error();
        assert!(!error.contains(key), "{error}");
        assert!(!run_dir.exists(), "nothing is written");
    }
}
