//! Annotators at work while others only hold on.

use std::path::Path;
use std::time::Duration;

use hearken_data::feedback::Item;
use serde_json::{Value, json};

use crate::holding::{self, Crowd};
use crate::{item, load, open};

/// How long an annotator looks at an item.
const PAUSE: Duration = Duration::from_secs(1);
/// More than can be judged.
const ITEMS: usize = 20_000;

/// Fifty annotators by themselves, then beside half-open connections, live prompts and streams that nobody reads.
pub(crate) fn measure(folder: &Path, seconds: f64) -> Value {
    let nobody = Crowd { half_open: 0, live_prompts: 0, streams: 0 };
    let crowd = Crowd { half_open: 1_000, live_prompts: 500, streams: 100 };
    let report = json!({
        "annotators": 50,
        "pause_s": PAUSE.as_secs_f64(),
        "alone": beside(folder, "alone", nobody, seconds),
        "with_a_crowd": beside(folder, "crowd", crowd, seconds),
    });
    eprintln!("{report}");
    report
}

fn beside(folder: &Path, name: &str, crowd: Crowd, seconds: f64) -> Value {
    let store = open(&folder.join(format!("{name}.db")).display().to_string());
    let items: Vec<Item> = (0..ITEMS).map(item).collect();
    store.add_items(&items).expect("items");
    let held = holding::annotate(&store, crowd, PAUSE, seconds);
    load::check(&*store, &held.outcome, 1);
    json!({
        "crowd": crowd,
        "live_answers": held.live_answers,
        "judgements": held.outcome.acknowledged.len(),
        "seconds": held.outcome.seconds,
        "next": held.outcome.next,
        "submit": held.outcome.submit,
        "memory_mib": {"before": held.memory_mib[0], "after": held.memory_mib[1]},
    })
}
