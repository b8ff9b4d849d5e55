//! Items, judgements and events: appended, found again, read page by page.

use hearken_data::feedback::{Candidate, Verdict};
use hearken_store::{Added, Counts, Event, StoreError};
use serde_json::json;

use super::examples::{item, items, judgement, revision, rich_item};
use super::{Check, Home};

pub(crate) const CHECKS: &[Check] = &[
    ("an empty store has nothing", an_empty_store_has_nothing),
    ("records come back as they were", records_come_back_as_they_were),
    ("pages cover everything once", pages_cover_everything_once),
    ("adding again changes nothing", adding_again_changes_nothing),
    ("another record of the same id is refused", another_record_of_the_same_id_is_refused),
    ("a list is added whole or not at all", a_list_is_added_whole_or_not_at_all),
    ("what is not committed is not seen", what_is_not_committed_is_not_seen),
    ("what does not fit is refused", what_does_not_fit_is_refused),
    ("revisions form chains", revisions_form_chains),
    ("large records are kept", large_records_are_kept),
    ("events keep their order", events_keep_their_order),
];

fn an_empty_store_has_nothing(home: &Home) {
    let store = home.open();
    assert_eq!(store.counts().unwrap(), Counts::default());
    assert_eq!(store.item("x").unwrap(), None);
    assert_eq!(store.judgement("x").unwrap(), None);
    assert_eq!(store.assignment("x").unwrap(), None);
    assert_eq!(store.items(0, 10).unwrap(), []);
    assert_eq!(store.judgements(0, 10).unwrap(), []);
    assert_eq!(store.judgements_by("x", 10).unwrap(), []);
    assert_eq!(store.taken(0).unwrap(), []);
    assert_eq!(store.seen_at("x", 0).unwrap(), Vec::<String>::new());
    assert_eq!(store.add_items(&[]).unwrap(), Added::default());
    assert!(hearken_store::is_empty(&*store).unwrap());
    assert_eq!(store.notices(), Vec::<String>::new());
}

fn records_come_back_as_they_were(home: &Home) {
    let (rich, plain) = (rich_item(), item(1));
    let first = judgement("j1", &rich, "ada");
    let second = judgement("j2", &plain, "b\u{e9}a");
    {
        let store = home.open();
        store.add_items(&[rich.clone(), plain.clone()]).unwrap();
        store.add_judgements(&[first.clone(), second.clone()]).unwrap();
    }
    for _ in 0..2 {
        let store = home.open();
        assert_eq!(store.item("rich").unwrap(), Some(rich.clone()));
        assert_eq!(store.item("item-1").unwrap(), Some(plain.clone()));
        assert_eq!(store.judgement("j1").unwrap(), Some(first.clone()));
        assert_eq!(store.judgements_by("b\u{e9}a", 9).unwrap(), std::slice::from_ref(&second));
        let counts = Counts { items: 2, judgements: 2, annotators: 2 };
        assert_eq!(store.counts().unwrap(), counts);
        assert!(!hearken_store::is_empty(&*store).unwrap());
    }
}

fn pages_cover_everything_once(home: &Home) {
    let store = home.open();
    let all = items(0..25);
    store.add_items(&all[..10]).unwrap();
    for item in &all[10..] {
        store.add_items(std::slice::from_ref(item)).unwrap();
    }
    let judgements: Vec<_> = (0..25).map(|n| judgement(&format!("j{n}"), &all[n], "ada")).collect();
    store.add_judgements(&judgements).unwrap();

    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let page = store.items(after, 7).unwrap();
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        assert!(page.iter().all(|it| it.place > after));
        after = last.place;
        seen.extend(page.into_iter().map(|it| it.record));
    }
    assert_eq!(seen, all);
    let page = store.judgements(0, 1000).unwrap();
    assert!(page.windows(2).all(|two| two[0].place < two[1].place));
    assert_eq!(page.into_iter().map(|it| it.record).collect::<Vec<_>>(), judgements);
    assert_eq!(store.items(u64::MAX, 10).unwrap(), []);
    assert_eq!(store.items(0, usize::MAX).unwrap().len(), 25);
    let newest: Vec<_> = judgements.iter().rev().take(3).cloned().collect();
    assert_eq!(store.judgements_by("ada", 3).unwrap(), newest);
}

