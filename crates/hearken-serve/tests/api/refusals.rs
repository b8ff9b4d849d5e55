//! What is refused, and how.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::support::{get, post, router, send};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_parameter_is_named() {
    let router = router();
    let chat = json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2});
    let cases = [
        ("temperature", json!(2.5), "expected a number from 0 to 2"),
        ("temperature", json!("hot"), "invalid type: string"),
        ("top_p", json!(-0.1), "expected a number from 0 to 1"),
        ("n", json!(0), "at least 1"),
        ("n", json!(1000), "from 1 to 128"),
        ("max_tokens", json!(0), "at least 1"),
        ("max_completion_tokens", json!(0), "at least 1"),
        ("max_completion_tokens", json!(-3), "invalid value"),
        ("stop", json!(7), "expected a text or a list of texts"),
        ("stop", json!([""]), "at least one character"),
        ("top_logprobs", json!(3), "needs `logprobs`"),
        ("logit_bias", json!({"x": 1}), "the id of a token"),
        ("logit_bias", json!({"5": 101}), "from -100 to 100"),
        ("logit_bias", json!({"100000": 1}), "ids below 384"),
        ("frequency_penalty", json!(3), "from -2 to 2"),
        ("messages", json!([]), "expected one at least"),
        ("messages", json!([{"role": "pirate", "content": "Arr"}]), "pirate"),
        ("tools", json!([{"type": "function"}]), "knows none"),
        ("stream_options", json!({"include_usage": true}), "only for `stream`"),
        ("store", json!(true), "nothing is stored"),
        ("audio", json!({}), "is not supported here"),
        ("temprature", json!(1), "is no parameter"),
    ];
    for (param, value, expected) in cases {
        let mut body = chat.clone();
        body[param] = value;
        let answered = post(&router, "/v1/chat/completions", body).await;
        assert_eq!(answered.status, 400, "{param}: {}", answered.text);
        let error = &answered.json()["error"];
        assert!(error["message"].as_str().unwrap().contains(expected), "{param}: {error}");
        assert!(error["param"].as_str().unwrap().starts_with(param), "{param}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prompts_that_leave_no_room_and_models_that_are_not_there_are_refused() {
    let router = router();
    let long = json!({"prompt": vec![5; 256], "max_tokens": 1});
    let error = post(&router, "/v1/completions", long).await;
    assert_eq!(
        (error.status.as_u16(), &error.json()["error"]["code"]),
        (400, &json!("context_length_exceeded"))
    );
    for prompt in [json!([]), json!([[]]), json!([999])] {
        let error = post(&router, "/v1/completions", json!({"prompt": prompt})).await;
        assert_eq!(
            (error.status.as_u16(), &error.json()["error"]["param"]),
            (400, &json!("prompt"))
        );
    }
    // As long as there is room, more than there is may be asked for.
    let near = json!({"prompt": vec![5; 250], "max_tokens": 100, "ignore_eos": true});
    let answer = post(&router, "/v1/completions", near).await.ok();
    assert_eq!(answer["usage"]["completion_tokens"], 6);
    let body = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]});
    let error = post(&router, "/v1/chat/completions", body).await;
    assert_eq!(error.status, 404);
    let error = error.json();
    assert_eq!(error["error"]["code"], "model_not_found");
    assert!(error["error"]["message"].as_str().unwrap().contains("`gpt-5`"));
    assert_eq!(get(&router, "/v1/models/gpt-5").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_is_refused_in_the_same_shape() {
    let router = router();
    let check = |request: Request<Body>, status: u16| {
        let router = router.clone();
        async move {
            let answered = send(&router, request).await;
            assert_eq!(answered.status, status, "{}", answered.text);
            assert!(answered.json()["error"]["message"].is_string(), "{}", answered.text);
        }
    };
    let post = |kind: &str, body: &str| {
        let request = Request::post("/v1/completions").header("content-type", kind);
        request.body(Body::from(body.to_owned())).unwrap()
    };
    check(post("application/json", "{"), 400).await;
    check(post("application/json", "{\"prompt\": \"a\"} b"), 400).await;
    check(post("application/json", "{\"prompt\": \"a\", \"prompt\": \"b\"}"), 400).await;
    check(post("text/plain", "{\"prompt\": \"a\"}"), 415).await;
    check(post("application/json", &" ".repeat(9 << 20)), 413).await;
    check(Request::get("/v1/completions").body(Body::empty()).unwrap(), 405).await;
    check(Request::get("/v2").body(Body::empty()).unwrap(), 404).await;
    let score = Request::post("/v1/score").header("content-type", "application/json");
    check(score.body(Body::from("{\"input\": [{\"text\": \"a\"}]}")).unwrap(), 404).await;
    let foreign = Request::get("/v1/models").header("origin", "https://evil.example");
    check(foreign.body(Body::empty()).unwrap(), 403).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nulls_are_what_is_not_given() {
    let router = router();
    let mut body = json!({"prompt": "a", "max_tokens": 1});
    for name in ["temperature", "top_p", "n", "seed", "stop", "logit_bias", "stream", "model"] {
        body[name] = Value::Null;
    }
    post(&router, "/v1/completions", body).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completions_that_cannot_be_read_are_refused() {
    let router = router();
    let one = |prompt: Value, completion: Value| json!([{"prompt_ids": prompt, "completion_ids": completion}]);
    let long: Vec<u32> = vec![5; 300];
    for (input, more, param, expected) in [
        (json!([]), json!({}), "input", "0 completions; expected 1 to 256"),
        (one(json!([]), json!([5])), json!({}), "input[0]", "the prompt is empty"),
        (one(json!([5]), json!([400])), json!({}), "input[0]", "token 400; expected ids below 384"),
        (
            one(json!([5]), json!(long)),
            json!({}),
            "input[0]",
            "301 tokens; the model has 256 positions",
        ),
        (one(json!([5]), json!(["x"])), json!({}), "input[0].completion_ids[0]", "invalid type"),
        (one(json!([5]), json!([6])), json!({"top_logprobs": 385}), "top_logprobs", "at most 384"),
        (one(json!([5]), json!([6])), json!({"temperature": 0}), "temperature", "above 0"),
        (one(json!([5]), json!([6])), json!({"echo": true}), "echo", "not supported"),
    ] {
        let mut body = json!({"input": input});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answered = post(&router, "/v1/logprobs", body).await;
        assert_eq!(answered.status, 400, "{}", answered.text);
        let error = &answered.json()["error"];
        assert!(error["message"].as_str().unwrap().contains(expected), "{error}");
        assert_eq!(error["param"], param, "{error}");
    }
    let nothing =
        post(&router, "/v1/logprobs", json!({"input": one(json!([5]), json!([]))})).await.ok();
    assert_eq!(nothing["data"][0]["logprobs"], json!([]));
}
