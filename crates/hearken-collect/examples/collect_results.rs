//! Measures the labelling service and writes docs/results/collect.json: latencies under 200 annotators on
//! SQLite and PostgreSQL, and what 100,000 items with 1,000,000 judgements cost.
//!
//! `cargo run --release -p hearken-collect --example collect_results -- [--seconds 60] [--items 100000]
//! [--judgements 1000000] [--output docs/results/collect.json]`

#![allow(clippy::print_stderr, reason = "it says how far it is")]

#[path = "../tests/support/load.rs"]
mod load;
#[path = "../../hearken-store/tests/support/postgres_server.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a part of it is used"
)]
mod postgres_server;
#[path = "../tests/support/running.rs"]
mod running;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use hearken_collect::tokens::{self, Scope};
use hearken_collect::{Settings, exchange, system_clock};
use hearken_data::feedback::{Candidate, Item, Judgement, Origin, Task, Verdict};
use hearken_data::{Message, Role};
use hearken_store::{Expected, Store};
use load::{Latencies, Plan};
use postgres_server::PostgresServer;
use running::{Running, unlimited};
use serde_json::{Value, json};

const ANNOTATORS: usize = 200;
const OVERLAP: u32 = 2;
/// Models whose answers are compared in the large project.
const MODELS: usize = 20;
/// Annotators of the large project.
const PEOPLE: usize = 500;
/// Times that each page is asked for.
const PAGES: usize = 50;

struct Arguments {
    seconds: f64,
    items: usize,
    judgements: usize,
    output: PathBuf,
}

fn arguments() -> Arguments {
    let mut parsed = Arguments {
        seconds: 60.0,
        items: 100_000,
        judgements: 1_000_000,
        output: PathBuf::from("docs/results/collect.json"),
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
            other => panic!("{other:?} is no argument: --seconds, --items, --judgements, --output"),
        }
    }
    parsed
}

