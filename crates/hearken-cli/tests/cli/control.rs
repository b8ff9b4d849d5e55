//! `hearken control`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::resume::kill_after;
use crate::support::{Ran, json_lines, metrics, names, number, run, run_with_input, write};

fn replay(environment: &str, input: &Path, output: &Path) -> Ran {
    let (input, output) = (input.display().to_string(), output.display().to_string());
    run(["control", "replay", "--env", environment, "--input", &input, "--output", &output])
}

#[test]
fn steps_are_replayed_in_the_order_of_the_input() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "{\"state\": [1, 0.5], \"action\": [1]}\n{\"action\": [3], \"state\": [4, 7.9]}\n";
    let input = write(folder.path(), "in.jsonl", lines);
    let output = folder.path().join("out.jsonl");
    replay("Pendulum-v1", &input, &output).ok();
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 2);
    let keys: Vec<&String> = lines[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["state", "observation", "reward", "terminated"]);
    assert!((number(&lines[1], "reward") + 11.457_935_146_920_741).abs() < 1e-12);
    let piped = run_with_input(
        ["control", "replay", "--env", "CartPole-v1", "--input", "-", "--output", "-"],
        "{\"state\": [0, 0, 0, 0], \"action\": 0}\n",
    );
    assert_eq!(piped.ok().stdout.lines().count(), 1);
}

#[test]
fn a_line_that_is_no_step_is_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let good = "{\"state\": [0, 0, 0, 0], \"action\": 1}\n";
    let output = folder.path().join("out.jsonl");
    let cases = [
        ("{\"state\": [0, 0, 0], \"action\": 1}", "`state`: found [0,0,0], expected a list of 4"),
        (
            "{\"state\": [0, 0, 0, 0], \"action\": 2}",
            "`action`: found 2, expected an integer from 0 to 1",
        ),
        ("{\"state\": [0, 0, 0, 0], \"action\": [1]}", "`action`: found [1], expected an integer"),
        ("{\"state\": [0, 0, 0, 0]}", "found the columns `state`; expected `state` + `action`"),
        ("{\"state\": [0, 0, 0, NaN], \"action\": 1}", "found NaN, which Python's json writes"),
        ("{\"state\": [0, 0, 0, 0], \"action\": null}", "found the columns `state`; expected"),
        ("7", "found the number 7, expected a JSON object"),
    ];
    for (bad, expected) in cases {
        let input = write(folder.path(), "in.jsonl", &format!("{good}{bad}\n{good}"));
        let error = replay("CartPole-v1", &input, &output).error();
        assert!(error.contains("in.jsonl:2") && error.contains(expected), "{bad}: {error}");
        assert_eq!(names(folder.path()), ["in.jsonl"]);
    }
    let ran = run(["control", "replay", "--env", "Cartpole-v1", "--input", "-", "--output", "-"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("did you mean CartPole-v1?"), "{}", ran.stderr);
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

#[test]
fn a_policy_is_trained_and_measured() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    let ran = run(train("CartPole-v1", &dir, &["train.environment_steps=60000"])).ok();
    assert_eq!(ran.stdout.trim(), dir.join("final").display().to_string());
    let records = json_lines(&dir.join("metrics.jsonl"));
    let evaluations: Vec<&Value> =
        records.iter().filter(|record| record.get("eval_return").is_some()).collect();
    assert_eq!(evaluations.len(), 2);
    let value = |record: &Value| number(&record["eval_return"], "value");
    assert!(value(evaluations[0]) < 100.0 && 400.0 < value(evaluations[1]), "{evaluations:?}");
    let ran = run(["control", "evaluate", dir.to_str().unwrap(), "--episodes", "10"]).ok();
    let measured: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(400.0 < value(&measured), "{measured}");
    let again = run(train("CartPole-v1", &dir, &["train.environment_steps=60000"])).ok();
    assert!(again.stderr.contains("this run has made its"), "{}", again.stderr);
}

#[test]
fn a_run_that_is_killed_goes_on_bit_for_bit() {
    let save = "train.save_minutes=0.0001";
    let ppo = ["train.environment_steps=40000", "train.eval_every=9000", save];
    let sac = [
        "train.algorithm=sac",
        "train.environment_steps=3000",
        "environment.copies=2",
        "network.hidden=[16]",
        "sac.replay=900",
        "sac.start_steps=400",
        "sac.batch=32",
        save,
    ];
    let preference = [
        "train.environment_steps=24000",
        "ppo.steps=256",
        "preference.labels=40",
        "preference.epochs=5",
        "preference.teacher=skip",
        save,
    ];
    let pebble = [
        "train.algorithm=sac",
        "train.environment_steps=4000",
        "environment.copies=2",
        "network.hidden=[16]",
        "sac.start_steps=400",
        "sac.batch=32",
        "preference.labels=40",
        "preference.epochs=5",
        "preference.pseudo_labels=2",
        "preference.confidence=0.6",
        "preference.crop=10",
        "preference.unsupervised_steps=1000",
        save,
    ];
    let cases = [
        ("CartPole-v1", ppo.as_slice()),
        ("Pendulum-v1", &ppo),
        ("Pendulum-v1", &sac),
        ("Pendulum-v1", &preference),
        ("Pendulum-v1", &pebble),
    ];
    for (environment, settings) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
        run(train(environment, &whole, settings)).ok();
        kill_after(&train(environment, &killed, settings), &killed, 4);
        run(train(environment, &killed, settings)).ok();
        let (expected, found) = (metrics(&whole), metrics(&killed));
        assert!(4 < expected.len() && found == expected, "{environment}");
        let weights = |dir: &Path| fs::read(dir.join("final/model.safetensors")).unwrap();
        assert!(weights(&whole) == weights(&killed), "{environment}: the weights differ");
    }
}

