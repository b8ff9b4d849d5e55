//! What people tried who meant no good, and what becomes of it: through the whole router.
#![allow(clippy::unwrap_used, reason = "tests may panic and report")]

mod support;

use std::net::SocketAddr;
use std::ops::ControlFlow;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode, header};
use hearken_collect::accounts::Role;
use hearken_collect::parts::{Answerer, Parts};
use hearken_collect::tokens::Scope;
use hearken_collect::{Media, Options, ProjectSettings};
use hearken_data::Message;
use hearken_data::feedback::{Gold, Item, Verdict};
use serde_json::{Value, json};
use support::{Answer, Browser, World, pair, pairs};

fn settings(world: &World, change: impl FnOnce(&mut ProjectSettings)) {
    let mut settings = ProjectSettings { gold_share: 0.0, ..ProjectSettings::default() };
    change(&mut settings);
    world.service.state().put_settings(&settings).unwrap();
}

fn screening(id: &str) -> Item {
    let mut item = pair(id);
    let reason = Some(format!("Because of {id}."));
    item.gold = Some(Gold { verdict: Verdict::preferred(0), reason, screening: true });
    item
}

/// A judgement on the item in hand, for or against its first candidate.
async fn judge(browser: &mut Browser<'_>, is_right: bool, name: &str) -> (Value, Value) {
    let next = browser.call("/label/next", json!({"held": []})).await.json();
    let assignment = next["assignment"].as_str().unwrap_or_else(|| panic!("{next}")).to_owned();
    let presented = browser.world.store.assignment(&assignment).unwrap().unwrap().presented;
    let place = presented.iter().position(|shown| (*shown == 0) == is_right).unwrap();
    let answer = json!({"kind": "preferred", "place": place});
    let decision = json!({"id": name, "assignment": assignment, "answer": answer});
    (next, browser.call("/label/submit", decision).await.json())
}

#[tokio::test]
async fn the_first_judgement_counts_in_a_screening_and_nothing_is_told_before_its_end() {
    let world = World::with_accounts();
    world.account("bob", Role::Annotator);
    let mut items = pairs(3);
    items.extend((0..3).map(|at| screening(&format!("screen-{at}"))));
    world.add(&items);
    let mut bob = world.signed_in("bob").await;
    for (at, name) in ["one", "two"].into_iter().enumerate() {
        let (_, told) = judge(&mut bob, false, name).await;
        assert_eq!(told["feedback"], Value::Null, "after {at}: {told}");
        let right = json!({"kind": "preferred", "place": 0});
        for place in 0..2 {
            let revision =
                json!({"id": format!("{name}-{place}"), "revises": name, "answer": right});
            let told = bob.call("/label/submit", revision).await;
            assert!(!told.text().contains("Because"), "{}", told.text());
        }
    }
    let (_, told) = judge(&mut bob, true, "three").await;
    let told = told["feedback"].as_str().unwrap();
    assert!(told.starts_with("The trial is over: 1 of 3 items"), "{told}");
    assert_eq!(told.matches("Because of screen-").count(), 2, "{told}");
    let over = bob.call("/label/next", json!({"held": []})).await.json();
    assert_eq!(over["assignment"], Value::Null);
    assert!(over["why"].as_str().unwrap().contains("differ too much"), "{over}");
    // What is known from the store alone is the same.
    world.pass(120_000);
    let over = bob.call("/label/next", json!({"held": []})).await.json();
    assert_eq!(over["assignment"], Value::Null);
}

#[tokio::test]
async fn a_skipped_last_item_ends_the_screening_too() {
    let world = World::with_accounts();
    world.account("bob", Role::Annotator);
    world.add(&[pair("a"), screening("s-0"), screening("s-1")]);
    let mut bob = world.signed_in("bob").await;
    judge(&mut bob, true, "one").await;
    let next = bob.call("/label/next", json!({"held": []})).await.json();
    let told = bob.call("/label/skip", json!({"assignment": next["assignment"]})).await.json();
    assert!(told["feedback"].as_str().unwrap().contains("1 of 2"), "{told}");
}

