//! The REST API: what it does, what it refuses, and whether its description is true.
#![allow(clippy::unwrap_used, reason = "tests may panic and report")]

mod support;

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use hearken_collect::tokens::Scope;
use hearken_data::feedback::{Judgement, Verdict};
use serde_json::{Value, json};
use support::{World, pair, pairs};

const ALL: [Scope; 4] = Scope::ALL;

#[tokio::test]
async fn an_item_goes_round() {
    let world = World::local();
    let token = world.token(&ALL);
    let added = world.call("POST", "/items", &token, Some(json!({"items": [pair("a")]}))).await;
    assert_eq!(added.status, StatusCode::CREATED, "{}", added.text());
    assert_eq!(added.json(), json!({"added": 1, "already_there": 0}));
    world.pass(60_000);
    let next = world.call("POST", "/next", &token, Some(json!({"annotator": "robot-1"}))).await;
    let next = next.json();
    let assignment = next["assignment"]["id"].as_str().unwrap().to_owned();
    let presented: BTreeSet<u64> = next["assignment"]["presented"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p.as_u64().unwrap())
        .collect();
    assert_eq!(presented, BTreeSet::from([0, 1]));
    let text = next.to_string();
    assert!(!text.contains("model-x") && !text.contains("meta"), "models are hidden: {text}");

    let path = format!("/assignments/{assignment}/judgement");
    let decision = json!({
        "id": "j-1",
        "verdict": {"kind": "preferred", "candidate": 1},
        "rationale": " because ",
        "duration_ms": 1200,
        "origin": "synthetic",
    });
    let stored = world.call("POST", &path, &token, Some(decision.clone())).await;
    assert_eq!(stored.status, StatusCode::CREATED, "{}", stored.text());
    world.pass(5_000);
    let again = world.call("POST", &path, &token, Some(decision.clone())).await;
    assert_eq!(
        (again.status, again.json()["outcome"].clone()),
        (StatusCode::OK, json!("already_there"))
    );
    let mut other = decision;
    other["verdict"]["candidate"] = json!(0);
    let conflict = world.call("POST", &path, &token, Some(other)).await;
    assert_eq!(conflict.status, StatusCode::CONFLICT, "{}", conflict.text());

    let judgement = world.store.judgement("j-1").unwrap().unwrap();
    assert_eq!(judgement.verdict, Verdict::preferred(1));
    assert_eq!(judgement.rationale.as_deref(), Some("because"));
    assert_eq!(judgement.propensity, Some(1.0));
    assert_eq!(judgement.item_hash, pair("a").hash());
    let shown: BTreeSet<u64> = judgement.presented.iter().map(|place| *place as u64).collect();
    assert_eq!(shown, presented);
}

#[tokio::test]
async fn a_revision_takes_the_place_of_the_earlier_one() {
    let world = World::local();
    let token = world.token(&ALL);
    world.add(&[pair("a")]);
    let mut made = Judgement::new("old", &pair("a"), "robot", Verdict::preferred(0));
    made.presented = vec![1, 0];
    world.store.add_judgements(&[made]).unwrap();
    let body = |id: &str, annotator: &str| json!({"annotator": annotator, "judgement": {"id": id, "verdict": {"kind": "tie"}}});
    let path = "/judgements/old/revision";
    let foreign = world.call("POST", path, &token, Some(body("x", "somebody"))).await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND);
    let revised = world.call("POST", path, &token, Some(body("new", "robot"))).await;
    assert_eq!(revised.status, StatusCode::CREATED, "{}", revised.text());
    let stored = world.store.judgement("new").unwrap().unwrap();
    assert_eq!(stored.revises.as_deref(), Some("old"));
    assert_eq!(stored.presented, [1, 0]);
    let twice = world.call("POST", path, &token, Some(body("newer", "robot"))).await;
    assert_eq!(twice.status, StatusCode::CONFLICT, "{}", twice.text());
}

