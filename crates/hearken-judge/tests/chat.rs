//! Language models as sources of answers, on a server of our own.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::net::TcpListener;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hearken_data::{Message, Role};
use hearken_judge::chat::{Api, ChatAnswer, ChatClient, ChatError, ChatOptions, Stop, Timeouts};
use hearken_testing::chat::{ChatReceived, Reply, Stub};
use serde_json::json;

const KEY: &str = "sk-secret-123456";

fn options(api: Api, url: impl Into<String>) -> ChatOptions {
    let timeouts = Timeouts {
        connect: Duration::from_secs(5),
        first_text: Duration::from_secs(5),
        between_texts: Duration::from_secs(5),
        total: Duration::from_secs(20),
    };
    ChatOptions {
        key: Some(KEY.into()),
        first_pause: Duration::from_millis(10),
        timeouts,
        ..ChatOptions::new(api, url, "m")
    }
}

fn question() -> [Message; 1] {
    [Message::new(Role::User, "2 + 2?")]
}

fn ask(options: ChatOptions) -> Result<ChatAnswer, ChatError> {
    let client = ChatClient::new(options).unwrap();
    let answer = client.answer(&question(), &mut |_| ControlFlow::Continue(()));
    if let Err(error) = &answer {
        let shown = format!("{error} {error:?} {client:?}");
        assert!(!shown.contains(KEY), "the key is shown: {shown}");
    }
    answer
}

fn ask_stub(
    reply: impl Fn(&ChatReceived) -> Reply + Send + Sync + 'static,
) -> Result<ChatAnswer, ChatError> {
    let stub = Stub::start(reply);
    ask(options(Api::OpenAi, stub.url()))
}

fn event(text: &str) -> Vec<u8> {
    format!("data: {}\n\n", json!({ "choices": [{ "delta": { "content": text } }] })).into_bytes()
}

fn pieces(pieces: &[&[u8]]) -> Reply {
    Reply::Pieces(pieces.iter().map(|piece| (Duration::ZERO, piece.to_vec())).collect())
}

#[test]
fn both_protocols_stream_word_by_word() {
    for api in [Api::OpenAi, Api::Anthropic] {
        let stub = Stub::start(|_| Reply::words(&["vier", " – ", "ja"], Duration::from_millis(30)));
        let client = ChatClient::new(options(api, stub.url())).unwrap();
        let mut words = Vec::new();
        let answer = client
            .answer(&question(), &mut |text| {
                words.push((text.to_owned(), Instant::now()));
                ControlFlow::Continue(())
            })
            .unwrap();
        words.retain(|(text, _)| !text.is_empty());
        let texts: Vec<&str> = words.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(texts, ["vier", " – ", "ja"]);
        // They came one by one, not all at the end.
        assert!(Duration::from_millis(40) <= words[2].1 - words[0].1);
        assert_eq!((answer.text.as_str(), &answer.stop), ("vier – ja", &Stop::End));
        assert_eq!(answer.model, "stub");
        assert!(Duration::from_millis(30) <= answer.first_text_after);
        assert!(answer.first_text_after < answer.duration);
    }
}

