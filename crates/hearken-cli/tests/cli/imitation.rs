//! `hearken control demonstrate` and `hearken control imitate`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::resume::kill_after;
use crate::support::{json_lines, metrics, run, write};

/// A policy that has hardly learned, and its episodes.
fn demonstrator(environment: &str, folder: &Path) -> (PathBuf, PathBuf) {
    let (dir, file) = (folder.join("expert"), folder.join("demos.jsonl"));
    let (run_dir, shown) = (format!("run.dir={}", dir.display()), dir.display().to_string());
    let settings = [run_dir.as_str(), "train.environment_steps=2048", "ppo.steps=128"];
    let mut arguments = vec!["control", "train", "--env", environment];
    for pair in settings {
        arguments.extend(["--set", pair]);
    }
    run(arguments).ok();
    let output = file.display().to_string();
    let ran =
        ["control", "demonstrate", "--policy", &shown, "--output", &output, "--episodes", "4"];
    run(ran).ok();
    (dir, file)
}

fn imitate(environment: &str, method: &str, dir: &Path, more: &[&str]) -> Vec<String> {
    let dir = format!("run.dir={}", dir.display());
    let start = ["control", "imitate", "--env", environment, "--method", method, "--set", &dir];
    start.iter().chain(more).map(|&word| word.to_owned()).collect()
}

#[test]
fn imitation_that_is_killed_goes_on_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let [pole, pendulum] = ["pole", "pendulum"].map(|name| folder.path().join(name));
    for place in [&pole, &pendulum] {
        fs::create_dir(place).unwrap();
    }
    let pole = demonstrator("CartPole-v1", &pole);
    let pendulum = demonstrator("Pendulum-v1", &pendulum);
    let save = "train.save_minutes=0.00001";
    let bc = ["imitation.epochs=40", "imitation.held_out=0.3", "imitation.patience=35"];
    let dagger = ["imitation.rounds=30", "imitation.round_epochs=1"];
    let adversarial = ["train.environment_steps=4000", "ppo.steps=64", "imitation.updates=2"];
    let sqil = [
        "environment.copies=2",
        "train.environment_steps=4000",
        "network.hidden=[16]",
        "sac.replay=900",
        "sac.start_steps=400",
        "sac.batch=32",
    ];
    let normalized = "network.normalize_observations=true";
    let cases = [
        ("CartPole-v1", &pole, "bc", bc.as_slice()),
        ("Pendulum-v1", &pendulum, "dagger", &dagger),
        ("CartPole-v1", &pole, "gail", &adversarial),
        ("Pendulum-v1", &pendulum, "airl", &adversarial),
        ("Pendulum-v1", &pendulum, "sqil", &sqil),
    ];
    for (environment, (expert, file), method, settings) in cases {
        let place = folder.path().join(method);
        let (whole, killed) = (place.join("whole"), place.join("killed"));
        let (expert, file) = (expert.display().to_string(), file.display().to_string());
        let mut more = vec!["--demonstrations", &file, "--expert", &expert, "--set", save];
        for pair in settings {
            more.extend(["--set", pair]);
        }
        if method != "sqil" {
            more.extend(["--set", normalized]);
        }
        run(imitate(environment, method, &whole, &more)).ok();
        kill_after(&imitate(environment, method, &killed, &more), &killed, 4);
        run(imitate(environment, method, &killed, &more)).ok();
        let (expected, found) = (metrics(&whole), metrics(&killed));
        assert!(4 < expected.len() && found == expected, "{method}");
        let weights = |dir: &Path| fs::read(dir.join("final/model.safetensors")).unwrap();
        assert!(weights(&whole) == weights(&killed), "{method}: the weights differ");
        let card = fs::read_to_string(whole.join("final/README.md")).unwrap();
        assert!(card.contains("reinforcement-learning") && card.contains("eval_return"), "{card}");
    }
    // What AIRL has found is a reward elsewhere.
    let reward = folder.path().join("airl/whole/final/reward");
    let (dir, key) =
        (folder.path().join("again"), format!("environment.reward={}", reward.display()));
    let dir = format!("run.dir={}", dir.display());
    let train = |environment: &str| {
        let steps = "train.environment_steps=1024";
        let mut arguments = vec!["control", "train", "--env", environment];
        for pair in [dir.as_str(), &key, steps, "ppo.steps=128"] {
            arguments.extend(["--set", pair]);
        }
        run(arguments)
    };
    let error = train("CartPole-v1").error();
    assert!(error.contains("reward.json: found a reward of Pendulum-v1, expected one"), "{error}");
    train("Pendulum-v1").ok();
}

#[test]
fn what_cannot_be_imitated_is_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (expert, file) = demonstrator("CartPole-v1", folder.path());
    let dir = folder.path().join("run");
    let good = json_lines(&file)[0].to_string();
    let bad = write(
        folder.path(),
        "bad.jsonl",
        &format!("{good}\n{}\n", good.replace("[0,", "[7,").replace("[1,", "[7,")),
    );
    let (bad, file) = (bad.display().to_string(), file.display().to_string());
    let (expert, missing) = (expert.display().to_string(), folder.path().join("none"));
    let missing = missing.display().to_string();
    let cases: [(&str, &str, &[&str], &str); 9] = [
        (
            "CartPole-v1",
            "bc",
            &["--demonstrations", &bad],
            "bad.jsonl:2: `actions[0]`: found 7, expected an integer from 0 to 1",
        ),
        (
            "CartPole-v1",
            "bc",
            &[],
            "found no `imitation.demonstrations`, expected a file of episodes",
        ),
        ("CartPole-v1", "gail", &["--demonstrations", &missing], "none"),
        (
            "Pendulum-v1",
            "gail",
            &["--demonstrations", &file],
            "demos.jsonl:1: `environment`: found \"CartPole-v1\", expected \"Pendulum-v1\"",
        ),
        (
            "CartPole-v1",
            "dagger",
            &[],
            "found no `imitation.expert`, expected the folder of a policy",
        ),
        (
            "Pendulum-v1",
            "dagger",
            &["--expert", &expert],
            "`imitation.expert`: found a policy of CartPole-v1, expected one of Pendulum-v1",
        ),
        ("CartPole-v1", "dagger", &["--expert", &missing], "control.json: cannot be read"),
        (
            "CartPole-v1",
            "sqil",
            &["--demonstrations", &file],
            "`imitation.method`: found \"sqil\", expected another method",
        ),
        (
            "CartPole-v1",
            "bc",
            &["--demonstrations", &file, "--set", "imitation.episodes=9"],
            "found 4 episodes, expected at least the 9",
        ),
    ];
    for (environment, method, more, expected) in cases {
        let error = run(imitate(environment, method, &dir, more)).error();
        assert!(error.contains(expected), "{method}: {error}");
        assert!(!dir.join("config.toml").exists(), "{method}");
    }
    let pair = format!("run.dir={}", dir.display());
    let error = run(["control", "imitate", "--env", "CartPole-v1", "--set", &pair]).error();
    assert!(error.contains("`imitation.method`: found \"none\", expected one of"), "{error}");
}
