//! A disk that is full and a PostgreSQL server that dies, while annotators label: a clear error, nothing
//! acknowledged is lost, and labelling goes on when the store is back.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests may panic and report")]

#[path = "support/load.rs"]
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
#[path = "support/running.rs"]
mod running;
#[path = "../../hearken-store/tests/support/small_disk.rs"]
#[allow(clippy::unwrap_used, clippy::print_stderr, reason = "it may panic and say what it skips")]
mod small_disk;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hearken_collect::accounts::{self, NewAccount, Role};
use hearken_collect::tokens::{self, Scope};
use hearken_collect::{ProjectSettings, system_clock};
use hearken_data::feedback::{Candidate, Item, Task};
use hearken_data::{Message, Role as Speaker};
use hearken_store::{Expected, Store};
use load::{Outcome, Plan, Watch};
use postgres_server::PostgresServer;
use running::{Running, unlimited};
use serde_json::{Value, json};
use small_disk::SmallDisk;

const OVERLAP: usize = 2;
const PASSWORD: &str = "correct horse battery";

fn items(n: usize) -> Vec<Item> {
    let item = |at: usize| {
        let prompt = vec![Message::new(Speaker::User, format!("Question {at}"))];
        let candidates = vec![Candidate::text("yes"), Candidate::text("no")];
        let mut item = Item::new(Task::Pairwise, prompt, candidates);
        item.id = format!("item-{at}");
        item
    };
    (0..n).map(item).collect()
}

/// A store with items and an overlap of two; gives a token.
fn prepare(store: &dyn Store, n: usize) -> String {
    store.add_items(&items(n)).unwrap();
    let body = json!(ProjectSettings { overlap: OVERLAP as u32, ..ProjectSettings::default() });
    store.put_document("project", "settings", &body, Expected::Anything).unwrap();
    tokens::create(store, "outage", &[Scope::Label], 0).unwrap().1
}

