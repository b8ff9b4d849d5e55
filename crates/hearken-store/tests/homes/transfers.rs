//! Copies, backups, exports: nothing is lost, nothing changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hearken_store::{Copied, Event, Expected, Exported, Record, Store, StoreError};
use serde_json::json;
use tempfile::TempDir;

use super::examples::{
    MINUTE, claim, granted, item, items, judged, judgement, revision, rich_item,
};
use super::postgres_server::PostgresServer;
use super::{Home, postgres_homes};

/// A store with something of everything.
fn fill(store: &dyn Store) {
    let mut all = items(0..40);
    all.push(rich_item());
    store.add_items(&all).unwrap();
    for (n, item) in all.iter().take(10).enumerate() {
        let assignment = granted(store, &claim(&item.id, "ada", 0));
        match n % 3 {
            0 => store.skip(&assignment.id).unwrap(),
            1 => assert!(store.renew(&assignment.id, 1, 9 * MINUTE).unwrap()),
            _ => {
                let first = judged(&format!("j{n}"), &assignment, item);
                store.submit(&first, 2, 1).unwrap();
                store.submit(&revision(&format!("r{n}"), &first), 2, 1).unwrap();
            }
        }
    }
    store.add_judgements(&[judgement("import", &rich_item(), "b\u{e9}a")]).unwrap();
    for n in 0..3 {
        let body = json!({ "n": n, "text": "\u{0} \u{2028}", "half": 0.1 });
        store.put_document("account", &format!("a{n}"), &body, Expected::Anything).unwrap();
        store.put_document("account", "changed", &json!(n), Expected::Anything).unwrap();
        let (actor, action) = ("admin".into(), "did".into());
        store.record(&Event { at: n, actor, action, details: body }).unwrap();
    }
    store.delete_document("account", "a1").unwrap();
}

fn records(store: &dyn Store) -> Vec<Record> {
    let mut all = Vec::new();
    store
        .export(&mut |record| {
            all.push(record);
            Ok(())
        })
        .unwrap();
    all
}

fn file_home(folder: &TempDir, name: &str) -> Home {
    Home { url: folder.path().join(name).to_str().unwrap().to_owned() }
}

/// Copies along a path of homes and compares what arrives with what left, and answers too.
fn copy_along(homes: &[Home]) {
    fill(&*homes[0].open());
    let original = records(&*homes[0].open());
    assert_eq!(original.len(), 3 + 41 + 10 + 7 + 3);
    for two in homes.windows(2) {
        let (from, to) = (two[0].open(), two[1].open());
        let copied = hearken_store::copy(&*from, &*to).unwrap();
        let expected =
            Copied { documents: 3, items: 41, assignments: 10, judgements: 7, events: 3 };
        assert_eq!(copied, expected);
        assert_eq!(records(&*to), original, "from {} to {}", two[0].url, two[1].url);
        assert_eq!(to.counts().unwrap(), from.counts().unwrap());
        assert_eq!(to.taken(5).unwrap(), from.taken(5).unwrap());
        assert_eq!(to.seen_at("ada", 5).unwrap(), from.seen_at("ada", 5).unwrap());
        let live = from.live_assignments("ada", 5).unwrap();
        assert_eq!(to.live_assignments("ada", 5).unwrap(), live);
        assert_eq!(to.items(5, 9).unwrap(), from.items(5, 9).unwrap());
        assert_eq!(to.judgements(2, 9).unwrap(), from.judgements(2, 9).unwrap());
        let error = hearken_store::copy(&*from, &*to).unwrap_err();
        assert!(matches!(&error, StoreError::Conflict(what) if what.contains("not empty")));
        // What arrives can be worked with.
        drop((from, to));
        let to = two[1].open();
        assert!(to.renew(&live[0].id, 5, 9 * MINUTE).unwrap());
        assert_eq!(records(&*to), original);
    }
}

#[test]
fn files_copy_to_each_other_without_loss() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["a.jsonl", "b.db", "c.db", "d.jsonl", "e.jsonl"];
    copy_along(&names.map(|name| file_home(&folder, name)));
}

