//! Trainers whose completions come from servers.
#![cfg(unix)]

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::serve::Server;
use crate::support::{Ran, hearken, json_lines, model, run, write};

const KEY: &str = "HEARKEN_TEST_SERVER_KEY";

fn server() -> Server {
    Server::start(&["--model", model("llama").to_str().unwrap()])
}

/// The arguments of a short run of GRPO in `folder/name`, with `more` keys of `[rollout]`.
fn grpo(folder: &Path, name: &str, steps: usize, more: &str) -> Vec<String> {
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

fn train(folder: &Path, name: &str, steps: usize, more: &str) -> Ran {
    let output = hearken(grpo(folder, name, steps, more)).env(KEY, "admin").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn servers(urls: &[&str]) -> String {
    format!("servers = {urls:?}\nserver_key_env = \"{KEY}\"\nserver_timeout_s = 30")
}

fn steps(folder: &Path, name: &str) -> Vec<Value> {
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
    assert!(
        stderr.contains(&format!("a server is left out: {nobody}/admin/weights: ")),
        "{stderr}"
    );
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
