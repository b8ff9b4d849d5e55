//! How quick the homes are. Not part of a test run: `cargo test -p hearken-store --test homes --
//! --ignored --nocapture speed`.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use hearken_store::{Claimed, Store};

use super::examples::{claim, item, items, judged, judgement};
use super::postgres_server::PostgresServer;
use super::{Home, file_homes, postgres_homes};

const ANNOTATORS: usize = 200;

fn seconds(home: &Home, what: &str, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    eprintln!("{}: {what}: {:.3} s", home.url, start.elapsed().as_secs_f64());
}

/// 200 annotators, each claiming and submitting without a pause.
fn annotate(home: &Home, store: &dyn Store, rounds: usize) {
    let barrier = Barrier::new(ANNOTATORS);
    let start = Instant::now();
    let mut times: Vec<Duration> = thread::scope(|scope| {
        let threads: Vec<_> = (0..ANNOTATORS)
            .map(|n| {
                let (barrier, store) = (&barrier, store);
                scope.spawn(move || {
                    let annotator = format!("new-annotator-{n}");
                    let mut times = Vec::new();
                    barrier.wait();
                    for round in 0..rounds {
                        let item = item(n * rounds + round);
                        let mut claim = claim(&item.id, &annotator, 1);
                        claim.overlap = 100;
                        let start = Instant::now();
                        let Claimed::Granted(assignment) = store.claim(&claim).unwrap() else {
                            panic!()
                        };
                        times.push(start.elapsed());
                        let judgement = judged(&format!("{annotator}-{round}"), &assignment, &item);
                        let start = Instant::now();
                        store.submit(&judgement, 100, 1).unwrap();
                        times.push(start.elapsed());
                    }
                    times
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize];
    eprintln!(
        "{}: {ANNOTATORS} at once: {rate:.0} requests/s, p50 {:?}, p99 {:?}, p99.9 {:?}, slowest {:?}",
        home.url,
        at(0.5),
        at(0.99),
        at(0.999),
        times.last().unwrap()
    );
}

fn measure(home: &Home, item_count: usize, judgement_count: usize) {
    let store = home.open();
    let all = items(0..item_count);
    seconds(home, &format!("add {item_count} items"), || {
        store.add_items(&all).unwrap();
    });
    let judgements: Vec<_> = (0..judgement_count)
        .map(|n| {
            let annotator = format!("annotator-{}", n / item_count * 100 + n % 97);
            judgement(&format!("j{n}"), &all[n % item_count], &annotator)
        })
        .collect();
    seconds(home, &format!("add {judgement_count} judgements"), || {
        store.add_judgements(&judgements).unwrap();
    });
    seconds(home, "counts", || {
        store.counts().unwrap();
    });
    seconds(home, "taken", || drop(store.taken(5).unwrap()));
    seconds(home, "seen_at", || drop(store.seen_at("annotator-3", 5).unwrap()));
    seconds(home, "judgements_by 20", || drop(store.judgements_by("annotator-3", 20).unwrap()));
    let late = judgement_count as u64 - 1000;
    seconds(home, "a page of 500", || drop(store.judgements(late, 500).unwrap()));
    annotate(home, &*store, 100);
    drop(store);
    seconds(home, "open", || drop(home.open()));
}

#[test]
#[ignore = "measures"]
fn speed_of_files() {
    for ending in ["db", "jsonl"] {
        measure(&file_homes(ending)(), 100_000, 1_000_000);
    }
}

#[test]
#[ignore = "measures"]
fn speed_of_postgres() {
    if let Some(server) = PostgresServer::start() {
        measure(&postgres_homes(&server)(), 100_000, 1_000_000);
    }
}
