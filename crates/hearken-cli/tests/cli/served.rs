//! Trainers whose completions come from servers.
#![cfg(unix)]

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::serve::Server;
use crate::support::{Ran, TIME_FIELDS, hearken, json_lines, model, run, write};

pub(crate) const KEY: &str = "HEARKEN_TEST_SERVER_KEY";

fn server() -> Server {
    Server::start(&["--model", model("llama").to_str().unwrap()])
}

/// The arguments of a short run of GRPO in `folder/name`, with `more` keys of `[rollout]`.
pub(crate) fn grpo(folder: &Path, name: &str, steps: usize, more: &str) -> Vec<String> {
    let prompts: Vec<String> = (0..6)
        .map(|at| json!({"prompt": format!("Say {}:", "ab".repeat(at + 1))}).to_string() + "\n")
        .collect();
    let data = write(folder, "prompts.jsonl", &prompts.concat());
    let config = format!(
        "[run]\ndir = {:?}\n[model]\npath = {:?}\n[data]\ntrain = {:?}\n[train]\nsteps = {steps}\n\
         [optimizer]\nlr = 1e-3\n[grpo]\nprompts = 3\n[rollout]\nmax_new_tokens = 8\ncompletions = 4\n{more}\n\
         [[score]]\nkind = \"heuristic\"\nname = \"length_diversity\"\n",
        folder.join(name).display().to_string(),
        model("llama").display().to_string(),
        data.display().to_string()
    );
    let config = write(folder, &format!("{name}.toml"), &config);
    vec!["grpo".to_owned(), config.display().to_string()]
}

pub(crate) fn train(folder: &Path, name: &str, steps: usize, more: &str) -> Ran {
    let output = hearken(grpo(folder, name, steps, more)).env(KEY, "admin").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

pub(crate) fn servers(urls: &[&str]) -> String {
    format!("servers = {urls:?}\nserver_key_env = \"{KEY}\"\nserver_timeout_s = 30")
}

pub(crate) fn steps(folder: &Path, name: &str) -> Vec<Value> {
    let records = json_lines(&folder.join(name).join("metrics.jsonl"));
    records.into_iter().filter(|record| record.get("loss").is_some()).collect()
}

#[test]
fn servers_give_what_this_process_would_have_sampled() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "here", 4, "").ok();
    let (one, other) = (server(), server());
    let ran = train(folder.path(), "there", 4, &servers(&[&one.url, &other.url])).ok();
    assert!(ran.stderr.contains("completions are sampled by http://"), "{}", ran.stderr);
    let (here, there) = (steps(folder.path(), "here"), steps(folder.path(), "there"));
    assert_eq!((here.len(), there.len()), (4, 4));
    for (here, there) in here.iter().zip(&there) {
        for exact in ["reward", "completions/mean_length"] {
            assert!(here.get(exact).is_some(), "{exact} in {here}");
            assert_eq!(here[exact], there[exact], "{exact}: {here} and {there}");
        }
        let (a, b) = (here["grad_norm"].as_f64().unwrap(), there["grad_norm"].as_f64().unwrap());
        assert!((a - b).abs() <= 1e-3 * a.abs() + 1e-6, "{here} and {there}");
    }
    // Those of the last iteration are left.
    let weights = std::fs::read_dir(folder.path().join("there/weights")).unwrap().count();
    assert_eq!(weights, 1);
    for server in [one, other] {
        assert!(server.end().ends_with("stopped\n"));
    }
}

#[test]
fn a_server_that_is_gone_is_left_out_and_without_any_the_run_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (stays, goes) = (server(), server());
    let gone = goes.url.clone();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{free}");
    let more = servers(&[&stays.url, &goes.url, &nobody]);
    let mut command = hearken(grpo(folder.path(), "run", 40, &more));
    let child = command.env(KEY, "admin").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let (child, metrics) = (child.unwrap(), folder.path().join("run/metrics.jsonl"));
    let since = Instant::now();
    while std::fs::read_to_string(&metrics).map_or(0, |text| text.lines().count()) < 2 {
        assert!(since.elapsed() < Duration::from_secs(60), "no step");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(goes);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    // Each is told of once.
    for left in [&nobody, &gone] {
        let news = format!("a server is left out until it answers: {left}/");
        assert_eq!(stderr.matches(&news).count(), 1, "{news}: {stderr}");
    }
    assert_eq!(steps(folder.path(), "run").len(), 40);

    let error = train(folder.path(), "none", 2, &servers(&[&nobody])).error();
    assert!(error.contains("none of the servers has the weights"), "{error}");
    assert!(error.contains(&nobody), "{error}");
    let unkeyed = format!("servers = [{:?}]", stays.url);
    let error = train(folder.path(), "locked", 2, &unkeyed).error();
    assert!(error.contains("/admin/weights: status 401"), "{error}");
}

#[test]
fn servers_and_other_ways_to_complete_exclude_each_other() {
    let folder = tempfile::tempdir().unwrap();
    for (more, expected) in [
        ("servers = [\"http://x\"]\ndtype = \"int8\"", "rollout.dtype"),
        ("servers = [\"localhost:8000\"]", "expected addresses"),
        (
            "servers = [\"http://x\"]\nserver_key_env = \"HEARKEN_NO_SUCH_KEY\"",
            "HEARKEN_NO_SUCH_KEY",
        ),
    ] {
        let error = run(grpo(folder.path(), "run", 2, more)).error();
        assert!(error.contains(expected), "{more}: {error}");
    }
}

