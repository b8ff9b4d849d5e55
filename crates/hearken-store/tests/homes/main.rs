//! What every home of the store promises, checked on each of them.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests may panic and say what they skip"
)]

mod claims;
mod damage;
mod disk_full;
mod documents;
mod examples;
mod kill;
mod records;
mod speed;
mod submissions;
mod transfers;

#[path = "../support/postgres_server.rs"]
mod postgres_server;
#[path = "../support/small_disk.rs"]
mod small_disk;

use std::cell::Cell;

use hearken_store::Store;
use postgres_server::PostgresServer;

/// A home that is empty at first.
struct Home {
    url: String,
}

impl Home {
    /// Opens the store; a test may do that again after dropping it.
    fn open(&self) -> Box<dyn Store> {
        hearken_store::open(&self.url).unwrap()
    }
}

type Check = (&'static str, fn(&Home));

/// The promises. A check gets an empty home.
fn checks() -> Vec<Check> {
    [records::CHECKS, claims::CHECKS, submissions::CHECKS, documents::CHECKS].concat()
}

/// Runs every check on a new home from `new`, and says which one it was if it fails.
fn run_all(mut new: impl FnMut() -> Home) {
    for (name, check) in checks() {
        let home = new();
        let result = std::panic::catch_unwind(|| check(&home));
        assert!(result.is_ok(), "on {}: {name}", home.url);
    }
}

fn file_homes(ending: &str) -> impl FnMut() -> Home {
    let folder = tempfile::tempdir().unwrap();
    let count = Cell::new(0);
    let ending = ending.to_owned();
    move || {
        count.set(count.get() + 1);
        let path = folder.path().join(format!("{}.{ending}", count.get()));
        Home { url: path.to_str().unwrap().to_owned() }
    }
}

fn postgres_homes(server: &PostgresServer) -> impl FnMut() -> Home {
    let count = Cell::new(0);
    move || {
        count.set(count.get() + 1);
        Home { url: server.new_database(&format!("home{}", count.get())) }
    }
}

#[test]
fn json_lines_keep_every_promise() {
    run_all(file_homes("jsonl"));
}

#[test]
fn sqlite_keeps_every_promise() {
    run_all(file_homes("db"));
}

#[test]
fn postgres_keeps_every_promise() {
    if let Some(server) = PostgresServer::start() {
        run_all(postgres_homes(&server));
    }
}