#[test]
fn requests_are_those_of_the_protocol() {
    let stub = Stub::start(|_| Reply::words(&["x"], Duration::ZERO));
    ask(options(Api::OpenAi, stub.url())).unwrap();
    let max_tokens = Some(7);
    ask(ChatOptions { max_tokens, ..options(Api::Anthropic, stub.url() + "/v1") }).unwrap();
    let requests = stub.requests();
    assert_eq!(requests[0].path, "/v1/chat/completions");
    assert_eq!(requests[0].header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(requests[0].body["messages"][0]["content"], "2 + 2?");
    assert_eq!(requests[0].body["stream"], true);
    assert_eq!(requests[1].path, "/v1/messages");
    assert_eq!(requests[1].header("x-api-key"), Some(KEY));
    assert_eq!(requests[1].header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(requests[1].body["max_tokens"], 7);
}

#[test]
fn events_may_come_in_any_pieces_with_comments_between() {
    let mut bytes = b": keep-alive\r\n\r\n".to_vec();
    bytes.extend(event("hé"));
    bytes.extend(b": still here\n\n");
    bytes.extend(event("llo"));
    bytes.extend(b"data: [DONE]\n\n");
    for size in [1, 7, 1000] {
        let cut: Vec<Vec<u8>> = bytes.chunks(size).map(<[u8]>::to_vec).collect();
        let reply = Reply::Pieces(cut.into_iter().map(|piece| (Duration::ZERO, piece)).collect());
        assert_eq!(ask_stub(move |_| reply.clone()).unwrap().text, "héllo");
    }
}

#[test]
fn a_server_that_does_not_stream_is_understood() {
    let body = json!({ "model": "n", "choices": [{ "message": { "content": "four" }, "finish_reason": "length" }], "usage": { "prompt_tokens": 3, "completion_tokens": 1 } });
    let answer = ask_stub(move |_| Reply::status(200, body.to_string())).unwrap();
    assert_eq!((answer.text.as_str(), answer.model.as_str()), ("four", "n"));
    assert_eq!(answer.stop, Stop::Length);
    assert_eq!((answer.prompt_tokens, answer.completion_tokens), (Some(3), Some(1)));
    let body =
        json!({ "content": [{ "type": "text", "text": "four" }], "stop_reason": "end_turn" });
    let stub = Stub::start(move |_| Reply::status(200, body.to_string()));
    assert_eq!(ask(options(Api::Anthropic, stub.url())).unwrap().text, "four");
}

#[test]
fn the_caller_breaks_off_at_a_word_or_while_it_waits() {
    let stub = Stub::start(|_| Reply::words(&["one", "two"], Duration::from_millis(20)));
    let client = ChatClient::new(options(Api::OpenAi, stub.url())).unwrap();
    let mut seen = String::new();
    let error = client
        .answer(&question(), &mut |text| {
            seen += text;
            if text.is_empty() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .unwrap_err();
    assert_eq!((seen.as_str(), error), ("one", ChatError::Cancelled { received: 3 }));

    let stub = Stub::start(|_| Reply::Silence(Duration::from_secs(4)));
    let client = ChatClient::new(options(Api::OpenAi, stub.url())).unwrap();
    let start = Instant::now();
    let error = client.answer(&question(), &mut |_| ControlFlow::Break(())).unwrap_err();
    assert_eq!(error, ChatError::Cancelled { received: 0 });
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn a_busy_server_is_asked_again_after_the_pause_it_wants() {
    for status in [429, 500, 503, 529] {
        let count = AtomicUsize::new(0);
        let stub = Stub::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::Status {
                status,
                headers: vec!["retry-after: 1".into()],
                body: "{\"error\": {\"message\": \"busy\"}}".into(),
            },
            1 => Reply::status(status, "busy"),
            _ => Reply::words(&["at last"], Duration::ZERO),
        });
        let start = Instant::now();
        assert_eq!(ask(options(Api::OpenAi, stub.url())).unwrap().text, "at last");
        assert!(Duration::from_secs(1) <= start.elapsed());
        assert_eq!(stub.requests().len(), 3);
    }
}

#[test]
fn a_server_that_stays_busy_is_given_up_with_its_words() {
    let stub = Stub::start(|_| {
        Reply::status(
            529,
            r#"{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}"#,
        )
    });
    let options = ChatOptions { retries_max: 2, ..options(Api::Anthropic, stub.url()) };
    let error = ask(options).unwrap_err();
    let expected = format!("{}/v1/messages: status 529 after 3 attempt(s): Overloaded", stub.url());
    assert_eq!(error.to_string(), expected);
}

#[test]
fn nothing_is_repeated_once_text_has_come() {
    let broken =
        [event("half"), b"data: {\"error\": {\"message\": \"out of memory\"}}\n\n".to_vec()];
    let reply = pieces(&[&broken[0], &broken[1]]);
    let stub = Stub::start(move |_| reply.clone());
    let error = ask(options(Api::OpenAi, stub.url())).unwrap_err();
    let ChatError::Reported { message, received, .. } = &error else { panic!("{error}") };
    assert_eq!((message.as_str(), *received), ("out of memory", 4));
    assert_eq!(stub.requests().len(), 1);
}

#[test]
fn refusals_of_the_key_do_not_repeat_it() {
    let error = ask_stub(|request| {
        let sent = request.header("authorization").unwrap_or("").to_owned();
        Reply::status(
            401,
            json!({ "error": { "message": format!("bad key: {sent}") } }).to_string(),
        )
    })
    .unwrap_err();
    assert!(matches!(error, ChatError::Unauthorized { status: 401, .. }), "{error}");
    assert!(error.to_string().contains("bad key: Bearer [key]"), "{error}");
}

#[test]
fn an_unknown_model_is_said_to_be_one() {
    for body in [
        r#"{"error": {"message": "The model `m` does not exist", "code": "model_not_found"}}"#,
        r#"{"object": "error", "message": "The model `m` does not exist.", "code": 404}"#,
        r#"{"error": {"message": "model 'm' not found, try pulling it first"}}"#,
    ] {
        let error = ask_stub(move |_| Reply::status(404, body)).unwrap_err();
        assert!(matches!(&error, ChatError::UnknownModel { model, .. } if model == "m"), "{error}");
    }
    let error = ask_stub(|_| Reply::status(404, "nothing here")).unwrap_err();
    assert!(matches!(error, ChatError::Status { status: 404, attempts: 1, .. }), "{error}");
}

#[test]
fn what_is_no_api_is_described() {
    let page = || Reply::Status {
        status: 200,
        headers: vec!["content-type: text/html".into()],
        body: "<!doctype html><title>Welcome</title>".into(),
    };
    let error = ask_stub(move |_| page()).unwrap_err().to_string();
    assert!(error.contains("found a web page (is the base URL that of an API?)"), "{error}");
    let error = ask_stub(|_| Reply::status(200, "It works!")).unwrap_err().to_string();
    assert!(error.contains("found \"It works!\", expected a stream of events"), "{error}");
    let error = ask_stub(|_| Reply::status(200, "")).unwrap_err().to_string();
    assert!(error.contains("found an empty response"), "{error}");
    let error = ask_stub(|_| pieces(&[b"data: {]\n\n"])).unwrap_err().to_string();
    assert!(error.contains("found \"{]\", expected an event of the protocol"), "{error}");
    let error = ask_stub(|_| Reply::status(200, "{\"x\": 1}")).unwrap_err();
    assert!(matches!(error, ChatError::Nonsense { .. }), "{error}");
}

#[test]
fn an_answer_that_breaks_off_is_no_answer() {
    let cut = event("half");
    let error = ask_stub(move |_| pieces(&[&cut])).unwrap_err();
    let ChatError::Truncated { received: 4, .. } = &error else { panic!("{error}") };
    assert!(error.to_string().contains("after 4 bytes of text"), "{error}");
    let error = ask_stub(|_| Reply::Silence(Duration::ZERO)).unwrap_err();
    assert!(
        matches!(error, ChatError::Unreachable { .. } | ChatError::Truncated { .. }),
        "{error}"
    );
    let error = ask_stub(|_| Reply::words(&[], Duration::ZERO)).unwrap_err();
    assert!(matches!(&error, ChatError::Empty { stop, .. } if stop == "stop"), "{error}");
}

#[test]
fn slow_servers_are_told_apart_by_the_stage_that_is_slow() {
    let short = Duration::from_millis(250);
    let wait = Duration::from_secs(3);
    let check = |reply: Reply, timeouts: Timeouts, stage: &str, received: usize| {
        let stub = Stub::start(move |_| reply.clone());
        let start = Instant::now();
        let error = ask(ChatOptions { timeouts, ..options(Api::OpenAi, stub.url()) }).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        let ChatError::Slow { stage: found, received: bytes, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!((*found, *bytes), (stage, received), "{error}");
    };
    let long = options(Api::OpenAi, "http://x").timeouts;
    let first = Timeouts { first_text: short, ..long };
    check(Reply::Silence(wait), first, "no text", 0);
    // Comments keep the connection alive, but are no text.
    let comments = (0..40).map(|_| (Duration::from_millis(50), b": alive\n\n".to_vec())).collect();
    check(Reply::Pieces(comments), first, "no text", 0);
    let stalls = vec![(Duration::ZERO, event("one")), (wait, event("two"))];
    let between = Timeouts { between_texts: short, ..long };
    check(Reply::Pieces(stalls), between, "no further text", 3);
    let drip = (0..60).map(|_| (Duration::from_millis(50), b": alive\n\n".to_vec())).collect();
    let total = Timeouts { total: short, ..long };
    check(Reply::Pieces(drip), total, "no whole answer", 0);
}

#[test]
fn responses_are_bounded() {
    let stub = Stub::start(|_| Reply::Pieces(vec![(Duration::ZERO, vec![b'x'; 100_000])]));
    let options = ChatOptions { response_bytes_max: 10_000, ..options(Api::OpenAi, stub.url()) };
    let error = ask(options).unwrap_err();
    assert!(matches!(error, ChatError::TooLong { limit: 10_000, .. }), "{error}");
}

#[test]
fn a_port_where_nothing_listens_is_said_to_be_one() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = ask(options(Api::OpenAi, format!("http://user:pass@{free}"))).unwrap_err();
    let expected = format!(
        "http://{free}/v1/chat/completions: no connection: nothing listens there (connection refused)"
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn urls_and_keys_that_cannot_be_used_are_errors() {
    for url in ["localhost:8000", "ftp://x", "http://[", ""] {
        let error = ChatClient::new(options(Api::OpenAi, url)).unwrap_err();
        assert!(matches!(error, ChatError::BadRequest { .. }), "{url}: {error}");
    }
    let odd = ChatOptions { key: Some("a\nb".into()), ..options(Api::OpenAi, "http://x") };
    let error = ChatClient::new(odd).unwrap_err().to_string();
    assert!(error.contains("the key holds a character that no header may hold"), "{error}");
}

#[test]
fn the_limit_on_tokens_is_tried_under_its_newer_name() {
    let stub = Stub::start(|request| {
        if request.body.get("max_tokens").is_some() {
            let message =
                "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.";
            return Reply::status(400, json!({ "error": { "message": message } }).to_string());
        }
        Reply::words(&["fine"], Duration::ZERO)
    });
    let options = ChatOptions { max_tokens: Some(9), ..options(Api::OpenAi, stub.url()) };
    assert_eq!(ask(options).unwrap().text, "fine");
    assert_eq!(stub.requests()[1].body["max_completion_tokens"], 9);
}
