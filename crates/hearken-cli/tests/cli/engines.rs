//! Trainers whose completions come from servers of other engines: stubs that speak SGLang's and vLLM's protocols as these
//! document them, each before a `hearken serve` that has the weights.
#![cfg(unix)]

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hearken_testing::server::{Request, Server as Stub};
use serde_json::{Value, json};

use crate::serve::Server;
use crate::served::{KEY, grpo, servers, steps, train};
use crate::support::hearken;

/// What a stub got: paths with the bodies.
type Received = Arc<Mutex<Vec<(String, Value)>>>;

/// A stub, the server behind it, and what it got.
struct Engine {
    url: String,
    received: Received,
    _stub: Stub,
}

impl Engine {
    /// A stub that answers what `answer` gives: a status and a body.
    fn start(
        answer: impl Fn(&Server, &str, &Value) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let model = crate::support::model("llama");
        let behind = Server::start(&["--model", model.to_str().unwrap()]);
        let received = Received::default();
        let log = Arc::clone(&received);
        let stub = Stub::start(move |request: Request, mut stream: &TcpStream| {
            assert_eq!(request.header("authorization"), Some("Bearer admin"));
            let body = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
            let (status, text) = answer(&behind, &request.path, &body);
            log.lock().unwrap().push((request.path, body));
            let length = text.len();
            write!(
                stream,
                "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
                 connection: close\r\n\r\n{text}"
            )
        });
        Self { url: stub.url(), received, _stub: stub }
    }

    fn bodies(&self, path: &str) -> Vec<Value> {
        let received = self.received.lock().unwrap();
        received.iter().filter(|(own, _)| own == path).map(|(_, body)| body.clone()).collect()
    }
}

fn models(owner: &str) -> (u16, String) {
    let model = json!({"id": "policy", "object": "model", "created": 1, "owned_by": owner});
    (200, json!({"object": "list", "data": [model]}).to_string())
}

/// Completions of the server behind a stub.
fn completed(behind: &Server, prompt: &Value, n: usize, seed: &Value, of: &Value) -> Vec<Value> {
    let tokens = of.get("max_tokens").unwrap_or(&of["max_new_tokens"]);
    let body = json!({
        "prompt": prompt, "n": n, "seed": seed, "max_tokens": tokens, "temperature": of["temperature"],
        "return_token_ids": true,
    });
    behind.post("/v1/completions", &body)["choices"].as_array().unwrap().clone()
}

/// SGLang, as <https://docs.sglang.io/basic_usage/native_api.html> has it.
fn sglang() -> Engine {
    let version = Mutex::new("default".to_owned());
    Engine::start(move |behind, path, body| match path {
        "/v1/models" => models("sglang"),
        "/update_weights_from_disk" => {
            behind.post("/admin/weights", &json!({"path": body["model_path"]}));
            body["weight_version"].as_str().unwrap().clone_into(&mut version.lock().unwrap());
            let answer = json!({"success": true, "message": "updated", "num_paused_requests": 0});
            (200, answer.to_string())
        }
        "/generate" => {
            assert_eq!(body["return_logprob"], true);
            let prompts = body["input_ids"].as_array().unwrap();
            let params = body["sampling_params"].as_array().unwrap();
            let version = version.lock().unwrap().clone();
            let one = |(prompt, params): (&Value, &Value)| {
                let choice = &completed(behind, prompt, 1, &params["sampling_seed"], params)[0];
                let ids = choice["token_ids"].as_array().unwrap();
                let logprobs = choice["sampled_logprobs"].as_array().unwrap();
                let told: Vec<Value> =
                    logprobs.iter().zip(ids).map(|(p, id)| json!([p, id, null])).collect();
                let reason =
                    json!({"type": choice["finish_reason"], "matched": 0, "length": ids.len()});
                json!({"text": "", "output_ids": ids, "meta_info": {
                    "id": "x", "finish_reason": reason, "prompt_tokens": 1, "weight_version": version,
                    "completion_tokens": ids.len(), "output_token_logprobs": told,
                }})
            };
            let answers: Vec<Value> = prompts.iter().zip(params).map(one).collect();
            (200, json!(answers).to_string())
        }
        other => (404, format!("{other}?")),
    })
}

