//! Judgements as annotators submit them.

use std::thread;

use hearken_data::feedback::{Judgement, Verdict};
use hearken_store::{AssignmentState, StoreError, Submitted};

use super::examples::{claim, granted, item, items, judged, judgement, revision};
use super::{Check, Home};

pub(crate) const CHECKS: &[Check] = &[
    ("a judgement ends its assignment", a_judgement_ends_its_assignment),
    ("submitting again stores nothing", submitting_again_stores_nothing),
    ("a second opinion must be a revision", a_second_opinion_must_be_a_revision),
    ("assignments of others are refused", assignments_of_others_are_refused),
    ("without an assignment overlap decides", without_an_assignment_overlap_decides),
    ("a final judgement takes no seat", a_final_judgement_takes_no_seat),
    ("judgements and skips are counted", judgements_and_skips_are_counted),
    ("many submit the same at once", many_submit_the_same_at_once),
];

fn a_judgement_ends_its_assignment(home: &Home) {
    let store = home.open();
    let one = item(0);
    store.add_items(std::slice::from_ref(&one)).unwrap();
    let assignment = granted(&*store, &claim("item-0", "ada", 0));
    let judgement = judged("j", &assignment, &one);
    assert_eq!(store.submit(&judgement, 2, 1).unwrap(), Submitted::Appended { place: 1 });
    drop(store);
    let store = home.open();
    assert_eq!(store.judgement("j").unwrap(), Some(judgement));
    assert_eq!(store.assignment(&assignment.id).unwrap().unwrap().state, AssignmentState::Judged);
    assert_eq!(store.live_assignments("ada", 1).unwrap(), []);
    let taken = &store.taken(1).unwrap()[0];
    assert_eq!((taken.judged, taken.held), (1, 0));
}

fn submitting_again_stores_nothing(home: &Home) {
    let store = home.open();
    let one = item(0);
    store.add_items(std::slice::from_ref(&one)).unwrap();
    let assignment = granted(&*store, &claim("item-0", "ada", 0));
    let first = judged("j", &assignment, &one);
    let Submitted::Appended { place } = store.submit(&first, 2, 1).unwrap() else { panic!() };
    assert_eq!(store.submit(&first, 2, 1).unwrap(), Submitted::AlreadyThere { place });
    // The second attempt arrives later.
    let mut later = first.clone();
    later.at += 5;
    assert_eq!(store.submit(&later, 2, 9).unwrap(), Submitted::AlreadyThere { place });
    let mut other = first.clone();
    other.verdict = Verdict::Tie;
    let error = store.submit(&other, 2, 1).unwrap_err();
    assert!(matches!(&error, StoreError::Conflict(_)), "{error}");
    assert_eq!(store.counts().unwrap().judgements, 1);
    assert_eq!(store.judgement("j").unwrap(), Some(first));
}

fn a_second_opinion_must_be_a_revision(home: &Home) {
    let store = home.open();
    let one = item(0);
    store.add_items(std::slice::from_ref(&one)).unwrap();
    let assignment = granted(&*store, &claim("item-0", "ada", 0));
    let first = judged("first", &assignment, &one);
    store.submit(&first, 1, 1).unwrap();
    let error = store.submit(&judged("again", &assignment, &one), 1, 2).unwrap_err();
    assert!(matches!(&error, StoreError::Conflict(what) if what.contains("revises")), "{error}");
    // A revision needs no room, long after the lease.
    let second = revision("second", &first);
    assert!(matches!(store.submit(&second, 1, i64::MAX).unwrap(), Submitted::Appended { .. }));
    let error = store.submit(&revision("fork", &first), 1, 3).unwrap_err();
    assert!(matches!(&error, StoreError::Conflict(_)), "{error}");
    let mut stolen = revision("stolen", &second);
    stolen.annotator = "bob".into();
    stolen.assignment = None;
    assert!(matches!(store.submit(&stolen, 9, 3), Err(StoreError::Invalid(_))));
    assert_eq!(store.judgements_by("ada", 9).unwrap(), [second, first]);
    assert_eq!(store.taken(3).unwrap()[0].judged, 1);
}

