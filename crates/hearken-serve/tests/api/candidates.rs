//! A second version beside the first: a canary that answers a share of the conversations, a shadow that nobody sees.

use std::collections::BTreeMap;
use std::path::Path;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hearken_data::feedback::served::ServedLog;
use hearken_serve::{ApiKeys, Log};
use serde_json::{Value, json};

use crate::support::{Answered, metric, model, options, post, request, send, service_of};

fn service(log: Option<&Path>) -> Router {
    let mut options = options();
    options.admin_keys = ApiKeys::default().and("admin");
    options.log = log.map(|path| Log::at(path.to_owned()));
    service_of(&model("llama"), options).router()
}

async fn admin(router: &Router, path: &str, body: Value) -> Answered {
    send(router, request(path, &body, Some("admin"))).await
}

async fn candidate(router: &Router, method: &str) -> Answered {
    let request = Request::builder().method(method).uri("/admin/candidate");
    let request = request.header("authorization", "Bearer admin").body(Body::empty());
    send(router, request.unwrap()).await
}

/// One turn of a conversation that begins with `first`.
async fn turn(router: &Router, first: &str, more: &[&str]) -> Value {
    let mut messages = vec![json!({"role": "user", "content": first})];
    for text in more {
        messages.push(json!({"role": "assistant", "content": "Yes?"}));
        messages.push(json!({"role": "user", "content": text}));
    }
    let body = json!({"messages": messages, "max_tokens": 3, "seed": 1, "ignore_eos": true});
    post(router, "/v1/chat/completions", body).await.ok()
}

