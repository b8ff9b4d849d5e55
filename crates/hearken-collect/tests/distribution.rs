//! Who gets what: overlap, leases, screening, gold, limits, guidelines, webhooks.
#![allow(clippy::unwrap_used, reason = "tests may panic and report")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hearken_collect::ProjectSettings;
use hearken_collect::accounts::Role;
use hearken_collect::distribute::{
    self, ChosenItem, Eligible, HandedItem, Next, Order, Outcome, Submission, Why,
};
use hearken_collect::parts::Parts;
use hearken_collect::{Options, Service};
use hearken_data::feedback::{Gold, Origin, Verdict};
use support::{World, pair, pairs};

async fn next(world: &World, annotator: &str, held: &[String]) -> Result<HandedItem, Why> {
    match distribute::next(world.service.state(), annotator, held).await.unwrap() {
        Next::Work(work) => Ok(*work),
        Next::Nothing(why) => Err(why),
    }
}

async fn judge(world: &World, work: &HandedItem, verdict: Verdict) -> Outcome {
    let submission = Submission {
        id: format!("j-{}", work.assignment.id),
        verdict,
        rationale: None,
        better: None,
        duration_ms: Some(1),
        origin: Origin::Synthetic,
        suggestion: None,
    };
    let (state, assignment) = (world.service.state(), &work.assignment);
    distribute::submit(state, &assignment.annotator, &assignment.id, submission).await.unwrap()
}

fn settings(world: &World, change: impl FnOnce(&mut ProjectSettings)) {
    let mut settings = ProjectSettings { gold_share: 0.0, ..ProjectSettings::default() };
    change(&mut settings);
    world.service.state().put_settings(&settings).unwrap();
}

#[tokio::test]
async fn each_item_goes_to_as_many_as_asked_for_and_to_nobody_twice() {
    let world = World::local();
    world.add(&pairs(20));
    settings(&world, |s| s.overlap = 2);
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for annotator in ["a", "b", "c", "d"] {
        while let Ok(work) = next(&world, annotator, &[]).await {
            assert_eq!(judge(&world, &work, Verdict::Tie).await, Outcome::Stored);
            seen.entry(work.item.id).or_default().push(annotator.into());
            if annotator == "a" && seen.len() == 10 {
                break;
            }
        }
    }
    assert_eq!(seen.len(), 20);
    for (item, annotators) in seen {
        let distinct: BTreeSet<&String> = annotators.iter().collect();
        assert_eq!((annotators.len(), distinct.len()), (2, 2), "{item}");
    }
    assert_eq!(next(&world, "e", &[]).await, Err(Why::NothingOpen));
}

#[tokio::test]
async fn a_page_that_is_loaded_anew_gets_the_item_in_hand() {
    let world = World::local();
    world.add(&pairs(10));
    let first = next(&world, "a", &[]).await.unwrap();
    let again = next(&world, "a", &[]).await.unwrap();
    assert_eq!(again.assignment.id, first.assignment.id);
    assert_eq!(again.assignment.presented, first.assignment.presented);
    let ahead = next(&world, "a", std::slice::from_ref(&first.assignment.id)).await.unwrap();
    assert_ne!(ahead.assignment.id, first.assignment.id);
}

#[tokio::test]
async fn a_lease_that_ends_frees_the_item_and_a_late_judgement_counts_while_there_is_room() {
    let world = World::local();
    world.add(&pairs(1));
    let held = next(&world, "a", &[]).await.unwrap();
    assert_eq!(next(&world, "b", &[]).await, Err(Why::NothingOpen));
    world.pass(31 * 60_000);
    assert_eq!(judge(&world, &held, Verdict::Tie).await, Outcome::Stored);

    let world = World::local();
    world.add(&pairs(1));
    let late = next(&world, "a", &[]).await.unwrap();
    world.pass(31 * 60_000);
    let taken = next(&world, "b", &[]).await.unwrap();
    assert_eq!(judge(&world, &taken, Verdict::Tie).await, Outcome::Stored);
    assert_eq!(judge(&world, &late, Verdict::Tie).await, Outcome::LeaseLost);
    assert_eq!(world.store.counts().unwrap().judgements, 1);
}

#[tokio::test]
async fn a_renewed_lease_holds() {
    let world = World::local();
    world.add(&pairs(1));
    let held = next(&world, "a", &[]).await.unwrap();
    world.pass(20 * 60_000);
    assert!(distribute::renew(world.service.state(), "a", &held.assignment.id).await.unwrap());
    world.pass(20 * 60_000);
    assert_eq!(next(&world, "b", &[]).await, Err(Why::NothingOpen));
    let foreign = distribute::renew(world.service.state(), "b", &held.assignment.id).await;
    assert!(foreign.is_err());
}

