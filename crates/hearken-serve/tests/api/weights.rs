//! Other weights, while requests go on.

use std::collections::BTreeMap;

use hearken_serve::ApiKeys;
use serde_json::{Value, json};

use crate::support::{get, metric, model, options, request, send, service_of};

fn body() -> Value {
    json!({
        "prompt": "All the world", "max_tokens": 40, "temperature": 0.9, "seed": 11,
        "ignore_eos": true,
    })
}

async fn swap(router: &axum::Router, path: &std::path::Path) -> crate::support::Answered {
    send(router, request("/admin/weights", &json!({"path": path}), Some("admin"))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_answer_is_of_one_version_and_what_that_gives_alone() {
    let mut options = options();
    options.admin_keys = ApiKeys::default().and("admin");
    let router = service_of(&model("llama"), options).router();
    // What each version gives alone.
    let mut alone = BTreeMap::new();
    for family in ["qwen2", "llama"] {
        swap(&router, &model(family)).await.ok();
        let answer = send(&router, request("/v1/completions", &body(), None)).await.ok();
        let version = answer["system_fingerprint"].as_str().unwrap().to_owned();
        alone.insert(version, answer["choices"][0]["text"].clone());
    }
    assert_eq!(alone.len(), 2);
    let ask = |router: axum::Router| async move {
        let mut answers = Vec::new();
        for _ in 0..6 {
            answers.push(send(&router, request("/v1/completions", &body(), None)).await.ok());
        }
        answers
    };
    let asking: Vec<_> = (0..8).map(|_| tokio::spawn(ask(router.clone()))).collect();
    for family in ["qwen2", "llama"].into_iter().cycle().take(6) {
        swap(&router, &model(family)).await.ok();
    }
    for asked in asking {
        for answer in asked.await.unwrap() {
            let expected = &alone[answer["system_fingerprint"].as_str().unwrap()];
            assert_eq!(&answer["choices"][0]["text"], expected);
        }
    }
    assert!((metric(&router, "hearken_weights_swaps_total").await - 8.0).abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_that_cannot_be_read_change_nothing() {
    let mut options = options();
    options.admin_keys = ApiKeys::default().and("admin");
    let router = service_of(&model("llama"), options).router();
    let before = get(&router, "/v1/models").await.ok();
    let folder = tempfile::tempdir().unwrap();
    let missing = swap(&router, folder.path()).await;
    assert_eq!(missing.status, 400, "{}", missing.text);
    assert!(missing.json()["error"]["message"].as_str().unwrap().contains("config.json"));
    let nothing = send(&router, request("/admin/weights", &json!({}), Some("admin"))).await;
    assert_eq!(nothing.status, 400);
    assert_eq!(get(&router, "/v1/models").await.ok(), before);
    send(&router, request("/v1/completions", &body(), None)).await.ok();
}
