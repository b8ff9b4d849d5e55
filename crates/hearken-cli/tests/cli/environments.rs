//! `hearken control` in environments of other processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::resume::kill_after;
use crate::support::{json_lines, metrics, number, run, workspace, write};

fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A server in plain Python whose environment's name says what is wrong with it.
fn fake() -> Option<PathBuf> {
    if !runs("python3", &["-c", ""]) {
        hearken_testing::skip("there is no python3");
        return None;
    }
    Some(workspace().join("crates/hearken-env/tests/fake_server.py"))
}

fn python() -> Option<String> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if runs(&python, &["-c", "import gymnasium"]) {
        return Some(python);
    }
    hearken_testing::skip(&format!("{python} has no gymnasium; set PYTHON to one that has"));
    None
}

fn train(environment: &str, dir: &Path, more: &[&str]) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["control", "train", "--env", environment].iter().map(ToString::to_string).collect();
    let dir = format!("run.dir={}", dir.display());
    for pair in [dir.as_str()].iter().chain(more) {
        arguments.extend(["--set".to_owned(), (*pair).to_owned()]);
    }
    arguments
}

/// Settings of a short run in the fake server.
fn short(server: &Path) -> Vec<String> {
    [
        format!("environment.server.command=[\"python3\", {:?}]", server.display().to_string()),
        "environment.copies=2".to_owned(),
        "network.hidden=[8]".to_owned(),
        "ppo.steps=8".to_owned(),
        "ppo.minibatch=8".to_owned(),
        "train.environment_steps=160".to_owned(),
        "train.eval_episodes=2".to_owned(),
    ]
    .to_vec()
}

fn texts(settings: &[String]) -> Vec<&str> {
    settings.iter().map(String::as_str).collect()
}

#[test]
fn a_policy_learns_to_hold_the_pole_of_gymnasium() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    let server = format!("environment.server.python={python}");
    let settings = [server.as_str(), "train.environment_steps=60000", "train.eval_episodes=10"];
    run(train("gymnasium:CartPole-v1", &dir, &settings)).ok();
    let records = json_lines(&dir.join("metrics.jsonl"));
    let returns: Vec<f64> = records
        .iter()
        .filter_map(|record| Some(number(record.get("eval_return")?, "value")))
        .collect();
    assert!(returns[0] < 100.0 && 400.0 < returns[1], "{returns:?}");
    // What was learned there holds the pole here, and the other way round.
    let dir = dir.display().to_string();
    let evaluate = |more: &[&str]| -> f64 {
        let arguments = ["control", "evaluate", &dir, "--episodes", "5"];
        let ran = run(arguments.iter().chain(more)).ok();
        let measured: Value = serde_json::from_str(&ran.stdout).unwrap();
        number(&measured["eval_return"], "value")
    };
    assert!(400.0 < evaluate(&["--python", &python]));
    assert!(400.0 < evaluate(&["--env", "CartPole-v1"]));
}

#[test]
fn steps_of_gymnasium_are_replayed_from_given_states() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let line = "{\"state\": [1, 0.5], \"action\": [1]}\n";
    let input = write(folder.path(), "in.jsonl", line).display().to_string();
    let replay = |environment: &str, more: &[&str]| -> Value {
        let arguments =
            ["control", "replay", "--env", environment, "--input", &input, "--output", "-"];
        let ran = run(arguments.iter().chain(more)).ok();
        serde_json::from_str(ran.stdout.lines().next().unwrap()).unwrap()
    };
    let served = replay("gymnasium:Pendulum-v1", &["--python", &python]);
    let native = replay("Pendulum-v1", &[]);
    assert_eq!(served["observation"], native["observation"]);
    // Gymnasium's own action spaces have the type float32, and the reward has the action in it.
    assert!((number(&served, "reward") - number(&native, "reward")).abs() < 1e-9);
}

