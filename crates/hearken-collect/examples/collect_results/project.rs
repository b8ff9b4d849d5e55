//! A project that has run for months.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use hearken_collect::exchange;
use hearken_data::feedback::formats::ImportOptions;
use hearken_data::feedback::{Item, Judgement, Origin, Verdict};
use hearken_store::Store;
use serde_json::{Value, json};

use crate::load::Latencies;
use crate::running::{Running, unlimited};
use crate::{MODELS, item, open, overlap_of, seen, timed, token};

/// Annotators of the project.
const PEOPLE: usize = 500;
/// Times that each page is asked for.
const PAGES: usize = 50;

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
        better: None,
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
        is_final: false,
        suggestion: None,
        guidelines: None,
        margin: None,
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

/// A project of so many items and judgements: imported from a file into each home, its pages asked for,
/// analysed once.
pub(crate) fn measure(
    homes: &[(&str, String)],
    folder: &Path,
    (items, judgements): (usize, usize),
) -> Value {
    let path = folder.join("large.jsonl");
    let list: Vec<Item> = (0..items).map(item).collect();
    write_project(&path, &list, judgements);
    drop(list);
    let mut report = serde_json::Map::new();
    report.insert("items".into(), items.into());
    report.insert("judgements".into(), judgements.into());
    let mut analysis = None;
    for (name, url) in homes {
        let store = open(url);
        let (imported, import_s) = timed(|| {
            exchange::import(&*store, &[&path], None, &ImportOptions::default()).expect("an import")
        });
        eprintln!("{name}: imported in {import_s:.1} s: {}", json!(imported));
        let judged = u32::try_from(judgements / items.max(1)).unwrap_or(1);
        // Before anybody holds an item of which one place is left.
        let seen = seen::measure(&store, judged);
        // One more than each item has: there is something left to label.
        overlap_of(&*store, judged + 1);
        let token = token(&*store);
        let running = Running::start(Arc::clone(&store), unlimited());
        let told =
            json!({"import_s": import_s, "pages": pages(&running.url, &token), "seen": seen});
        drop(running);
        eprintln!("{told}");
        report.insert((*name).into(), told);
        analysis.get_or_insert_with(|| analyzed(&*store));
    }
    report.insert("analysis".into(), analysis.unwrap_or_default());
    Value::Object(report)
}

fn analyzed(store: &dyn Store) -> Value {
    let (records, read_s) = timed(|| exchange::records(store).expect("records"));
    let options = hearken_analysis::Options::default();
    let (analysis, analysis_s) = timed(|| hearken_analysis::analyze(&records, &options));
    let (page, page_s) = timed(|| hearken_analysis::html(&analysis));
    let report = json!({
        "read_records_s": read_s,
        "analysis_s": analysis_s,
        "page_s": page_s,
        "page_bytes": page.len(),
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
