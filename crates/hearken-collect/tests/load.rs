//! Many annotators at once, and a service that is killed under them: nothing acknowledged is lost, nothing
//! is handed out too often.
//!
//! The times are short here; `cargo run --release -p hearken-collect --example collect_results` runs
//! longer and writes the latencies down.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests may panic and report")]

#[path = "support/crowds.rs"]
mod crowds;
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

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crowds::Crowd;
use hearken_collect::tokens::{self, Scope};
use hearken_collect::{ProjectSettings, Service};
use hearken_data::feedback::{Candidate, Item, Task};
use hearken_data::{Message, Role};
use hearken_store::{Expected, Store};
use load::Plan;
use postgres_server::PostgresServer;
use running::{Running, unlimited};

const OVERLAP: usize = 2;

fn items(n: usize) -> Vec<Item> {
    let item = |at: usize| {
        let prompt = vec![Message::new(Role::User, format!("Question {at}"))];
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
    let settings = ProjectSettings { overlap: OVERLAP as u32, ..ProjectSettings::default() };
    let body = serde_json::to_value(settings).unwrap();
    store.put_document("project", "settings", &body, Expected::Anything).unwrap();
    tokens::create(store, "load", &[Scope::Label], 0).unwrap().1
}

fn open(url: &str) -> Arc<dyn Store> {
    Arc::from(hearken_store::open(url).unwrap())
}

fn two_hundred(url: &str, seconds: f64) {
    let store = open(url);
    // Fewer places than two hundred annotators could fill: they have to compete.
    let token = prepare(&*store, 2_000);
    let running = Running::start(Arc::clone(&store), unlimited());
    let plan = Plan::new(&running.url, token, 200, seconds);
    let outcome = load::run(&plan);
    drop(running);
    load::check(&*store, &outcome, OVERLAP);
    let judged = outcome.acknowledged.len();
    assert!(200 <= judged, "{judged} judgements in {seconds} s");
    eprintln!(
        "{}: {judged} judgements in {:.1} s; next {:?}; submit {:?}",
        store.home(),
        outcome.seconds,
        outcome.next,
        outcome.submit
    );
}

/// Half of a request a thousand times, five hundred live prompts and a hundred streams that nobody reads hold no thread
/// that others need, little memory, and not for long.
#[test]
fn crowds_that_only_hold_on_keep_nobody_from_work() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("crowds.db").display().to_string());
    prepare(&*store, 6_000);
    let crowd = Crowd { half_open: 1_000, live_prompts: 500, streams: 100 };
    let held = crowds::annotate(&store, crowd, Duration::from_millis(100), 6.0);
    let [before, after] = held.memory_mib;
    let (outcome, grown) = (&held.outcome, after.saturating_sub(before));
    eprintln!(
        "{} judgements; next {:?}; {grown} MiB more",
        outcome.acknowledged.len(),
        outcome.next
    );
    load::check(&*store, outcome, OVERLAP);
    assert!(500 <= outcome.acknowledged.len(), "{}", outcome.acknowledged.len());
    // Without limits the next item never comes; the machine of a test may be busy with others.
    assert!(outcome.next.p99_ms < 1_000.0, "{:?}", outcome.next);
    assert!(grown < 300, "{grown} MiB");
    // Of live prompts 32 are under way, and of streams of a token 4; the others are told to come later.
    let answers = &held.live_answers;
    let of = |status: u16| answers.get(&status).copied().unwrap_or(0);
    assert!(0 < of(200) && of(200) <= 32 && of(200) + of(429) == 500, "{answers:?}");
    // What never becomes a request is closed.
    for mut stream in &held.half_open {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let read = stream.read(&mut [0; 16]);
        let is_open = matches!(&read, Err(error) if error.kind() == ErrorKind::WouldBlock);
        assert!(!is_open, "{read:?}");
    }
}

#[test]
fn two_hundred_annotators_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    two_hundred(&folder.path().join("load.db").display().to_string(), 4.0);
}

#[test]
fn two_hundred_annotators_on_postgresql() {
    let Some(server) = PostgresServer::start() else { return };
    two_hundred(&server.new_database("load"), 4.0);
}

/// Not a test: the service that the tests below kill, in a process of its own.
#[test]
#[ignore = "started by other tests"]
fn a_service_to_be_killed() {
    let Ok(url) = std::env::var("HEARKEN_TEST_STORE") else { return };
    let bind = std::env::var("HEARKEN_TEST_BIND").unwrap().parse().unwrap();
    let options = hearken_collect::Options { bind, ..unlimited() };
    let parts = hearken_collect::parts::Parts::default();
    let service = Service::new(open(&url), options, parts).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = service.listen().await.unwrap();
        println!("\nlistening on {}", listener.local_addr().unwrap());
        service.serve(listener, std::future::pending()).await.unwrap();
    });
}

struct Process(Child);

impl Process {
    fn start(store: &str, bind: &str) -> (Self, String) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "a_service_to_be_killed", "--nocapture"])
            .env("HEARKEN_TEST_STORE", store)
            .env("HEARKEN_TEST_BIND", bind)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
            .expect("the service starts");
        (Self(child), address)
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn killed_ten_times(url: &str) {
    let token = prepare(&*open(url), 20_000);
    let (mut process, address) = Process::start(url, "127.0.0.1:0");
    let stop = Arc::new(AtomicBool::new(false));
    let plan = Plan { patient: true, ..Plan::new(&format!("http://{address}"), token, 24, 300.0) };
    let watch = Arc::clone(&plan.watch);
    let labelled = || watch.acknowledged.load(Ordering::SeqCst);
    // Each kill comes while judgements are being stored, however slow the machine is at the moment.
    let until_at_work = || {
        let (enough, start) = (labelled() + 50, Instant::now());
        while labelled() < enough {
            assert!(start.elapsed() < Duration::from_secs(60), "{} judgements", labelled());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let labelling = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || load::run_until(&plan, &stop))
    };
    for _ in 0..10 {
        until_at_work();
        process.kill();
        process = Process::start(url, &address).0;
    }
    until_at_work();
    stop.store(true, Ordering::SeqCst);
    let outcome = labelling.join().unwrap();
    drop(process);
    load::check(&*open(url), &outcome, OVERLAP);
    let judged = outcome.acknowledged.len();
    assert!(550 <= judged, "{judged} judgements around ten kills");
    eprintln!("{url}: {judged} acknowledged judgements, ten kills, none lost");
}

#[test]
fn a_service_killed_ten_times_on_json_lines_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    killed_ten_times(&folder.path().join("killed.jsonl").display().to_string());
}

#[test]
fn a_service_killed_ten_times_on_sqlite_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    killed_ten_times(&folder.path().join("killed.db").display().to_string());
}

#[test]
fn a_service_killed_ten_times_on_postgresql_loses_nothing() {
    let Some(server) = PostgresServer::start() else { return };
    killed_ten_times(&server.new_database("killed"));
}