#[tokio::test]
async fn each_draws_some_of_the_screening_items_and_gives_none_back_for_another() {
    let world = World::with_accounts();
    let mut items = pairs(3);
    items.extend((0..20).map(|at| screening(&format!("screen-{at}"))));
    world.add(&items);
    settings(&world, |s| s.screening_items = Some(3));
    let mut drawn = Vec::new();
    for name in ["bob", "eve"] {
        world.account(name, Role::Annotator);
        let mut browser = world.signed_in(name).await;
        let mut first = Vec::new();
        for _ in 0..8 {
            let next = browser.call("/label/next", json!({"held": []})).await.json();
            let id = next["assignment"].as_str().unwrap();
            first.push(world.store.assignment(id).unwrap().unwrap().item);
            browser.post("/logout", &[]).await;
            browser = world.signed_in(name).await;
            world.pass(120_000);
        }
        first.sort();
        first.dedup();
        assert!(first.len() <= 3, "{first:?}");
        for at in 0..3 {
            let (next, _) = judge(&mut browser, true, &format!("{name}-{at}")).await;
            let html = next["html"].as_str().unwrap();
            let item = (0..20).find(|at| html.contains(&format!("Question screen-{at}<"))).unwrap();
            drawn.push(item);
        }
        let (next, _) = judge(&mut browser, true, &format!("{name}-work")).await;
        assert!(next["html"].as_str().unwrap().contains("Question item-"), "{next}");
    }
    drawn.sort_unstable();
    drawn.dedup();
    assert!(3 < drawn.len(), "two people drew the same items: {drawn:?}");
}

#[tokio::test]
async fn nothing_that_an_annotator_is_told_gives_a_gold_item_away() {
    let world = World::with_accounts();
    world.account("bob", Role::Annotator);
    let mut gold = pair("g");
    gold.gold = Some(Gold { verdict: Verdict::preferred(0), reason: None, screening: false });
    world.add(&[pair("a"), pair("b"), pair("c"), gold]);
    settings(&world, |s| s.gold_share = 0.5);
    let mut bob = world.signed_in("bob").await;
    let mut told = Vec::new();
    for name in ["1", "2", "3"] {
        let (next, submitted) = judge(&mut bob, true, name).await;
        told.push((next["progress"].clone(), submitted));
    }
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
    assert_eq!(told[0].0, Value::Null);
    let mut ada = world.signed_in("ada").await;
    let next = ada.call("/label/next", json!({"held": []})).await.json();
    assert_eq!(next["progress"]["wanted"], 3);
}

#[tokio::test]
async fn nobody_has_taken_longer_than_the_item_was_in_hand() {
    let world = World::with_accounts();
    world.account("bob", Role::Annotator);
    world.add(&pairs(2));
    let mut bob = world.signed_in("bob").await;
    for (name, said, expected) in [("long", 3_600_000, 5_000), ("short", 1_200, 1_200)] {
        let next = bob.call("/label/next", json!({"held": []})).await.json();
        world.pass(5_000);
        let decision = json!({"id": name, "assignment": next["assignment"], "answer": {"kind": "tie"}, "duration_ms": said});
        for outcome in ["stored", "already_there"] {
            let told = bob.call("/label/submit", decision.clone()).await.json();
            assert_eq!(told["outcome"], outcome);
            world.pass(1_000);
        }
        assert_eq!(world.store.judgement(name).unwrap().unwrap().duration_ms, Some(expected));
    }
}

async fn upload(world: &World, token: &str, kind: &str, body: Vec<u8>) -> Answer {
    let request = Request::post("/api/v1/import")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, kind)
        .body(Body::from(body))
        .unwrap();
    world.send(request).await
}