#[tokio::test]
async fn tokens_do_what_their_scopes_say_and_nothing_when_revoked() {
    let world = World::local();
    let alone = world.token(&[Scope::Manage]);
    let manage = world.token(&[Scope::Manage, Scope::Read]);
    let new = json!({"name": "reader", "scopes": ["read"]});
    let beyond = world.call("POST", "/tokens", &alone, Some(new.clone())).await;
    assert_eq!(beyond.status, StatusCode::FORBIDDEN, "a token gives away what it has itself");
    let all = json!({"name": "all", "scopes": ["read", "write", "label", "manage"]});
    let beyond = world.call("POST", "/tokens", &manage, Some(all)).await;
    assert_eq!(beyond.status, StatusCode::FORBIDDEN, "{}", beyond.text());
    let made = world.call("POST", "/tokens", &manage, Some(new)).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let made = made.json();
    let (id, reader) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    assert_eq!(world.call("GET", "/items", reader, None).await.status, StatusCode::OK);
    let write = world.call("POST", "/items", reader, Some(json!({"items": []}))).await;
    assert_eq!(write.status, StatusCode::FORBIDDEN);
    assert_eq!(world.call("GET", "/tokens", reader, None).await.status, StatusCode::FORBIDDEN);
    let listed = world.call("GET", "/tokens", &manage, None).await.text();
    assert!(listed.contains(id) && !listed.contains(reader));
    let revoked = world.call("DELETE", &format!("/tokens/{id}"), &manage, None).await;
    assert_eq!(revoked.status, StatusCode::NO_CONTENT);
    let refused = world.call("GET", "/items", reader, None).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    let gone = world.call("DELETE", &format!("/tokens/{id}"), &manage, None).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
}

