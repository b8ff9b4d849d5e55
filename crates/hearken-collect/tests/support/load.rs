// Simulated annotators that label through the API, and what they saw.
//
// Included by path where it is needed.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each program that includes it uses a part; it may panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Whether a connection that breaks is tried again, as a page does.
    pub(crate) patient: bool,
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
        } else {
            seen.refused.push(format!("submit: {status} {told}"));
            break;
        }
    }
    seen
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
                    return Some((status, json, took_ms));
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

/// Checks what the annotators saw against the store: every acknowledged judgement once, no item judged
/// by or handed to more annotators than the overlap.
pub(crate) fn check(store: &dyn Store, outcome: &Outcome, overlap: usize) {
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
    for id in &outcome.acknowledged {
        assert_eq!(stored.get(id), Some(&1), "the acknowledged judgement {id}");
    }
    let distinct: BTreeSet<&String> = outcome.acknowledged.iter().collect();
    assert_eq!(distinct.len(), outcome.acknowledged.len());
    for (item, annotators) in judges {
        let distinct: BTreeSet<&String> = annotators.iter().collect();
        assert_eq!(distinct.len(), annotators.len(), "{item} was judged twice by one annotator");
        assert!(annotators.len() <= overlap, "{item} was judged by {annotators:?}");
    }
    for (item, annotators) in &outcome.handed_out {
        assert!(*annotators <= overlap, "{item} was handed to {annotators} annotators");
    }
    assert_eq!(outcome.refused, Vec::<String>::new());
}
