//! Documents: small records that change.

use std::path::Path;
use std::thread;

use hearken_store::{
    Change, Document, Everything, Expected, ItemChange, StoreError, add_change, all_changes,
    changes_after, everything,
};
use serde_json::json;

use super::examples::{item, items, judgement};
use super::{Check, Home};

pub(crate) const CHECKS: &[Check] = &[
    ("documents have versions", documents_have_versions),
    ("documents are listed by key", documents_are_listed_by_key),
    ("only one of many changes wins", only_one_of_many_changes_wins),
    ("changes of items come in their order", changes_of_items_come_in_their_order),
    ("names are checked", names_are_checked),
];

fn documents_have_versions(home: &Home) {
    {
        let store = home.open();
        let put = |body: i32, expected| {
            store.put_document("setting", "overlap", &json!({ "n": body }), expected).unwrap()
        };
        assert_eq!(put(1, Expected::Version(1)), None);
        assert_eq!(put(1, Expected::Nothing), Some(1));
        assert_eq!(put(2, Expected::Nothing), None);
        assert_eq!(put(2, Expected::Version(2)), None);
        assert_eq!(put(2, Expected::Version(1)), Some(2));
        assert_eq!(put(3, Expected::Anything), Some(3));
    }
    let store = home.open();
    let found = store.document("setting", "overlap").unwrap().unwrap();
    let (kind, key) = ("setting".into(), "overlap".into());
    assert_eq!(found, Document { kind, key, version: 3, body: json!({ "n": 3 }) });
    assert!(store.delete_document("setting", "overlap").unwrap());
    assert!(!store.delete_document("setting", "overlap").unwrap());
    drop(store);
    let store = home.open();
    assert_eq!(store.document("setting", "overlap").unwrap(), None);
    assert_eq!(store.documents("setting").unwrap(), []);
}

fn documents_are_listed_by_key(home: &Home) {
    let store = home.open();
    for (kind, key) in
        [("b", "x"), ("a", "\u{e4}"), ("a", "z"), ("a", "B"), ("a", "_"), ("ab", "y")]
    {
        store.put_document(kind, key, &json!([kind, key, "\u{0}"]), Expected::Nothing).unwrap();
    }
    let listed = store.documents("a").unwrap();
    let keys: Vec<&str> = listed.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(keys, ["B", "_", "z", "\u{e4}"]);
    assert!(listed.iter().all(|it| it.kind == "a" && it.version == 1));
    assert_eq!(listed[0].body, json!(["a", "B", "\u{0}"]));
}

/// Whoever writes at the same time, every change is there, and what is read of items has it.
fn changes_of_items_come_in_their_order(home: &Home) {
    let store = home.open();
    store.add_items(&items(0..3)).unwrap();
    let made = [judgement("a", &item(0), "ada"), judgement("b", &item(1), "ada")];
    store.add_judgements(&made).unwrap();
    let change = |number: usize, change| ItemChange {
        at: 1,
        by: "lead".into(),
        items: vec![item(number).id],
        change,
    };
    thread::scope(|scope| {
        for at in 0..8 {
            let (store, comment) = (&store, change(2, Change::Comment(at.to_string())));
            scope.spawn(move || add_change(&**store, &comment, 0).unwrap());
        }
    });
    add_change(&*store, &change(0, Change::Priority(5)), 0).unwrap();
    let known = add_change(&*store, &change(0, Change::Priority(7)), 9).unwrap();
    assert_eq!(known, 10);
    add_change(&*store, &change(1, Change::Withdrawn(true)), known).unwrap();
    drop(store);
    let store = home.open();
    assert_eq!(changes_after(&*store, 0).unwrap().len(), 11);
    assert_eq!(changes_after(&*store, 10).unwrap(), [change(1, Change::Withdrawn(true))]);
    let all = all_changes(&*store).unwrap();
    let mut comments: Vec<&str> = all["item-2"].comments.iter().map(|it| &*it.text).collect();
    comments.sort_unstable();
    assert_eq!(comments, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    let all = everything(&*store).unwrap();
    let found: Vec<(&str, i64)> =
        all.items.iter().map(|item| (item.id.as_str(), item.priority)).collect();
    assert_eq!(found, [("item-0", 7), ("item-2", 0)]);
    assert_eq!((all.judgements.as_slice(), all.withdrawn), (&made[..1], 1));
    // A file of JSON lines is read as one, too.
    if std::path::Path::new(&home.url).extension().is_some_and(|ending| ending == "jsonl") {
        drop(store);
        let records = (items(0..3), made.to_vec());
        let read = Everything::of_file(Path::new(&home.url), records.0, records.1).unwrap();
        assert_eq!(read, all);
    }
}

fn only_one_of_many_changes_wins(home: &Home) {
    let store = home.open();
    store.put_document("counter", "one", &json!(0), Expected::Nothing).unwrap();
    let creations: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|n| {
                let store = &store;
                scope.spawn(move || {
                    for _ in 0..10 {
                        loop {
                            let found = store.document("counter", "one").unwrap().unwrap();
                            let next = json!(found.body.as_i64().unwrap() + 1);
                            let expected = Expected::Version(found.version);
                            if store
                                .put_document("counter", "one", &next, expected)
                                .unwrap()
                                .is_some()
                            {
                                break;
                            }
                        }
                    }
                    let body = json!(n);
                    store
                        .put_document("lock", "one", &body, Expected::Nothing)
                        .unwrap()
                        .map_or(0, |_| 1)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(creations, 1);
    let counter = store.document("counter", "one").unwrap().unwrap();
    assert_eq!((counter.body, counter.version), (json!(160), 161));
}

fn names_are_checked(home: &Home) {
    let store = home.open();
    for (kind, key) in [("", "x"), ("x", ""), ("x", "a\0"), ("x", &"k".repeat(2000))] {
        let error = store.put_document(kind, key, &json!(1), Expected::Anything).unwrap_err();
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    }
}
