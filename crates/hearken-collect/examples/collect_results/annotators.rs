//! Two hundred simulated annotators at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hearken_data::feedback::Item;
use serde_json::{Value, json};

use crate::load::{self, Latencies, Outcome, Plan};
use crate::running::{Running, unlimited};
use crate::{item, open, overlap_of, token};

const ANNOTATORS: usize = 200;
const OVERLAP: u32 = 2;
/// Items per second of the measurement: more than can be judged.
const ITEMS_PER_S: f64 = 1_500.0;
/// How long an annotator looks at an item in the second half.
const PAUSE: Duration = Duration::from_secs(2);
/// The share of the time that the second half takes.
const PACED_SHARE: f64 = 0.25;
/// Pages that somebody looks at meanwhile.
const PAGES: [&str; 4] = ["/label", "/label/history", "/progress", "/admin/items"];

/// Annotators without pauses for the whole time, then, for a quarter of it, annotators who look at each item
/// before they decide; then the checks of the tests.
pub(crate) fn measure(url: &str, seconds: f64) -> Value {
    let store = open(url);
    let items: Vec<Item> = (0..(ITEMS_PER_S * seconds) as usize).map(item).collect();
    store.add_items(&items).expect("items");
    overlap_of(&*store, OVERLAP);
    let token = token(&*store);
    let running = Running::start(Arc::clone(&store), unlimited());
    let restless = Plan::new(&running.url, token, ANNOTATORS, seconds);
    let paced = Plan { pause: PAUSE, seconds: seconds * PACED_SHARE, ..restless.clone() };
    let (first, pages) = watched(&restless);
    let (second, paced_pages) = watched(&paced);
    drop(running);
    let audits = [&first, &second].map(|it| load::check(&*store, it, OVERLAP as usize));
    let report = json!({
        "annotators": ANNOTATORS,
        "items": items.len(),
        "overlap": OVERLAP,
        "without_pauses": told(&first, &pages),
        "paced": {"pause_s": PAUSE.as_secs_f64(), "told": told(&second, &paced_pages)},
        "acknowledged": audits.iter().map(|audit| audit.acknowledged).sum::<usize>(),
        "lost": audits.iter().map(|audit| audit.lost.len()).sum::<usize>(),
        "doubled": audits.iter().map(|audit| audit.doubled.len()).sum::<usize>(),
        "beyond_overlap": audits.iter().map(|audit| audit.beyond_overlap.len()).sum::<usize>(),
    });
    eprintln!("{}: {report}", store.home());
    report
}

fn told(outcome: &Outcome, pages: &Value) -> Value {
    let judged = outcome.acknowledged.len();
    json!({
        "seconds": outcome.seconds,
        "judgements": judged,
        "judgements_per_second": judged as f64 / outcome.seconds,
        "next": outcome.next,
        "submit": outcome.submit,
        "pages": pages,
    })
}

/// Runs the annotators while somebody looks at pages, one after another, with short pauses.
fn watched(plan: &Plan) -> (Outcome, Value) {
    let stop = Arc::new(AtomicBool::new(false));
    let looking = {
        let (url, stop) = (plan.url.clone(), Arc::clone(&stop));
        std::thread::spawn(move || look(&url, &stop))
    };
    let outcome = load::run(plan);
    stop.store(true, Ordering::SeqCst);
    (outcome, looking.join().expect("looking at pages does not panic"))
}

fn look(url: &str, stop: &AtomicBool) -> Value {
    let agent = ureq::Agent::new_with_defaults();
    let mut ms: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for page in PAGES.into_iter().cycle() {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let started = Instant::now();
        let mut response = agent.get(format!("{url}{page}")).call().expect("a page");
        response.body_mut().read_to_vec().expect("a page");
        ms.entry(page).or_default().push(started.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_millis(100));
    }
    let latencies: BTreeMap<&str, Latencies> =
        ms.into_iter().map(|(page, ms)| (page, Latencies::of(ms))).collect();
    json!(latencies)
}