/// vLLM with `VLLM_SERVER_DEV_MODE=1`.
fn vllm() -> Engine {
    Engine::start(|behind, path, body| match path {
        "/v1/models" => models("vllm"),
        "/collective_rpc" => {
            assert_eq!(body["method"], "reload_weights");
            behind.post("/admin/weights", &json!({"path": body["kwargs"]["weights_path"]}));
            (200, json!({"results": [null]}).to_string())
        }
        "/reset_prefix_cache?reset_running_requests=true" => (200, String::new()),
        "/v1/completions" => {
            assert_eq!(
                (&body["return_token_ids"], &body["model"]),
                (&json!(true), &json!("policy"))
            );
            let n = body["n"].as_u64().unwrap() as usize;
            let choices = completed(behind, &body["prompt"], n, &body["seed"], body);
            let choice = |choice: &Value| {
                let logprobs = &choice["sampled_logprobs"];
                json!({
                    "index": choice["index"], "text": "", "finish_reason": choice["finish_reason"],
                    "stop_reason": null, "token_ids": choice["token_ids"], "prompt_token_ids": body["prompt"],
                    "logprobs": {"token_logprobs": logprobs, "tokens": [], "top_logprobs": [], "text_offset": []},
                })
            };
            let choices: Vec<Value> = choices.iter().rev().map(choice).collect();
            (200, json!({"id": "x", "object": "text_completion", "model": "policy", "choices": choices}).to_string())
        }
        other => (404, json!({"detail": format!("{other}?")}).to_string()),
    })
}

/// The largest difference between what the server said of a token and what the trainer says.
fn differences(steps: &[Value]) -> Vec<f64> {
    let key = "sampling/sampling_logp_difference/max";
    steps.iter().map(|step| step[key].as_f64().unwrap()).collect()
}

#[test]
fn other_engines_sample_with_the_weights_of_now() {
    let folder = tempfile::tempdir().unwrap();
    for (name, engine, load, sample) in [
        ("sglang", sglang(), "/update_weights_from_disk", "/generate"),
        ("vllm", vllm(), "/collective_rpc", "/v1/completions"),
    ] {
        train(folder.path(), name, 4, &servers(&[&engine.url])).ok();
        let steps = steps(folder.path(), name);
        assert_eq!(steps.len(), 4);
        // Were they those of before, the learning rate of this run would show.
        assert!(differences(&steps).iter().all(|one| *one < 1e-3), "{name}: {steps:?}");
        let loaded = engine.bodies(load);
        let key = if name == "vllm" { "/kwargs/weights_path" } else { "/model_path" };
        let paths: Vec<&str> =
            loaded.iter().map(|body| body.pointer(key).unwrap().as_str().unwrap()).collect();
        for (at, path) in paths.iter().enumerate() {
            assert!(path.ends_with(&format!("/{name}/weights/{at}")), "{path}");
        }
        assert_eq!((paths.len(), engine.bodies(sample).len()), (4, 12));
    }
}

#[test]
fn completions_of_a_prompt_have_seeds_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let engine = sglang();
    train(folder.path(), "run", 1, &servers(&[&engine.url])).ok();
    let mut seeds = std::collections::BTreeSet::new();
    for body in engine.bodies("/generate") {
        assert_eq!(body["input_ids"].as_array().unwrap().len(), 4);
        let params = body["sampling_params"].as_array().unwrap();
        seeds.extend(params.iter().map(|one| one["sampling_seed"].as_i64().unwrap()));
    }
    assert_eq!(seeds.len(), 12);
}