#[tokio::test]
async fn what_is_skipped_goes_to_others_and_signing_out_gives_back() {
    let world = World::local();
    world.add(&pairs(1));
    let state = world.service.state();
    let held = next(&world, "a", &[]).await.unwrap();
    distribute::release(state, "a").unwrap();
    let again = next(&world, "a", &[]).await.unwrap();
    assert_eq!(again.item.id, held.item.id);
    distribute::skip(state, "a", &again.assignment.id).await.unwrap();
    assert_eq!(next(&world, "a", &[]).await, Err(Why::NothingOpen));
    assert!(next(&world, "b", &[]).await.is_ok());
}

#[tokio::test]
async fn screening_admits_those_who_are_right_often_enough() {
    let world = World::local();
    let mut items = pairs(3);
    for at in 0..4 {
        let mut item = pair(&format!("screen-{at}"));
        let verdict = Verdict::preferred(0);
        item.gold = Some(Gold { verdict, reason: None, screening: true });
        items.push(item);
    }
    world.add(&items);
    settings(&world, |s| s.screening_threshold = 0.75);
    for (annotator, wrong, admitted) in [("good", 1, true), ("bad", 2, false)] {
        for at in 0..4 {
            let work = next(&world, annotator, &[]).await.unwrap();
            assert!(work.item.id.starts_with("screen-"), "{}", work.item.id);
            let candidate = usize::from(at < wrong);
            judge(&world, &work, Verdict::preferred(candidate)).await;
        }
        let then = next(&world, annotator, &[]).await;
        match then {
            Ok(work) => assert!(admitted && work.item.id.starts_with("item-")),
            Err(why) => assert!(!admitted && why == Why::ScreeningFailed, "{annotator}: {why:?}"),
        }
    }
    // What is known from the store alone is the same.
    world.pass(120_000);
    assert_eq!(next(&world, "bad", &[]).await, Err(Why::ScreeningFailed));
}

#[tokio::test]
async fn the_last_screening_item_has_to_be_judged_before_others_come() {
    let world = World::local();
    let mut items = pairs(3);
    items[0].gold = Some(Gold { verdict: Verdict::Tie, reason: None, screening: true });
    world.add(&items);
    let screening = next(&world, "a", &[]).await.unwrap();
    let held = [screening.assignment.id.clone()];
    assert_eq!(next(&world, "a", &held).await, Err(Why::ScreeningPending));
    judge(&world, &screening, Verdict::Tie).await;
    assert!(next(&world, "a", &[]).await.is_ok());
}

#[tokio::test]
async fn limits_hold_per_day_and_in_all() {
    let world = World::local();
    world.add(&pairs(10));
    settings(&world, |s| (s.limit_day, s.limit_total) = (Some(2), Some(3)));
    for _ in 0..2 {
        let work = next(&world, "a", &[]).await.unwrap();
        judge(&world, &work, Verdict::Tie).await;
    }
    assert_eq!(next(&world, "a", &[]).await, Err(Why::LimitDay));
    world.pass(86_400_000);
    let work = next(&world, "a", &[]).await.unwrap();
    judge(&world, &work, Verdict::Tie).await;
    assert_eq!(next(&world, "a", &[]).await, Err(Why::LimitTotal));
    assert!(next(&world, "b", &[]).await.is_ok());
}

#[tokio::test]
async fn judgements_carry_the_guidelines_that_held() {
    let world = World::local();
    world.add(&pairs(2));
    let state = world.service.state();
    let first = next(&world, "a", &[]).await.unwrap();
    judge(&world, &first, Verdict::Tie).await;
    state.add_guidelines(0, "Be kind.").unwrap();
    assert!(state.add_guidelines(0, "Be quick.").is_err(), "somebody else wrote version 1");
    let second = next(&world, "a", &[]).await.unwrap();
    judge(&world, &second, Verdict::Tie).await;
    let judgements = world.store.judgements(0, 10).unwrap();
    let versions: Vec<Option<u32>> = judgements.iter().map(|j| j.record.guidelines).collect();
    assert_eq!(versions, [None, Some(1)]);
}