#[test]
fn what_does_not_fit_a_run_is_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    let error = |environment: &str, more: &[&str]| run(train(environment, &dir, more)).error();
    let cases = [
        (
            "train.algorithm=sac",
            "`train.algorithm`: found \"sac\", expected \"ppo\": SAC is for continuous",
        ),
        ("ppo.minibatch=100000", "`ppo.minibatch`: found 100000, expected at most the 256 steps"),
        (
            "environment.id=CartPol",
            "`environment.id`: found the text \"CartPol\", expected one of CartPole-v1",
        ),
        ("ppo.gamma=1.5", "`ppo.gamma`: found 1.5, expected a number above 0, up to 1"),
        ("network.hidden=[0]", "`network.hidden`: found 0, expected an integer from 1"),
    ];
    for (pair, expected) in cases {
        let error = error("CartPole-v1", &[pair]);
        assert!(error.contains(expected), "{error}");
        assert!(!dir.exists());
    }
    run(train("CartPole-v1", &dir, &["train.environment_steps=512"])).ok();
    let other = error("Acrobot-v1", &["train.environment_steps=512"]);
    assert!(other.contains("holds a run with"), "{other}");
    let path = dir.join("final/control.json");
    let text = fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        (
            "CartPole-v1",
            "Acrobot-v1",
            "control.json: found observations of 4 numbers and 2 actions, expected 6 and 3",
        ),
        ("CartPole-v1", "Pole", "control.json: found no environment \"Pole\""),
        ("64", "32", "tensor policy/layers.0.weight has shape [4, 64]; expected [4, 32]"),
        ("tanh", "sine", "control.json: found the activation \"sine\""),
        ("{", "", "control.json: not the description of a policy"),
    ] {
        fs::write(&path, text.replace(from, to)).unwrap();
        let error = run(["control", "evaluate", dir.to_str().unwrap()]).error();
        assert!(error.contains(expected), "{error}");
    }
    let missing = run(["control", "evaluate", folder.path().to_str().unwrap()]).error();
    assert!(missing.contains("control.json: cannot be read"), "{missing}");
}

#[test]
fn what_does_not_fit_a_run_from_comparisons_is_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    let cases = [
        (
            "Pendulum-v1",
            "preference.crop=50",
            "`preference.crop`: found 50, expected less than the 50",
        ),
        ("Pendulum-v1", "preference.confidence=1", "`preference.confidence`: found 1"),
        ("Pendulum-v1", "preference.pseudo_weight=-1", "`preference.pseudo_weight`: found -1"),
        ("Pendulum-v1", "preference.round=0", "`preference.round`: found 0, expected"),
        (
            "Pendulum-v1",
            "preference.utility={speed=1}",
            "`preference.utility`: found \"speed\", expected some of theta, theta_dot, the numbers of a state",
        ),
        ("Pendulum-v1", "preference.utility={}", "`preference.utility`: found no weight, expected"),
        ("Pendulum-v1", "preference.utility={theta=nan}", "`preference.utility.theta`: found"),
        (
            "served:world",
            "preference.utility={x=1}",
            "`preference.utility`: found weights, expected no such key",
        ),
    ];
    for (environment, pair, expected) in cases {
        let served = "environment.server.command=[\"server\"]";
        let settings = ["preference.labels=10", served, pair];
        let error = run(train(environment, &dir, &settings)).error();
        assert!(error.contains(expected), "{error}");
        assert!(!dir.exists());
    }
}

/// A teacher that wants the cart to go to the right, which the environment does not reward.
#[test]
fn what_a_teacher_goes_by_is_learned_and_the_report_shows_it_with_clips() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    let settings = [
        "train.environment_steps=20000",
        "train.clip_frames=20",
        "ppo.steps=128",
        "preference.labels=60",
        "preference.epochs=10",
        "preference.segment=20",
        "preference.utility={x=1, x_dot=0.5}",
    ];
    run(train("fixed/CartPole-v1", &dir, &settings)).ok();
    let records: Vec<Value> = json_lines(&dir.join("metrics.jsonl"));
    let of: Vec<&Value> =
        records.iter().filter(|record| record.get("preference/utility").is_some()).collect();
    let (first, last) = (of[0], of[of.len() - 1]);
    assert!(0.5 < number(last, "preference/utility_correlation"), "{last}");
    let rises = number(last, "preference/utility") - number(first, "preference/utility");
    assert!(0.3 < rises, "{first} {last}");
    assert_eq!(last["preference/shown"], 60);
    assert_eq!(names(&dir.join("clips")), ["after.png", "before.png"]);
    run(["report", dir.to_str().unwrap()]).ok();
    let page = fs::read_to_string(dir.join("report.html")).unwrap();
    assert_eq!(page.matches("src=\"data:image/png;base64,iVBORw0KGgo").count(), 2);
    for title in ["Comparisons", "What the teacher goes by", "Learned reward", "Return of episodes"]
    {
        assert!(page.contains(&format!("<figcaption>{title}")), "{title}");
    }
}
