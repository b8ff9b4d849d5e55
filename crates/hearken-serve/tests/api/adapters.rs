//! Several adapters over one base.

use std::path::{Path, PathBuf};

use hearken_model::{LoadOptions, LoraConfig, Model, Targets};
use hearken_serve::ApiKeys;
use hearken_tensor::Cpu;
use serde_json::{Value, json};

use crate::support::{get, metric, model, options, post, request, send, service_of, service_with};

/// An adapter of the tiny llama that changes much, in `folder`; of odd seeds it has another rank and other targets.
fn adapter(folder: &Path, name: &str, seed: u64) -> PathBuf {
    let base = model("llama");
    let mut llama = Model::load(Cpu::new(), &base, &LoadOptions::language_model()).unwrap().0;
    let config = match seed % 2 {
        0 => LoraConfig::new(3, 6.0, Targets::AllLinear),
        _ => LoraConfig::new(8, 24.0, Targets::Names(vec!["q_proj".into(), "v_proj".into()])),
    };
    llama.add_adapter(&config, &base, seed).unwrap();
    for index in 0..llama.params().len() {
        if llama.params()[index].name.contains("lora_B") {
            let len = llama.params()[index].len();
            let value = |at: usize| ((at as u64 * 37 + seed * 11) % 29) as f32 / 29.0 - 0.5;
            let values: Vec<f32> = (0..len).map(value).collect();
            llama.params_mut().set_values(index, &values);
        }
    }
    let dir = folder.join(name);
    llama.save_adapter(&dir).unwrap();
    dir
}

fn body(name: &str, prompt: &[u32]) -> Value {
    json!({
        "model": name, "prompt": prompt, "max_tokens": 24, "temperature": 0.8, "seed": 5, "ignore_eos": true,
        "return_token_ids": true, "logprobs": 1,
    })
}

/// Tokens and log-probabilities of an answer.
fn told(answer: &Value) -> (Vec<Value>, Vec<f64>) {
    let choice = &answer["choices"][0];
    let numbers = choice["sampled_logprobs"].as_array().unwrap().iter();
    let ids = choice["token_ids"].as_array().unwrap().clone();
    (ids, numbers.map(|one| one.as_f64().unwrap()).collect())
}

#[track_caller]
fn assert_same(found: &Value, expected: &Value) {
    let ((ids, logprobs), (expected_ids, expected)) = (told(found), told(expected));
    assert_eq!(ids, expected_ids);
    for (found, expected) in logprobs.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
}

/// One long prompt, so that what the cache keeps of it is asked for again.
fn prompts() -> Vec<Vec<u32>> {
    let long: Vec<u32> = (0..40).map(|at| 3 + at * 7 % 300).collect();
    vec![long, vec![5, 17, 300, 42], vec![9]]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn adapters_in_one_batch_say_what_each_says_alone() {
    let folder = tempfile::tempdir().unwrap();
    let adapters =
        [("one", adapter(folder.path(), "one", 1)), ("two", adapter(folder.path(), "two", 2))];
    let router = service_with(&model("llama"), &adapters, options()).router();
    // Alone: each merged into weights of its own.
    let mut alone = Vec::new();
    for (name, place) in
        [("tiny", None), ("one", Some(&adapters[0].1)), ("two", Some(&adapters[1].1))]
    {
        let mut options = options();
        options.admin_keys = ApiKeys::default().and("admin");
        let own = service_of(&model("llama"), options).router();
        if let Some(place) = place {
            let swap = json!({"adapter": place});
            send(&own, request("/admin/weights", &swap, Some("admin"))).await.ok();
        }
        for prompt in prompts() {
            let mut body = body("tiny", &prompt);
            let answer = post(&own, "/v1/completions", body.clone()).await.ok();
            body["model"] = json!(name);
            alone.push((body, answer));
        }
    }
    // The three of a prompt differ.
    for at in 0..3 {
        assert_ne!(told(&alone[at].1).0, told(&alone[at + 3].1).0);
        assert_ne!(told(&alone[at + 3].1).0, told(&alone[at + 6].1).0);
    }
    // All at once, and again, when the cache has the prompts of all.
    for _ in 0..2 {
        let asking: Vec<_> = alone
            .iter()
            .cycle()
            .take(27)
            .map(|(body, expected)| {
                let (router, body, expected) = (router.clone(), body.clone(), expected.clone());
                tokio::spawn(async move {
                    let found = post(&router, "/v1/completions", body).await.ok();
                    (found, expected)
                })
            })
            .collect();
        for asked in asking {
            let (found, expected) = asked.await.unwrap();
            assert_same(&found, &expected);
            assert_eq!(found["system_fingerprint"], expected["system_fingerprint"]);
        }
    }
    // There is one engine.
    let metrics = get(&router, "/metrics").await.text;
    let engines = metrics.lines().filter(|line| line.starts_with("hearken_cache_pages_in_use{"));
    assert_eq!(engines.count(), 1, "{metrics}");
    assert!((metric(&router, "hearken_completions_under_way").await).abs() < 0.5);

    // What is read of given tokens is of the adapter that is named, too.
    for (body, expected) in &alone {
        let (ids, _) = told(expected);
        let input = json!([{"prompt_ids": body["prompt"], "completion_ids": ids}]);
        let read = json!({"model": body["model"], "input": input, "temperature": 0.8});
        let read = post(&router, "/v1/logprobs", read).await.ok();
        let found: Vec<f64> = serde_json::from_value(read["data"][0]["logprobs"].clone()).unwrap();
        for (found, expected) in found.iter().zip(told(expected).1) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_adapter_is_swapped_while_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let adapters =
        [("one", adapter(folder.path(), "one", 1)), ("two", adapter(folder.path(), "two", 2))];
    let third = adapter(folder.path(), "three", 3);
    let mut with_key = options();
    with_key.admin_keys = ApiKeys::default().and("admin");
    let router = service_with(&model("llama"), &adapters, with_key).router();
    let only = service_with(&model("llama"), &[("one", third.clone())], options()).router();
    let prompt = &prompts()[0];
    let ask = |router: axum::Router, name: &'static str| {
        let body = body(name, prompt);
        async move { post(&router, "/v1/completions", body).await.ok() }
    };
    let (one, two) = (ask(router.clone(), "one").await, ask(router.clone(), "two").await);
    let expected = ask(only, "one").await;
    let asking: Vec<_> = (0..12)
        .map(|at| tokio::spawn(ask(router.clone(), if at % 2 == 0 { "one" } else { "two" })))
        .collect();
    let swap = json!({"model": "one", "adapter": third});
    let swapped = send(&router, request("/admin/weights", &swap, Some("admin"))).await.ok();
    assert_eq!(swapped["version"], expected["system_fingerprint"]);
    for (at, asked) in asking.into_iter().enumerate() {
        let found = asked.await.unwrap();
        let is_new = found["system_fingerprint"] == expected["system_fingerprint"];
        let of = if at % 2 == 1 {
            &two
        } else if is_new {
            &expected
        } else {
            &one
        };
        assert_same(&found, of);
        assert_eq!(found["system_fingerprint"], of["system_fingerprint"]);
    }
    assert_same(&ask(router.clone(), "one").await, &expected);
    assert_same(&ask(router.clone(), "two").await, &two);
    let bad = json!({"model": "two", "adapter": folder.path()});
    let refused = send(&router, request("/admin/weights", &bad, Some("admin"))).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert_same(&ask(router, "two").await, &two);
}