#[test]
fn a_run_in_another_process_that_is_killed_goes_on_bit_for_bit() {
    let Some(server) = fake() else { return };
    let mut settings = short(&server);
    settings.push("train.environment_steps=1600".to_owned());
    settings.push("train.save_minutes=0.0001".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    run(train("served:counter", &whole, &texts(&settings))).ok();
    kill_after(&train("served:counter", &killed, &texts(&settings)), &killed, 4);
    run(train("served:counter", &killed, &texts(&settings))).ok();
    let (expected, found) = (metrics(&whole), metrics(&killed));
    assert!(4 < expected.len() && found == expected);
    let weights = |dir: &Path| fs::read(dir.join("final/model.safetensors")).unwrap();
    assert!(weights(&whole) == weights(&killed));
}

#[test]
fn what_a_server_does_wrong_ends_a_run_with_its_place() {
    let Some(server) = fake() else { return };
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    let settings = short(&server);
    for (name, expected) in [
        ("refuses", "it says: no such world"),
        ("no actions", "found actions: {\"kind\":\"discrete\",\"count\":0}"),
    ] {
        let error = run(train(&format!("served:{name}"), &dir, &texts(&settings))).error();
        assert!(error.contains(expected), "{error}");
        assert!(!dir.exists(), "nothing is written");
    }
    for (name, expected) in [
        ("nan", "found NaN at place 1 of the observation of copy"),
        ("ends", "it ended with exit status: 7 while it was asked to step"),
    ] {
        let dir = folder.path().join(name);
        let error = run(train(&format!("served:{name}"), &dir, &texts(&settings))).error();
        assert!(error.contains(expected), "{error}");
        assert!(!dir.join("final").exists());
    }
    let none = run(train("served:counter", &dir, &[])).error();
    assert!(none.contains("`environment.server.command`"), "{none}");
    let sac = [texts(&settings).as_slice(), &["train.algorithm=sac"]].concat();
    let error = run(train("served:counter", &dir, &sac)).error();
    assert!(error.contains("`train.algorithm`: found \"sac\", expected \"ppo\""), "{error}");
    let error = run(train("gymnasium:X-v0", &dir, &["environment.server.options=[1]"])).error();
    assert!(error.contains("`environment.server.options`"), "{error}");
    let error =
        run(train("gymnasium:X-v0", &dir, &["environment.server.python=/no/python"])).error();
    assert!(error.contains("gymnasium:X-v0 (/no/python): cannot be started"), "{error}");
}

#[test]
fn a_policy_of_other_spaces_is_refused() {
    let Some(server) = fake() else { return };
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    run(train("served:counter", &dir, &texts(&short(&server)))).ok();
    let (policy, server) = (dir.display().to_string(), server.display().to_string());
    let evaluate = |environment: &str| {
        run([
            "control",
            "evaluate",
            &policy,
            "--episodes",
            "1",
            "--server",
            "python3",
            "--server",
            &server,
            "--env",
            environment,
        ])
    };
    evaluate("served:counter").ok();
    let error = evaluate("served:continuous").error();
    assert!(
        error.contains("found served:continuous with observations of 2 numbers and actions of 2 numbers within ±1")
            && error.contains("expected observations of 2 numbers and 3 actions"),
        "{error}"
    );
    let error = evaluate("CartPole-v1").error();
    assert!(error.contains("found CartPole-v1 with observations of 4 numbers"), "{error}");
    // What starts a server is not in the folder of a policy.
    let text = fs::read_to_string(dir.join("final/control.json")).unwrap();
    assert!(!text.contains("python3"), "{text}");
    let error = run(["control", "evaluate", &policy]).error();
    assert!(error.contains("served:counter: found no program that serves it"), "{error}");
    for (from, to, expected) in [
        ("\"length\":2", "\"length\":3", "control.json: found 2 numbers of observations of 3"),
        ("\"categorical\"", "\"gaussian\"", "control.json: found the head Gaussian with the bound"),
        ("\"served\":", "\"serves\":", "control.json: found no `served`"),
    ] {
        let text = text.replace(": ", ":");
        assert!(text.contains(from), "{text}");
        fs::write(dir.join("final/control.json"), text.replace(from, to)).unwrap();
        let error = evaluate("served:counter").error();
        assert!(error.contains(expected), "{error}");
    }
}
