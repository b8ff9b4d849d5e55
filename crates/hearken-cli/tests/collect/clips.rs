//! The oldest loop with a person in it: a policy acts, somebody compares clips of it on the page, and the policy becomes what they like.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Running;
use super::cdp::{Browser, Page, chromium};

/// Comparisons of a run.
const QUERIES: usize = 30;
const SIDE: usize = 5;
const PATIENCE: Duration = Duration::from_secs(120);

/// A small run on the gridworld, of which nothing but the comparisons says where to go.
const RUN: [&str; 12] = [
    "train.environment_steps=60000",
    "train.eval_episodes=4",
    "ppo.steps=64",
    "preference.teacher=people",
    "preference.people.store=labels.db",
    "preference.people.wish=The disc is where you want it to be.",
    "preference.people.poll_s=0.1",
    "preference.labels=30",
    "preference.initial=0.5",
    "preference.segment=8",
    "preference.schedule=constant",
    // What comes of it then depends on what is said, not on when.
    "preference.people.enough=1",
];

fn hearken(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearken"));
    command.current_dir(folder).arg("control").args(arguments).stdin(Stdio::null());
    command
}

/// A run in `dir`, which tells what it does in the file `said`.
fn prefer(folder: &Path, dir: &str, more: &[&str]) -> Child {
    let path = folder.join("said");
    let said = std::fs::File::options().create(true).append(true).open(path).unwrap();
    let mut command = hearken(folder, &["prefer", "--env", "fixed/Gridworld-v0"]);
    command.args(["--set", &format!("run.dir={dir}")]);
    command.args(RUN.iter().chain(more).flat_map(|key| ["--set", key]));
    command.stdout(Stdio::null()).stderr(said).spawn().unwrap()
}

fn said(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("said")).unwrap_or_default()
}

/// The run's queries as they lie on the disk.
fn queries(dir: &Path) -> Vec<Value> {
    let Ok(files) = std::fs::read_dir(dir.join("queries")) else { return Vec::new() };
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|of| of == "json"));
    paths.retain(|path| !path.ends_with("placed.json"));
    paths.sort();
    paths
        .iter()
        .map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
        .collect()
}

/// How far to the right a clip is on the whole: the sum of the columns of its states.
fn columns(dir: &Path, clip: &str) -> f64 {
    for query in queries(dir) {
        for place in 0..2 {
            if query["item"]["candidates"][place]["media"][0]["source"] == clip {
                let states = query["segments"][place]["states"].as_array().unwrap();
                let columns = states.iter().skip(1).step_by(2);
                return columns.map(|column| column.as_f64().unwrap()).sum();
            }
        }
    }
    panic!("no query of the run has this clip");
}

/// Compares `count` pairs of clips by keyboard, as they come: the one that is farther to the right is better, or to the left.
fn compare(page: &Page, address: &str, dir: &Path, right: bool, count: usize) {
    let until = Instant::now() + PATIENCE;
    let mut done = 0;
    while done < count {
        assert!(Instant::now() < until, "{done} of {count} clips came");
        page.goto(address);
        let mut shown = 1;
        while done < count
            && page.eval(&format!(
                "new Promise((done) => setTimeout(() => done(document.querySelector('article.item')?.dataset.shown == {shown}), 300))"
            )) == true
        {
            page.wait("[...document.querySelectorAll('img.picture')].every((image) => image.complete && 0 < image.naturalWidth)");
            if done == 0 {
                page.screenshot(if right { "control-clips" } else { "control-clips-left" });
            }
            let clips = page.eval("[...document.querySelectorAll('.answer img')].map((image) => image.src)");
            let [a, b] = [0, 1].map(|place| columns(dir, clips[place].as_str().unwrap()));
            let key = match a.total_cmp(&b) {
                std::cmp::Ordering::Equal => "t",
                order if order.is_gt() == right => "1",
                _ => "2",
            };
            page.key(key);
            (done, shown) = (done + 1, shown + 1);
        }
    }
}

fn ended(mut child: Child, folder: &Path) {
    let until = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < until, "the run has not ended: {}", said(folder));
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(status.success(), "{}", said(folder));
}

/// The mean column over episodes of a run's policy.
fn mean_column(folder: &Path, dir: &str) -> f64 {
    let output = format!("{dir}.jsonl");
    let demonstrate = ["demonstrate", "--policy", dir, "--episodes", "20", "--output", &output];
    assert!(hearken(folder, &demonstrate).output().unwrap().status.success());
    let text = std::fs::read_to_string(folder.join(&output)).unwrap();
    let mut columns = Vec::new();
    for line in text.lines() {
        let episode: Value = serde_json::from_str(line).unwrap();
        for seen in episode["observations"].as_array().unwrap() {
            let cell = seen.as_array().unwrap().iter().position(|one| *one == 1.0).unwrap();
            columns.push((cell % SIDE) as f64);
        }
    }
    columns.iter().sum::<f64>() / columns.len() as f64
}

/// Two people who want the contrary of one another make two policies of the same beginning. One run is stopped while it waits, and killed: nothing that was
/// said is lost, and nothing is asked twice.
#[test]
fn thirty_comparisons_of_clips_on_the_page_make_the_policy() {
    let Some(program) = chromium() else {
        hearken_testing::skip(
            "no chromium, chromium-browser or google-chrome in PATH or $CHROMIUM",
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let running = Running::start(folder, &["--store", "labels.db"]);
    let address = format!("http://{}/label", running.address);
    let browser = Browser::start(&program);
    let page = browser.page();

    let dir = folder.join("right");
    let mut child = prefer(folder, "right", &[]);
    compare(&page, &address, &dir, true, 5);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(queries(&dir).len(), 15);
    let child = prefer(folder, "right", &[]);
    compare(&page, &address, &dir, true, QUERIES - 5);
    ended(child, folder);

    let dir = folder.join("left");
    let child = prefer(folder, "left", &[]);
    compare(&page, &address, &dir, false, QUERIES);
    ended(child, folder);
    assert_eq!(page.problems(), Vec::<String>::new());
    running.stop();

    let store = hearken_store::open_existing(&folder.join("labels.db").display().to_string());
    let counts = store.unwrap().counts().unwrap();
    assert_eq!((counts.items, counts.judgements), (2 * QUERIES as u64, 2 * QUERIES as u64));
    let [right, left] = ["right", "left"].map(|dir| mean_column(folder, dir));
    assert!(left < 1.0 && 3.0 < right, "{left} {right}");
}
