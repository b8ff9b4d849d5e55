//! Who gets an item.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Barrier};
use std::thread;

use hearken_store::{AssignmentState, Claim, Claimed, Store, StoreError, Submitted, Taken};

use super::examples::{MINUTE, claim, granted, item, items, judged, judgement};
use super::{Check, Home};

pub(crate) const CHECKS: &[Check] = &[
    ("overlap bounds the claims", overlap_bounds_the_claims),
    ("claiming twice is one assignment", claiming_twice_is_one_assignment),
    ("an ended lease frees the item", an_ended_lease_frees_the_item),
    ("a skipped item is not offered again", a_skipped_item_is_not_offered_again),
    ("a live lease can be renewed", a_live_lease_can_be_renewed),
    ("judged items count", judged_items_count),
    ("thirty-two threads never overshoot", thirty_two_threads_never_overshoot),
];

fn overlap_bounds_the_claims(home: &Home) {
    let store = home.open();
    store.add_items(&items(0..1)).unwrap();
    let first = granted(&*store, &claim("item-0", "ada", 0));
    let second = granted(&*store, &claim("item-0", "bob", 1));
    assert_ne!(first.id, second.id);
    assert!(first.id.len() >= 32);
    assert_eq!(store.claim(&claim("item-0", "cyd", 2)).unwrap(), Claimed::Full);
    let three = Claim { overlap: 3, ..claim("item-0", "cyd", 3) };
    granted(&*store, &three);
    let error = store.claim(&claim("nothing", "ada", 0)).unwrap_err();
    assert!(matches!(error, StoreError::NotFound { what: "item", .. }));

    assert_eq!(first.item, "item-0");
    assert_eq!(first.annotator, "ada");
    assert_eq!(first.presented, [1, 0]);
    assert_eq!(first.propensity, Some(0.25));
    assert_eq!(first.guidelines, Some(3));
    assert_eq!((first.granted_at, first.expires_at), (0, MINUTE));
    assert_eq!(first.state, AssignmentState::Live);
    drop(store);
    let store = home.open();
    assert_eq!(store.assignment(&first.id).unwrap(), Some(first.clone()));
    assert_eq!(store.live_assignments("ada", 5).unwrap(), [first]);
    assert_eq!(store.live_assignments("ada", MINUTE).unwrap(), []);
    let taken = Taken { item: "item-0".into(), judged: 0, held: 3 };
    assert_eq!(store.taken(5).unwrap(), [taken]);
}

fn claiming_twice_is_one_assignment(home: &Home) {
    let store = home.open();
    store.add_items(&items(0..1)).unwrap();
    let first = granted(&*store, &claim("item-0", "ada", 0));
    let mut later = claim("item-0", "ada", 500);
    later.presented = vec![0, 1];
    let second = granted(&*store, &later);
    assert_eq!(second.id, first.id);
    assert_eq!(second.presented, first.presented);
    assert_eq!((second.granted_at, second.expires_at), (0, 500 + MINUTE));
    assert_eq!(store.assignment(&first.id).unwrap(), Some(second));
    assert_eq!(store.taken(500).unwrap()[0].held, 1);
}

fn an_ended_lease_frees_the_item(home: &Home) {
    let store = home.open();
    let one = item(0);
    store.add_items(std::slice::from_ref(&one)).unwrap();
    let single = |annotator, now| Claim { overlap: 1, ..claim("item-0", annotator, now) };
    let late = granted(&*store, &single("ada", 0));
    assert_eq!(store.claim(&single("bob", MINUTE - 1)).unwrap(), Claimed::Full);
    assert_eq!(store.seen_at("ada", MINUTE - 1).unwrap(), ["item-0"]);
    assert_eq!(store.seen_at("ada", MINUTE).unwrap(), Vec::<String>::new());
    assert_eq!(store.seen_by("ada").unwrap(), Vec::<String>::new());
    let current = granted(&*store, &single("bob", MINUTE));
    assert_eq!(store.taken(MINUTE).unwrap()[0].held, 1);
    // Ada is late, and the item is Bob's.
    let lost = judged("late", &late, &one);
    assert_eq!(store.submit(&lost, 1, MINUTE + 1).unwrap(), Submitted::LeaseLost);
    assert_eq!(store.judgement("late").unwrap(), None);
    // With room for a second annotator the late judgement is taken.
    assert!(matches!(store.submit(&lost, 2, MINUTE + 2).unwrap(), Submitted::Appended { .. }));
    assert_eq!(store.assignment(&late.id).unwrap().unwrap().state, AssignmentState::Judged);
    // Bob's lease holds although the item is full for others.
    let bob = judged("bob", &current, &one);
    assert!(matches!(store.submit(&bob, 1, MINUTE + 3).unwrap(), Submitted::Appended { .. }));
    assert_eq!(store.taken(MINUTE + 3).unwrap()[0].judged, 2);
}

