// Simulated annotators that label through the API, and what they saw.
//
// Included by path where it is needed.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each program that includes it uses a part; it may panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hearken_store::Store;
use serde_json::{Value, json};

/// What the annotators do.
#[derive(Clone)]
pub(crate) struct Plan {
    /// Where the service is, e.g. `http://127.0.0.1:8080`.
    pub(crate) url: String,
    /// A token with the scope `label`.
    pub(crate) token: String,
    pub(crate) annotators: usize,
    pub(crate) seconds: f64,
    /// How long an annotator looks at an item.
    pub(crate) pause: Duration,
    /// Whether a connection that breaks and an answer of 503 are tried again, as a page does.
    pub(crate) patient: bool,
    /// What has happened so far.
    pub(crate) watch: Arc<Watch>,
}

impl Plan {
    /// Annotators without pauses, who give up when the service fails.
    pub(crate) fn new(url: &str, token: String, annotators: usize, seconds: f64) -> Self {
        let (pause, watch) = (Duration::ZERO, Arc::default());
        Self { url: url.to_owned(), token, annotators, seconds, pause, patient: false, watch }
    }
}

/// What others may see while annotators are at work.
#[derive(Default)]
pub(crate) struct Watch {
    /// Judgements that the service said were on the disk.
    pub(crate) acknowledged: AtomicUsize,
    /// What answers of 503 said, and how often.
    pub(crate) unavailable: Mutex<BTreeMap<String, usize>>,
}

/// What one annotator saw.
#[derive(Default)]
pub(crate) struct Seen {
    /// Names of judgements that the service said were on the disk.
    pub(crate) acknowledged: Vec<String>,
    /// Items handed out.
    pub(crate) items: BTreeSet<String>,
    next_ms: Vec<f64>,
    submit_ms: Vec<f64>,
    /// Answers that were neither work nor "nothing open".
    pub(crate) refused: Vec<String>,
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Latencies {
    pub(crate) n: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Latencies {
    pub(crate) fn of(mut ms: Vec<f64>) -> Self {
        ms.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let last = ms.len().saturating_sub(1);
            ms.get(((last as f64) * share).round() as usize).copied().unwrap_or(f64::NAN)
        };
        Self { n: ms.len(), p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1.0) }
    }
}

/// What all of them saw.
pub(crate) struct Outcome {
    pub(crate) acknowledged: Vec<String>,
    /// Item → annotators to whom it was handed out.
    pub(crate) handed_out: BTreeMap<String, usize>,
    pub(crate) next: Latencies,
    pub(crate) submit: Latencies,
    pub(crate) refused: Vec<String>,
    pub(crate) seconds: f64,
}

/// Runs the annotators until the time is over or nothing is open.
pub(crate) fn run(plan: &Plan) -> Outcome {
    run_until(plan, &Arc::new(AtomicBool::new(false)))
}

/// The same, with an end that somebody else may set.
pub(crate) fn run_until(plan: &Plan, stop: &Arc<AtomicBool>) -> Outcome {
    let started = Instant::now();
    let threads: Vec<_> = (0..plan.annotators)
        .map(|number| {
            let (plan, stop) = (plan.clone(), Arc::clone(stop));
            std::thread::Builder::new()
                .stack_size(512 << 10)
                .spawn(move || annotate(&plan, number, &stop))
                .unwrap()
        })
        .collect();
    let end = started + Duration::from_secs_f64(plan.seconds);
    while Instant::now() < end
        && !stop.load(Ordering::SeqCst)
        && !threads.iter().all(std::thread::JoinHandle::is_finished)
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    stop.store(true, Ordering::SeqCst);
    let seen: Vec<Seen> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let seconds = started.elapsed().as_secs_f64();
    let mut outcome = Outcome {
        acknowledged: Vec::new(),
        handed_out: BTreeMap::new(),
        next: Latencies::of(seen.iter().flat_map(|one| one.next_ms.clone()).collect()),
        submit: Latencies::of(seen.iter().flat_map(|one| one.submit_ms.clone()).collect()),
        refused: Vec::new(),
        seconds,
    };
    for one in seen {
        outcome.acknowledged.extend(one.acknowledged);
        outcome.refused.extend(one.refused);
        for item in one.items {
            *outcome.handed_out.entry(item).or_default() += 1;
        }
    }
    outcome
}

