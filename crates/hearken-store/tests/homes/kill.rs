//! `kill -9` while judgements are submitted: what was acknowledged is there, once.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::thread;

use hearken_store::{Claimed, Submitted, open};

use super::Home;
use super::examples::{claim, item, items, judged};
use super::postgres_server::PostgresServer;

const URL: &str = "HEARKEN_STORE_TEST_URL";
const ROUND: &str = "HEARKEN_STORE_TEST_ROUND";
const KILLS: usize = 10;
const ITEMS: usize = 5_000;
const THREADS: usize = 8;

/// The program that is killed. As an ordinary test it does nothing.
#[test]
fn program_that_is_killed() {
    let (Ok(url), Ok(round)) = (std::env::var(URL), std::env::var(ROUND)) else { return };
    let store = open(&url).unwrap();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, round) = (&store, &round);
            scope.spawn(move || {
                let annotator = format!("annotator-{round}-{thread}");
                for number in 0..ITEMS {
                    let Claimed::Granted(assignment) =
                        store.claim(&claim(&format!("item-{number}"), &annotator, 1)).unwrap()
                    else {
                        continue;
                    };
                    let id = format!("{annotator}-{number}");
                    let judgement = judged(&id, &assignment, &item(number));
                    if let Submitted::Appended { place } = store.submit(&judgement, 2, 1).unwrap() {
                        // Straight to the pipe: what the test harness keeps would be lost.
                        let line = format!("acknowledged {place} {id}\n");
                        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                    }
                }
            });
        }
    });
}

/// Starts the program, kills it after `lines` acknowledgements, and returns all that it gave.
fn run_and_kill(home: &Home, round: usize, lines: usize) -> Vec<(u64, String)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::program_that_is_killed", "--nocapture"])
        .env(URL, &home.url)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    let mut killed = false;
    // After the kill, what the pipe still holds.
    while let Some(Ok(line)) = output.next() {
        // The harness writes its own text, on the same line where it pleases.
        let Some((_, line)) = line.split_once("acknowledged ") else { continue };
        let (place, id) = line.split_once(' ').unwrap();
        acknowledged.push((place.parse().unwrap(), id.to_owned()));
        if acknowledged.len() >= lines && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the program ended by itself after {} lines", acknowledged.len());
    acknowledged
}

fn survive_ten_kills(home: &Home) {
    home.open().add_items(&items(0..ITEMS)).unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..KILLS {
        acknowledged.extend(run_and_kill(home, round, 20 + 37 * round));
        // Nothing is missing after any of them.
        let store = home.open();
        assert!(store.counts().unwrap().judgements >= acknowledged.len() as u64);
    }
    let store = home.open();
    let stored = store.judgements(0, usize::MAX).unwrap();
    let mut times: HashMap<&str, u32> = HashMap::new();
    for placed in &stored {
        *times.entry(&placed.record.id).or_default() += 1;
    }
    assert!(times.values().all(|times| *times == 1), "a judgement is there twice");
    let places: HashMap<&str, u64> =
        stored.iter().map(|placed| (placed.record.id.as_str(), placed.place)).collect();
    for (place, id) in &acknowledged {
        assert_eq!(places.get(id.as_str()), Some(place), "{id}");
    }
    assert!(acknowledged.len() > 1000);
    let mut per_item: HashMap<&str, u32> = HashMap::new();
    for placed in &stored {
        *per_item.entry(&placed.record.item).or_default() += 1;
    }
    assert!(per_item.values().all(|judgements| *judgements <= 2), "an overlap was exceeded");
    for taken in store.taken(2).unwrap() {
        assert_eq!(per_item.get(taken.item.as_str()).copied().unwrap_or(0), taken.judged);
        assert!(taken.judged + taken.held <= 2, "{taken:?}");
    }
}

#[test]
fn json_lines_survive_ten_kills() {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("prefs.jsonl").to_str().unwrap().to_owned();
    survive_ten_kills(&Home { url });
}

#[test]
fn sqlite_survives_ten_kills() {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("prefs.db").to_str().unwrap().to_owned();
    survive_ten_kills(&Home { url });
}

#[test]
fn postgres_survives_ten_kills() {
    if let Some(server) = PostgresServer::start() {
        survive_ten_kills(&Home { url: server.new_database("labels") });
    }
}