#[test]
fn postgres_copies_to_files_and_back_without_loss() {
    let Some(server) = PostgresServer::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut new = postgres_homes(&server);
    copy_along(&[
        file_home(&folder, "a.jsonl"),
        new(),
        new(),
        file_home(&folder, "b.db"),
        new(),
        file_home(&folder, "c.jsonl"),
    ]);
}

/// Tells the writers to stop, also when an assertion fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Submits until told to stop; the ids that were acknowledged.
fn keep_submitting(store: &dyn Store, stop: &AtomicBool, name: &str) -> Vec<String> {
    let mut ids = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let item = item(ids.len());
        store.add_items(std::slice::from_ref(&item)).unwrap();
        let id = format!("{name}-{}", ids.len());
        store.submit(&judgement(&id, &item, name), 9, 1).unwrap();
        ids.push(id);
    }
    ids
}

fn back_up_while_writing(home: &Home) {
    let folder = tempfile::tempdir().unwrap();
    let store = home.open();
    fill(&*store);
    let before = store.counts().unwrap();
    let stop = AtomicBool::new(false);
    let backups: Vec<_> = (0..6)
        .map(|n| {
            let ending = if n % 2 == 0 { "db" } else { "jsonl" };
            folder.path().join(format!("backup-{n}.{ending}"))
        })
        .collect();
    thread::scope(|scope| {
        let (store, stop) = (&*store, &stop);
        let writers: Vec<_> = ["cyd", "dan"]
            .map(|name| scope.spawn(move || keep_submitting(store, stop, name)))
            .into_iter()
            .collect();
        let stopped = Stop(stop);
        for backup in &backups {
            // All judgements that are acknowledged by now are in the backup.
            let acknowledged = store.counts().unwrap();
            hearken_store::backup(store, backup).unwrap();
            let copy = hearken_store::open_existing(backup.to_str().unwrap()).unwrap();
            let counts = copy.counts().unwrap();
            assert!(
                counts.judgements >= acknowledged.judgements && counts.items >= acknowledged.items
            );
            for placed in copy.judgements(0, usize::MAX).unwrap() {
                assert!(copy.item(&placed.record.item).unwrap().is_some());
            }
        }
        drop(stopped);
        for writer in writers {
            assert!(!writer.join().unwrap().is_empty());
        }
    });
    assert!(store.counts().unwrap().judgements > before.judgements);
    let error = hearken_store::backup(&*store, &backups[0]).unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    assert!(hearken_store::backup(&*store, &folder.path().join("no/folder/b.db")).is_err());
    let names = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, backups.len(), "nothing else is left behind");
    drop(store);
    // A quiet backup is equal, record by record.
    let store = home.open();
    for name in ["quiet.db", "quiet.jsonl"] {
        let quiet = file_home(&folder, name);
        hearken_store::backup(&*store, quiet.url.as_ref()).unwrap();
        assert_eq!(records(&*quiet.open()), records(&*store));
    }
}

#[test]
fn json_lines_are_backed_up_while_written() {
    let folder = tempfile::tempdir().unwrap();
    back_up_while_writing(&file_home(&folder, "home.jsonl"));
}

#[test]
fn sqlite_is_backed_up_while_written() {
    let folder = tempfile::tempdir().unwrap();
    back_up_while_writing(&file_home(&folder, "home.db"));
}

#[test]
fn postgres_is_backed_up_while_written() {
    if let Some(server) = PostgresServer::start() {
        back_up_while_writing(&postgres_homes(&server)());
    }
}

#[test]
fn an_export_of_data_names_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let home = file_home(&folder, "home.db");
    let store = home.open();
    fill(&*store);
    let data = file_home(&folder, "data.jsonl");
    hearken_store::export_json_lines(&*store, data.url.as_ref(), Exported::Data).unwrap();
    let text = std::fs::read_to_string(&data.url).unwrap();
    assert_eq!(text.lines().count(), 41 + 7);
    assert!(!text.contains("account") && text.contains("{\"judgement\":{\"id\":\"import\""));
    // It is a store itself.
    let counts = data.open().counts().unwrap();
    assert_eq!(counts, store.counts().unwrap());
    let whole = file_home(&folder, "whole.jsonl");
    hearken_store::export_json_lines(&*store, whole.url.as_ref(), Exported::Everything).unwrap();
    assert_eq!(records(&*whole.open()), records(&*store));
}