fn version(answer: &Value) -> String {
    answer["system_fingerprint"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_answers_its_share_of_conversations_and_all_turns_of_each() {
    let router = service(None);
    let before = version(&turn(&router, "Hi", &[]).await);
    let body = json!({"path": model("qwen2"), "share": 0.4});
    let put = admin(&router, "/admin/candidate", body).await.ok();
    let canary = put["version"].as_str().unwrap().to_owned();
    assert_ne!(canary, before);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for number in 0..60 {
        let first = format!("Hello {number}");
        let answered = version(&turn(&router, &first, &[]).await);
        assert_eq!(answered, version(&turn(&router, &first, &["And now?"]).await));
        *counts.entry(answered).or_default() += 1;
    }
    assert_eq!(counts.values().sum::<usize>(), counts[&before] + counts[&canary]);
    assert!((10..40).contains(&counts[&canary]), "{counts:?}");
    // It is promoted without being read again, and gets all of them.
    let swapped = admin(&router, "/admin/weights", json!({"path": model("qwen2")})).await.ok();
    assert_eq!((&swapped["version"], &swapped["previous"]), (&json!(canary), &json!(before)));
    let ended = candidate(&router, "GET").await.ok();
    assert_eq!(ended["standing"], "promoted", "{ended}");
    for number in 0..10 {
        assert_eq!(version(&turn(&router, &format!("Hello {number}"), &[]).await), canary);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_users_find_worse_is_rolled_back_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    let router = service(Some(&path));
    let before = version(&turn(&router, "Hi", &[]).await);
    let body = json!({"path": model("qwen2"), "share": 0.5});
    let canary = admin(&router, "/admin/candidate", body).await.ok()["version"].clone();
    let mut said = 0;
    for number in 0..200 {
        let answer = turn(&router, &format!("Hello {number}"), &[]).await;
        let thumb = if version(&answer) == before { "up" } else { "down" };
        let body = json!({"request_id": answer["id"], "thumb": thumb});
        post(&router, "/v1/feedback", body.clone()).await.ok();
        // Who says it twice has said it once.
        post(&router, "/v1/feedback", body).await.ok();
        said = number;
        if candidate(&router, "GET").await.ok()["standing"] == "rolled_back" {
            break;
        }
    }
    let ended = candidate(&router, "GET").await.ok();
    assert_eq!(ended["standing"], "rolled_back", "{ended}");
    // Seven losses in a row are enough at 0.05, and no fewer.
    assert_eq!(ended["comparisons"], 7, "{ended}");
    assert!(said < 60, "{said}");
    assert!((metric(&router, "hearken_candidates_rolled_back_total").await - 1.0).abs() < 0.5);
    for number in 0..20 {
        assert_eq!(version(&turn(&router, &format!("Hello {number}"), &[]).await), before);
    }
    // Each answer is of one version, and the log says which.
    let log = ServedLog::read(&path, i64::MIN).unwrap();
    let by_canary = log.answers().filter(|one| json!(one.version) == canary).count();
    assert!(7 <= by_canary && by_canary < log.answers().count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_choice_between_the_two_is_a_comparison_and_one_that_is_as_good_stays() {
    let folder = tempfile::tempdir().unwrap();
    let router = service(Some(&folder.path().join("log.jsonl")));
    let before = turn(&router, "Hi", &[]).await;
    let body = json!({"path": model("qwen2"), "share": 1.0});
    admin(&router, "/admin/candidate", body).await.ok();
    let after = turn(&router, "Hi", &[]).await;
    assert_ne!(version(&before), version(&after));
    let over = json!({"request_id": after["id"], "over": [{"request_id": before["id"]}]});
    post(&router, "/v1/feedback", over).await.ok();
    let report = candidate(&router, "GET").await.ok();
    assert_eq!((&report["comparisons"], &report["win_rate"]["value"]), (&json!(1), &json!(1.0)));
    assert_eq!(report["standing"], "running");
    assert_eq!(candidate(&router, "DELETE").await.ok()["standing"], "withdrawn");
    assert_eq!(candidate(&router, "DELETE").await.status, 404);
    assert_eq!(version(&turn(&router, "Hi", &[]).await), version(&before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_a_shadow_are_written_down_and_nobody_sees_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    let router = service(Some(&path));
    let before = version(&turn(&router, "Hi", &[]).await);
    let body = json!({"path": model("qwen2"), "share": 1.0, "purpose": "shadow"});
    let shadow = admin(&router, "/admin/candidate", body).await.ok()["version"].clone();
    let answer = turn(&router, "Hello", &[]).await;
    assert_eq!(version(&answer), before);
    let is_shadow = |line: &str| line.contains("\"shadow\":true");
    let start = std::time::Instant::now();
    let line = loop {
        let text = std::fs::read_to_string(&path).unwrap();
        if let Some(line) = text.lines().find(|line| is_shadow(line)) {
            break serde_json::from_str::<Value>(line).unwrap();
        }
        assert!(start.elapsed().as_secs() < 30, "{text}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!((&line["version"], &line["request_id"]), (&shadow, &answer["id"]));
    assert_eq!(line["prompt"][0]["content"], "Hello");
    // What is said of the answer is said of the one that was seen.
    let said = json!({"request_id": answer["id"], "thumb": "up"});
    assert_eq!(post(&router, "/v1/feedback", said).await.ok()["version"], json!(before));
    // Who wants nothing stored has no shadow.
    let body = json!({
        "messages": [{"role": "user", "content": "Secret"}], "max_tokens": 3, "store": false,
    });
    post(&router, "/v1/chat/completions", body).await.ok();
    assert!(!std::fs::read_to_string(&path).unwrap().contains("Secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candidates_that_cannot_be_are_refused_and_change_nothing() {
    let router = service(None);
    let qwen2 = model("qwen2");
    for (body, expected) in [
        (json!({}), "expected `path`"),
        (json!({"path": qwen2, "share": 0}), "`share` is 0"),
        (json!({"path": qwen2, "share": 1.5}), "`share` is 1.5"),
        (json!({"path": qwen2, "alpha": 0.7}), "`alpha` is 0.7"),
        (json!({"path": qwen2, "purpose": "parrot"}), "parrot"),
        (json!({"path": "nowhere"}), "nowhere"),
        (json!({"path": model("llama")}), "has these weights already"),
    ] {
        let refused = admin(&router, "/admin/candidate", body.clone()).await;
        assert_eq!(refused.status, 400, "{body}: {}", refused.text);
        assert!(refused.text.contains(expected), "{body}: {}", refused.text);
    }
    assert_eq!(candidate(&router, "GET").await.status, 404);
    let body = json!({"path": qwen2});
    assert_eq!(send(&router, request("/admin/candidate", &body, None)).await.status, 401);
}
