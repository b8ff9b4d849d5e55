//! Who may ask, how much, and what is left of those who leave.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hearken_serve::ApiKeys;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::ServiceExt as _;

use crate::support::{get, metric, model, options, post, request, router, send, service_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_asked_for_and_the_admins_is_another() {
    let mut options = options();
    options.keys = ApiKeys::default().and("user");
    options.admin_keys = ApiKeys::default().and("admin");
    let router = service_of(&model("llama"), options).router();
    let body = json!({"prompt": "a", "max_tokens": 1});
    let weights = json!({"path": model("qwen2")});
    let check = |path: &'static str, key: Option<&'static str>, expected: u16| {
        let body = if path == "/admin/weights" { weights.clone() } else { body.clone() };
        let router = router.clone();
        async move {
            let answered = send(&router, request(path, &body, key)).await;
            assert_eq!(answered.status, expected, "{path} {key:?} {}", answered.text);
            if expected == 401 {
                assert_eq!(answered.headers["www-authenticate"], "Bearer");
                assert_eq!(answered.json()["error"]["code"], "invalid_api_key");
            }
        }
    };
    check("/v1/completions", None, 401).await;
    check("/v1/completions", Some("wrong"), 401).await;
    check("/v1/completions", Some("admin"), 401).await;
    check("/v1/completions", Some("user"), 200).await;
    check("/admin/weights", None, 401).await;
    check("/admin/weights", Some("user"), 401).await;
    check("/admin/weights", Some("admin"), 200).await;
    assert_eq!(get(&router, "/health").await.status, 200);
    assert_eq!(get(&router, "/v1/models").await.status, 401);
    // Without a key of its own, nobody changes weights.
    assert_eq!(post(&crate::support::router(), "/admin/weights", weights).await.status, 401);
}

/// A request that runs for as long as it may.
fn long() -> Request<Body> {
    let body = json!({"prompt": "a", "max_tokens": 250, "ignore_eos": true, "stream": true});
    request("/v1/completions", &body, None)
}

async fn nothing_left(router: &axum::Router) {
    for _ in 0..500 {
        if metric(router, "hearken_completions_under_way").await == 0.0
            && metric(router, "hearken_cache_pages_in_use{model=\"tiny\"}").await == 0.0
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{}", get(router, "/metrics").await.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_leaves_no_work_behind() {
    let router = router();
    for _ in 0..3 {
        // The body is dropped before it is read, as hyper does when a connection ends.
        drop(router.clone().oneshot(long()).await.unwrap());
        let body = json!({"prompt": "a", "max_tokens": 250, "ignore_eos": true});
        let waiting = router.clone().oneshot(request("/v1/completions", &body, None));
        drop(tokio::time::timeout(Duration::from_millis(1), waiting).await);
    }
    nothing_left(&router).await;
    let broken_off = metric(&router, "hearken_completions_total{reason=\"broken_off\"}").await;
    assert!(1.0 <= broken_off, "{broken_off}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_may_wait_is_refused_until_there_is_room() {
    let mut options = options();
    options.completions_max = 2;
    let router = service_of(&model("llama"), options).router();
    let held = [
        router.clone().oneshot(long()).await.unwrap(),
        router.clone().oneshot(long()).await.unwrap(),
    ];
    let body = json!({"prompt": "a", "max_tokens": 1});
    let refused = post(&router, "/v1/completions", body.clone()).await;
    // Both may have ended by now on a fast machine: their pieces wait for nobody.
    if refused.status != 200 {
        assert_eq!(refused.status, 429);
        assert_eq!(refused.headers["retry-after"], "1");
        assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    }
    drop(held);
    nothing_left(&router).await;
    post(&router, "/v1/completions", body.clone()).await.ok();
    let mut many = body;
    many["n"] = json!(3);
    let refused = post(&router, "/v1/completions", many).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["param"]), (400, &json!("n")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_takes_too_long_is_broken_off() {
    let mut options = options();
    options.timeout = Duration::ZERO;
    let router = service_of(&model("llama"), options).router();
    let body = json!({"prompt": "a", "max_tokens": 200, "ignore_eos": true});
    let late = post(&router, "/v1/completions", body).await;
    assert_eq!(late.status, 504, "{}", late.text);
    let streamed = send(&router, long()).await;
    assert!(streamed.text.contains("\"error\"") && !streamed.text.contains("[DONE]"));
    nothing_left(&router).await;
}

/// Sends a request over a socket and reads to the end of the connection.
async fn over_socket(address: std::net::SocketAddr, body: &str) -> String {
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn at_the_end_answers_under_way_are_finished_and_new_ones_refused() {
    let mut options = options();
    options.bind = "127.0.0.1:0".parse().unwrap();
    let service = service_of(&model("llama"), options);
    let router = service.router();
    let listener = service.listen().await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(service.serve(listener, async { drop(stopped.await) }));
    let body = json!({"prompt": "a", "max_tokens": 250, "n": 100, "ignore_eos": true}).to_string();
    let asked = tokio::spawn(async move { over_socket(address, &body).await });
    while metric(&router, "hearken_completions_under_way").await == 0.0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.send(()).unwrap();
    while get(&router, "/health").await.status == 200 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let refused = over_socket(address, "{\"prompt\": \"a\"}").await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    let answer = asked.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"usage\""));
    serving.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
