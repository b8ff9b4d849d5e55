//! Measures how long the next item takes while others only hold on: half-open connections, live prompts and streams that
//! nobody reads. Writes `docs/results/collect-crowds.json`.
//!
//! `cargo run --release -p hearken-collect --example collect_crowds -- [SECONDS]`

#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "it says what it found, and may panic"
)]

#[path = "../../tests/support/crowds.rs"]
mod crowds;
#[path = "../../tests/support/load.rs"]
mod load;
#[path = "../../tests/support/running.rs"]
mod running;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crowds::Crowd;
use hearken_data::feedback::{Candidate, Item, Task};
use hearken_data::{Message, Role};
use hearken_store::Store;
use serde_json::{Value, json};

const OUTPUT: &str = "docs/results/collect-crowds.json";
/// How long an annotator looks at an item.
const PAUSE: Duration = Duration::from_secs(1);

fn main() {
    let seconds: f64 = std::env::args().nth(1).map_or(30.0, |text| text.parse().unwrap());
    let nobody = Crowd { half_open: 0, live_prompts: 0, streams: 0 };
    let crowd = Crowd { half_open: 1_000, live_prompts: 500, streams: 100 };
    let results = json!({
        "about": {
            "command": "cargo run --release -p hearken-collect --example collect_crowds",
            "threads": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            "load_average": std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
            "note": "50 annotators, the crowd and the service share one process and the machine's \
                     cores, and the machine with whatever else its load average says",
        },
        "alone": measure(nobody, seconds),
        "with_a_crowd": measure(crowd, seconds),
    });
    let text = serde_json::to_string_pretty(&results).unwrap() + "\n";
    eprintln!("{text}");
    hearken_data::write_whole(Path::new(OUTPUT), |file| {
        std::io::Write::write_all(file, text.as_bytes())
    })
    .unwrap();
}

fn measure(crowd: Crowd, seconds: f64) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("crowds.db").display().to_string();
    let store: Arc<dyn Store> = Arc::from(hearken_store::open(&path).unwrap());
    let items: Vec<Item> = (0..20_000).map(item).collect();
    store.add_items(&items).unwrap();
    let held = crowds::annotate(&store, crowd, PAUSE, seconds);
    load::check(&*store, &held.outcome, 1);
    json!({
        "crowd": crowd,
        "judgements": held.outcome.acknowledged.len(),
        "seconds": held.outcome.seconds,
        "next": held.outcome.next,
        "submit": held.outcome.submit,
        "memory_mib": {"before": held.memory_mib[0], "after": held.memory_mib[1]},
    })
}

fn item(at: usize) -> Item {
    let prompt = vec![Message::new(Role::User, format!("Question {at}"))];
    let mut item =
        Item::new(Task::Pairwise, prompt, vec![Candidate::text("yes"), Candidate::text("no")]);
    item.id = format!("item-{at}");
    item
}
