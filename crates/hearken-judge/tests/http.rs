//! A server as a source of scores, on a listener of our own.
// A test may fail; that is what it is for.
#![allow(clippy::unwrap_used)]

use std::{
    collections::VecDeque,
    io::Write as _,
    net::TcpListener,
    sync::{
        Mutex,
        mpsc::{self, Receiver},
    },
    time::{Duration, Instant},
};

use hearken_judge::{HttpOptions, HttpScorer, Item, JudgeError};
use hearken_testing::server::Server;
use serde_json::{Map, Value, json};

/// Serves the replies in order, one connection each, and passes the bodies of the requests on; once they
/// are spent it hangs up.
fn serve(replies: Vec<String>) -> (Server, String, Receiver<Value>) {
    let (sender, bodies) = mpsc::channel();
    let replies = Mutex::new(VecDeque::from(replies));
    let server = Server::start(move |request, mut stream| {
        let Some(reply) = replies.lock().unwrap().pop_front() else { return Ok(()) };
        let _ = sender.send(serde_json::from_slice(&request.body).unwrap());
        stream.write_all(reply.as_bytes())
    });
    let url = format!("{}/score", server.url());
    (server, url, bodies)
}

fn reply(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    )
}

fn ok(body: &str) -> String {
    reply("200 OK", "content-type: application/json\r\n", body)
}

fn scorer(url: &str) -> HttpScorer {
    HttpScorer::new(HttpOptions {
        first_pause: Duration::from_millis(20),
        deadline: Duration::from_secs(30),
        items_max: 2,
        ..HttpOptions::new(url)
    })
    .unwrap()
}

fn score(scorer: &mut HttpScorer, completions: &[&str]) -> Result<Vec<f64>, JudgeError> {
    let fields = Map::new();
    let items: Vec<_> = completions
        .iter()
        .map(|completion| Item { prompt: "p", messages: None, completion, fields: &fields })
        .collect();
    scorer.score(&items)
}

#[test]
fn items_travel_in_batches_and_scores_come_back_in_order() {
    let (_server, url, bodies) =
        serve(vec![ok(r#"{"scores": [1, -2.5]}"#), ok(r#"{"scores": [0.25]}"#)]);
    assert_eq!(score(&mut scorer(&url), &["a", "b", "c"]).unwrap(), [1.0, -2.5, 0.25]);
    let item = |completion| json!({"prompt": "p", "completion": completion});
    assert_eq!(bodies.recv().unwrap(), json!({"items": [item("a"), item("b")]}));
    assert_eq!(bodies.recv().unwrap(), json!({"items": [item("c")]}));
}

#[test]
fn a_busy_server_is_asked_again_after_a_pause() {
    let (_server, url, _bodies) = serve(vec![
        reply("429 Too Many Requests", "retry-after: 1\r\n", "slow down"),
        reply("503 Service Unavailable", "", ""),
        ok(r#"{"scores": [4]}"#),
    ]);
    let begin = Instant::now();
    assert_eq!(score(&mut scorer(&url), &["a"]).unwrap(), [4.0]);
    assert!(Duration::from_secs(1) <= begin.elapsed(), "Retry-After is honored");
}

#[test]
fn patience_with_a_broken_server_ends() {
    let (server, url, bodies) = serve(vec![reply("500 Internal Server Error", "", "boom"); 6]);
    let error = score(&mut scorer(&url), &["a"]).unwrap_err();
    assert!(matches!(error, JudgeError::Status { status: 500, attempts: 6, .. }), "{error}");
    assert!(error.to_string().contains("boom"), "{error}");
    drop(server);
    assert_eq!(bodies.iter().count(), 6);
}

#[test]
fn a_refusal_is_not_repeated() {
    let (_server, url, _bodies) = serve(vec![reply("400 Bad Request", "", "no such model")]);
    let error = score(&mut scorer(&url), &["a"]).unwrap_err();
    assert!(matches!(error, JudgeError::Status { status: 400, attempts: 1, .. }), "{error}");
}

#[test]
fn a_silent_server_ends_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let options = HttpOptions { deadline: Duration::from_millis(300), ..HttpOptions::new(url) };
    let begin = Instant::now();
    let error = score(&mut HttpScorer::new(options).unwrap(), &["a"]).unwrap_err();
    assert!(matches!(error, JudgeError::HttpDeadline { .. }), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn nobody_listening_is_an_error() {
    let url = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let options = HttpOptions {
        retries_max: 1,
        first_pause: Duration::from_millis(10),
        ..HttpOptions::new(url)
    };
    let error = score(&mut HttpScorer::new(options).unwrap(), &["a"]).unwrap_err();
    assert!(matches!(error, JudgeError::Transport { attempts: 2, .. }), "{error}");
}

#[test]
fn anything_but_one_finite_number_per_item_is_an_error() {
    for (body, reason) in [
        (r#"{"scores": [1]}"#, "1 scores for 2 items"),
        (r#"{"scores": [1, 2, 3]}"#, "3 scores for 2 items"),
        (r#"{"scores": [1, null]}"#, "score 2: null"),
        (r#"{"scores": [NaN, 1]}"#, "not JSON"),
        ("[1, 2]", "no list \"scores\""),
    ] {
        let (_server, url, _bodies) = serve(vec![ok(body)]);
        let error = score(&mut scorer(&url), &["a", "b"]).unwrap_err().to_string();
        assert!(error.contains(reason), "{body}: {error}");
    }
}

#[test]
fn a_url_that_is_none_is_an_error_at_the_start() {
    for url in ["localhost", "ftp://a/b", "http://"] {
        let error = HttpScorer::new(HttpOptions::new(url)).unwrap_err();
        assert!(matches!(error, JudgeError::BadUrl { .. }), "{url}: {error}");
    }
}
