//! Measures the labelling service and writes `docs/results/collect.json` and a table of it in
//! `docs/performance.md`: latencies under 200 annotators on SQLite and PostgreSQL and beside crowds
//! that only hold on, what 100,000 items with 1,000,000 judgements cost, and how soon a label is seen among them.
//!
//! `cargo run --release -p hearken-collect --example collect_results -- [--seconds 60] [--items 100000]
//! [--judgements 1000000] [--output docs/results/collect.json] [--page docs/performance.md]`

#![allow(clippy::print_stderr, reason = "it says how far it is")]

mod annotators;
mod crowds;
mod project;
mod seen;
mod table;

#[path = "../../tests/support/crowds.rs"]
mod holding;

#[path = "../../tests/support/load.rs"]
mod load;
#[path = "../../../hearken-store/tests/support/postgres_server.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a part of it is used"
)]
mod postgres_server;
#[path = "../../tests/support/running.rs"]
mod running;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use hearken_collect::ProjectSettings;
use hearken_collect::tokens::{self, Scope};
use hearken_data::feedback::{Candidate, Item, Task};
use hearken_data::{Message, Role};
use hearken_store::{Expected, Store};
use postgres_server::PostgresServer;
use serde_json::{Value, json};

/// Models whose answers are compared.
const MODELS: usize = 20;

/// The share of the time for which annotators are measured beside a crowd, and as long without one.
const CROWD_SHARE: f64 = 0.4;

const COMMAND: &str = "cargo run --release -p hearken-collect --example collect_results";

struct Arguments {
    seconds: f64,
    items: usize,
    judgements: usize,
    output: PathBuf,
    page: PathBuf,
}

fn arguments() -> Arguments {
    let mut parsed = Arguments {
        seconds: 60.0,
        items: 100_000,
        judgements: 1_000_000,
        output: PathBuf::from("docs/results/collect.json"),
        page: PathBuf::from("docs/performance.md"),
    };
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let value = words.next().unwrap_or_default();
        let wrong = || -> ! { panic!("{name}: found {value:?}, expected a number") };
        match name.as_str() {
            "--seconds" => parsed.seconds = value.parse().unwrap_or_else(|_| wrong()),
            "--items" => parsed.items = value.parse().unwrap_or_else(|_| wrong()),
            "--judgements" => parsed.judgements = value.parse().unwrap_or_else(|_| wrong()),
            "--output" => parsed.output = PathBuf::from(value),
            "--page" => parsed.page = PathBuf::from(value),
            other => panic!(
                "{other:?} is no argument: --seconds, --items, --judgements, --output, --page"
            ),
        }
    }
    parsed
}

fn main() {
    let started = Instant::now();
    let arguments = arguments();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = PostgresServer::start();
    let home = |name: &str| -> Vec<(&str, String)> {
        let sqlite = folder.path().join(format!("{name}.db")).display().to_string();
        let postgres = server.as_ref().map(|server| ("PostgreSQL", server.new_database(name)));
        [("SQLite", sqlite)].into_iter().chain(postgres).collect()
    };
    let mut load = serde_json::Map::new();
    for (name, url) in home("load") {
        load.insert(name.into(), annotators::measure(&url, arguments.seconds));
    }
    let large =
        project::measure(&home("large"), folder.path(), (arguments.items, arguments.judgements));
    let crowds = crowds::measure(folder.path(), arguments.seconds * CROWD_SHARE);
    let results = json!({
        "about": about(started),
        "load": load,
        "crowds": crowds,
        "large": large,
    });
    let text = serde_json::to_string_pretty(&results).expect("numbers and names");
    replace(&arguments.output, &(text + "\n"));
    let page = std::fs::read_to_string(&arguments.page).expect("the page of the documentation");
    replace(&arguments.page, &table::inserted(&page, &results));
    eprintln!("{}, {}", arguments.output.display(), arguments.page.display());
}

/// What the numbers depend on.
fn about(started: Instant) -> Value {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    json!({
        "command": COMMAND,
        "date": output("date", &["+%Y-%m-%d"]),
        "processor": processor(),
        "threads": cores,
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "took_s": started.elapsed().as_secs_f64(),
        "memory_peak_mib": memory_peak_mib(),
        "note": format!(
            "the simulated annotators, the service and the PostgreSQL server share the machine's \
             {cores} cores"
        ),
    })
}

/// What a program of the system prints.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let ran = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(ran.stdout).ok()?.trim().to_owned();
    (ran.status.success() && !text.is_empty()).then_some(text)
}

/// What the system calls the processor, and the widest instructions that it has.
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let of = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim())
    };
    let flags: Vec<&str> = of("flags").unwrap_or_default().split(' ').collect();
    let widest = [("avx512f", "AVX-512"), ("amx_tile", "AMX")];
    let widest = widest.iter().filter(|(flag, _)| flags.contains(flag)).map(|(_, name)| *name);
    let names: Vec<&str> = [of("model name")?].into_iter().chain(widest).collect();
    Some(names.join(", "))
}

/// The most memory that this process, service and annotators, held.
fn memory_peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib / 1024)
}

/// Writes a file anew, whole or not at all.
fn replace(path: &Path, text: &str) {
    let written = path.with_extension("new");
    std::fs::write(&written, text).expect("room for the results");
    std::fs::rename(&written, path).expect("the results in their place");
}

fn open(url: &str) -> Arc<dyn Store> {
    Arc::from(hearken_store::open(url).expect("a store"))
}

fn item(at: usize) -> Item {
    let (one, other) = (at % MODELS, (at / MODELS + 1 + at) % MODELS);
    let other = if one == other { (other + 1) % MODELS } else { other };
    let text = |model: usize| {
        format!(
            "Answer {at} of model {model}. {}",
            "It goes on for a while. ".repeat(2 + model % 9)
        )
    };
    let prompt = vec![Message::new(Role::User, format!("Question {at}: what would you do?"))];
    let candidates = vec![
        Candidate::text(text(one)).by(format!("model-{one}")),
        Candidate::text(text(other)).by(format!("model-{other}")),
    ];
    let mut item = Item::new(Task::Pairwise, prompt, candidates);
    item.id = format!("item-{at}");
    item
}

fn overlap_of(store: &dyn Store, overlap: u32) {
    let body = json!(ProjectSettings { overlap, ..ProjectSettings::default() });
    store.put_document("project", "settings", &body, Expected::Anything).expect("settings");
}

fn token(store: &dyn Store) -> String {
    tokens::create(store, "results", &Scope::ALL, 0).expect("a token").1
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let started = Instant::now();
    let done = work();
    (done, started.elapsed().as_secs_f64())
}