fn adding_again_changes_nothing(home: &Home) {
    let store = home.open();
    let two = items(0..2);
    let judgements = [judgement("j0", &two[0], "ada"), judgement("j1", &two[1], "ada")];
    for (added, already_there) in [(2, 0), (0, 2)] {
        let expected = Added { added, already_there };
        assert_eq!(store.add_items(&two).unwrap(), expected);
        assert_eq!(store.add_judgements(&judgements).unwrap(), expected);
    }
    // Twice in one list.
    let three = [item(2), item(2), item(0)];
    assert_eq!(store.add_items(&three).unwrap(), Added { added: 1, already_there: 2 });
    let counts = Counts { items: 3, judgements: 2, annotators: 1 };
    assert_eq!(store.counts().unwrap(), counts);
    assert_eq!(store.taken(0).unwrap().len(), 2);
}

fn another_record_of_the_same_id_is_refused(home: &Home) {
    let store = home.open();
    let original = item(0);
    store.add_items(std::slice::from_ref(&original)).unwrap();
    let mut other = original.clone();
    other.candidates[0] = Candidate::text("another answer");
    let error = store.add_items(std::slice::from_ref(&other)).unwrap_err();
    assert!(matches!(&error, StoreError::Conflict(what) if what.contains("item-0")), "{error}");

    let judged = judgement("j", &original, "ada");
    store.add_judgements(std::slice::from_ref(&judged)).unwrap();
    let mut other = judged.clone();
    other.verdict = Verdict::Tie;
    let error = store.add_judgements(&[other]).unwrap_err();
    assert!(matches!(&error, StoreError::Conflict(what) if what.contains("\"j\"")), "{error}");
    assert_eq!(store.judgement("j").unwrap(), Some(judged));
    assert_eq!(store.item("item-0").unwrap(), Some(original));
}

fn a_list_is_added_whole_or_not_at_all(home: &Home) {
    let store = home.open();
    let mut many = items(0..12_000);
    many[11_500].candidates.pop();
    let error = store.add_items(&many).unwrap_err();
    assert!(matches!(&error, StoreError::Invalid(what) if what.contains("item-11500")), "{error}");
    assert_eq!(store.counts().unwrap(), Counts::default());
    assert_eq!(store.items(0, 5).unwrap(), []);
    assert_eq!(store.item("item-3").unwrap(), None);

    many[11_500] = item(11_500);
    assert_eq!(store.add_items(&many).unwrap(), Added { added: 12_000, already_there: 0 });
    let mut judgements: Vec<_> =
        (0..6_000).map(|n| judgement(&format!("j{n}"), &many[n], "ada")).collect();
    judgements.push(judgement("last", &item(99_999), "ada"));
    let error = store.add_judgements(&judgements).unwrap_err();
    assert!(matches!(&error, StoreError::NotFound { what: "item", .. }), "{error}");
    assert_eq!(store.counts().unwrap().judgements, 0);
    assert_eq!(store.taken(0).unwrap(), []);
    judgements.pop();
    store.add_judgements(&judgements).unwrap();
    assert_eq!(store.taken(0).unwrap().len(), 6_000);
}

/// A long list is written part by part; nobody sees a part.
fn what_is_not_committed_is_not_seen(home: &Home) {
    let store = home.open();
    let there = item(0);
    store.add_items(std::slice::from_ref(&there)).unwrap();
    let mut many = items(0..16_000);
    many[15_900].candidates.pop();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let look = scope.spawn(|| {
            let mut looks = 0;
            while looks == 0 || !done.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(store.counts().unwrap().items, 1);
                assert_eq!(store.item("item-7").unwrap(), None);
                looks += 1;
            }
            looks
        });
        assert!(matches!(store.add_items(&many), Err(StoreError::Invalid(_))));
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(look.join().unwrap() > 0);
    });
    many[15_900] = item(15_900);
    assert_eq!(store.add_items(&many).unwrap().added, 15_999);
    assert_eq!(store.items(15_999, 5).unwrap().len(), 1);
}

