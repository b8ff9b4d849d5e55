//! `hearken control`.

use std::path::Path;

use crate::support::{Ran, json_lines, names, number, run, run_with_input, write};

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
