//! `hearken collect`, as a person starts and stops it.
#![cfg(unix)]
// Helpers of tests may panic and report as tests do.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

// The driver of the browser that the tests of the pages have too.
#[path = "../../../hearken-collect/tests/browser/cdp.rs"]
#[allow(dead_code, clippy::needless_pass_by_value, reason = "these tests use a part of it")]
mod cdp;
mod clips;
mod lead;
mod live;
mod pages;
mod rounds;
mod steps;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

fn hearken(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearken"));
    command.current_dir(folder).arg("collect").args(arguments).stdin(Stdio::null());
    command.env_remove("HEARKEN_PASSWORD").env("HF_HUB_OFFLINE", "1");
    command
}

fn output(folder: &Path, arguments: &[&str]) -> Output {
    hearken(folder, arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A running service and the address it printed.
struct Running {
    child: Child,
    address: String,
    /// Kept open: with several projects more lines follow the first.
    _said: BufReader<ChildStdout>,
}

impl Running {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = hearken(folder, &["--bind", "127.0.0.1:0"]);
        command.args(arguments);
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("http://").expect("an address");
        // Of several projects each has a line, with its path.
        let address = url.split('/').next().unwrap_or(url).to_owned();
        Self { child, address, _said: said }
    }

    fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        self.send("GET", path, "", "").read_to_string(&mut answer).unwrap();
        answer
    }

    /// The answer to JSON that a page sends.
    fn post(&self, path: &str, body: &Value) -> BufReader<TcpStream> {
        // Of a project among several: `/p/NAME`.
        let project = path.match_indices('/').nth(2).filter(|_| path.starts_with("/p/"));
        let page = self.get(&format!("{}/account", &path[..project.map_or(0, |(at, _)| at)]));
        let (_, token) = page.split_once("name=\"csrf\" content=\"").expect("a page with a token");
        let token = token.split('"').next().unwrap();
        let headers = format!("X-CSRF-Token: {token}\r\nContent-Type: application/json\r\n");
        BufReader::new(self.send("POST", path, &headers, &body.to_string()))
    }

    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut connection = TcpStream::connect(&self.address).unwrap();
        let (host, length) = (&self.address, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        connection.write_all(request.as_bytes()).unwrap();
        connection
    }

    /// Asks the service to end, and waits until it has.
    fn stop(mut self) {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pairs(folder: &Path) {
    let row = r#"{"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5"}"#;
    std::fs::write(folder.join("pairs.jsonl"), format!("{row}\n")).unwrap();
}

#[test]
fn it_serves_until_it_is_asked_to_end() {
    let folder = tempfile::tempdir().unwrap();
    pairs(folder.path());
    let running = Running::start(folder.path(), &["--items", "pairs.jsonl"]);
    assert!(running.get("/health").contains("\"status\":\"ok\""));
    assert!(running.get("/label").starts_with("HTTP/1.1 200"));
    running.stop();
    assert!(folder.path().join("hearken.db").exists());
}

/// What the file says of a pair is nobody's judgement: it leaves the pair to people.
#[test]
fn pairs_of_a_file_are_compared_by_people() {
    let folder = tempfile::tempdir().unwrap();
    pairs(folder.path());
    let running = Running::start(folder.path(), &["--items", "pairs.jsonl"]);
    assert!(running.get("/health").contains("\"status\":\"ok\""));
    running.stop();
    let store = folder.path().join("hearken.db").display().to_string();
    let counts = hearken_store::open_existing(&store).unwrap().counts().unwrap();
    assert_eq!((counts.items, counts.judgements), (1, 0));
}

#[test]
fn another_address_than_loopback_needs_an_administrator() {
    let folder = tempfile::tempdir().unwrap();
    let refused = output(folder.path(), &["--bind", "0.0.0.0:0"]);
    assert!(!refused.status.success());
    assert!(said(&refused).contains("hearken collect --store"), "{}", said(&refused));
    let added = hearken(folder.path(), &["--add-admin", "ada"])
        .env("HEARKEN_PASSWORD", "correct horse battery")
        .output()
        .unwrap();
    assert!(added.status.success(), "{}", said(&added));
    let mut served =
        hearken(folder.path(), &["--bind", "0.0.0.0:0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(served.stdout.take().unwrap()).read_line(&mut line).unwrap();
    served.kill().unwrap();
    served.wait().unwrap();
    assert!(line.starts_with("http://0.0.0.0:"), "{line}");
}

#[test]
fn an_unfit_password_makes_no_account() {
    let folder = tempfile::tempdir().unwrap();
    let refused = hearken(folder.path(), &["--add-admin", "ada"])
        .env("HEARKEN_PASSWORD", "short")
        .output()
        .unwrap();
    assert!(!refused.status.success());
    assert!(said(&refused).contains("at least 10 characters"), "{}", said(&refused));
    assert!(!output(folder.path(), &["--bind", "0.0.0.0:0"]).status.success());
}

#[test]
fn an_address_that_is_taken_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path(), &[]);
    let refused = output(folder.path(), &["--store", "other.db", "--bind", &running.address]);
    assert!(!refused.status.success());
    let told = said(&refused);
    assert!(told.contains(&format!("cannot listen on {}", running.address)), "{told}");
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.jsonl"), "{\"prompt\": \"a\", \"chosen\": 1}\n")
        .unwrap();
    for file in ["bad.jsonl", "none.jsonl"] {
        let refused = output(folder.path(), &["--items", file]);
        assert!(!refused.status.success());
        assert!(said(&refused).contains(file), "{}", said(&refused));
    }
}

#[test]
fn a_second_service_on_a_file_of_json_lines_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _running = Running::start(folder.path(), &["--store", "prefs.jsonl"]);
    let refused = output(folder.path(), &["--store", "prefs.jsonl", "--bind", "127.0.0.1:0"]);
    assert!(!refused.status.success());
    assert!(said(&refused).contains("in use"), "{}", said(&refused));
}

#[test]
fn a_token_is_printed_once() {
    let folder = tempfile::tempdir().unwrap();
    let made = output(folder.path(), &["--add-token", "robot", "--scopes", "read,label"]);
    let token = String::from_utf8(made.stdout).unwrap();
    assert!(token.starts_with("hearken_") && token.trim().len() == 72, "{token}");
    let refused = output(folder.path(), &["--add-token", "robot", "--scopes", "everything"]);
    assert!(said(&refused).contains("read, write, label, manage"), "{}", said(&refused));
}

#[test]
fn the_log_has_a_line_per_request_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = hearken(folder.path(), &["--bind", "127.0.0.1:0", "--log"]);
    command.stderr(Stdio::piped());
    let mut running = Running::of(command);
    let mut log = running.child.stderr.take().unwrap();
    running.get("/health");
    running.get("/invite/0123456789abcdef");
    running.stop();
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    let line =
        text.lines().find(|line| line.contains("/health")).unwrap_or_else(|| panic!("{text}"));
    let words: Vec<&str> = line.split(' ').collect();
    assert!(words[0].starts_with("20") && words[1].ends_with('Z'), "{line}");
    assert_eq!(words[2..5], ["GET", "/health", "200"], "{line}");
    assert!(text.contains("GET /invite/… 404") && !text.contains("0123456789abcdef"), "{text}");
}