fn what_does_not_fit_is_refused(home: &Home) {
    let store = home.open();
    let there = item(0);
    store.add_items(std::slice::from_ref(&there)).unwrap();
    let refused = |change: &dyn Fn(&mut hearken_data::feedback::Judgement), word: &str| {
        let mut wrong = judgement("j", &there, "ada");
        change(&mut wrong);
        let error = store.add_judgements(&[wrong]).unwrap_err();
        assert!(matches!(error, StoreError::Invalid(_)), "{error:?}");
        assert!(error.to_string().contains(word), "{error} does not contain {word}");
    };
    refused(&|it| it.presented = vec![0, 0], "presented");
    refused(&|it| it.verdict = Verdict::preferred(2), "candidate 2 of 2");
    refused(&|it| it.item_hash = "0123".into(), "item_hash");
    refused(&|it| it.propensity = Some(f64::NAN), "propensity");
    refused(&|it| it.id = String::new(), "empty");
    refused(&|it| it.annotator = "a\0b".into(), "NUL");
    refused(&|it| it.id = "x".repeat(5000), "5000 bytes");

    let mut nameless = item(1);
    nameless.id = String::new();
    assert!(matches!(store.add_items(&[nameless]), Err(StoreError::Invalid(_))));
    assert_eq!(store.counts().unwrap(), Counts { items: 1, ..Counts::default() });
}

fn revisions_form_chains(home: &Home) {
    let store = home.open();
    let two = items(0..2);
    store.add_items(&two).unwrap();
    let first = judgement("first", &two[0], "ada");
    let second = revision("second", &first);
    let third = revision("third", &second);
    // A chain in one list.
    store.add_judgements(&[first.clone(), second.clone()]).unwrap();
    store.add_judgements(std::slice::from_ref(&third)).unwrap();
    let fork = revision("fork", &first);
    let error = store.add_judgements(&[fork]).unwrap_err();
    assert!(matches!(&error, StoreError::Conflict(what) if what.contains("second")), "{error}");
    let mut stolen = revision("stolen", &third);
    stolen.annotator = "bob".into();
    assert!(matches!(store.add_judgements(&[stolen]), Err(StoreError::Invalid(_))));
    let mut elsewhere = revision("elsewhere", &third);
    (elsewhere.item, elsewhere.item_hash) = (two[1].id.clone(), String::new());
    assert!(matches!(store.add_judgements(&[elsewhere]), Err(StoreError::Invalid(_))));
    let mut dangling = revision("dangling", &third);
    dangling.revises = Some("nobody".into());
    let error = store.add_judgements(&[dangling]).unwrap_err();
    assert!(matches!(error, StoreError::NotFound { what: "judgement", .. }));
    assert_eq!(store.judgements_by("ada", 10).unwrap(), [third, second, first]);
    assert_eq!(store.taken(0).unwrap()[0].judged, 1);
}

fn large_records_are_kept(home: &Home) {
    let mut large = item(0);
    large.candidates[0].text = "long \u{e4}nswer\n".repeat(1_000_000);
    home.open().add_items(std::slice::from_ref(&large)).unwrap();
    let store = home.open();
    assert_eq!(store.item("item-0").unwrap().unwrap(), large);
    assert_eq!(store.items(0, 1).unwrap()[0].record, large);
}

fn events_keep_their_order(home: &Home) {
    let event = |n: i64| Event {
        at: n,
        actor: "admin".into(),
        action: "account.invited".into(),
        details: json!({"number": n, "text": "\u{0}"}),
    };
    {
        let store = home.open();
        (0..5).for_each(|n| store.record(&event(n)).unwrap());
    }
    let store = home.open();
    store.record(&event(5)).unwrap();
    let first = store.events(0, 4).unwrap();
    let rest = store.events(first.last().unwrap().place, 100).unwrap();
    let all: Vec<Event> = first.into_iter().chain(rest).map(|it| it.record).collect();
    assert_eq!(all, (0..6).map(event).collect::<Vec<_>>());
}