/// What a record of a step says, times aside.
fn timeless(mut record: Value) -> Value {
    let record = record.as_object_mut().unwrap();
    record.retain(|key, _| !TIME_FIELDS.contains(&&**key));
    json!(record)
}

#[test]
fn what_is_sampled_ahead_is_of_the_policy_of_that_time() {
    let folder = tempfile::tempdir().unwrap();
    let still = |name: &str, more: &str| {
        let mut words = grpo(folder.path(), name, 6, more);
        words.extend(["--set".to_owned(), "optimizer.lr=0".to_owned()]);
        run(words).ok();
        steps(folder.path(), name)
    };
    // A policy that stays as it is writes the same, whenever it is asked.
    let (at_once, ahead) = (still("at-once", ""), still("ahead", "ahead = 2"));
    for (at_once, ahead) in at_once.iter().zip(&ahead) {
        for exact in ["reward", "completions/mean_length", "kl"] {
            assert_eq!(at_once[exact], ahead[exact], "{exact}: {at_once} and {ahead}");
        }
    }
    let staleness: Vec<_> =
        ahead.iter().map(|record| record["sampling/staleness"].as_f64()).collect();
    assert_eq!(staleness, [0.0, 1.0, 2.0, 2.0, 2.0, 2.0].map(Some));
    assert!(at_once.iter().all(|record| record.get("sampling/staleness").is_none()));
    // One that learns is asked earlier.
    train(folder.path(), "learns", 6, "").ok();
    train(folder.path(), "learns-ahead", 6, "ahead = 2").ok();
    let rewards = |name: &str| -> Vec<f64> {
        steps(folder.path(), name).iter().map(|it| it["reward"].as_f64().unwrap()).collect()
    };
    let (at_once, ahead) = (rewards("learns"), rewards("learns-ahead"));
    assert_eq!(at_once[0].to_bits(), ahead[0].to_bits());
    assert_ne!(at_once[1..], ahead[1..]);
}

#[test]
fn servers_sample_ahead_what_this_process_would_have() {
    let folder = tempfile::tempdir().unwrap();
    let ran = train(folder.path(), "here", 5, "ahead = 1").ok();
    assert!(ran.stderr.contains("sampled 1 iterations ahead of training"), "{}", ran.stderr);
    let (one, other) = (server(), server());
    let more = format!("ahead = 1\n{}", servers(&[&one.url, &other.url]));
    train(folder.path(), "there", 5, &more).ok();
    let (here, there) = (steps(folder.path(), "here"), steps(folder.path(), "there"));
    assert_eq!((here.len(), there.len()), (5, 5));
    for (here, there) in here.iter().zip(&there) {
        for exact in ["reward", "completions/mean_length", "sampling/staleness"] {
            assert_eq!(here[exact], there[exact], "{exact}: {here} and {there}");
        }
    }
}

/// A run that is killed when so many steps are recorded; these.
fn killed(words: &[String], records: &dyn Fn() -> Vec<Value>, after: usize) -> Vec<Value> {
    let mut command = hearken(words);
    let mut child =
        command.env(KEY, "admin").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let since = Instant::now();
    while records().len() < after {
        assert!(since.elapsed() < Duration::from_secs(60), "no step");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    records()
}

#[test]
fn a_run_that_samples_ahead_goes_on_bit_for_bit_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (server(), server());
    let of_servers = servers(&[&one.url, &other.url]);
    for (name, more) in [("here", String::new()), ("there", of_servers)] {
        let more = format!("ahead = 3\n{more}");
        let mut words = grpo(folder.path(), name, 30, &more);
        words.extend(["--set".to_owned(), "train.save_every=4".to_owned()]);
        let metrics = folder.path().join(name).join("metrics.jsonl");
        // A line may not be whole yet.
        let records = || -> Vec<Value> {
            let text = std::fs::read_to_string(&metrics).unwrap_or_default();
            let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
            lines.filter(|record: &Value| record.get("loss").is_some()).map(timeless).collect()
        };
        // What servers say may differ in last bits from one run to another, and not from one life of a run to the next.
        let lives = [killed(&words, &records, 7), killed(&words, &records, 15)];
        let output = hearken(&words).env(KEY, "admin").output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        let last = records();
        assert_eq!(last.len(), 30);
        for (life, record) in lives.iter().flat_map(|life| life.iter().zip(&last)) {
            assert_eq!(life, record, "{name}");
        }
        if name == "here" {
            train(folder.path(), "whole", 30, &more).ok();
            let whole: Vec<Value> =
                steps(folder.path(), "whole").into_iter().map(timeless).collect();
            assert_eq!(last, whole);
        }
    }
}

#[test]
fn what_cannot_be_sampled_ahead_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut words = grpo(folder.path(), "run", 2, "ahead = 1");
    words.extend(["--set".to_owned(), "grpo.groups=\"resample\"".to_owned()]);
    let error = run(words).error();
    assert!(error.contains("rollout.ahead") && error.contains("grpo.groups"), "{error}");
    let error = run(grpo(folder.path(), "run", 2, "ahead = 1\nreplay = \"x.jsonl\"")).error();
    assert!(error.contains("rollout.ahead") && error.contains("rollout.replay"), "{error}");
}