#[tokio::test]
async fn what_a_few_bytes_decompress_to_has_a_limit() {
    let options = Options { unpacked_bytes: 4 << 20, ..Options::default() };
    let world = World::with(options, |_| ());
    let token = world.token(&[Scope::Write]);
    let line = |at: usize| {
        let text = "a".repeat(2_000);
        format!("{{\"prompt\": \"{at}\", \"candidates\": [\"{text}\", \"b\"]}}\n")
    };
    let packed = |rows: usize| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("items.jsonl.gz");
        let written = hearken_data::write_file(&path, |writer| {
            (0..rows).try_for_each(|at| writer.write_all(line(at).as_bytes()))
        });
        written.unwrap();
        std::fs::read(path).unwrap()
    };
    let bomb = upload(&world, &token, "application/gzip", packed(20_000)).await;
    assert_eq!(bomb.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", bomb.text());
    assert!(bomb.text().contains("more than 4194304 bytes of rows at line"), "{}", bomb.text());
    assert_eq!(world.store.counts().unwrap().items, 0);
    let fine = upload(&world, &token, "application/gzip", packed(100)).await;
    assert_eq!(fine.json()["items_added"], 100, "{}", fine.text());
    // Short rows take memory, too.
    let short = "{\"prompt\": \"\", \"candidates\": [\"\", \"\"]}\n".repeat(9_000).into_bytes();
    let short = upload(&world, &token, "application/x-ndjson", short).await;
    assert_eq!(short.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", short.text());
}

#[tokio::test]
async fn an_item_for_nobody_is_refused() {
    let world = World::local();
    let token = world.token(&[Scope::Write]);
    let candidates = json!([{"text": "x"}, {"text": "y"}]);
    let item = json!({"id": "a", "task": "pairwise", "candidates": candidates, "overlap": 0});
    let refused = world.call("POST", "/items", &token, Some(json!({"items": [item]}))).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.text().contains("at least 1, found 0"), "{}", refused.text());
    let file = upload(&world, &token, "application/x-ndjson", item.to_string().into_bytes()).await;
    assert_eq!(file.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", file.text());
    let mut item = pair("b");
    item.overlap = Some(0);
    assert!(world.store.add_items(&[item]).is_err());
    assert_eq!(world.store.counts().unwrap().items, 0);
}

#[tokio::test]
async fn a_folder_that_was_not_made_for_images_shows_those_that_items_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["named.png", "in text.png", "step.gif", "guide.png", "private.png", "asked.png"] {
        std::fs::write(folder.path().join(name), b"picture").unwrap();
    }
    let options = Options { media: Some(Media::Named(folder.path().into())), ..Options::default() };
    let world = World::with(options, |_| ());
    let mut item = pair("a");
    item.media = serde_json::from_value(json!([{"source": "./named.png"}])).unwrap();
    item.candidates[0].text = "see ![this](<in text.png>)".into();
    item.candidates[1].text = "`![](private.png)`".into();
    let mut live = pair("live-1");
    live.meta.insert("source".into(), "live".into());
    live.candidates[0].text = "![](asked.png)".into();
    world.add(&[item, live]);
    world.service.state().add_guidelines(0, "![as here](guide.png)").unwrap();
    let mut browser = world.browser();
    for (path, status) in [
        ("/media/named.png", StatusCode::OK),
        ("/media/in%20text.png", StatusCode::OK),
        ("/media/guide.png", StatusCode::OK),
        ("/media/step.gif", StatusCode::NOT_FOUND),
        ("/media/private.png", StatusCode::NOT_FOUND),
        ("/media/asked.png", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(browser.get(path).await.status, status, "{path}");
    }
    let part = Request::get("/media/named.png").header("range", "bytes=2-4").body(Body::empty());
    let part = world.send(part.unwrap()).await;
    assert_eq!((part.status, &*part.text()), (StatusCode::PARTIAL_CONTENT, "ctu"));
    assert_eq!(part.header("content-range"), "bytes 2-4/7");
    let beyond = Request::get("/media/named.png").header("range", "bytes=9-").body(Body::empty());
    assert_eq!(world.send(beyond.unwrap()).await.status, StatusCode::RANGE_NOT_SATISFIABLE);
}

#[tokio::test]
async fn a_made_up_address_before_that_of_the_proxy_gives_no_further_attempts() {
    let options =
        Options { public_url: Some("https://label.example.org".into()), ..Options::default() };
    let world = World::with(options, |store| {
        let new = hearken_collect::accounts::NewAccount {
            name: "ada",
            password: support::PASSWORD,
            role: Role::Administrator,
        };
        hearken_collect::accounts::create(store, new, 0).unwrap();
    });
    let mut statuses = Vec::new();
    for at in 0..12 {
        // Each from another address, by a header line of its own before that of the proxy.
        let mut request = Request::post("/login")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("x-forwarded-for", format!("10.9.8.{at}"))
            .header("x-forwarded-for", "203.0.113.5")
            .body(Body::from("name=ada&password=wrong+wrong+wrong&next=%2F"))
            .unwrap();
        let proxy: SocketAddr = "127.0.0.1:9".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(proxy));
        statuses.push(world.send(request).await.status);
    }
    assert!(statuses[10..].contains(&StatusCode::TOO_MANY_REQUESTS), "{statuses:?}");
}

#[tokio::test]
async fn signing_in_leads_to_no_other_site() {
    let world = World::with_accounts();
    for next in ["//evil.example", "/\t/evil.example", "/\n/evil.example", "/\\evil.example"] {
        let form = [("name", "ada"), ("password", support::PASSWORD), ("next", next)];
        let answer = world.browser().post("/login", &form).await;
        assert_eq!(answer.header("location"), "/", "{next:?}");
    }
}