#[test]
fn an_adapter_is_merged_for_engines_that_read_models_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, own) =
        (sglang(), Server::start(&["--model", crate::support::model("llama").to_str().unwrap()]));
    for urls in [vec![engine.url.as_str()], vec![engine.url.as_str(), own.url.as_str()]] {
        let name = format!("run-{}", urls.len());
        let mut words = grpo(folder.path(), &name, 3, &servers(&urls));
        words.extend(["--set", "lora.r=2", "--set", "optimizer.lr=1e-2"].map(str::to_owned));
        let output = hearken(words).env(KEY, "admin").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let steps = steps(folder.path(), &name);
        assert!(differences(&steps).iter().all(|one| *one < 1e-3), "{steps:?}");
    }
    let loaded = engine.bodies("/update_weights_from_disk");
    assert!(loaded[1]["model_path"].as_str().unwrap().ends_with("/weights/1-merged"), "{loaded:?}");
    let left = std::fs::read_dir(folder.path().join("run-2/weights")).unwrap().count();
    assert_eq!(left, 2);
}

/// A stub that fails at the second iteration, and at no other.
#[test]
fn an_engine_that_fails_is_left_out_and_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let (behind, own) =
        (sglang(), Server::start(&["--model", crate::support::model("llama").to_str().unwrap()]));
    let loads = AtomicUsize::new(0);
    let inner = behind.url.clone();
    let failing = Engine::start(move |_, path, body| {
        let is_load = path == "/update_weights_from_disk";
        let load = loads.fetch_add(usize::from(is_load), Ordering::SeqCst) + usize::from(is_load);
        if is_load && load == 2 {
            return (500, json!({"success": false, "message": "out of memory"}).to_string());
        }
        let mut asked =
            ureq::get(format!("{inner}{path}")).header("authorization", "Bearer admin").call();
        if !body.is_null() {
            let post = ureq::post(format!("{inner}{path}")).header("authorization", "Bearer admin");
            asked = post.send_json(body);
        }
        (200, asked.unwrap().body_mut().read_to_string().unwrap())
    });
    let ran = train(folder.path(), "run", 4, &servers(&[&failing.url, &own.url])).ok();
    let news =
        format!("a server is left out until it answers: {}/update_weights_from_disk", failing.url);
    assert_eq!(ran.stderr.matches(&news).count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("{}: samples again", failing.url)), "{}", ran.stderr);
    assert_eq!(steps(folder.path(), "run").len(), 4);
}

#[test]
fn what_an_engine_cannot_do_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let engine = vllm();
    let warm = format!("temperature = 0.7\n{}", servers(&[&engine.url]));
    let error = train(folder.path(), "warm", 2, &warm).error();
    assert!(error.contains("found a temperature of 0.7, expected 1"), "{error}");

    let plain = Engine::start(|_, path, _| match path {
        "/v1/models" => models("vllm"),
        _ => (404, json!({"detail": "Not Found"}).to_string()),
    });
    let error = train(folder.path(), "plain", 2, &servers(&[&plain.url])).error();
    assert!(error.contains("/collective_rpc: status 404"), "{error}");
    assert!(error.contains("VLLM_SERVER_DEV_MODE=1"), "{error}");

    let other = Engine::start(|_, _, _| models("somebody"));
    let error = train(folder.path(), "other", 2, &servers(&[&other.url])).error();
    assert!(error.contains("found `owned_by` \"somebody\""), "{error}");

    // Each is cut short by an engine that was asked to stop, or says less than it was asked.
    let cut = |reason: &'static str, logprobs: Value| {
        Engine::start(move |_, path, _| match path {
            "/v1/models" => models("sglang"),
            "/update_weights_from_disk" => {
                (200, json!({"success": true, "message": ""}).to_string())
            }
            _ => {
                let reason = json!({"type": reason, "message": "by whom"});
                let info = json!({"finish_reason": reason, "output_token_logprobs": logprobs});
                (200, json!(vec![json!({"meta_info": info}); 4]).to_string())
            }
        })
    };
    for (name, engine, expected) in [
        ("aborted", cut("abort", json!([[-1.0, 5, null]])), "ended by \"abort\" by whom"),
        ("silent", cut("stop", json!([])), "0 log-probabilities of 0 tokens"),
    ] {
        let error = train(folder.path(), name, 2, &servers(&[&engine.url])).error();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("no server is left that samples"), "{error}");
    }
}
