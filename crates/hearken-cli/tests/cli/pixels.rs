//! `hearken control` on tasks that are seen in pixels, and pictures of policies.

use std::fs;
use std::path::Path;

use crate::support::{json_lines, number, run};

fn arguments(command: &str, environment: &str, dir: &Path, more: &[&str]) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["control", command, "--env", environment].iter().map(ToString::to_string).collect();
    let dir = format!("run.dir={}", dir.display());
    for pair in [dir.as_str()].iter().chain(more) {
        arguments.extend(["--set".to_owned(), (*pair).to_owned()]);
    }
    arguments
}

/// Mean returns before and after a run.
fn returns(dir: &Path) -> [f64; 2] {
    let returns: Vec<f64> = json_lines(&dir.join("metrics.jsonl"))
        .iter()
        .filter_map(|record| Some(number(record.get("eval_return")?, "value")))
        .collect();
    [returns[0], returns[returns.len() - 1]]
}

/// What takes a test less time than the settings of a whole run.
const SHORT: [&str; 3] = [
    "network.convolutions=[[8, 6, 4], [16, 4, 2]]",
    "network.hidden=[32]",
    "train.eval_episodes=40",
];

#[test]
fn a_dot_is_brought_to_the_middle_by_its_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    let settings = [&SHORT[..], &["train.environment_steps=25000"]].concat();
    run(arguments("train", "MovingDot-v0", &dir, &settings)).ok();
    let [before, after] = returns(&dir);
    assert!(before < -15.0 && -6.0 < after, "{before}, {after}");
}

#[test]
fn a_reward_of_pixels_is_learned_from_comparisons() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    let preference = [
        "train.environment_steps=25000",
        "preference.labels=150",
        "preference.initial=1",
        "preference.epochs=40",
        "preference.convolutions=[[8, 6, 4], [16, 4, 2]]",
        "preference.hidden=[32]",
    ];
    let settings = [&SHORT[..], &preference].concat();
    run(arguments("prefer", "MovingDot-v0", &dir, &settings)).ok();
    let [before, after] = returns(&dir);
    assert!(before < -15.0 && -12.0 < after, "{before}, {after}");
    let last = json_lines(&dir.join("metrics.jsonl"))
        .into_iter()
        .rfind(|record| record.get("preference/reward_correlation").is_some())
        .unwrap();
    assert!(0.5 < number(&last, "preference/reward_correlation"), "{last}");
}

#[test]
fn an_episode_is_drawn_as_a_moving_picture() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    let settings = [&SHORT[..], &["train.environment_steps=512"]].concat();
    run(arguments("train", "MovingDot-v0", &dir, &settings)).ok();
    let (policy, file) = (dir.display().to_string(), folder.path().join("dot.png"));
    let output = file.display().to_string();
    let render = |more: &[&str]| {
        let arguments = ["control", "render", &policy, "--output", &output];
        run(arguments.iter().chain(more))
    };
    let told = render(&[]).ok().stderr;
    assert!(told.contains("51 pictures of MovingDot-v0, cut off by its horizon"), "{told}");
    let bytes = fs::read(&file).unwrap();
    let count = |kind: &[u8]| bytes.windows(4).filter(|window| *window == kind).count();
    assert_eq!([count(b"acTL"), count(b"fcTL"), count(b"fdAT"), count(b"IEND")], [1, 51, 50, 1]);
    let told = render(&["--frames", "9"]).ok().stderr;
    assert!(told.contains("9 pictures of MovingDot-v0, cut at --frames"), "{told}");
    let error = render(&["--env", "CartPole-v1"]).error();
    assert!(
        error.contains("found CartPole-v1 with observations of 4 numbers")
            && error.contains("expected images of 42 × 42 pixels of 1 and 5 actions"),
        "{error}"
    );
    let error = run(["control", "render", &policy, "--output", "no/such/folder.png"]).error();
    assert!(error.contains("there is no folder no/such"), "{error}");
}

#[test]
fn what_does_not_fit_pixels_is_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    for (environment, pair, expected) in [
        (
            "CartPole-v1",
            "network.convolutions=[[8, 4, 2]]",
            "`network.convolutions`: found convolutions, expected none",
        ),
        (
            "Catch-v0",
            "network.convolutions=[[8, 50, 2]]",
            "`network.convolutions`: found a kernel of 50, expected at most the 42",
        ),
        ("Catch-v0", "network.convolutions=[[8, 5, 2]]", "leaves 1 out at the end"),
        ("Catch-v0", "network.convolutions=[[8, 0, 2]]", "`network.convolutions`"),
        ("Catch-v0", "network.convolutions=[[8, 4]]", "`network.convolutions`"),
        (
            "Catch-v0",
            "network.normalize_observations=true",
            "`network.normalize_observations`: found true, expected false",
        ),
    ] {
        let error = run(arguments("train", environment, &dir, &[pair])).error();
        assert!(error.contains(expected), "{pair}: {error}");
        assert!(!dir.exists());
    }
}
