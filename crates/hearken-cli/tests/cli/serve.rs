//! `hearken serve` as a program: what it answers is what other commands give.
#![cfg(unix)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{hearken, json_lines, model, recorded, run, run_with_input, write};

pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_as_is(&[&["--bind", "127.0.0.1:0"], arguments].concat())
    }

    /// The same at an address among the arguments.
    pub(crate) fn start_as_is(arguments: &[&str]) -> Self {
        let mut command = hearken(["serve", "--cache-mib", "8"]);
        command.args(arguments).env("HEARKEN_ADMIN_KEY", "admin");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
        Self { child, url: url.trim().to_owned() }
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let mut socket = TcpStream::connect(self.url.strip_prefix("http://").unwrap()).unwrap();
        let body = body.to_string();
        let head =
            "content-type: application/json\r\nauthorization: Bearer admin\r\nconnection: close";
        let length = body.len();
        write!(
            socket,
            "POST {path} HTTP/1.1\r\nhost: x\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{text}");
        serde_json::from_str(body).unwrap()
    }

    /// Ends it politely; gives what it wrote to standard error.
    pub(crate) fn end(mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{stderr}");
        stderr
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Where a test fails before it has ended the program.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_is_served_is_what_the_commands_give() {
    let folder = tempfile::tempdir().unwrap();
    let (base, reward) = (model("llama"), recorded("rm_model"));
    let adapter = model("llama").join("../../peft/llama");
    let log = folder.path().join("completions.jsonl");
    let [base, reward, adapter] = [&base, &reward, &adapter].map(|path| path.to_str().unwrap());
    let named = format!("other={adapter}");
    let more = ["--adapter", &named, "--reward", reward, "--log", log.to_str().unwrap()];
    let server = Server::start(&[&["--model", base, "--name", "base"], &more[..]].concat());

    // The log-probabilities of `hearken logprobs`, with and without the adapter.
    for (name, place) in [("base", base), ("other", adapter)] {
        let body = json!({
            "model": name, "prompt": [5, 17, 300, 42], "max_tokens": 12, "temperature": 0.7, "seed": 1,
            "logprobs": 0, "ignore_eos": true, "return_token_ids": true,
        });
        let answer = server.post("/v1/completions", &body);
        let choice = &answer["choices"][0];
        let mut ids = vec![json!(5), json!(17), json!(300), json!(42)];
        ids.extend(choice["token_ids"].as_array().unwrap().clone());
        let input = write(folder.path(), "ids.jsonl", &json!({"input_ids": ids}).to_string());
        let output = folder.path().join(format!("{name}.jsonl"));
        let [input, out] = [&input, &output].map(|path| path.to_str().unwrap());
        run(["logprobs", "--model", place, "--input", input, "--output", out]).ok();
        let expected = json_lines(&output)[0]["logprobs"].as_array().unwrap()[3..].to_vec();
        let found = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        assert_eq!((found.len(), expected.len()), (12, 12));
        for (found, expected) in found.iter().zip(&expected) {
            let difference = found.as_f64().unwrap() - expected.as_f64().unwrap();
            assert!(difference.abs() < 1e-5, "{name}: {found} {expected}");
        }
    }

    // The scores of `hearken score`.
    let answer = json!({"prompt": "Two and two:", "completion": " Four."});
    let scored = server.post("/v1/score", &json!({"input": [answer, {"text": "Five."}]}));
    let input = write(folder.path(), "answers.jsonl", &answer.to_string());
    let output = folder.path().join("scores.jsonl");
    let [input, out] = [&input, &output].map(|path| path.to_str().unwrap());
    run(["score", "--model", reward, "--input", input, "--output", out]).ok();
    let expected = json_lines(&output)[0]["score"].as_f64().unwrap();
    let found = scored["data"][0]["score"].as_f64().unwrap();
    assert!((found - expected).abs() < 1e-6, "{found} {expected}");

    // `hearken chat` talks to it; what it says is written down.
    let arguments = ["chat", "--url", &server.url, "--model", "base", "--max-new-tokens", "5"];
    let ran = run_with_input(arguments.into_iter().chain(["--temperature", "0"]), "Hello\n").ok();
    let alone = ["chat", "--model", base, "--max-new-tokens", "5", "--temperature", "0"];
    assert_eq!(ran.stdout, run_with_input(alone, "Hello\n").ok().stdout);
    let swapped = server.post("/admin/weights", &json!({"model": "base", "adapter": adapter}));
    assert_ne!(swapped["version"], swapped["previous"]);
    assert!(server.end().ends_with("stopped\n"));
    let written = json_lines(&log);
    assert_eq!(written.len(), 3);
    assert_eq!(written[2]["prompt"][0]["content"], "Hello");
}

#[test]
fn what_cannot_be_served_is_said_before_anything_is_answered() {
    let place = model("llama");
    let place = place.to_str().unwrap();
    let error = |more: &[&str]| {
        let arguments = ["serve", "--model", place];
        run(arguments.iter().chain(more)).error()
    };
    assert!(error(&["--bind", "0.0.0.0:0"]).contains("--api-key-file"));
    assert!(error(&["--adapter", "x"]).contains("expected NAME=DIR"));
    assert!(error(&["--reward", place]).contains("expected a reward model"));
    assert!(error(&["--api-key-file", "/dev/null"]).contains("found no key"));
    let adapter = format!("{place}={place}/../../peft/llama");
    assert!(error(&["--adapter", &adapter]).contains("two models are named"));
    let adapter = format!("other={place}/../../peft/gpt2");
    let misfit = error(&["--adapter", &adapter]);
    assert!(misfit.contains("peft/gpt2/adapter_config.json: target_modules"), "{misfit}");
    assert!(error(&["--adapter", "x=nowhere"]).contains("nowhere"));
    assert!(run(["serve", "--model", "nowhere"]).error().contains("nowhere"));
}
