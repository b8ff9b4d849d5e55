//! `hearken control prefer` with people, who are played through the store that the labelling service has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hearken_data::feedback::{Item, Judgement, Verdict};
use hearken_store::{Store, open_existing};
use serde_json::Value;

use crate::support::{Ran, json_lines, names, number, run, write};

const PATIENCE: Duration = Duration::from_secs(60);

/// A short run of five iterations on the gridworld.
const RUN: [&str; 9] = [
    "train.environment_steps=1280",
    "environment.copies=4",
    "train.eval_episodes=2",
    "train.clip_frames=0",
    "ppo.steps=64",
    "preference.teacher=people",
    "preference.labels=12",
    "preference.segment=8",
    "preference.people.poll_s=0.05",
];

fn arguments(dir: &Path, store: &Path, more: &[&str]) -> Vec<String> {
    let own = [
        format!("run.dir={}", dir.display()),
        format!("preference.people.store={}", store.display()),
    ];
    let keys = RUN.iter().chain(more).map(|key| (*key).to_owned()).chain(own);
    let command = ["control", "prefer", "--env", "fixed/Gridworld-v0"].map(str::to_owned);
    command.into_iter().chain(keys.flat_map(|key| ["--set".to_owned(), key])).collect()
}

/// A run beside the test, and the file that it tells things in.
struct Beside {
    child: Child,
    said: PathBuf,
}

impl Beside {
    fn start(dir: &Path, store: &Path, more: &[&str]) -> Self {
        let said = dir.with_extension("said");
        let mut command = Command::new(env!("CARGO_BIN_EXE_hearken"));
        command.args(arguments(dir, store, more)).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(fs::File::create(&said).unwrap()).spawn().unwrap();
        Self { child, said }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    fn wait_until_said(&self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.said().contains(text) {
            assert!(Instant::now() < until, "{text}: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(mut self, code: i32) -> String {
        assert_eq!(self.child.wait().unwrap().code(), Some(code), "{}", self.said());
        self.said()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn items(store: &dyn Store) -> Vec<Item> {
    store.items(0, 1000).unwrap().into_iter().map(|placed| placed.record).collect()
}

/// Judges the items that nobody has judged yet, at most `count` of them.
fn judge(store: &dyn Store, count: usize, verdict: &Verdict) -> usize {
    let open = |item: &Item| store.judgements_of(&item.id).unwrap().is_empty();
    let judgement =
        |item: &Item| Judgement::new(format!("by hand/{}", item.id), item, "ada", verdict.clone());
    let all: Vec<Judgement> =
        items(store).iter().filter(|item| open(item)).take(count).map(judgement).collect();
    store.add_judgements(&all).unwrap();
    all.len()
}

fn last_of<'a>(records: &'a [Value], key: &str) -> &'a Value {
    records.iter().rev().find_map(|record| record.get(key)).unwrap()
}

/// Waiting ends where it was left, whether the run is asked to stop or killed, and what was asked is asked once.
#[test]
fn a_run_waits_for_people_and_goes_on_where_it_waited() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, home) = (folder.path().join("run"), folder.path().join("labels.db"));
    let first = Beside::start(&dir, &home, &["preference.initial=0.5"]);
    first.wait_until_said("waits for people: 0 of 6 comparisons are answered, 5 are to be");
    let store = open_existing(&home.display().to_string()).unwrap();
    let clips = items(&*store);
    assert_eq!(clips.len(), 6);
    for item in &clips {
        assert_eq!(item.candidates.len(), 2);
        let source = &item.candidates[0].media[0].source;
        assert!(source.starts_with("data:image/apng;base64,iVBORw0KGgo"), "{source}");
    }
    assert_eq!(judge(&*store, 2, &Verdict::preferred(0)), 2);
    first.wait_until_said("waits for people: 2 of 6");
    let pid = first.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert!(first.end(130).contains("stopped after 256 environment steps"));

    let mut second = Beside::start(&dir, &home, &["preference.initial=0.5"]);
    second.wait_until_said("waits for people: 2 of 6 comparisons are answered, 5 are to be");
    second.child.kill().unwrap();
    drop(second);
    assert_eq!(items(&*store).len(), 6);

    let third = Beside::start(&dir, &home, &["preference.initial=0.5"]);
    let until = Instant::now() + PATIENCE;
    while !dir.join("final").exists() {
        assert!(Instant::now() < until, "{}", third.said());
        judge(&*store, 1, &Verdict::preferred(0));
        std::thread::sleep(Duration::from_millis(20));
    }
    third.end(0);
    let records = json_lines(&dir.join("metrics.jsonl"));
    assert_eq!(last_of(&records, "preference/shown"), 12);
    assert_eq!(items(&*store).len(), 12);
    let answered = last_of(&records, "preference/answered").as_u64().unwrap();
    assert!((9..=12).contains(&answered), "{answered}");
    // Before the first answers nothing is learned.
    let first = records.iter().find(|record| record.get("preference/shown").is_some()).unwrap();
    assert!(first.get("loss/policy_avg").is_none() && first["preference/answered"] == 0, "{first}");
    assert!(0.0 < number(last_of_record(&records, "preference/loss"), "preference/loss"));
    run(["report", dir.to_str().unwrap()]).ok();
    let page = fs::read_to_string(dir.join("report.html")).unwrap();
    for text in ["<figcaption>Comparisons", "answered", "<figcaption>Learned reward"] {
        assert!(page.contains(text), "{text}");
    }
}

fn last_of_record<'a>(records: &'a [Value], key: &str) -> &'a Value {
    records.iter().rev().find(|record| record.get(key).is_some()).unwrap()
}