fn a_skipped_item_is_not_offered_again(home: &Home) {
    let store = home.open();
    let one = item(0);
    store.add_items(std::slice::from_ref(&one)).unwrap();
    let assignment = granted(&*store, &claim("item-0", "ada", 0));
    store.skip(&assignment.id).unwrap();
    store.skip(&assignment.id).unwrap();
    drop(store);
    let store = home.open();
    assert_eq!(store.claim(&claim("item-0", "ada", 10 * MINUTE)).unwrap(), Claimed::SeenBefore);
    assert_eq!(store.seen_at("ada", 10 * MINUTE).unwrap(), ["item-0"]);
    assert_eq!(store.taken(1).unwrap(), []);
    assert_eq!(store.live_assignments("ada", 1).unwrap(), []);
    granted(&*store, &claim("item-0", "bob", 1));
    let error = store.skip("nothing").unwrap_err();
    assert!(matches!(error, StoreError::NotFound { what: "assignment", .. }));
    // Who skipped by mistake may still judge while there is room.
    let undone = judged("undone", &assignment, &one);
    assert!(matches!(store.submit(&undone, 2, 2).unwrap(), Submitted::Appended { .. }));
    assert!(matches!(store.skip(&assignment.id), Err(StoreError::Conflict(_))));
}

fn a_live_lease_can_be_renewed(home: &Home) {
    let store = home.open();
    let one = item(0);
    store.add_items(std::slice::from_ref(&one)).unwrap();
    let assignment = granted(&*store, &claim("item-0", "ada", 0));
    assert!(store.renew(&assignment.id, MINUTE - 1, 3 * MINUTE).unwrap());
    assert_eq!(store.live_assignments("ada", 2 * MINUTE).unwrap().len(), 1);
    assert!(!store.renew(&assignment.id, 3 * MINUTE, 9 * MINUTE).unwrap());
    assert!(!store.renew("nothing", 0, 1).unwrap());
    // The same assignment, granted anew.
    let again = granted(&*store, &claim("item-0", "ada", 4 * MINUTE));
    assert_eq!((&again.id, again.granted_at), (&assignment.id, 4 * MINUTE));
    store.submit(&judged("j", &again, &one), 2, 4 * MINUTE).unwrap();
    assert!(!store.renew(&assignment.id, 4 * MINUTE, 9 * MINUTE).unwrap());
}

fn judged_items_count(home: &Home) {
    let store = home.open();
    let two = items(0..2);
    store.add_items(&two).unwrap();
    // Judgements from elsewhere fill the item as well.
    store
        .add_judgements(&[judgement("a", &two[0], "ada"), judgement("b", &two[0], "bob")])
        .unwrap();
    assert_eq!(store.claim(&claim("item-0", "cyd", 0)).unwrap(), Claimed::Full);
    assert_eq!(store.claim(&claim("item-0", "ada", 0)).unwrap(), Claimed::SeenBefore);
    // A judgement ends the assignment of its annotator, even one that does not name it.
    let assignment = granted(&*store, &claim("item-1", "ada", 0));
    store.add_judgements(&[judgement("c", &two[1], "ada")]).unwrap();
    assert_eq!(store.assignment(&assignment.id).unwrap().unwrap().state, AssignmentState::Judged);
    let taken = |item: &str, judged| Taken { item: item.into(), judged, held: 0 };
    assert_eq!(store.taken(1).unwrap(), [taken("item-0", 2), taken("item-1", 1)]);
    assert_eq!(store.seen_at("ada", 1).unwrap(), ["item-0", "item-1"]);
    granted(&*store, &claim("item-1", "bob", 1));
    assert_eq!(store.claim(&claim("item-1", "cyd", 1)).unwrap(), Claimed::Full);
}

/// Two handles on the store where the home admits it: as good as two processes.
fn thirty_two_threads_never_overshoot(home: &Home) {
    let store: Arc<dyn Store> = home.open().into();
    let other: Arc<dyn Store> = match hearken_store::open(&home.url) {
        Ok(other) => other.into(),
        Err(error) => {
            assert!(matches!(error, StoreError::InUse { .. }), "{error}");
            Arc::clone(&store)
        }
    };
    let all = items(0..50);
    store.add_items(&all).unwrap();
    let start = Barrier::new(32);
    let claims: Vec<(String, String)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..32)
            .map(|n| {
                let (store, start, all) = (if n % 2 == 0 { &store } else { &other }, &start, &all);
                scope.spawn(move || {
                    let annotator = format!("annotator-{n}");
                    start.wait();
                    let mine = all.iter().cycle().skip(n * 7).take(50);
                    let mut got = Vec::new();
                    for item in mine {
                        if let Claimed::Granted(assignment) =
                            store.claim(&claim(&item.id, &annotator, 1)).unwrap()
                        {
                            let judgement =
                                judged(&format!("{annotator}-{}", item.id), &assignment, item);
                            if got.len() % 2 == 0 {
                                store.submit(&judgement, 2, 2).unwrap();
                            }
                            got.push((item.id.clone(), annotator.clone()));
                        }
                    }
                    got
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut holders: HashMap<&str, HashSet<&str>> = HashMap::new();
    for (item, annotator) in &claims {
        holders.entry(item).or_default().insert(annotator);
    }
    assert_eq!(claims.len(), 100, "each item is claimed twice");
    assert!(holders.values().all(|annotators| annotators.len() == 2));
    for taken in store.taken(3).unwrap() {
        assert_eq!(taken.judged + taken.held, 2, "{taken:?}");
    }
    assert_eq!(store.counts().unwrap(), other.counts().unwrap());
    let judgements = store.judgements(0, 1000).unwrap();
    let ids: HashSet<&str> = judgements.iter().map(|it| it.record.id.as_str()).collect();
    assert_eq!(ids.len(), judgements.len());
}