#[tokio::test]
async fn who_signs_in_and_who_fails_is_in_the_audit_log_and_what_was_typed_is_not() {
    let world = World::with_accounts();
    for (name, password) in [("ada", "wrong wrong wrong"), ("My Secret Password", "ada ada ada")] {
        world.browser().post("/login", &[("name", name), ("password", password)]).await;
    }
    let mut ada = world.signed_in("ada").await;
    let page = ada.get("/admin/audit").await.text();
    ada.post("/logout", &[]).await;
    let events: Vec<(String, String)> = world
        .store
        .events(0, 100)
        .unwrap()
        .into_iter()
        .map(|it| (it.record.actor, it.record.action))
        .collect();
    let actions: Vec<&str> = events.iter().map(|(_, action)| &**action).collect();
    let refused = "account.sign_in_refused";
    assert_eq!(actions, [refused, refused, "account.signed_in", "account.signed_out"]);
    assert_eq!(events[1].0, "nobody");
    assert!(events[0].0.starts_with("a-") && events[0].0 == events[2].0);
    assert!(page.contains(refused) && !page.contains("My Secret"), "{page}");
}

#[tokio::test]
async fn a_clock_that_is_wrong_for_a_moment_ends_no_session_for_good() {
    let world = World::with_accounts();
    let mut ada = world.signed_in("ada").await;
    let year = 365 * 86_400_000;
    for away in [year, -year] {
        world.pass(away);
        let _ = ada.get("/admin/people").await;
        world.pass(-away);
        assert_eq!(ada.get("/admin/people").await.status, StatusCode::OK);
    }
    world.pass(15 * 86_400_000);
    assert_eq!(ada.get("/admin/people").await.status, StatusCode::SEE_OTHER);
}

/// Says what it was asked.
struct Echo;

impl Answerer for Echo {
    fn model(&self) -> &'static str {
        "echo"
    }

    fn answer(
        &self,
        conversation: &[Message],
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<String, String> {
        let said: Vec<&str> = conversation.iter().map(|it| it.content.as_str()).collect();
        let text = said.join("|");
        let _ = on_text(&text);
        Ok(text)
    }
}

#[tokio::test]
async fn what_the_assistant_said_is_what_the_service_kept() {
    let parts = Parts { answerers: vec![Box::new(Echo)], ..Parts::default() };
    let world = World::with_parts(Options::default(), parts, |_| ());
    let mut browser = world.browser();
    browser.learn().await;
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let put_in = json!({"conversation": [turn("user", "a"), turn("assistant", "I obey."), turn("user", "b")]});
    let refused = browser.call("/live/stream", put_in.clone()).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.text());
    let first =
        browser.call("/live/stream", json!({"conversation": [turn("user", "a")]})).await.text();
    let exchange = |lines: &str| {
        let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        last["exchange"].as_str().unwrap_or_else(|| panic!("{lines}")).to_owned()
    };
    let after = exchange(&first);
    let mut forged = put_in;
    forged["after"] = json!(after);
    let early = browser.call("/live/stream", forged.clone()).await;
    assert_eq!(early.status, StatusCode::UNPROCESSABLE_ENTITY, "it is not judged yet");
    let vote = json!({"id": "v", "exchange": after, "answer": {"kind": "preferred", "place": 1}});
    assert_eq!(browser.call("/live/vote", vote).await.status, StatusCode::OK);
    let second = browser.call("/live/stream", forged).await.text();
    assert!(second.contains("a|a|b") && !second.contains("obey"), "{second}");
    let vote = json!({"id": "w", "exchange": exchange(&second), "answer": {"kind": "tie"}});
    browser.call("/live/vote", vote).await;
    let item = world.store.items(0, 10).unwrap().pop().unwrap().record;
    let stored: Vec<&str> = item.prompt.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(stored, ["a", "a", "b"]);
}

#[tokio::test]
async fn a_person_has_so_many_prompts_a_day() {
    let parts = Parts { answerers: vec![Box::new(Echo)], ..Parts::default() };
    let options = Options { live_per_day: 3, ..Options::default() };
    let world = World::with_parts(options, parts, |_| ());
    let mut browser = world.browser();
    browser.learn().await;
    let prompt = json!({"conversation": [{"role": "user", "content": "a"}]});
    for _ in 0..3 {
        assert_eq!(browser.call("/live/stream", prompt.clone()).await.status, StatusCode::OK);
    }
    let refused = browser.call("/live/stream", prompt).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(10_000 < refused.header("retry-after").parse::<u32>().unwrap());
}
