//! The desk of those who lead: where people differ and what is decided, items that are found and changed, people.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests may panic and report")]

mod support;

use axum::http::StatusCode;
use hearken_collect::accounts::Role;
use hearken_collect::{ProjectSettings, Suggestions};
use hearken_data::feedback::{Gold, Judgement, Origin, Suggested, Verdict};
use hearken_store::all_changes;
use serde_json::json;
use support::{Browser, World, pair, pairs};

/// A project with three items: ada leads, rita reviews, ann and ben have judged; they differ on `item-1`.
fn differing() -> World {
    let world = World::with_accounts();
    world.account("rita", Role::Reviewer);
    let (ann, ben) = (world.account("ann", Role::Annotator), world.account("ben", Role::Annotator));
    world.add(&pairs(3));
    let say = |id: &str, item: usize, who: &str, verdict: Verdict, why: Option<&str>| {
        let mut judgement = Judgement::new(id, &pair(&format!("item-{item}")), who, verdict);
        judgement.rationale = why.map(str::to_owned);
        judgement.at = support::START;
        judgement
    };
    let said = [
        say("j0", 0, &ann, Verdict::preferred(0), None),
        say("j1", 0, &ben, Verdict::preferred(0), None),
        say("j2", 1, &ann, Verdict::preferred(0), Some("The first is <shorter>.")),
        say("j3", 1, &ben, Verdict::preferred(1), Some("The second is right.")),
        say("j4", 2, &ann, Verdict::CantTell { reason: "unclear".into() }, None),
    ];
    world.store.add_judgements(&said).unwrap();
    world.pass(60_000);
    world
}

async fn decide(browser: &mut Browser<'_>, item: &str, earlier: Option<&str>) -> support::Answer {
    let answer = json!({"kind": "preferred", "place": 1});
    let why = "Ben is right.";
    let body = json!({"id": "x", "item": item, "answer": answer, "rationale": why, "duration_ms": 9, "earlier": earlier});
    browser.call("/review/submit", body).await
}

#[tokio::test]
async fn a_reviewer_sees_where_people_differ_and_decides() {
    let world = differing();
    let mut rita = world.signed_in("rita").await;
    let queue = rita.get("/review").await.text();
    assert!(queue.contains("Question item-1") && !queue.contains("Question item-0"), "{queue}");
    assert!(queue.contains("<b>1</b> A is better") && queue.contains("<b>1</b> B is better"));
    let doubts = rita.get("/review?show=doubted").await.text();
    assert!(doubts.contains("Question item-2") && !doubts.contains("Question item-1"), "{doubts}");

    let page = rita.get("/review/item?id=item-1&queue=disagreed").await.text();
    assert!(
        page.contains("The first is &lt;shorter&gt;.") && page.contains("The second is right.")
    );
    // Who said it, those know who manage people.
    assert!(!page.contains(">ben<") && !page.contains("/admin/items/change"), "{page}");
    let opened = rita.call("/review/open", json!({"item": "item-1"})).await.json();
    assert_eq!((&opened["earlier"], &opened["answer"]), (&json!(null), &json!(null)));

    let stored = decide(&mut rita, "item-1", None).await;
    assert_eq!(stored.json(), json!({"outcome": "stored"}));
    let again = decide(&mut rita, "item-1", None).await;
    assert_eq!(again.json(), json!({"outcome": "already_there"}));
    let all = world.store.judgements_of("item-1").unwrap();
    let decided = all.last().unwrap();
    assert!(decided.is_final && decided.origin == Origin::Human && all.len() == 3);
    assert_eq!(decided.verdict, Verdict::preferred(1));
    assert_eq!(decided.rationale.as_deref(), Some("Ben is right."));

    let queue = rita.get("/review").await.text();
    assert!(!queue.contains("Question item-1"), "{queue}");
    assert!(rita.get("/review?show=decided").await.text().contains("Final: B is better"));
    // Two reviewers at the same time: the second is told, and may decide anew.
    let mut ada = world.signed_in("ada").await;
    let late = decide(&mut ada, "item-1", None).await;
    assert_eq!(late.status, StatusCode::CONFLICT, "{}", late.text());
    let opened = ada.call("/review/open", json!({"item": "item-1"})).await.json();
    assert_eq!(opened["answer"], json!({"kind": "preferred", "place": 1}));
    let anew = decide(&mut ada, "item-1", opened["earlier"].as_str()).await;
    assert_eq!(anew.status, StatusCode::OK, "{}", anew.text());
    assert_eq!(world.store.judgements_of("item-1").unwrap()[3].revises, Some(decided.id.clone()));
    assert!(ada.get("/review/item?id=item-1").await.text().contains(">ben<"));
    // It is what is exported.
    let rows = ada.get("/admin/export/file?format=trl").await.text();
    let of_item = |text: &str| rows.lines().filter(|row| row.contains(text)).count();
    assert_eq!((of_item("item-0"), of_item("item-1"), of_item("item-2")), (1, 1, 0), "{rows}");
    let row = rows.lines().find(|row| row.contains("item-1")).unwrap();
    let row: serde_json::Value = serde_json::from_str(row).unwrap();
    assert!(row["chosen"].to_string().contains("\"no\""), "{row}");
}