/// A session is no token: a page of another site cannot use the API through a browser.
#[tokio::test]
async fn cookies_do_not_open_the_api() {
    let world = World::with_accounts();
    let mut ada = world.signed_in("ada").await;
    assert_eq!(ada.get("/api/v1/items").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn lists_are_paged_and_the_stream_is_whole() {
    let world = World::local();
    let token = world.token(&ALL);
    let items = pairs(25);
    world.add(&items);
    let judgements: Vec<Judgement> = items
        .iter()
        .map(|item| Judgement::new(format!("j-{}", item.id), item, "robot", Verdict::Tie))
        .collect();
    world.store.add_judgements(&judgements).unwrap();
    for list in ["items", "judgements"] {
        let (mut ids, mut after) = (Vec::new(), 0);
        loop {
            let path = format!("/{list}?after={after}&limit=10");
            let page = world.call("GET", &path, &token, None).await.json();
            let records = page["records"].as_array().unwrap();
            ids.extend(records.iter().map(|r| r["record"]["id"].as_str().unwrap().to_owned()));
            match page["next"].as_u64() {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!(ids.len(), 25, "{list}");
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 25);
    }
    let stream = world.call("GET", "/judgements/stream", &token, None).await;
    let text = stream.text();
    let read: Vec<Judgement> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(read, judgements);
}

#[tokio::test]
async fn nonsense_is_named_and_nothing_is_stored() {
    let world = World::local();
    let token = world.token(&ALL);
    let mut lonely = json!(pair("lonely"));
    lonely["candidates"].as_array_mut().unwrap().pop();
    let body = json!({"items": [pair("good"), lonely]});
    let answer = world.call("POST", "/items", &token, Some(body)).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("items[1]") && message.contains("exactly 2"), "{message}");
    assert_eq!(world.store.counts().unwrap().items, 0);
    for (path, body) in [
        ("/items", json!({"items": [{"id": "a\u{0}", "task": "pairwise", "candidates": []}]})),
        ("/items", json!({"items": 3})),
        ("/judgements", json!({"judgements": [{"id": "a"}]})),
        (
            "/judgements",
            json!({"judgements": [
            {"id": "a", "item": "none", "annotator": "b", "verdict": {"kind": "tie"}}]}),
        ),
        ("/next", json!({"annotator": "a b"})),
        ("/next", json!({"annotator": "\u{0}"})),
    ] {
        let answer = world.call("POST", path, &token, Some(body.clone())).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path} {body}");
        assert!(answer.json()["error"]["message"].is_string());
    }
}

/// Only the description itself is open, not what ends like it.
#[tokio::test]
async fn the_description_opens_nothing_else() {
    let world = World::local();
    for (path, expected) in [
        ("/openapi.json", 200),
        ("/items/openapi.json", 401),
        ("/items/openapi.json/openapi.json", 404),
    ] {
        let uri = format!("/api/v1{path}");
        let answer = world.send(Request::builder().uri(uri).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status.as_u16(), expected, "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn every_refusal_is_json_with_the_right_status() {
    let world = World::local();
    let token = world.token(&ALL);
    let send =
        |method: &'static str, path: &'static str, kind: &'static str, body: &'static str| {
            let request = Request::builder()
                .method(method)
                .uri(format!("/api/v1{path}"))
                .header("authorization", format!("Bearer {token}"))
                .header("content-type", kind)
                .body(Body::from(body))
                .unwrap();
            world.send(request)
        };
    let json = "application/json";
    for (method, path, kind, body, expected) in [
        ("POST", "/items", json, "{", 400),
        ("POST", "/items", "text/plain", "{}", 415),
        ("POST", "/items", json, r#"{"items": [], "extra": 1}"#, 422),
        ("GET", "/items?limit=0", json, "", 400),
        ("GET", "/items?limit=x", json, "", 400),
        ("GET", "/items?after=99999999999999999999", json, "", 400),
        ("GET", "/items?after=18446744073709551615", json, "", 400),
        ("GET", "/items/%FF", json, "", 400),
        ("GET", "/items/%00", json, "", 404),
        ("GET", "/items/%F0%9F%92%A9", json, "", 404),
        ("GET", "/judgements/nobody", json, "", 404),
        ("GET", "/nowhere", json, "", 404),
        ("PATCH", "/items", json, "", 405),
        ("DELETE", "/openapi.json", json, "", 405),
        ("GET", "/export?format=none", json, "", 400),
        ("POST", "/import", "image/png", "x", 415),
        ("POST", "/import", "application/x-ndjson", "not json\n", 422),
    ] {
        let answer = send(method, path, kind, body).await;
        assert_eq!(answer.status.as_u16(), expected, "{method} {path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), json, "{method} {path}");
        assert_eq!(answer.json()["error"]["status"], expected, "{method} {path}");
        if expected == 405 {
            assert!(!answer.header("allow").is_empty(), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn files_go_in_and_out() {
    let world = World::local();
    let token = world.token(&ALL);
    let rows = "{\"prompt\": \"2 + 2 =\", \"chosen\": \" 4\", \"rejected\": \" 5\"}\n\
                {\"prompt\": \"2 + 3 =\", \"chosen\": \" 5\", \"rejected\": \" 4\"}\n";
    let request = Request::post("/api/v1/import")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/x-ndjson")
        .body(Body::from(rows))
        .unwrap();
    let imported = world.send(request).await;
    assert_eq!(imported.status, StatusCode::CREATED, "{}", imported.text());
    assert_eq!(imported.json()["judgements_added"], 2);
    let file = world.call("GET", "/export?format=trl", &token, None).await;
    assert_eq!(file.header("content-type"), "application/x-ndjson");
    let back: Vec<Value> =
        file.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(back.len(), 2);
    assert_eq!(back[0]["chosen"], " 4");
    let report = world.call("GET", "/export/report?format=nectar", &token, None).await;
    assert_eq!(report.status, StatusCode::OK, "{}", report.text());
    let report = report.json();
    let dropped: u64 =
        report["dropped"].as_array().unwrap().iter().map(|d| d["count"].as_u64().unwrap()).sum();
    assert_eq!(report["written"].as_u64().unwrap() + dropped, 2, "{report}");
}

/// Every operation of the description is there, answers its method, and refuses those without a
/// token; what it answers has the type that it says.
#[tokio::test]
async fn the_description_is_true() {
    let world = World::local();
    let token = world.token(&ALL);
    world.add(&pairs(3));
    let description = world.call("GET", "/openapi.json", "", None).await.json();
    assert_eq!(description["openapi"], "3.1.0");
    let paths = description["paths"].as_object().unwrap();
    let mut operations = 0;
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            operations += 1;
            let method = method.to_uppercase();
            let real = path.replace("{id}", "item-1");
            let bare = world.call(&method, &real, "none", None).await;
            let is_public = operation["security"] == json!([]);
            let expected = if is_public { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
            assert_eq!(bare.status, expected, "{method} {path}");
            let answer = world.call(&method, &real, &token, None).await;
            let status = answer.status.as_u16().to_string();
            let described = &operation["responses"][&status];
            assert!(described.is_object(), "{method} {path} answers {status}, not described");
            if let Some(content) = described["content"].as_object() {
                let kind = answer.header("content-type").split(';').next().unwrap().to_owned();
                assert!(content.contains_key(&kind), "{method} {path} {status}: {kind}");
            }
        }
    }
    assert_eq!(operations, 21);
}
