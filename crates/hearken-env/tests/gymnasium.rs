//! The tasks beside Gymnasium's, step by step from stored states.

use hearken_env::{ControlTask, replay};
use serde_json::Value;

const TASKS: [(ControlTask, &str); 5] = [
    (ControlTask::CartPole, include_str!("fixtures/gymnasium/CartPole-v1.jsonl")),
    (ControlTask::Pendulum, include_str!("fixtures/gymnasium/Pendulum-v1.jsonl")),
    (ControlTask::MountainCar, include_str!("fixtures/gymnasium/MountainCar-v0.jsonl")),
    (
        ControlTask::MountainCarContinuous,
        include_str!("fixtures/gymnasium/MountainCarContinuous-v0.jsonl"),
    ),
    (ControlTask::Acrobot, include_str!("fixtures/gymnasium/Acrobot-v1.jsonl")),
];

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => {
            values.iter().map(|value| value.as_f64().expect("a number")).collect()
        }
        value => vec![value.as_f64().expect("a number")],
    }
}

#[track_caller]
fn assert_close(found: &[f64], expected: &Value, tolerance: f64, what: &str) {
    let expected = numbers(expected);
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance, "{what}: {found}, Gymnasium {expected}");
    }
}

#[test]
fn every_step_is_gymnasiums() {
    for (task, lines) in TASKS {
        assert!(90 < lines.lines().count(), "{}", task.id());
        for (index, line) in lines.lines().enumerate() {
            let line: Value = serde_json::from_str(line).unwrap();
            let at = format!("{} line {}", task.id(), index + 1);
            let done = replay(task, &line["state"], &line["action"]).unwrap();
            assert_close(&done.state, &line["next_state"], 1e-12, &at);
            // A double that is off in its last digit may round to a neighbor.
            assert_close(&done.observation, &line["observation"], 1e-6, &at);
            assert_close(&[done.reward], &line["reward"], 1e-12, &at);
            assert_eq!(done.terminated, line["terminated"].as_bool().unwrap(), "{at}");
        }
    }
}

/// One step of each, computed in double precision from the published formulas.
#[test]
fn single_steps_have_their_known_values() {
    let known: [(ControlTask, &str, &str, &str, f64); 6] = [
        (
            ControlTask::CartPole,
            "[0.01,0.02,0.03,0.04]",
            "1",
            "[0.0104,0.21467919574755523,0.0308,-0.2430687179600081]",
            1.0,
        ),
        (ControlTask::Pendulum, "[1,0.5]", "[1]", "[1.064055161930296,1.2811032386059225]", -1.026),
        (
            ControlTask::Pendulum,
            "[4,7.9]",
            "[3]",
            "[4.381619906425953,7.632398128519054]",
            -11.457_935_146_920_741,
        ),
        (
            ControlTask::MountainCar,
            "[-0.5,0.01]",
            "2",
            "[-0.48917684300416925,0.010823156995830743]",
            -1.0,
        ),
        (
            ControlTask::MountainCarContinuous,
            "[0.44,0.07]",
            "[1.5]",
            "[0.5099999904632568,0.07000000029802322]",
            99.775,
        ),
        (
            ControlTask::Acrobot,
            "[0.1,-0.2,0.3,-0.4]",
            "2",
            "[0.1282116312891261,-0.211840321026976,-0.023484731535001357,0.28679521459777013]",
            -1.0,
        ),
    ];
    for (task, state, action, next, reward) in known {
        let of = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let done = replay(task, &of(state), &of(action)).unwrap();
        assert_close(&done.state, &of(next), 1e-12, task.id());
        assert_close(&[done.reward], &Value::from(reward), 1e-12, task.id());
    }
}

#[test]
fn what_is_no_state_or_action_of_the_task_is_refused() {
    let refused = |task: ControlTask, state: &str, action: &str| {
        let of = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        replay(task, &of(state), &of(action)).unwrap_err().to_string()
    };
    let cases = [
        (
            ControlTask::CartPole,
            "[0,0,0]",
            "1",
            "`state`: found [0,0,0], expected a list of 4 finite numbers: x, x_dot, theta, theta_dot",
        ),
        (
            ControlTask::CartPole,
            "[0,0,0,\"a\"]",
            "1",
            "`state`: found [0,0,0,\"a\"], expected a list of 4 finite numbers",
        ),
        (
            ControlTask::CartPole,
            "[0,0,0,0]",
            "2",
            "`action`: found 2, expected an integer from 0 to 1",
        ),
        (
            ControlTask::CartPole,
            "[0,0,0,0]",
            "-1",
            "`action`: found -1, expected an integer from 0 to 1",
        ),
        (
            ControlTask::CartPole,
            "[0,0,0,0]",
            "1.0",
            "`action`: found 1.0, expected an integer from 0 to 1",
        ),
        (
            ControlTask::Acrobot,
            "[0,0,0,0]",
            "true",
            "`action`: found true, expected an integer from 0 to 2",
        ),
        (
            ControlTask::Pendulum,
            "[0,0]",
            "1",
            "`action`: found 1, expected a list of one finite number",
        ),
        (
            ControlTask::Pendulum,
            "[0,0]",
            "[1,2]",
            "`action`: found [1,2], expected a list of one finite number",
        ),
        (
            ControlTask::Acrobot,
            "[0,0,1e300,1e300]",
            "0",
            "`state`: found [0,0,1e+300,1e+300], expected a state and an action from which",
        ),
        (ControlTask::Gridworld, "[0,5]", "0", "`state`: found [0,5], expected a row and a column"),
    ];
    for (task, state, action, expected) in cases {
        let error = refused(task, state, action);
        assert!(error.starts_with(expected), "{error}");
    }
}