/// Whoever decides for the others may have judged the item or not; the others keep their seats and their judgements.
fn a_final_judgement_takes_no_seat(home: &Home) {
    let store = home.open();
    let one = item(0);
    store.add_items(std::slice::from_ref(&one)).unwrap();
    let ada = judgement("by-ada", &one, "ada");
    store.submit(&ada, 2, 1).unwrap();
    let mut decided = judgement("final-1", &one, "ada");
    decided.is_final = true;
    assert_eq!(store.submit(&decided, 2, 2).unwrap(), Submitted::Appended { place: 2 });
    let again = Judgement { verdict: Verdict::Tie, ..decided.clone() };
    assert!(matches!(store.submit(&again, 2, 2), Err(StoreError::Conflict(_))));
    // Another reviewer may decide anew, and no ordinary judgement may.
    let mut anew = revision("final-2", &decided);
    anew.annotator = "eve".into();
    assert_eq!(store.submit(&anew, 2, 3).unwrap(), Submitted::Appended { place: 3 });
    let ordinary = revision("ordinary", &anew);
    let ordinary = Judgement { is_final: false, ..ordinary };
    assert!(matches!(store.submit(&ordinary, 2, 3), Err(StoreError::Invalid(_))));
    drop(store);
    let store = home.open();
    assert_eq!(store.taken(3).unwrap()[0].judged, 1);
    granted(&*store, &claim("item-0", "bob", 3));
    assert_eq!(store.judgements_of("item-0").unwrap(), [ada, decided, anew]);
}

fn judgements_and_skips_are_counted(home: &Home) {
    let store = home.open();
    store.add_items(&items(0..3)).unwrap();
    for id in ["item-1", "item-0"] {
        store.skip(&granted(&*store, &claim(id, "bob", 0)).id).unwrap();
    }
    store.skip(&granted(&*store, &claim("item-2", "ada", 0)).id).unwrap();
    let made = judgement("j", &item(0), "ada");
    store.submit(&made, 1, 1).unwrap();
    drop(store);
    let store = home.open();
    assert_eq!(store.skipped().unwrap(), [("ada".to_owned(), 1), ("bob".to_owned(), 2)]);
    assert_eq!(store.judgements_of("item-0").unwrap(), [made]);
    assert_eq!(store.judgements_of("item-1").unwrap(), []);
    assert_eq!(store.judgements_of("nothing").unwrap(), []);
}

fn assignments_of_others_are_refused(home: &Home) {
    let store = home.open();
    let two = items(0..2);
    store.add_items(&two).unwrap();
    let assignment = granted(&*store, &claim("item-0", "ada", 0));
    let mut stolen = judged("j", &assignment, &two[0]);
    stolen.annotator = "bob".into();
    assert!(matches!(store.submit(&stolen, 2, 1), Err(StoreError::Invalid(_))));
    let mut elsewhere = judged("j", &assignment, &two[1]);
    elsewhere.item = "item-1".into();
    assert!(matches!(store.submit(&elsewhere, 2, 1), Err(StoreError::Invalid(_))));
    let mut unknown = judged("j", &assignment, &two[0]);
    unknown.assignment = Some("nothing".into());
    let error = store.submit(&unknown, 2, 1).unwrap_err();
    assert!(matches!(error, StoreError::NotFound { what: "assignment", .. }), "{error}");
    let error = store.submit(&judgement("j", &item(9), "ada"), 2, 1).unwrap_err();
    assert!(matches!(error, StoreError::NotFound { what: "item", .. }), "{error}");
    assert_eq!(store.counts().unwrap().judgements, 0);
    assert_eq!(store.live_assignments("ada", 1).unwrap(), [assignment]);
}

fn without_an_assignment_overlap_decides(home: &Home) {
    let store = home.open();
    let one = item(0);
    store.add_items(std::slice::from_ref(&one)).unwrap();
    granted(&*store, &claim("item-0", "ada", 0));
    let submit =
        |id: &str, annotator: &str| store.submit(&judgement(id, &one, annotator), 2, 1).unwrap();
    assert!(matches!(submit("b", "bob"), Submitted::Appended { .. }));
    assert_eq!(submit("c", "cyd"), Submitted::LeaseLost);
    // Ada holds the item; that she does not say so does not matter.
    assert!(matches!(submit("a", "ada"), Submitted::Appended { .. }));
    let taken = &store.taken(1).unwrap()[0];
    assert_eq!((taken.judged, taken.held), (2, 0));
}

fn many_submit_the_same_at_once(home: &Home) {
    let store = home.open();
    let one = item(0);
    store.add_items(std::slice::from_ref(&one)).unwrap();
    let assignment = granted(&*store, &claim("item-0", "ada", 0));
    let judgement = judged("j", &assignment, &one);
    let answers: Vec<Submitted> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..16).map(|_| scope.spawn(|| store.submit(&judgement, 2, 1).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let appended = answers.iter().filter(|it| matches!(it, Submitted::Appended { .. })).count();
    assert_eq!(appended, 1);
    assert!(!answers.contains(&Submitted::LeaseLost));
    assert_eq!(store.counts().unwrap().judgements, 1);
}