fn main() {
    let arguments = arguments();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sqlite = folder.path().join("load.db").display().to_string();
    let mut loads = vec![("SQLite", under_load(&sqlite, arguments.seconds))];
    if let Some(server) = PostgresServer::start() {
        let url = server.new_database("load");
        loads.push(("PostgreSQL", under_load(&url, arguments.seconds)));
    }
    let large = large_project(folder.path(), arguments.items, arguments.judgements);
    let loads: serde_json::Map<String, Value> =
        loads.into_iter().map(|(name, load)| (name.to_owned(), load)).collect();
    let command = "cargo run --release -p hearken-collect --example collect_results";
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let results = json!({
        "about": {
            "command": command,
            "cores": cores,
            "at_ms": system_clock()(),
            "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        },
        "load": loads,
        "large": large,
    });
    let text = serde_json::to_string_pretty(&results).expect("numbers and names");
    std::fs::write(&arguments.output, text + "\n").expect("the output file");
    eprintln!("{}", arguments.output.display());
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
    let body = json!(Settings { overlap, ..Settings::default() });
    store.put_document("project", "settings", &body, Expected::Anything).expect("settings");
}

fn token(store: &dyn Store) -> String {
    tokens::create(store, "results", &Scope::ALL, 0).expect("a token").1
}

/// Simulated annotators without pauses, then the checks of the tests.
fn under_load(url: &str, seconds: f64) -> Value {
    let store = open(url);
    // More than can be judged in the time.
    let items: Vec<Item> = (0..60_000).map(item).collect();
    store.add_items(&items).expect("items");
    overlap_of(&*store, OVERLAP);
    let token = token(&*store);
    let running = Running::start(Arc::clone(&store), unlimited());
    let plan =
        Plan { url: running.url.clone(), token, annotators: ANNOTATORS, seconds, patient: false };
    let outcome = load::run(&plan);
    drop(running);
    load::check(&*store, &outcome, OVERLAP as usize);
    let judged = outcome.acknowledged.len();
    let report = json!({
        "annotators": ANNOTATORS,
        "seconds": outcome.seconds,
        "judgements": judged,
        "judgements_per_second": judged as f64 / outcome.seconds,
        "next": outcome.next,
        "submit": outcome.submit,
        "lost": 0,
        "beyond_overlap": 0,
    });
    eprintln!("{report}");
    report
}

/// A verdict in which lower-numbered models win more often.
fn judgement(at: usize, items: &[Item]) -> Judgement {
    let index = at % items.len();
    let item = &items[index];
    let number = |candidate: usize| -> usize {
        let model = item.candidates[candidate].model.as_deref().unwrap_or_default();
        model.trim_start_matches("model-").parse().unwrap_or(0)
    };
    // A fixed mixture of the counter stands for chance.
    let mixed = (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    let chance = mixed as f64 / f64::from(1_u32 << 24);
    let lead = (number(1) as f64 - number(0) as f64) / MODELS as f64;
    let verdict = if chance < 0.08 {
        Verdict::Tie
    } else {
        Verdict::preferred(usize::from(0.54 + 0.4 * lead < chance))
    };
    let presented = if at.is_multiple_of(2) { vec![0, 1] } else { vec![1, 0] };
    Judgement {
        id: format!("j-{at}"),
        item: item.id.clone(),
        annotator: format!("person-{}", (at / items.len() * 53 + index) % PEOPLE),
        verdict,
        presented,
        origin: Origin::Synthetic,
        rationale: None,
        duration_ms: Some(2_000 + mixed % 20_000),
        at: 1_750_000_000_000 + i64::try_from(at).expect("a count") * 500,
        assignment: None,
        revises: None,
        guidelines: None,
        propensity: None,
        item_hash: String::new(),
    }
}

fn write_project(path: &Path, items: &[Item], judgements: usize) {
    let mut file = BufWriter::new(File::create(path).expect("a file"));
    for item in items {
        writeln!(file, "{}", json!(item)).expect("room on the disk");
    }
    for at in 0..judgements {
        writeln!(file, "{}", json!(judgement(at, items))).expect("room on the disk");
    }
    file.flush().expect("room on the disk");
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let started = Instant::now();
    let done = work();
    (done, started.elapsed().as_secs_f64())
}

fn large_project(folder: &Path, items: usize, judgements: usize) -> Value {
    let path = folder.join("large.jsonl");
    let list: Vec<Item> = (0..items).map(item).collect();
    write_project(&path, &list, judgements);
    drop(list);
    let store = open(&folder.join("large.db").display().to_string());
    let (imported, import_s) =
        timed(|| exchange::import(&*store, &[&path], None, false).expect("an import"));
    eprintln!("imported in {import_s:.1} s: {}", json!(imported));
    // One more than each item has: there is something left to label.
    overlap_of(&*store, u32::try_from(judgements / items.max(1)).unwrap_or(1) + 1);
    let token = token(&*store);
    let running = Running::start(Arc::clone(&store), unlimited());
    let pages = pages(&running.url, &token);
    drop(running);
    let (records, read_s) = timed(|| exchange::records(&*store).expect("records"));
    let (analysis, analysis_s) =
        timed(|| hearken_analysis::analyze(&records, &hearken_analysis::Options::default()));
    let (page, page_s) = timed(|| hearken_analysis::html(&analysis));
    let report = json!({
        "items": items,
        "judgements": judgements,
        "import_s": import_s,
        "pages": pages,
        "read_records_s": read_s,
        "analysis_s": analysis_s,
        "analysis_page_s": page_s,
        "analysis_page_bytes": page.len(),
    });
    eprintln!("{report}");
    report
}

/// Latencies of pages, one request after another, the first of each apart: it fills what is kept in memory.
fn pages(url: &str, token: &str) -> Value {
    let agent = ureq::Agent::new_with_defaults();
    let get = |path: &str| {
        let started = Instant::now();
        let response = agent
            .get(format!("{url}{path}"))
            .header("authorization", format!("Bearer {token}"))
            .call();
        response.expect("an answer").body_mut().read_to_vec().expect("a body");
        started.elapsed().as_secs_f64() * 1e3
    };
    let next = |number: usize| {
        let started = Instant::now();
        let body = json!({"annotator": format!("visitor-{number}")});
        let response = agent
            .post(format!("{url}/api/v1/next"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .send(body.to_string());
        response.expect("an answer").body_mut().read_to_vec().expect("a body");
        started.elapsed().as_secs_f64() * 1e3
    };
    let mut report = serde_json::Map::new();
    let first_ms = next(0);
    let rest = Latencies::of((1..=PAGES).map(next).collect());
    report.insert("next item".into(), json!({"first_ms": first_ms, "then": rest}));
    for path in [
        "/label",
        "/label/history",
        "/guidelines",
        "/progress",
        "/admin/items",
        "/admin/settings",
        "/api/v1/items?limit=100",
        "/api/v1/judgements?limit=100",
    ] {
        let first_ms = get(path);
        let then = Latencies::of((0..PAGES).map(|_| get(path)).collect());
        report.insert(path.into(), json!({"first_ms": first_ms, "then": then}));
    }
    Value::Object(report)
}