fn annotate(plan: &Plan, number: usize, stop: &AtomicBool) -> Seen {
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build(),
    );
    let annotator = format!("sim-{number}");
    let mut seen = Seen::default();
    let mut count = 0;
    // Those who look at items do not all begin at once.
    let share = number as f64 / plan.annotators as f64;
    wait(plan.pause.mul_f64(share), stop);
    while !stop.load(Ordering::SeqCst) {
        let asked = json!({"annotator": annotator});
        let Some((status, next, took_ms)) = call(plan, &agent, "/next", &asked, stop) else {
            break;
        };
        if status != 200 {
            seen.refused.push(format!("next: {status} {next}"));
            break;
        }
        let Some(assignment) = next["assignment"]["id"].as_str() else { break };
        seen.next_ms.push(took_ms);
        seen.items.insert(next["item"]["id"].as_str().unwrap().to_owned());
        count += 1;
        wait(plan.pause, stop);
        let id = format!("sim-{number}-{count}-{}", &assignment[..assignment.len().min(12)]);
        let id: String = id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let verdict = json!({"kind": "preferred", "candidate": count % 2});
        let decision =
            json!({"id": id, "verdict": verdict, "duration_ms": 5, "origin": "synthetic"});
        let path = format!("/assignments/{assignment}/judgement");
        let Some((status, told, took_ms)) = call(plan, &agent, &path, &decision, stop) else {
            break;
        };
        if status == 200 || status == 201 {
            seen.submit_ms.push(took_ms);
            seen.acknowledged.push(id);
            plan.watch.acknowledged.fetch_add(1, Ordering::SeqCst);
        } else {
            seen.refused.push(format!("submit: {status} {told}"));
            break;
        }
    }
    seen
}

/// Waits in steps, so that the end is not waited for.
fn wait(pause: Duration, stop: &AtomicBool) {
    let started = Instant::now();
    while started.elapsed() < pause && !stop.load(Ordering::SeqCst) {
        let rest = pause.saturating_sub(started.elapsed());
        std::thread::sleep(rest.min(Duration::from_millis(50)));
    }
}

/// Status, body and milliseconds; `None` where the service is gone and the time is over.
fn call(
    plan: &Plan,
    agent: &ureq::Agent,
    path: &str,
    body: &Value,
    stop: &AtomicBool,
) -> Option<(u16, Value, f64)> {
    loop {
        let started = Instant::now();
        let sent = agent
            .post(format!("{}/api/v1{path}", plan.url))
            .header("authorization", format!("Bearer {}", plan.token))
            .header("content-type", "application/json")
            .send(body.to_string());
        match sent {
            Ok(mut response) => {
                let status = response.status().as_u16();
                if let Ok(text) = response.body_mut().read_to_string() {
                    let took_ms = started.elapsed().as_secs_f64() * 1e3;
                    let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
                    if status != 503 || !plan.patient {
                        return Some((status, json, took_ms));
                    }
                    let message = json["error"]["message"].to_string();
                    *plan.watch.unavailable.lock().unwrap().entry(message).or_default() += 1;
                }
            }
            Err(error) if !plan.patient => panic!("{path}: {error}"),
            Err(_) => {}
        }
        if stop.load(Ordering::SeqCst) {
            return None;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// What the annotators saw beside what the store has.
#[derive(Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Audit {
    /// Judgements that the service said were on the disk.
    pub(crate) acknowledged: usize,
    /// Those of them that are not there.
    pub(crate) lost: Vec<String>,
    /// Judgements that are there more than once, or by one annotator on an item judged before.
    pub(crate) doubled: Vec<String>,
    /// Items that more annotators judged, or were handed, than the overlap allows.
    pub(crate) beyond_overlap: Vec<String>,
}

/// Compares what the annotators saw with the store.
pub(crate) fn audit(store: &dyn Store, outcome: &Outcome, overlap: usize) -> Audit {
    let mut stored: BTreeMap<String, usize> = BTreeMap::new();
    let mut judges: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut after = 0;
    loop {
        let judgements = store.judgements(after, 10_000).unwrap();
        let Some(last) = judgements.last() else { break };
        after = last.place;
        for judgement in judgements.into_iter().map(|placed| placed.record) {
            *stored.entry(judgement.id).or_default() += 1;
            judges.entry(judgement.item).or_default().push(judgement.annotator);
        }
    }
    let mut audit = Audit { acknowledged: outcome.acknowledged.len(), ..Audit::default() };
    let mut distinct = BTreeSet::new();
    for id in &outcome.acknowledged {
        if !stored.contains_key(id) {
            audit.lost.push(id.clone());
        }
        if !distinct.insert(id) {
            audit.doubled.push(id.clone());
        }
    }
    audit.doubled.extend(stored.into_iter().filter(|(_, times)| *times > 1).map(|(id, _)| id));
    for (item, annotators) in judges {
        let distinct: BTreeSet<&String> = annotators.iter().collect();
        if distinct.len() != annotators.len() {
            audit.doubled.push(format!("{item} by {annotators:?}"));
        }
        if annotators.len() > overlap {
            audit.beyond_overlap.push(format!("{item}, judged by {annotators:?}"));
        }
    }
    let handed_out = outcome.handed_out.iter().filter(|(_, annotators)| **annotators > overlap);
    audit
        .beyond_overlap
        .extend(handed_out.map(|(item, annotators)| format!("{item}, handed to {annotators}")));
    audit
}

/// Checks that every acknowledged judgement is there once, that no item was judged by or handed to more
/// annotators than the overlap, and that nobody was refused.
pub(crate) fn check(store: &dyn Store, outcome: &Outcome, overlap: usize) -> Audit {
    let audit = audit(store, outcome, overlap);
    assert_eq!(
        audit,
        Audit { acknowledged: outcome.acknowledged.len(), ..Audit::default() },
        "nothing is lost, doubled or beyond the overlap"
    );
    assert_eq!(outcome.refused, Vec::<String>::new());
    audit
}