/// Somebody who is slow is asked no more until they are through; whatever they say is learned from.
#[test]
fn a_run_goes_on_without_a_slow_labeller_and_asks_no_more_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, home) = (folder.path().join("run"), folder.path().join("labels.db"));
    let more = ["preference.initial=0.5", "preference.people.wait_s=0.3"];
    let beside = Beside::start(&dir, &home, &more);
    beside.wait_until_said("waits for people: 0 of 6");
    // Without two answers there is no reward to go on with.
    std::thread::sleep(Duration::from_millis(900));
    assert!(
        beside.said().ends_with(&format!("--store {}`\n", home.display())),
        "{}",
        beside.said()
    );
    let store = open_existing(&home.display().to_string()).unwrap();
    judge(&*store, 1, &Verdict::CantTell { reason: "both stand still".into() });
    judge(&*store, 1, &Verdict::preferred(1));
    judge(&*store, 1, &Verdict::Tie);
    beside.end(0);
    let records = json_lines(&dir.join("metrics.jsonl"));
    let counts = ["shown", "answered", "skipped"]
        .map(|name| last_of(&records, &format!("preference/{name}")).as_u64().unwrap());
    assert_eq!(counts, [6, 2, 1]);
    assert_eq!(items(&*store).len(), 6);
}

fn stopped(dir: &Path, store: &Path) -> Ran {
    run(arguments(dir, store, &[]))
}

#[test]
fn what_keeps_people_from_being_asked_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, home) = (folder.path().join("run"), folder.path().join("labels.db"));
    let with = |more: &[&str]| run(arguments(&dir, &home, more)).error();
    for (keys, expected) in [
        (vec!["preference.utility={row=1}"], "`preference.utility` and `preference.teacher`"),
        (vec!["preference.people.clip_fps=2000"], "found 2000, expected at most 1000 pictures"),
        (vec!["preference.people.enough=1.5"], "`preference.people.enough`: found 1.5, expected"),
        (vec!["preference.people.poll_s=0"], "`preference.people.poll_s`: found 0, expected"),
        (
            vec!["environment.id=served:world", "environment.server.command=[\"server\"]"],
            "`preference.teacher`: found \"people\", expected a simulated one: clips are drawn of this",
        ),
    ] {
        let error = with(&keys);
        assert!(error.contains(expected), "{error}");
        assert!(!dir.exists());
    }
    let without =
        ["control", "prefer", "--env", "Pendulum-v1", "--set", "preference.teacher=people"];
    let error = run(without).error();
    assert!(error.contains("`preference.people.store`"), "{error}");

    let other = write(folder.path(), "other.db", "no store");
    let error = stopped(&dir, &other).error();
    assert!(error.contains("`preference.people.store`: ") && error.contains("other.db"), "{error}");
    // What was to be asked waits for a store that takes it.
    let mut beside = Beside::start(&dir, &home, &[]);
    beside.wait_until_said("waits for people: 0 of 3");
    beside.child.kill().unwrap();
    drop(beside);
    assert_eq!(items(&*open_existing(&home.display().to_string()).unwrap()).len(), 3);
    assert_eq!(
        names(&dir.join("queries")),
        ["00001.json", "00002.json", "00003.json", "placed.json"]
    );

    // A store that is gone is not replaced by an empty one.
    let away = folder.path().join("away.db");
    fs::rename(&home, &away).unwrap();
    let error = stopped(&dir, &home).error();
    assert!(error.contains("3 queries of this run wait there, so put the store back"), "{error}");
    assert!(!home.exists());
    fs::rename(&away, &home).unwrap();

    let query = dir.join("queries/00002.json");
    let text = fs::read_to_string(&query).unwrap();
    fs::write(&query, &text[..text.len() / 2]).unwrap();
    let error = stopped(&dir, &home).error();
    assert!(error.contains("00002.json: no query of a run: EOF"), "{error}");
    fs::write(&query, &text).unwrap();
}
