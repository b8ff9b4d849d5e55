//! Documents: small records that change.

use std::thread;

use hearken_store::{Document, Expected, StoreError};
use serde_json::json;

use super::{Check, Home};

pub(crate) const CHECKS: &[Check] = &[
    ("documents have versions", documents_have_versions),
    ("documents are listed by key", documents_are_listed_by_key),
    ("only one of many changes wins", only_one_of_many_changes_wins),
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