#[tokio::test]
async fn verdicts_that_the_project_does_not_ask_for_are_refused() {
    let world = World::local();
    world.add(&pairs(1));
    settings(&world, |s| (s.ties, s.strength_points) = (false, 3));
    let work = next(&world, "a", &[]).await.unwrap();
    let submission = |verdict| Submission {
        id: "j".into(),
        verdict,
        rationale: None,
        better: None,
        duration_ms: None,
        origin: Origin::Human,
        suggestion: None,
    };
    let state = world.service.state();
    let refused = distribute::submit(state, "a", &work.assignment.id, submission(Verdict::Tie));
    assert!(refused.await.unwrap_err().to_string().contains("no ties"));
    let strength = Some(hearken_data::feedback::Strength { points: 2, scale: 5 });
    let verdict = Verdict::Preferred { candidate: 0, strength };
    let refused = distribute::submit(state, "a", &work.assignment.id, submission(verdict));
    assert!(refused.await.unwrap_err().to_string().contains("3 points"));
    assert_eq!(world.store.counts().unwrap().judgements, 0);
}

/// Two processes on one store: what one has handed out the other does not.
/// The pages' own requests end in the same place as the API's: what no store can keep is refused there.
#[tokio::test]
async fn what_no_store_can_keep_is_refused() {
    let world = World::local();
    world.store.add_items(&[pair("one")]).unwrap();
    let work = next(&world, "ada", &[]).await.unwrap();
    let plain = Submission {
        id: "x".into(),
        verdict: Verdict::Tie,
        rationale: None,
        better: None,
        duration_ms: None,
        origin: Origin::Human,
        suggestion: None,
    };
    let reason = |reason: String| Verdict::CantTell { reason };
    for (submission, word) in [
        (Submission { rationale: Some("a\0b".into()), ..plain.clone() }, "U+0000"),
        (Submission { rationale: Some("a".repeat(20_001)), ..plain.clone() }, "at most 20000"),
        (Submission { verdict: reason("a\0b".into()), ..plain.clone() }, "U+0000"),
        (Submission { verdict: reason("a".repeat(20_001)), ..plain.clone() }, "at most 20000"),
        (Submission { duration_ms: Some(u64::MAX), ..plain.clone() }, "duration_ms"),
    ] {
        let refused =
            distribute::submit(world.service.state(), "ada", &work.assignment.id, submission).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(world.store.counts().unwrap().judgements, 0);
}

#[tokio::test]
async fn two_services_on_one_store_keep_the_overlap() {
    let world = World::local();
    world.add(&pairs(30));
    let (clock, options) = (Arc::clone(&world.clock), hearken_collect::Options::default());
    let other = hearken_collect::Service::with_clock(
        Arc::clone(&world.store),
        options,
        hearken_collect::parts::Parts::default(),
        Arc::new(move || clock.load(std::sync::atomic::Ordering::SeqCst)),
    )
    .unwrap();
    let mut items = BTreeSet::new();
    for at in 0..30 {
        let state = if at % 2 == 0 { world.service.state() } else { other.state() };
        let annotator = format!("a{at}");
        match distribute::next(state, &annotator, &[]).await.unwrap() {
            Next::Work(work) => assert!(items.insert(work.item.id), "handed out twice"),
            Next::Nothing(why) => panic!("{why:?} after {at}"),
        }
    }
}

#[tokio::test]
async fn an_upload_from_the_page_is_imported_and_audited() {
    let world = World::with_accounts();
    world.account("rita", Role::Reviewer);
    let ada = world.signed_in("ada").await;
    let row = r#"{"prompt": "Q", "chosen": "good", "rejected": "bad"}"#;
    let body = format!(
        "--B\r\nContent-Disposition: form-data; name=\"csrf\"\r\n\r\n{}\r\n\
         --B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"pairs.jsonl\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n{row}\n\r\n--B--\r\n",
        ada.csrf
    );
    let request = |body: String| {
        axum::http::Request::post("/admin/items")
            .header("cookie", ada.cookie.clone().unwrap())
            .header("content-type", "multipart/form-data; boundary=B")
            .body(axum::body::Body::from(body))
            .unwrap()
    };
    let forged = world.send(request(body.replace(&ada.csrf, "0"))).await;
    assert_eq!(forged.status, 403);
    let answer = world.send(request(body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("1 new items and 1 new judgements"), "{}", answer.text());
    let log = format!("{:?}", world.store.events(0, 10).unwrap());
    assert!(log.contains("items.imported"), "{log}");
}

/// The last by name, as if it had been drawn with probability 1/4; or something that was not offered.
struct Last {
    name: &'static str,
    probability: f64,
}

impl Order for Last {
    fn name(&self) -> &str {
        self.name
    }

    fn choose(&self, eligible: &Eligible<'_>, _: &mut dyn rand::Rng) -> ChosenItem {
        let last = eligible.iter().max_by_key(|offer| offer.id).unwrap();
        ChosenItem { handle: last.handle, probability: self.probability }
    }
}

fn orders() -> Parts {
    let fair = Last { name: "last", probability: 0.25 };
    let broken = Last { name: "broken", probability: 1.5 };
    Parts { orders: vec![Box::new(fair), Box::new(broken)], ..Parts::default() }
}

#[tokio::test]
async fn an_order_of_the_embedding_program_is_followed_and_its_propensity_stored() {
    let world = World::with_parts(Options::default(), orders(), |_| ());
    world.store.add_items(&["b", "d", "a", "c"].map(pair)).unwrap();
    let state = world.service.state();
    assert_eq!(state.orders()[..2], ["random", "convincing"]);
    assert_eq!(state.orders()[state.orders().len() - 2..], ["last", "broken"]);
    settings(&world, |settings| settings.order = "last".into());
    for expected in ["d", "c", "b", "a"] {
        let work = next(&world, "ada", &[]).await.unwrap();
        assert_eq!(work.item.id, expected);
        assert_eq!(judge(&world, &work, Verdict::Tie).await, Outcome::Stored);
    }
    let stored = world.store.judgements(0, 9).unwrap();
    assert!(stored.iter().all(|placed| placed.record.propensity == Some(0.25)));

    world.store.add_items(&[pair("e")]).unwrap();
    settings(&world, |settings| settings.order = "broken".into());
    let error = distribute::next(state, "ada", &[]).await.unwrap_err().to_string();
    assert!(error.contains("\"broken\"") && error.contains("(0, 1]"), "{error}");

    let unknown = ProjectSettings { order: "best".into(), ..ProjectSettings::default() };
    let error = state.put_settings(&unknown).unwrap_err().to_string();
    assert!(
        error.contains("\"best\" is no order; there is random, convincing, entropy,")
            && error.contains(", last, broken"),
        "{error}"
    );
}

/// What reward models disagree on comes first; a judgement stores the probability with which its item came, which a share of items at
/// random keeps above 0 for all.
#[tokio::test]
async fn items_that_reward_models_have_scored_come_by_what_they_are_worth() {
    let world = World::local();
    let scored = |id: &str, scores: [[f64; 2]; 2]| {
        let mut item = pair(id);
        for (candidate, scores) in item.candidates.iter_mut().zip(scores) {
            candidate.meta.insert("scores".into(), serde_json::json!(scores));
        }
        item
    };
    world.add(&[
        scored("agreed", [[1.0, 1.0], [0.0, 0.0]]),
        scored("disputed", [[3.0, -3.0], [0.0, 0.0]]),
        scored("nearly", [[1.0, -1.0], [0.0, 0.0]]),
        pair("unscored"),
    ]);
    settings(&world, |s| (s.order, s.order_random_share) = ("disagreement".into(), 0.0));
    for expected in ["disputed", "nearly", "agreed", "unscored"] {
        let work = next(&world, "ada", &[]).await.unwrap();
        assert_eq!((work.item.id.as_str(), work.assignment.propensity), (expected, Some(1.0)));
        assert_eq!(judge(&world, &work, Verdict::Tie).await, Outcome::Stored);
    }
    settings(&world, |s| {
        (s.order, s.order_random_share, s.overlap) = ("disagreement".into(), 0.4, 500);
    });
    for number in 0..80 {
        let work = next(&world, &format!("person-{number}"), &[]).await.unwrap();
        let expected = if work.item.id == "disputed" { 0.7 } else { 0.1 };
        assert!((work.assignment.propensity.unwrap() - expected).abs() < 1e-12, "{work:?}");
    }
    let wrong = ProjectSettings { order_random_share: 1.5, ..ProjectSettings::default() };
    let error = world.service.state().put_settings(&wrong).unwrap_err().to_string();
    assert!(error.contains("at random") && error.contains("1.5"), "{error}");
}

#[tokio::test]
async fn orders_have_names_of_their_own() {
    let twice = Last { name: "random", probability: 1.0 };
    let parts = Parts { orders: vec![Box::new(twice)], ..Parts::default() };
    let store = Arc::clone(&World::local().store);
    let error = Service::new(store, Options::default(), parts).err().unwrap().to_string();
    assert!(error.contains("a second order named \"random\""), "{error}");
}