#[tokio::test]
async fn only_reviewers_review() {
    let world = differing();
    let mut ann = world.signed_in("ann").await;
    for path in ["/review", "/review/item?id=item-1"] {
        assert_eq!(ann.get(path).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    let refused = decide(&mut ann, "item-1", None).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(!ann.get("/label").await.text().contains("/review"));
    let mut rita = world.signed_in("rita").await;
    let change = [("item", "item-1"), ("act", "withdraw")];
    assert_eq!(rita.post("/admin/items/change", &change).await.status, StatusCode::FORBIDDEN);
    assert_eq!(rita.get("/review/item?id=nothing").await.status, StatusCode::NOT_FOUND);
    assert_eq!(rita.get("/review/item?id=a%00b").await.status, StatusCode::NOT_FOUND);
    let unfit = json!({"id": "x", "item": "item-1", "answer": {"kind": "preferred", "place": 7}});
    let refused = rita.call("/review/submit", unfit).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn comments_are_for_those_who_review() {
    let world = differing();
    let mut rita = world.signed_in("rita").await;
    let text = "Is <this> right?\r\nI doubt it.";
    let said = [("item", "item-1"), ("text", text), ("queue", "disagreed")];
    let answer = rita.post("/review/comment", &said).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
    assert!(answer.header("location").starts_with("/review/item?id=item-1&queue=disagreed"));
    let page = rita.get("/review/item?id=item-1").await.text();
    assert!(page.contains("Is &lt;this&gt; right?\nI doubt it."), "{page}");
    assert!(rita.get("/review").await.text().contains("1 comment"));
    let empty = rita.post("/review/comment", &[("item", "item-1"), ("text", " \n ")]).await;
    assert_eq!(empty.status, StatusCode::UNPROCESSABLE_ENTITY);
}

/// The part of the page of people about somebody.
async fn card(browser: &mut Browser<'_>, name: &str) -> String {
    let page = browser.get("/admin/people").await.text();
    let (_, rest) = page.split_once(&format!("<h3>{name}</h3>")).expect("a card");
    rest.split("<li class=\"person\">").next().unwrap().to_owned()
}

#[tokio::test]
async fn people_are_seen_by_name_with_what_they_did() {
    let world = differing();
    let mut ada = world.signed_in("ada").await;
    decide(&mut ada, "item-1", None).await;
    world.pass(60_000);
    let ben = card(&mut ada, "ben").await;
    assert!(ben.contains("<dt>Today</dt><dd>2</dd>"), "{ben}");
    assert!(
        ben.contains("<dt>Agrees with others</dt><dd>50 % <span class=\"interval\">9–91 %, n 2"),
        "{ben}"
    );
    assert!(ben.contains("<dt>As finally decided</dt><dd>100 %"), "{ben}");
    assert!(card(&mut ada, "ann").await.contains("<dt>As finally decided</dt><dd>0 %"));
    assert!(card(&mut ada, "ada").await.contains("<dt>Final verdicts</dt><dd>1</dd>"));
    world.pass(86_400_000);
    assert!(card(&mut ada, "ben").await.contains("<dt>Today</dt><dd>0</dd>"));
}

#[tokio::test]
async fn who_failed_the_screening_is_admitted_anyway() {
    let world = World::with_accounts();
    let ann = world.account("ann", Role::Annotator);
    let mut trial = pair("trial");
    trial.gold = Some(Gold { verdict: Verdict::preferred(0), reason: None, screening: true });
    world.add(&[trial, pair("work")]);
    let mut browser = world.signed_in("ann").await;
    let next = browser.call("/label/next", json!({"held": []})).await.json();
    let tie = json!({"id": "a", "assignment": next["assignment"], "answer": {"kind": "tie"}});
    browser.call("/label/submit", tie).await;
    let next = browser.call("/label/next", json!({"held": []})).await.json();
    assert_eq!(next["assignment"], json!(null), "{next}");
    let mut ada = world.signed_in("ada").await;
    let failed = card(&mut ada, "ann").await;
    assert!(failed.contains("0 of 1 right") && failed.contains("Admit anyway"), "{failed}");
    ada.post("/admin/people/admit", &[("key", &ann)]).await;
    let next = browser.call("/label/next", json!({"held": []})).await.json();
    assert!(next["html"].as_str().unwrap().contains("Question work"), "{next}");
    assert!(card(&mut ada, "ann").await.contains("admitted by a lead"));
    ada.post("/admin/people/admit", &[("key", &ann), ("not", "1")]).await;
    assert!(card(&mut ada, "ann").await.contains("0 of 1 right"));
    let refused = ada.post("/admin/people/admit", &[("key", "a-nobody")]).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_link_sets_a_forgotten_password_once() {
    let world = World::with_accounts();
    let ann = world.account("ann", Role::Annotator);
    let mut signed_in = world.signed_in("ann").await;
    let mut ada = world.signed_in("ada").await;
    let link = |page: &str| format!("/reset/{}", &page.split_once("/reset/").unwrap().1[..64]);
    let first = link(&ada.post("/admin/people/reset", &[("key", &ann)]).await.text());
    let page = ada.post("/admin/people/reset", &[("key", &ann)]).await.text();
    let second = link(&page);
    let mut other = world.browser();
    assert_eq!(other.get(&first).await.status, StatusCode::NOT_FOUND, "the newest holds");
    assert!(other.get(&second).await.text().contains("<strong>ann</strong>"));
    // The old password holds until the link is used.
    assert_eq!(signed_in.get("/label").await.status, StatusCode::OK);
    let new = "entirely new words";
    let differ = other.post(&second, &[("password", new), ("again", "something else")]).await;
    assert_eq!(differ.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(differ.text().contains("differ"));
    let set = other.post(&second, &[("password", new), ("again", new)]).await;
    assert_eq!(set.status, StatusCode::SEE_OTHER, "{}", set.text());
    assert_eq!(other.get("/label").await.status, StatusCode::OK);
    assert_eq!(signed_in.get("/label").await.status, StatusCode::SEE_OTHER, "signed out");
    let again = other.post(&second, &[("password", new), ("again", new)]).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    // What was made expires, and the audit log has no secret.
    let third = link(&ada.post("/admin/people/reset", &[("key", &ann)]).await.text());
    world.pass(86_400_001);
    assert_eq!(other.get(&third).await.status, StatusCode::NOT_FOUND);
    let log = ada.get("/admin/audit").await.text();
    assert!(log.contains("account.password_reset") && !log.contains(&second[7..]), "{log}");
}

#[tokio::test]
async fn invitations_have_names() {
    let world = World::with_accounts();
    let mut ada = world.signed_in("ada").await;
    let form = [("role", "annotator"), ("days", "7"), ("names", "Zoë\r\n\r\n Max <b>\r\n")];
    let page = ada.post("/admin/people/invite", &form).await.text();
    assert_eq!(page.matches("/invite/").count(), 2);
    assert!(page.contains("<td>Zoë</td>") && page.contains("Max &lt;b&gt;"), "{page}");
    let secrets: Vec<&str> = page.split("code class=\"secret\"").skip(1).collect();
    let path = format!("/invite/{}", &secrets[0].split_once("/invite/").unwrap().1[..64]);
    let mut other = world.browser();
    assert!(other.get(&path).await.text().contains("value=\"Zoë\""));
    let people = ada.get("/admin/people").await.text();
    assert!(people.contains("Zoë, annotator, until"), "{people}");
    let long = "x".repeat(65);
    let refused = ada
        .post("/admin/people/invite", &[("role", "viewer"), ("days", "7"), ("names", &long)])
        .await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
}

fn suggested(id: &str) -> hearken_data::feedback::Item {
    let mut item = pair(id);
    let verdict = json!({"kind": "preferred", "candidate": 1});
    item.meta.insert("suggestions".into(), json!([{"by": "secret-judge", "verdict": verdict}]));
    item
}

/// Of `n` items what is suggested where it is shown, and the judgement that is stored, each judged as a tie.
async fn judged_with(
    how: Suggestions,
    n: usize,
) -> (World, Vec<(bool, Option<Suggested>, String)>) {
    let world = World::with_accounts();
    world.account("ann", Role::Annotator);
    let settings = ProjectSettings { suggestions: how, ..ProjectSettings::default() };
    world.service.state().put_settings(&settings).unwrap();
    let items: Vec<_> = (0..n).map(|at| suggested(&format!("s-{at}"))).collect();
    world.add(&items);
    let mut ann = world.signed_in("ann").await;
    let mut came = Vec::new();
    for at in 0..n {
        let next = ann.call("/label/next", json!({"held": []})).await.json();
        let html = next["html"].as_str().unwrap().to_owned();
        assert!(!html.contains("secret-judge"));
        let is_shown = html.contains("A model suggests:");
        assert_eq!(is_shown, next["suggestion"].is_object(), "{next}");
        let id = format!("j-{at}");
        let tie = json!({"id": id, "assignment": next["assignment"], "answer": {"kind": "tie"}});
        let reply = ann.call("/label/submit", tie).await.json();
        let feedback = reply["feedback"].as_str().unwrap_or_default().to_owned();
        let stored = world.store.judgement(&id).unwrap().unwrap();
        came.push((is_shown, stored.suggestion, feedback));
    }
    (world, came)
}

#[tokio::test]
async fn suggestions_are_shown_as_the_project_says_and_the_judgement_tells() {
    let (_, off) = judged_with(Suggestions::Off, 2).await;
    assert!(off.iter().all(|(shown, told, said)| !shown && told.is_none() && said.is_empty()));
    let (_, shown) = judged_with(Suggestions::Shown, 2).await;
    assert!(shown.iter().all(|(shown, told, _)| *shown && *told == Some(Suggested::Shown)));
    let (_, measured) = judged_with(Suggestions::Measured, 40).await;
    let seen = measured.iter().filter(|(shown, ..)| *shown).count();
    assert!((8..=32).contains(&seen), "{seen} of 40");
    for (shown, told, _) in measured {
        assert_eq!(told, Some(if shown { Suggested::Shown } else { Suggested::Hidden }));
    }
    let (world, after) = judged_with(Suggestions::After, 1).await;
    let (shown, told, said) = &after[0];
    assert!(!shown && *told == Some(Suggested::Hidden), "{after:?}");
    assert!(said.contains("A model suggested for the item before:") && said.contains("is better"));
    // Whoever judges it anew has seen it.
    let mut ann = world.signed_in("ann").await;
    let anew = json!({"id": "anew", "revises": "j-0", "answer": {"kind": "both_bad"}});
    ann.call("/label/submit", anew).await;
    let stored = world.store.judgement("anew").unwrap().unwrap();
    assert_eq!(stored.suggestion, Some(Suggested::Shown));
}

#[tokio::test]
async fn what_a_judge_said_is_a_suggestion_and_gold_has_none() {
    let world = World::with_accounts();
    world.account("ann", Role::Annotator);
    let settings = ProjectSettings {
        suggestions: Suggestions::Shown,
        gold_share: 1.0,
        ..ProjectSettings::default()
    };
    world.service.state().put_settings(&settings).unwrap();
    let mut gold = suggested("gold");
    gold.gold = Some(Gold { verdict: Verdict::preferred(0), reason: None, screening: false });
    world.add(&[pair("judged"), gold]);
    let mut said = Judgement::new("ai", &pair("judged"), "gpt", Verdict::Soft { probability: 0.2 });
    said.origin = Origin::Ai;
    world.store.add_judgements(&[said]).unwrap();
    let overlap = ProjectSettings { overlap: 2, ..settings };
    world.service.state().put_settings(&overlap).unwrap();
    world.pass(60_000);
    let mut ann = world.signed_in("ann").await;
    let mut held: Vec<String> = Vec::new();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let next = ann.call("/label/next", json!({"held": held})).await.json();
        let html = next["html"].as_str().unwrap().to_owned();
        seen.push((html.contains("Question judged"), html.contains("A model suggests:")));
        held.push(next["assignment"].as_str().unwrap().to_owned());
    }
    seen.sort_unstable();
    assert_eq!(seen, [(false, false), (true, true)]);
}

async fn found(browser: &mut Browser<'_>, query: &str) -> Vec<String> {
    let page = browser.get(&format!("/admin/items?{query}")).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text());
    let text = page.text();
    let mut names: Vec<String> = text
        .split("name=\"item\" value=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn items_are_found_by_what_they_say_and_by_what_is_said_of_them() {
    let world = differing();
    let mut other = pair("other");
    other.meta.insert("language".into(), "de".into());
    other.priority = 4;
    world.add(&[other]);
    let mut ada = world.signed_in("ada").await;
    for (query, expected) in [
        ("", &["item-0", "item-1", "item-2", "other"][..]),
        ("q=QUESTION+item-1", &["item-1"]),
        ("q=nothing+like+it", &[]),
        ("show=disagreed", &["item-1"]),
        ("show=doubted", &["item-2"]),
        ("show=open", &["other"]),
        ("meta=language%3DDE", &["other"]),
        ("meta=language%3Den", &[]),
        ("task=ranking", &[]),
        ("show=done&q=item", &["item-0", "item-1", "item-2"]),
        ("sort=priority&show=unknown", &["item-0", "item-1", "item-2", "other"]),
    ] {
        assert_eq!(found(&mut ada, query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn many_items_are_changed_at_once_and_it_holds_everywhere() {
    let world = differing();
    let mut ada = world.signed_in("ada").await;
    let tagged = [("whole", "1"), ("show", "done"), ("act", "tag"), ("value", "look again")];
    let answer = ada.post("/admin/items/change", &tagged).await;
    assert_eq!(answer.header("location"), "/admin/items?show=done&changed=3", "{}", answer.text());
    assert!(ada.get(answer.header("location")).await.text().contains("Changed 3 items."));
    assert_eq!(found(&mut ada, "tag=look+again").await.len(), 3);
    let refused = ada.post("/admin/items/change", &[("item", "item-9"), ("act", "withdraw")]).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    for wrong in [
        vec![("act", "withdraw")],
        vec![("item", "item-0")],
        vec![("item", "item-0"), ("act", "priority"), ("value", "high")],
        vec![("item", "item-0"), ("act", "tag"), ("value", "a,b")],
        vec![("item", "item-0"), ("act", "gold")],
        vec![("item", "item-0"), ("act", "assign"), ("for", "a-nobody")],
    ] {
        let refused = ada.post("/admin/items/change", &wrong).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong:?}");
    }

    // Withdrawn: neither reviewed, nor counted, nor exported.
    ada.post("/admin/items/change", &[("item", "item-1"), ("act", "withdraw")]).await;
    assert!(!ada.get("/review").await.text().contains("Question item-1"));
    assert_eq!(found(&mut ada, "show=withdrawn").await, ["item-1"]);
    let rows = ada.get("/admin/export/file?format=hearken").await.text();
    assert!(rows.contains("item-0") && !rows.contains("item-1"), "{rows}");
    let report = ada.get("/admin/export?format=hearken").await.text();
    assert!(report.contains("on a withdrawn item"), "{report}");
    ada.post("/admin/items/change", &[("item", "item-1"), ("act", "restore")]).await;
    assert!(ada.get("/review").await.text().contains("Question item-1"));

    // A final verdict becomes the right one.
    decide(&mut ada, "item-1", None).await;
    ada.post("/admin/items/change", &[("whole", "1"), ("act", "gold")]).await;
    let changes = all_changes(&*world.store).unwrap();
    let gold = changes["item-1"].gold.clone().unwrap().unwrap();
    assert_eq!(
        (gold.verdict, changes.get("item-0").unwrap().gold.is_none()),
        (Verdict::preferred(1), true)
    );
    assert_eq!(found(&mut ada, "show=gold").await, ["item-1"]);
    let set =
        [("item", "item-1"), ("from", "item"), ("act", "set"), ("priority", "7"), ("tags", "b, c")];
    let answer = ada.post("/admin/items/change", &set).await;
    assert_eq!(answer.header("location"), "/review/item?id=item-1&done=saved");
    let changes = all_changes(&*world.store).unwrap();
    let tags: Vec<&str> = changes["item-1"].tags.iter().map(String::as_str).collect();
    assert_eq!((tags, changes["item-1"].priority), (vec!["b", "c"], Some(7)));
}

#[tokio::test]
async fn items_for_somebody_go_to_nobody_else() {
    let world = World::with_accounts();
    let (ann, _) = (world.account("ann", Role::Annotator), world.account("ben", Role::Annotator));
    world.add(&pairs(4));
    let mut ada = world.signed_in("ada").await;
    let one = [("item", "item-2"), ("act", "assign"), ("for", ann.as_str())];
    ada.post("/admin/items/change", &one).await;
    let page = ada.get("/admin/items?show=assigned").await.text();
    assert!(page.contains("for ann"), "{page}");
    let mut ben = world.signed_in("ben").await;
    let mut held: Vec<String> = Vec::new();
    for _ in 0..3 {
        let next = ben.call("/label/next", json!({"held": held})).await.json();
        let html = next["html"].as_str().unwrap();
        assert!(!html.contains("Question item-2"), "{html}");
        held.push(next["assignment"].as_str().unwrap().to_owned());
    }
    let next = ben.call("/label/next", json!({"held": held})).await.json();
    assert_eq!(next["assignment"], json!(null));
    let mut ann = world.signed_in("ann").await;
    let next = ann.call("/label/next", json!({"held": []})).await.json();
    assert!(next["html"].as_str().unwrap().contains("Question item-2"), "{next}");
}

/// Who wins is told of every label that is there when the page is asked for, also while the analysis is older.
#[tokio::test(flavor = "multi_thread")]
async fn who_wins_is_told_of_every_label_at_once() {
    let world = World::with_accounts();
    let mut items = pairs(12);
    for item in &mut items {
        item.candidates[0].model = Some("alpha".into());
        item.candidates[1].model = Some("beta".into());
    }
    world.add(&items);
    let say = |item: usize, who: &str, candidate: usize| {
        let verdict = Verdict::preferred(candidate);
        Judgement::new(format!("{item}-{who}"), &items[item], who, verdict)
    };
    let said: Vec<_> = (0..24).map(|at| say(at % 12, ["ann", "ben"][at / 12], 0)).collect();
    world.store.add_judgements(&said).unwrap();
    let mut ada = world.signed_in("ada").await;
    // Who leads is told with the votes on it, of every judgement: `of 24 votes on it`.
    let told = async |ada: &mut Browser<'_>, judgements: usize, votes: usize| {
        let page = ada.get("/analysis").await.text();
        assert!(page.contains(&format!("data-judgements=\"{judgements}\"")), "{page}");
        assert!(page.contains(&format!("of {votes} votes on it; the next is")), "{page}");
    };
    told(&mut ada, 24, 24).await;
    for (at, who) in ["cleo", "dan", "eve"].into_iter().enumerate() {
        world.store.add_judgements(&[say(0, who, 1)]).unwrap();
        told(&mut ada, 25 + at, 25 + at).await;
    }
    // A final verdict takes the place of the five; what is withdrawn counts for nobody.
    let mut decided = say(0, "rita", 0);
    decided.is_final = true;
    world.store.add_judgements(&[decided]).unwrap();
    told(&mut ada, 28, 23).await;
    ada.post("/admin/items/change", &[("item", "item-1"), ("act", "withdraw")]).await;
    told(&mut ada, 28, 21).await;
}

/// With 100,000 items and three judgements of each: the queue, a text that one item has, what somebody judged, a page.
#[tokio::test]
#[ignore = "makes a large store; run by hand"]
async fn a_hundred_thousand_items_are_found_in_a_moment() {
    let world = World::with_accounts();
    let words = |at: usize| {
        let word =
            |n: usize| format!("{:x}", (at * 7919 + n).wrapping_mul(2_654_435_761) & 0xff_ffff);
        (0..120).map(word).collect::<Vec<_>>().join(" ")
    };
    let item = |at: usize| {
        let mut item = pair(&format!("item-{at}"));
        item.candidates[0].text = words(at);
        item.candidates[1].text = words(at + 200_000);
        item
    };
    let items: Vec<_> = (0..100_000).map(item).collect();
    world.store.add_items(&items).unwrap();
    let said = items.iter().enumerate().flat_map(|(at, item)| {
        (0..3).map(move |k| {
            let verdict = Verdict::preferred(usize::from((at + k) % 10 == 0));
            Judgement::new(format!("{at}-{k}"), item, format!("person-{}", (at + k) % 40), verdict)
        })
    });
    world.store.add_judgements(&said.collect::<Vec<_>>()).unwrap();
    world.pass(60_000);
    let mut ada = world.signed_in("ada").await;
    for path in [
        "/review",
        "/review",
        "/review/item?id=item-99&queue=disagreed",
        "/admin/items",
        "/admin/items?q=question+item-77777",
        "/admin/items?q=question",
        "/admin/items?show=disagreed&sort=difference&page=500",
        "/admin/items?person=person-7",
        "/admin/people",
    ] {
        let started = std::time::Instant::now();
        let answer = ada.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let took = started.elapsed().as_secs_f64();
        println!("{path}: {took:.3} s");
    }
    let started = std::time::Instant::now();
    ada.post("/admin/items/change", &[("whole", "1"), ("act", "tag"), ("value", "all")]).await;
    println!("all tagged: {:.3} s", started.elapsed().as_secs_f64());
}
