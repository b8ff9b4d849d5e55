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
fn every_committed_configuration_is_of_a_command_and_refuses_an_unknown_key() {
    let folder = workspace().join("configs");
    let help = run(["--help"]).ok().stdout;
    for name in names(&folder) {
        let command = command(&name);
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
        if command != "rlhf" {
            pairs.extend(["model.path=none", "data.train=none"]);
        }
        if name.trim_end_matches(".toml") == command {
            pairs.push("train.steps=1");
        }
        for pair in pairs {
            arguments.extend(["--set".to_owned(), pair.to_owned()]);
        }
        let error = run(arguments).error();
        assert!(error.contains("run.sead") && error.contains("run.seed"), "{name}: {error}");
    }
}
