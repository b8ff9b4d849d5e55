//! `hearken collect`, as a person starts and stops it.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn hearken(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearken"));
    command.current_dir(folder).arg("collect").args(arguments).stdin(Stdio::null());
    command.env_remove("HEARKEN_PASSWORD");
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
}

impl Running {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = hearken(folder, &["--bind", "127.0.0.1:0"]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").expect("an address").to_owned();
        Self { child, address }
    }

    fn get(&self, path: &str) -> String {
        let mut connection = TcpStream::connect(&self.address).unwrap();
        let host = &self.address;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
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
    let mut running = Running::start(folder.path(), &["--items", "pairs.jsonl"]);
    assert!(running.get("/health").contains("\"status\":\"ok\""));
    assert!(running.get("/label").starts_with("HTTP/1.1 200"));
    let pid = running.child.id().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert!(running.child.wait().unwrap().success());
    assert!(folder.path().join("hearken.db").exists());
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
