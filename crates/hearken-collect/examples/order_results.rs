//! Measures how soon the next item comes by each order, and writes `docs/results/orders.json`: 100,000 items whose candidates have
//! scores of four reward models and states of 32 coordinates, and annotators who label without a pause.
//!
//! `cargo run --release -p hearken-collect --example order_results -- [--seconds 8] [--items 100000] [--annotators 8]
//! [--output docs/results/orders.json]`

#![allow(clippy::print_stderr, reason = "it says how far it is")]

#[path = "../tests/support/load.rs"]
mod load;
#[path = "../tests/support/running.rs"]
mod running;

use std::path::PathBuf;
use std::sync::Arc;

use hearken_collect::ProjectSettings;
use hearken_collect::distribute::BUILT_IN;
use hearken_collect::tokens::{self, Scope};
use hearken_data::feedback::{Candidate, Item, Task};
use hearken_data::{Message, Role};
use hearken_store::{Expected, Store};
use load::Plan;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use running::{Running, unlimited};
use serde_json::{Value, json};

const MODELS: usize = 4;
const COORDINATES: usize = 32;

struct Arguments {
    seconds: f64,
    items: usize,
    annotators: usize,
    output: PathBuf,
}

fn arguments() -> Arguments {
    let output = PathBuf::from("docs/results/orders.json");
    let mut parsed = Arguments { seconds: 8.0, items: 100_000, annotators: 8, output };
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let value = words.next().unwrap_or_default();
        let wrong = || -> ! { panic!("{name}: found {value:?}, expected a number") };
        match name.as_str() {
            "--seconds" => parsed.seconds = value.parse().unwrap_or_else(|_| wrong()),
            "--items" => parsed.items = value.parse().unwrap_or_else(|_| wrong()),
            "--annotators" => parsed.annotators = value.parse().unwrap_or_else(|_| wrong()),
            "--output" => parsed.output = PathBuf::from(value),
            other => {
                panic!("{other:?} is no argument: --seconds, --items, --annotators, --output")
            }
        }
    }
    parsed
}

fn main() {
    let arguments = arguments();
    let items = items(arguments.items);
    let mut orders = serde_json::Map::new();
    for name in BUILT_IN {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = folder.path().join("items.db").display().to_string();
        let store: Arc<dyn Store> = Arc::from(hearken_store::open(&home).expect("a store"));
        store.add_items(&items).expect("items");
        let settings = ProjectSettings { order: name.to_owned(), ..ProjectSettings::default() };
        let kept = json!(settings);
        store.put_document("project", "settings", &kept, Expected::Anything).expect("settings");
        let token = tokens::create(&*store, "results", &Scope::ALL, 0).expect("a token").1;
        let running = Running::start(Arc::clone(&store), unlimited());
        // The first request reads all items, whatever the order.
        let first = load::run(&Plan::new(&running.url, token.clone(), 1, 0.5));
        let plan = Plan::new(&running.url, token, arguments.annotators, arguments.seconds);
        let outcome = load::run(&plan);
        assert!(outcome.refused.is_empty(), "{name}: {:?}", outcome.refused);
        let told = json!({
            "next": outcome.next, "submit": outcome.submit, "first": first.next,
            "judgements_per_second": outcome.acknowledged.len() as f64 / outcome.seconds,
        });
        eprintln!("{name}: {told}");
        orders.insert(name.to_owned(), told);
    }
    let results = json!({ "about": about(&arguments), "orders": orders });
    let text = serde_json::to_string_pretty(&results).expect("numbers and names") + "\n";
    std::fs::write(&arguments.output, text).expect("room for the results");
    eprintln!("{}", arguments.output.display());
}

fn about(arguments: &Arguments) -> Value {
    let run = std::process::Command::new("date").arg("+%Y-%m-%d").output().ok();
    let date = run.and_then(|run| String::from_utf8(run.stdout).ok());
    json!({
        "command": "cargo run --release -p hearken-collect --example order_results",
        "date": date.map(|date| date.trim().to_owned()),
        "threads": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "store": "SQLite",
        "items": arguments.items,
        "reward models": MODELS,
        "coordinates of a state": COORDINATES,
        "annotators without pauses": arguments.annotators,
        "seconds for each order": arguments.seconds,
        "random share": ProjectSettings::default().order_random_share,
        "note": "the simulated annotators and the service share the machine; `first` is before it has read the items",
    })
}

fn items(count: usize) -> Vec<Item> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut numbers =
        |n: usize| -> Value { (0..n).map(|_| json!(rng.random_range(-3.0_f32..3.0))).collect() };
    let mut item = |at: usize| {
        let candidates = ["yes", "no"].map(|text| {
            let mut candidate = Candidate::text(text);
            candidate.meta.insert("scores".into(), numbers(MODELS));
            candidate.meta.insert("state".into(), numbers(COORDINATES));
            candidate
        });
        let prompt = vec![Message::new(Role::User, format!("Question {at}"))];
        let mut item = Item::new(Task::Pairwise, prompt, candidates.to_vec());
        item.id = format!("item-{at}");
        item
    };
    (0..count).map(&mut item).collect()
}
