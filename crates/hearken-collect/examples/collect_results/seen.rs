//! How soon a label is seen: in what comes next, and in the estimates on the page of the analysis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hearken_collect::ProjectSettings;
use hearken_collect::distribute::{ChosenItem, Eligible, Order};
use hearken_collect::parts::Parts;
use hearken_store::{Expected, Store};
use rand::RngExt as _;
use serde_json::{Value, json};

use crate::load::Latencies;
use crate::running::{Running, unlimited};
use crate::token;

/// Labels while the first analysis is computed, and after it.
const LABELS: [usize; 2] = [10, 30];
/// Nothing takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of the items that the most have judged any one: one more judgement of an item, and it is the next.
struct Furthest;

impl Order for Furthest {
    fn name(&self) -> &'static str {
        "furthest"
    }

    fn choose(&self, eligible: &Eligible<'_>, rng: &mut dyn rand::Rng) -> ChosenItem {
        let offers = || eligible.iter();
        let most = offers().map(|offer| offer.judged).max().expect("not empty");
        let furthest: Vec<_> = offers().filter(|offer| offer.judged == most).collect();
        let place = rng.random_range(0..furthest.len());
        ChosenItem { handle: furthest[place].handle, probability: 1.0 / furthest.len() as f64 }
    }
}

/// Milliseconds from sending a label until it is seen, in a project whose items have so many judgements each.
pub(crate) fn measure(store: &Arc<dyn Store>, judged: u32) -> Value {
    let order = Furthest.name().to_owned();
    // Two people more for each item: who labels one, and who gets it next.
    let settings = ProjectSettings { overlap: judged + 2, order, ..ProjectSettings::default() };
    let kept = store.put_document("project", "settings", &json!(settings), Expected::Anything);
    kept.expect("settings");
    let token = token(&**store);
    let parts = Parts { orders: vec![Box::new(Furthest)], ..Parts::default() };
    let running = Running::start_with(Arc::clone(store), unlimited(), parts);
    let asking = Asking::new(&running.url, &token);
    asking.page();
    let mut report = serde_json::Map::new();
    for (when, labels) in ["while_computing", "then"].into_iter().zip(LABELS) {
        let mut next_ms = Vec::new();
        let mut page_ms = Vec::new();
        for label in 0..labels {
            next_ms.push(asking.until_next(&format!("{when}-{label}")));
            page_ms.push(asking.until_on_page(&format!("{when}-{label}"), &**store));
        }
        report.insert(
            when.into(),
            json!({"next_item": Latencies::of(next_ms), "estimates": Latencies::of(page_ms)}),
        );
        wait_until(|| !asking.page().contains("http-equiv=\"refresh\""));
    }
    let report = Value::Object(report);
    eprintln!("seen: {report}");
    report
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "it is not seen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Asking<'a> {
    agent: ureq::Agent,
    url: &'a str,
    token: &'a str,
}

impl<'a> Asking<'a> {
    fn new(url: &'a str, token: &'a str) -> Self {
        Self { agent: ureq::Agent::new_with_defaults(), url, token }
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let response = self
            .agent
            .post(format!("{}/api/v1{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .send(body.to_string());
        let text = response.expect("an answer").body_mut().read_to_string().expect("a body");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// The page of the analysis.
    fn page(&self) -> String {
        let response = self.agent.get(format!("{}/analysis", self.url)).call();
        response.expect("an answer").body_mut().read_to_string().expect("a page")
    }

    /// Assignment and item.
    fn next(&self, annotator: &str) -> (String, String) {
        let next = self.post("/next", &json!({"annotator": annotator}));
        let of = |value: &Value| value.as_str().expect("something to label").to_owned();
        (of(&next["assignment"]["id"]), of(&next["item"]["id"]))
    }

    fn label(&self, assignment: &str) {
        let letters = assignment.chars().filter(char::is_ascii_alphanumeric).take(40);
        let id: String = "seen-".chars().chain(letters).collect();
        let verdict = json!({"kind": "preferred", "candidate": 0});
        self.post(
            &format!("/assignments/{assignment}/judgement"),
            &json!({"id": id, "verdict": verdict, "origin": "synthetic"}),
        );
    }

    /// Somebody labels an item; until it is the next of somebody else, being the one that the most have judged.
    fn until_next(&self, name: &str) -> f64 {
        let (assignment, item) = self.next(&format!("first-{name}"));
        let started = Instant::now();
        self.label(&assignment);
        let mut took_ms = 0.0;
        let mut others = 0;
        wait_until(|| {
            let (assignment, next) = self.next(&format!("second-{name}-{others}"));
            took_ms = started.elapsed().as_secs_f64() * 1e3;
            others += 1;
            // The next round finds no item that more have judged.
            self.label(&assignment);
            next == item
        });
        took_ms
    }

    /// Somebody labels an item; until the estimates are those of all judgements.
    fn until_on_page(&self, name: &str, store: &dyn Store) -> f64 {
        let (assignment, _) = self.next(&format!("page-{name}"));
        let before = store.counts().expect("counts").judgements;
        let wanted = format!("data-judgements=\"{}\"", before + 1);
        let started = Instant::now();
        self.label(&assignment);
        wait_until(|| self.page().contains(&wanted));
        let took_ms = started.elapsed().as_secs_f64() * 1e3;
        // Its second place is taken too.
        let (assignment, _) = self.next(&format!("after-{name}"));
        self.label(&assignment);
        took_ms
    }
}