/// Settings and guidelines are set where the service is started, all or none, and are what the pages have.
#[test]
fn a_project_is_set_up_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let set = ["--set", "overlap=3", "ties=false", "title=Our pairs", "--settings"];
    let listed = output(folder.path(), &set);
    assert!(listed.status.success(), "{}", said(&listed));
    let listed = String::from_utf8(listed.stdout).unwrap();
    for line in ["overlap=3", "ties=false", "title=Our pairs", "limit_day=none"] {
        assert!(listed.lines().any(|listed| listed == line), "{listed}");
    }
    for (wrong, says) in [
        (&["--set", "overlap=2", "overlapp=1"][..], "overlapp"),
        (&["--set", "overlap"][..], "KEY=VALUE"),
        (&["--set", "order=shortest"][..], "random"),
        (&["--guidelines", "nothing.md"][..], "nothing.md"),
    ] {
        let refused = output(folder.path(), &[&["--bind", "127.0.0.1:0"], wrong].concat());
        assert!(!refused.status.success() && said(&refused).contains(says), "{}", said(&refused));
    }
    let listed = output(folder.path(), &["--settings"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("overlap=3\n"), "nothing was changed");
    std::fs::write(folder.path().join("guide.md"), "# Be fair\r\n").unwrap();
    for _ in 0..2 {
        let running = Running::start(folder.path(), &["--guidelines", "guide.md"]);
        let page = running.get("/guidelines");
        assert!(page.contains("Version 1 ") && page.contains("Be fair"), "{page}");
        assert!(page.contains("Our pairs"), "{page}");
    }
}