fn open(url: &str) -> Arc<dyn Store> {
    Arc::from(hearken_store::open(url).unwrap())
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Annotators at work, who try again what was answered with 503.
struct Labelling {
    watch: Arc<Watch>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Outcome>,
}

impl Labelling {
    fn start(url: &str, token: String) -> Self {
        let pause = Duration::from_millis(20);
        let plan = Plan { patient: true, pause, ..Plan::new(url, token, 8, 300.0) };
        let (watch, stop) = (Arc::clone(&plan.watch), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&stop);
        let labelling =
            Self { watch, stop, thread: std::thread::spawn(move || load::run_until(&plan, &told)) };
        labelling.goes_on();
        labelling
    }

    fn acknowledged(&self) -> usize {
        self.watch.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits for more judgements to be acknowledged.
    fn goes_on(&self) {
        let enough = self.acknowledged() + 50;
        wait_until("judgements to be stored", || enough <= self.acknowledged());
    }

    /// Waits until annotators are told that the store cannot be used; gives what they were told.
    fn is_refused(&self) -> Vec<String> {
        wait_until("an answer of 503", || !self.watch.unavailable.lock().unwrap().is_empty());
        self.watch.unavailable.lock().unwrap().keys().cloned().collect()
    }

    fn end(self) -> Outcome {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// What a browser does: pages, and the requests of their scripts.
struct Browser {
    agent: ureq::Agent,
    url: String,
    csrf: String,
}

impl Browser {
    fn open(url: &str) -> Self {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .into();
        Self { agent, url: url.to_owned(), csrf: String::new() }
    }

    /// The token against forged requests, from the labelling page.
    fn learn(mut self, cookie: &str) -> Self {
        let (status, page) = self.page("/label", cookie);
        assert_eq!(status, 200, "{page}");
        let (_, rest) = page.split_once("name=\"csrf\" content=\"").expect("a page with a token");
        rest.split('"').next().unwrap().clone_into(&mut self.csrf);
        self
    }

    fn page(&self, path: &str, cookie: &str) -> (u16, String) {
        let request = self.agent.get(format!("{}{path}", self.url)).header("accept", "text/html");
        let mut response = request.header("cookie", cookie).call().unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    }

    fn post(&self, path: &str, cookie: &str, body: &Value) -> (u16, Value) {
        let mut response = self
            .agent
            .post(format!("{}{path}", self.url))
            .header("content-type", "application/json")
            .header("x-csrf-token", &self.csrf)
            .header("cookie", cookie)
            .send(body.to_string())
            .unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Signs in; gives the cookie.
    fn sign_in(&self, name: &str) -> String {
        let form = [("name", name), ("password", PASSWORD), ("next", "/")];
        let response = self.agent.post(format!("{}/login", self.url)).send_form(form).unwrap();
        assert_eq!(response.status().as_u16(), 303);
        let cookie = response.headers().get("set-cookie").unwrap().to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    /// Takes an item, and gives the decision about it that the page sends.
    fn decide(&self, id: &str, cookie: &str) -> Value {
        let (status, next) = self.post("/label/next", cookie, &json!({"held": []}));
        assert_eq!(status, 200, "{next}");
        let answer = json!({"kind": "preferred", "place": 0});
        json!({"id": id, "assignment": next["assignment"], "answer": answer})
    }
}

fn message(answer: &Value) -> &str {
    answer["error"]["message"].as_str().unwrap_or_default()
}

fn full_disk(name: &str) {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let url = disk.path().join(name).display().to_string();
    let store = open(&url);
    let token = prepare(&*store, 3_000);
    let running = Running::start(Arc::clone(&store), unlimited());
    let browser = Browser::open(&running.url).learn("");
    let labelling = Labelling::start(&running.url, token);
    let mut decision = browser.decide("of-the-page", "");
    // More than a log that has been written before has room for.
    decision["rationale"] = json!("because ".repeat(2_000));

    disk.fill();
    for told in labelling.is_refused() {
        assert!(told.contains("the store cannot be used at the moment"), "{told}");
        assert!(told.contains("disk is full; nothing of this request was stored"), "{told}");
    }
    let (status, answer) = browser.post("/label/submit", "", &decision);
    assert_eq!(status, 503, "{answer}");
    assert!(message(&answer).contains("make room and try again"), "{answer}");
    assert_eq!(store.judgement("of-the-page").unwrap(), None);
    for page in ["/label", "/label/history", "/progress"] {
        assert_eq!(browser.page(page, "").0, 200, "{page}: what is there can be read");
    }
    let (status, told) = browser.page("/health", "");
    assert_eq!(status, 503, "nothing can be written: {told}");

    disk.make_room();
    labelling.goes_on();
    let (status, answer) = browser.post("/label/submit", "", &decision);
    assert_eq!((status, &answer["outcome"]), (200, &json!("stored")));
    assert_eq!(browser.page("/health", "").0, 200);
    let outcome = labelling.end();
    load::check(&*store, &outcome, OVERLAP);
    drop(running);
    drop(store);
    let store = open(&url);
    assert_eq!(store.notices(), Vec::<String>::new());
    load::check(&*store, &outcome, OVERLAP);
    assert!(store.judgement("of-the-page").unwrap().is_some());
}

#[test]
fn a_full_disk_under_sqlite_loses_nothing() {
    full_disk("prefs.db");
}

#[test]
fn a_full_disk_under_json_lines_loses_nothing() {
    full_disk("prefs.jsonl");
}

/// The server dies three times; who is signed in stays signed in, and is told what is wrong.
#[test]
fn a_postgresql_that_dies_and_comes_back_loses_nothing() {
    let Some(mut server) = PostgresServer::start() else { return };
    let url = server.new_database("outage");
    let store = open(&url);
    let token = prepare(&*store, 20_000);
    let ada = NewAccount { name: "ada", password: PASSWORD, role: Role::Administrator };
    accounts::create(&*store, ada, system_clock()()).unwrap();
    let running = Running::start(Arc::clone(&store), unlimited());
    let browser = Browser::open(&running.url);
    let cookie = browser.sign_in("ada");
    let browser = browser.learn(&cookie);
    let labelling = Labelling::start(&running.url, token);
    for round in 0..3 {
        let decision = browser.decide(&format!("of-the-page-{round}"), &cookie);
        labelling.watch.unavailable.lock().unwrap().clear();
        server.kill();
        for told in labelling.is_refused() {
            assert!(told.contains("the store cannot be used at the moment"), "{told}");
            assert!(told.contains("PostgreSQL server"), "{told}");
            assert!(!told.contains(postgres_server::PASSWORD), "{told}");
        }
        // Not 401, which would send the annotator to a form that cannot work either.
        let (status, answer) = browser.post("/label/submit", &cookie, &decision);
        assert_eq!(status, 503, "{answer}");
        assert!(message(&answer).contains("is it running?"), "{answer}");
        let (status, page) = browser.page("/label", &cookie);
        assert_eq!(status, 503, "{page}");
        assert!(page.contains("<html") && page.contains("is it running?"), "{page}");
        assert_eq!(browser.page("/health", "").0, 503);

        server.launch();
        labelling.goes_on();
        let (status, answer) = browser.post("/label/submit", &cookie, &decision);
        assert_eq!((status, &answer["outcome"]), (200, &json!("stored")), "{answer}");
        assert_eq!(browser.page("/label", &cookie).0, 200);
    }
    let outcome = labelling.end();
    drop(running);
    load::check(&*store, &outcome, OVERLAP);
    for round in 0..3 {
        assert!(store.judgement(&format!("of-the-page-{round}")).unwrap().is_some());
    }
}
