//! `hearken control demonstrate` and `hearken control imitate`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// What NumPy writes for the test: good archives, the same as lines, and archives with one thing wrong each.
const SCRIPT: &str = "
import numpy, sys
to = sys.argv[1] + '/'
random = numpy.random.default_rng(1)
lengths = [3, 1, 4]
steps = sum(lengths)
episodes = [random.normal(size=(length + 1, 4)).astype('f4') for length in lengths]
ends = numpy.cumsum(lengths) - 1
is_end = lambda wanted: numpy.isin(numpy.arange(steps), [ends[index] for index in wanted])
own = dict(
    observations=numpy.concatenate(episodes), actions=random.integers(0, 2, steps), rewards=numpy.ones(steps),
    terminations=is_end([0]), truncations=is_end([1]),
)
numpy.savez(to + 'own.npz', **own)
joined = dict(own, observations=numpy.concatenate([one[:-1] for one in episodes]),
    next_observations=numpy.concatenate([one[1:] for one in episodes]))
numpy.savez_compressed(to + 'next.npz', **joined)
with open(to + 'lines.jsonl', 'w') as file:
    import json
    at = 0
    for index, (one, length) in enumerate(zip(episodes, lengths)):
        actions = own['actions'][at:at + length].tolist()
        at += length
        file.write(json.dumps(dict(observations=one.astype('f8').tolist(), actions=actions, rewards=[1.0] * length, terminated=index == 0)) + '\\n')
less = dict(own); del less['terminations']
numpy.savez(to + 'less.npz', **less)
numpy.savez(to + 'short.npz', **dict(own, observations=own['observations'][1:]))
numpy.savez(to + 'wide.npz', **dict(own, observations=random.normal(size=(steps + 3, 5))))
numpy.savez(to + 'beyond.npz', **dict(own, actions=own['actions'] + 1))
missing = own['observations'].copy(); missing[5, 2] = numpy.nan
numpy.savez(to + 'missing.npz', **dict(own, observations=missing))
numpy.savez(to + 'named.npz', **dict(own, actions=numpy.array(['left'] * steps)))
numpy.savez(to + 'flags.npz', **dict(own, terminations=numpy.full(steps, 0.5)))
numpy.savez(to + 'order.npz', **dict(own, observations=numpy.asfortranarray(own['observations'])))
whole = open(to + 'own.npz', 'rb').read()
open(to + 'half.npz', 'wb').write(whole[:len(whole) // 2])
damaged = bytearray(whole); damaged[200] ^= 1
open(to + 'damaged.npz', 'wb').write(damaged)
";

/// Episodes of several lengths by NumPy itself, in both forms, and what is wrong with others, by name. Without NumPy there is nothing to read.
#[test]
fn demonstrations_are_read_from_archives_of_numpy() {
    let folder = tempfile::tempdir().unwrap();
    let python = std::env::var("HEARKEN_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let written = Command::new(&python).args(["-c", SCRIPT]).arg(folder.path()).output();
    let written = match written {
        Ok(written) if written.status.success() => written,
        _ => {
            hearken_testing::skip(&format!("{python} has no numpy; HEARKEN_PYTHON names another"));
            return;
        }
    };
    assert!(written.stderr.is_empty());
    let clone = |file: &str| {
        let dir = folder.path().join("runs").join(file);
        let path = folder.path().join(file).display().to_string();
        let more = ["--demonstrations", &path, "--set", "imitation.epochs=3"];
        (run(imitate("CartPole-v1", "bc", &dir, &more)), dir)
    };
    // What is learned from is the same, whatever the file.
    let weights = ["lines.jsonl", "own.npz", "next.npz"].map(|file| {
        let (ran, dir) = clone(file);
        ran.ok();
        fs::read(dir.join("final/model.safetensors")).unwrap()
    });
    assert!(weights[0] == weights[1] && weights[0] == weights[2]);
    for (file, expected) in [
        ("less.npz", "less.npz: `terminations`: found the arrays `observations`, `actions`"),
        (
            "short.npz",
            "short.npz: `observations`: found the shape [10, 4], expected 11 rows: one before each of 8 actions",
        ),
        ("wide.npz", "wide.npz:1: `observations[0]`: found 5 numbers, expected 4"),
        ("beyond.npz", "found 2, expected an integer from 0 to 1"),
        (
            "missing.npz",
            "missing.npz:2: `observations[1][2]`: found \"NaN\", expected a finite number",
        ),
        ("named.npz", "named.npz: `actions`: found the type \"<U4\", expected numbers"),
        (
            "flags.npz",
            "flags.npz: `terminations`: found another array of the shape [8], expected 8 truth values",
        ),
        ("order.npz", "order.npz: `observations`: found Fortran's order, expected C's"),
        ("half.npz", "half.npz: found no ZIP archive, expected what numpy.savez writes"),
        ("damaged.npz", "damaged.npz: `observations`: its checksum or its length is another one"),
    ] {
        let (ran, dir) = clone(file);
        let error = ran.error();
        assert!(error.contains(expected), "{error}");
        assert!(!dir.exists());
    }
}
